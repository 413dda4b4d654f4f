"""Remedies as code: what is printed is what was executed on a copy of the model and measured."""
