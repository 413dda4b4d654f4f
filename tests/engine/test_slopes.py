"""Every slope of the language keeps its digits wherever it is a normal number, at arguments of every magnitude."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor

from unvanish import Cell, Recurrent

POINTS, WIDTH, UNITS = 20_000, 50, 8
TINY, HUGE = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max
Truth = Callable[[Any, Any], Any]
# What is differentiated by v, and its slope; sigmoid and tanh keep torch's y (1 - y) and 1 - y². `o` is another
# argument, of every magnitude too.
SLOPES: dict[str, tuple[str, Truth]] = {
    "exp": ("exp(v)", lambda v, _: mpmath.exp(v)),
    "log": ("log(v)", lambda v, _: 1 / v),
    "sqrt": ("sqrt(v)", lambda v, _: 1 / (2 * mpmath.sqrt(v))),
    # torch's softplus is the argument itself past 20
    "softplus": ("softplus(v)", lambda v, _: 1 if v > 20 else 1 / (1 + mpmath.exp(-v))),
    "sin": ("sin(v)", lambda v, _: mpmath.cos(v)),
    "cos": ("cos(v)", lambda v, _: -mpmath.sin(v)),
    "abs": ("abs(v)", lambda v, _: mpmath.sign(v)),
    "relu": ("relu(v)", lambda v, _: int(v > 0)),
    "above": ("v / o", lambda _, o: 1 / o),
    "below": ("o / v", lambda v, o: -o / v**2),
    "reciprocal": ("1 / v", lambda v, _: -1 / v**2),
    "square": ("v ** 2", lambda v, _: 2 * v),
    "eighth": ("v ** 8", lambda v, _: 8 * v**7),
    "inverse": ("v ** -1", lambda v, _: -1 / v**2),
    "inverse_cube": ("v ** -3", lambda v, _: -3 / v**4),
    "product": ("v * o", lambda _, o: o),
    "third": ("v / 3", lambda *_: mpmath.mpf(1) / 3),
}
POSITIVE = ("log", "sqrt")

pytestmark = pytest.mark.usefixtures("as_shipped")


def arguments(name: str, seed: int) -> Tensor:
    """Numbers spread over all exponents of single precision, of both signs where the function takes them."""
    generator = torch.Generator().manual_seed(seed)
    exponent = torch.empty(POINTS, dtype=torch.float64).uniform_(-126, 127.9, generator=generator)
    if name in ("exp", "softplus"):  # half of them where the value is not 0, 1 or infinite
        exponent[::2] = exponent[::2] / 20
    found = torch.exp2(exponent).to(torch.float32)
    sign = torch.randint(0, 2, (POINTS,), generator=generator) * 2 - 1
    return found if name in POSITIVE else found * sign


def probe() -> Cell:
    """One kernel for all slopes: `v` is a state for each of them, and `o` is one that all read."""
    lines = ["o[t] = o[t-1]"]
    for name, (expression, _) in SLOPES.items():
        names = {"v": f"{name}_[t-1]", "o": "o[t-1]"}
        text = re.sub(r"\b[vo]\b", lambda found, names=names: names[found.group()], expression)
        lines.append(f"{name}_[t] = {text} + W @ x[t]")
    lines.append("h[t] = o[t] + " + " + ".join(f"{name}_[t]" for name in SLOPES))
    return Cell("slopes", "\n".join(lines))


def slopes(name: str, v: Tensor, o: Tensor) -> Tensor:
    """The derivative by v that the kernels have, v and o being states before the first step."""
    layer = Recurrent(probe(), 1, WIDTH, engine="native")
    given = [(o if state == "o" else v).view(1, -1, WIDTH).clone() for state in layer.state_names]
    at = layer.state_names.index(f"{name}_")
    given[at].requires_grad_()
    _, states = layer(torch.zeros(1, POINTS // WIDTH, 1), tuple(given))
    return torch.autograd.grad(states[at].sum(), given[at])[0].flatten()


@pytest.mark.parametrize("name", SLOPES)
def test_slope_is_right_to_eight_units_in_the_last_place(name: str) -> None:
    _, truth = SLOPES[name]
    v, o = arguments(name, 1), arguments("", 2)
    found, seen = slopes(name, v, o), 0
    with mpmath.workdps(30):
        for at, other, slope in zip(v.tolist(), o.tolist(), found.tolist(), strict=True):
            wanted = truth(mpmath.mpf(at), mpmath.mpf(other))
            if not TINY <= abs(wanted) <= HUGE:
                continue
            seen += 1
            unit = mpmath.ldexp(1, int(mpmath.frexp(wanted)[1]) - 24)
            assert abs(mpmath.mpf(slope) - wanted) <= UNITS * unit, f"{slope} at {at}, {other}: {wanted} is right"
    assert seen > POINTS // 20
