"""What torch calls each function of the language."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from unvanish.equations.words import SURROGATES


def _positive(a: Tensor) -> Tensor:
    return (a > 0).to(a.dtype)


def _half_step(a: Tensor) -> Tensor:
    return _positive(a) + 0.5 * (a == 0).to(a.dtype)


TORCH: dict[str, Callable[..., Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "identity": lambda a: a,
    "exp": torch.exp,
    "log": torch.log,
    "softplus": F.softplus,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "sin": torch.sin,
    "cos": torch.cos,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "gelu": F.gelu,
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
    "elu": F.elu,
    "softsign": F.softsign,
    "leaky_relu": F.leaky_relu,
    "hardsigmoid": F.hardsigmoid,
    "minimum": torch.minimum,
    "maximum": torch.maximum,
    **{f"heaviside_{name}": lambda a, b: _positive(a) for name in SURROGATES},
    "sign": torch.sign,
    "positive": _positive,
    "half_step": _half_step,
}
