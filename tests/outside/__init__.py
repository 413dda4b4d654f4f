"""Whole models written as people write them, measured beside plain autograd."""
