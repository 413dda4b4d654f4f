"""A trained network as one file of C99 that needs <math.h> and <string.h>, and allocates nothing."""

from unvanish.export.c.file import to_c

__all__ = ["to_c"]
