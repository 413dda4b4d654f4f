"""Readers of data, and how far back data depend on themselves. Of torch they use tensors alone."""
