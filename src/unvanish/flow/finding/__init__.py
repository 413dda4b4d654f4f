"""Finding the recurrences of a model, running it, recording it, and taking it apart into parts."""
