"""Measuring what becomes of a gradient along time and depth, once the recurrences are found."""
