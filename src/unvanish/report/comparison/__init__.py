"""The page on which several runs stand side by side."""
