"""A trained model taken out of Python: ONNX, torch.export's file, or one file of C99."""

from unvanish.export.c import to_c
from unvanish.export.graphs import to_onnx, to_torch

__all__ = ["to_c", "to_onnx", "to_torch"]
