"""Rewrites of a system: projections and biases, masks that are drawn, normalisation and skips."""
