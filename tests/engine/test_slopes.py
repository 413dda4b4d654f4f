"""Every slope of the language keeps its digits wherever it is a normal number, at arguments of every magnitude."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor

from tests.support.whole import usual
from unvanish import Cell, Recurrent

POINTS, WIDTH, UNITS = usual(600, 20_000), 50, 8
TOGETHER = 8  # functions in one kernel
TINY, HUGE = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max
Truth = Callable[[Any, Any], Any]


def logistic(v: Any) -> Any:
    return 1 / (1 + mpmath.exp(-v))


def phi(v: Any) -> Any:
    return mpmath.erfc(-v / mpmath.sqrt(2)) / 2


def gelu_tanh(v: Any) -> Any:
    root, slope = mpmath.sqrt(8 / mpmath.pi), mpmath.mpf("0.044715")
    share = logistic(root * (v + slope * v**3))
    return share + v * share * (1 - share) * root * (1 + 3 * slope * v**2)


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
    "erf": ("erf(v)", lambda v, _: 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-(v**2))),
    "gelu": ("gelu(v)", lambda v, _: phi(v) + v * mpmath.npdf(v)),
    "gelu_tanh": ("gelu_tanh(v)", lambda v, _: gelu_tanh(v)),
    "silu": ("silu(v)", lambda v, _: logistic(v) * (1 + v * logistic(-v))),
    "elu": ("elu(v)", lambda v, _: mpmath.exp(min(v, 0))),
    "softsign": ("softsign(v)", lambda v, _: 1 / (1 + abs(v)) ** 2),
    "leaky_relu": ("leaky_relu(v)", lambda v, _: 1 if v > 0 else mpmath.mpf(1) / 100),
    "hardsigmoid": ("hardsigmoid(v)", lambda v, _: mpmath.mpf(abs(v) < 3) / 6),
    "heaviside_sigmoid": ("heaviside(v, sigmoid(4))", lambda v, _: 4 * logistic(4 * v) * logistic(-4 * v)),
    "heaviside_fast_sigmoid": ("heaviside(v, fast_sigmoid(25))", lambda v, _: 1 / (1 + 25 * abs(v)) ** 2),
    "heaviside_arctan": ("heaviside(v, arctan(2))", lambda v, _: 1 / (1 + (mpmath.pi * v) ** 2)),
    "heaviside_triangle": ("heaviside(v, triangle(1))", lambda v, _: max(1 - abs(v), 0)),
}
# These cross zero where their terms cancel, or have many times the error of an exponent that is squared first:
# there the unit is that of a number of this size.
NEAR: dict[str, Callable[[Any], Any]] = {
    "gelu": lambda v: abs(v) * mpmath.npdf(v) * max(1, v * v) + phi(v),
    "gelu_tanh": lambda v: logistic(v) * max(1, abs(v) ** 3),
    "silu": lambda v: logistic(v) * max(1, abs(v)),
    "erf": lambda v: mpmath.exp(-(v**2)) * max(1, v * v),
    "heaviside_sigmoid": lambda v: logistic(4 * v) * logistic(-4 * v) * max(4, abs(16 * v)),
}
POSITIVE = ("log", "sqrt")


def arguments(name: str, seed: int) -> Tensor:
    """Numbers spread over all exponents of single precision, of both signs where the function takes them."""
    generator = torch.Generator().manual_seed(seed)
    exponent = torch.empty(POINTS, dtype=torch.float64).uniform_(-126, 127.9, generator=generator)
    if name in NEAR or name in ("exp", "softplus", "elu"):  # half of them where the value is not 0, 1 or infinite
        exponent[::2] = exponent[::2] / 20
    found = torch.exp2(exponent).to(torch.float32)
    sign = torch.randint(0, 2, (POINTS,), generator=generator) * 2 - 1
    return found if name in POSITIVE else found * sign


def line(name: str) -> str:
    """A state of its own for each function, from a state before the first step."""
    names = {"v": f"v_{name}[t-1]", "o": f"o_{name}[t-1]"}
    return f"v_{name}[t] = " + re.sub(r"\b[vo]\b", lambda found: names[found.group()], SLOPES[name][0])


@functools.cache
def slopes(names: tuple[str, ...]) -> dict[str, Tensor]:
    """The derivatives that the kernels have, of some functions side by side in one cell."""
    lines = [text for name in names for text in (f"o_{name}[t] = o_{name}[t-1]", line(name))]
    total = " + ".join(f"v_{name}[t] + o_{name}[t]" for name in names)
    cell = Cell("slopes", "\n".join([*lines, f"h[t] = W @ x[t] + {total}"]))
    layer = Recurrent(cell, 1, WIDTH, engine="native")
    given = {f"o_{name}": arguments("", 2) for name in names}
    given |= {f"v_{name}": arguments(name, 1) for name in names}
    order = [state.name for state in layer.system.states]
    states = [given[state].view(1, -1, WIDTH).clone().requires_grad_() for state in order]
    _, found = layer(torch.zeros(1, POINTS // WIDTH, 1), tuple(states))
    ends = [end.sum() for state, end in zip(order, found, strict=True) if state.startswith("v_")]
    gradients = dict(zip(order, torch.autograd.grad(sum(ends), states, allow_unused=True), strict=True))
    return {name: gradients[f"v_{name}"].flatten() for name in names}


@pytest.mark.usefixtures("as_shipped")
@pytest.mark.parametrize("name", SLOPES)
def test_slope_is_right_to_eight_units_in_the_last_place(name: str) -> None:
    truth, near = SLOPES[name][1], NEAR.get(name, lambda v: 0)
    v, o = arguments(name, 1), arguments("", 2)
    seen, place = 0, list(SLOPES).index(name) // TOGETHER * TOGETHER
    found = slopes(tuple(SLOPES)[place : place + TOGETHER])[name]
    with mpmath.workdps(30):
        for at, other, slope in zip(v.tolist(), o.tolist(), found.tolist(), strict=True):
            wanted = truth(mpmath.mpf(at), mpmath.mpf(other))
            if not TINY <= abs(wanted) <= HUGE:
                continue
            seen += 1
            size = max(abs(wanted), near(mpmath.mpf(at)))
            unit = mpmath.ldexp(1, int(mpmath.frexp(size)[1]) - 24)
            assert abs(mpmath.mpf(slope) - wanted) <= UNITS * unit, f"{slope} at {at}, {other}: {wanted} is right"
    assert seen > POINTS // 20
