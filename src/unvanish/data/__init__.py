"""Readers: text so far. They see torch alone."""
