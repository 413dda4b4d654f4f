"""A benchmark as one page."""
