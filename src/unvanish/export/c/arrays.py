"""Arrays of numbers in a file of C.

Shapes: J rows of a matrix, K columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from unvanish.errors import ExportError

LANES = 8  # rows come in blocks of so many, which a compiler can make vectors of


class Arrays:
    """The arrays of a file, each written once, under the prefix of the file."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.written: dict[str, str] = {}

    def rows(self, name: str, values: Tensor) -> str:
        """Write a vector, or several numbers for each of a row; return what it is called."""
        return self._write(f"rows_{name}", values)

    def matrix(self, name: str, weight_JK: Tensor) -> tuple[str, int]:
        """Write a matrix by columns; return what it is called, and how many rows it has with empty ones."""
        rows = weight_JK.shape[0]
        more = -rows % LANES if rows > LANES else 0
        return self._write(f"columns_{name}", F.pad(weight_JK, (0, 0, 0, more)).t()), rows + more

    def _write(self, name: str, values: Tensor) -> str:
        numbers = values.detach().to("cpu", torch.float32).flatten()
        if not bool(numbers.isfinite().all()):
            raise ExportError(
                f"the array {name} holds NaN or infinity, which no file can make sense of: train again"
            )
        called = f"{self.prefix}{name}"
        if called not in self.written:
            texts = [f"{value:.9g}" for value in numbers.tolist()]
            lines = ",\n    ".join(", ".join(texts[start : start + 8]) for start in range(0, len(texts), 8))
            self.written[called] = f"static const float {called}[{len(texts)}] = {{\n    {lines}\n}};\n"
        return called

    def text(self) -> str:
        """The arrays, one after the other."""
        return "\n".join(self.written.values())


def product(array: str, rows: int, columns: int, operand: str, into: str) -> list[str]:
    """Write `into` = matrix @ operand; columns are added up four by four, rows lie side by side."""
    lines = [f"for (int j = 0; j < {rows}; j++) {into}[j] = 0.0f;"]
    whole = columns - columns % 4
    if whole:
        lines += [
            f"for (int k = 0; k < {whole}; k += 4) {{",
            f"    const float *w = {array} + k * {rows};",
            f"    const float *v = {operand} + k;",
            "    const float v0 = v[0], v1 = v[1], v2 = v[2], v3 = v[3];",
            f"    for (int j = 0; j < {rows}; j++)",
            f"        {into}[j] += {' + '.join(f'w[j + {k * rows}] * v{k}' for k in range(4))};",
            "}",
        ]
    for k in range(whole, columns):
        lines.append(f"for (int j = 0; j < {rows}; j++) {into}[j] += {array}[{k * rows} + j] * {operand}[{k}];")
    return lines
