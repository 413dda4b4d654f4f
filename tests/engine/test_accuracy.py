"""How far the functions of the kernels are from the truth, in units in the last place, wherever they have a value.

The truth is mpmath's, with 30 digits. Shapes: B rows of H units.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor

from tests.support.whole import usual
from unvanish import Cell, Recurrent
from unvanish.engine.ir.lower import COSTLY

TRUTH: dict[str, Callable[[Any], Any]] = {
    "exp": mpmath.exp,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: x if x > 20 else mpmath.log1p(mpmath.exp(x)),  # torch's: the argument itself past 20
    "log": mpmath.log,
    "sqrt": mpmath.sqrt,
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "erf": mpmath.erf,
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "gelu_tanh": lambda x: x / (1 + mpmath.exp(-mpmath.sqrt(8 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3))),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "softsign": lambda x: x / (1 + abs(x)),
}
# Measured on several million points: 1.2, 3.0, 2.4, 1.5, 0.9, 0.5, 0.6, 0.6; the rest on some ten thousand.
UNITS = {"exp": 1.5, "tanh": 3.1, "sigmoid": 2.5, "softplus": 2, "log": 1, "sqrt": 0.51, "sin": 1, "cos": 1}
UNITS |= {"erf": 1, "gelu": 2.5, "gelu_tanh": 3, "silu": 3, "elu": 1, "softsign": 1.6}
# Further left they are the small difference of large numbers, as torch's are.
LEFT = {"gelu": -1.0, "gelu_tanh": -1.0, "silu": -20.0}
ENDS = {torch.float32: (88.72, 103.9), torch.float64: (709.78, 745.1)}  # of exp: before infinity, after zero
POINTS = usual(600, 3000)

pytestmark = pytest.mark.usefixtures("as_shipped")


# One kernel for all: every function has a state of its own.
PROBED = (*COSTLY, "relu", "abs")
LINES = [f"{name}_[t] = {name}({name}_[t-1]) + 0 * (W @ x[t])" for name in PROBED]
PROBE = Cell("probe", "\n".join([*LINES, "h[t] = " + " + ".join(f"{name}_[t]" for name in PROBED)]))


def through(function: str, x: Tensor) -> Tensor:
    """Send numbers through a function of the kernels, as the states of a cell that does nothing else."""
    layer = Recurrent(PROBE, 1, 60, dtype=x.dtype, engine="native")
    with torch.no_grad():
        _, states = layer(torch.zeros(1, len(x) // 60, 1, dtype=x.dtype), (x.view(1, -1, 60),) * len(PROBED))
    return states[layer.state_names.index(f"{function}_")].flatten()


def points(function: str, dtype: torch.dtype) -> Tensor:
    """Numbers everywhere: near zero, near one, in the tens, at both ends of exp, and of every magnitude."""
    high, low = ENDS[dtype]
    small = torch.finfo(dtype).smallest_normal
    u = torch.rand(POINTS, dtype=torch.float64)
    parts = [2 * u - 1, 20 * u - 10, low * (2 * u - 1), -low * (1 - u / 5), high * (1 - u / 5)]
    parts += [torch.exp(math.log(small) * u), -torch.exp(math.log(small) * u)]
    found = torch.cat(parts).clamp(-low, high).to(dtype)
    return found.abs() if function in ("log", "sqrt") else found


def units_away(found: Tensor, x: Tensor, truth: Callable[[Any], Any]) -> list[float]:
    """The distance of each value from the truth, in the distance of the numbers around the truth."""
    digits, lowest = (24, -125) if x.dtype is torch.float32 else (53, -1021)
    away = []
    with mpmath.workdps(30):
        for value, point in zip(found.tolist(), x.tolist(), strict=True):
            wanted = truth(mpmath.mpf(point))
            exponent = max(int(mpmath.frexp(wanted)[1]), lowest) if wanted else lowest
            away.append(float(abs(mpmath.mpf(value) - wanted) / mpmath.ldexp(1, exponent - digits)))
    return away


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("function", COSTLY)
def test_functions_are_accurate_to_few_units_in_the_last_place(function: str, dtype: torch.dtype) -> None:
    x = points(function, dtype)
    if function == "sigmoid":  # as torch's, zero where its value would be denormal
        assert not through(function, torch.full((60,), -ENDS[dtype][0] - 0.1, dtype=dtype)).any()
        x = x[x > -ENDS[dtype][0] + 1.5]
    x = x[x > LEFT.get(function, -math.inf)]
    x = x[: len(x) // 60 * 60]
    away = units_away(through(function, x), x, TRUTH[function])
    worst = max(range(len(away)), key=away.__getitem__)
    assert away[worst] <= UNITS[function], f"{away[worst]:.2f} units at {x[worst]}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
def test_functions_end_where_numbers_end(dtype: torch.dtype) -> None:
    high, low = ENDS[dtype]
    ends = torch.tensor([high + 0.01, low * 2, float("inf"), -low - 0.1, -low * 2, -float("inf")], dtype=dtype)
    x = ends.repeat(10)
    infinite, one = torch.tensor([True] * 3 + [False] * 3).repeat(10), torch.ones(60, dtype=dtype)
    assert torch.equal(through("exp", x), torch.where(infinite, torch.inf, 0.0).to(dtype))
    assert torch.equal(through("sigmoid", x), torch.where(infinite, one, 0.0))
    assert torch.equal(through("tanh", x), torch.where(infinite, one, -one))
    assert torch.equal(through("softplus", x), torch.where(infinite, x, 0.0))


def test_special_values_are_those_of_torch() -> None:
    points = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-40, 90.0, -110.0, 1e30, -1e30])
    points = points.repeat(6)
    for function in ("sigmoid", "tanh", "exp", "softplus", "relu", "abs"):
        wanted = getattr(torch, function, torch.nn.functional.softplus)(points)
        torch.testing.assert_close(through(function, points), wanted, equal_nan=True, rtol=1e-6, atol=1e-37)
