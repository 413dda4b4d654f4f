"""The data of the page on which one plays: weights, an input, directions; and the same network as a layer.

Shapes: B rows, T steps, I input, N units, S states.
"""

from __future__ import annotations

import json
from typing import Any

import torch

ROWS, STEPS, INPUT, UNITS = 6, 100, 3, 16
GATES = ("i", "f", "g", "o")


def data() -> dict[str, Any]:
    """Return all numbers: the recurrent matrices are orthogonal, of spectral radius one."""
    generator = torch.Generator().manual_seed(5)

    def orthogonal() -> torch.Tensor:
        q_NN, r_NN = torch.linalg.qr(torch.randn(UNITS, UNITS, generator=generator, dtype=torch.float64))
        return q_NN * r_NN.diagonal().sign()

    def inner() -> torch.Tensor:
        return torch.randn(UNITS, INPUT, generator=generator, dtype=torch.float64) / INPUT**0.5

    U_NN = orthogonal()
    values = torch.linalg.eigvals(U_NN)
    return {
        "units": UNITS,
        "U": _short(U_NN),
        "W": _short(inner()),
        "gates": {gate: {"U": _short(orthogonal()), "W": _short(inner())} for gate in GATES},
        "x": _short(torch.randn(ROWS, STEPS, INPUT, generator=generator, dtype=torch.float64)),
        "v": _short(torch.randn(ROWS, 2, UNITS, generator=generator, dtype=torch.float64)),
        "eigenvalues": _short(torch.stack([values.real, values.imag], -1)),
    }


def _short(values: torch.Tensor) -> list[Any]:
    return json.loads(json.dumps(values.tolist()), parse_float=lambda text: round(float(text), 5))  # type: ignore[no-any-return]


def script() -> str:
    """Return the data as a script."""
    return f"window.playData = {json.dumps(data(), separators=(',', ':'))};\n"
