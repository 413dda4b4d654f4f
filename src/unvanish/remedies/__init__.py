"""What changes the flow of the gradient: small objects, one idea each, that do what they claim and count it."""
