"""What back ends share: a system sorted into stages (`plan`), and lowered to phases (`lower`)."""
