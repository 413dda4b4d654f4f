"""Every function of the language has all its parts, and gives what torch's function of that name gives.

Shapes: T time, B batch, H hidden.
"""

from __future__ import annotations

import functools
import re
from importlib import resources

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unvanish import Cell, Recurrent
from unvanish.engine.words import TORCH
from unvanish.equations.words import SPOKEN, SURROGATES, WORDS
from unvanish.errors import CellError

RUNTIME = resources.files("unvanish.engine.native").joinpath("runtime.h").read_text(encoding="utf-8")
ONE_ARGUMENT = [name for name, arity in SPOKEN.items() if arity == 1]
OF_TORCH = {"gelu_tanh": functools.partial(F.gelu, approximate="tanh"), "identity": lambda a: a, "erf": torch.erf}
T, B = 3, 5
# all functions in one cell: a state each, from the state before, so that one kernel serves them all
BOUNDED = "d - 0.5 * abs(v_{0}[t-1])"
POSITIVE = dict.fromkeys(("log", "sqrt"), "0.1 + d * d + 0.5 * abs(v_{0}[t-1])")
TEXT = "d = W @ x[t]\n"
TEXT += "\n".join(f"v_{name}[t] = {name}({POSITIVE.get(name, BOUNDED).format(name)})" for name in ONE_ARGUMENT)
TEXT += "\nh[t] = " + " + ".join(f"v_{name}[t]" for name in ONE_ARGUMENT)
SPIKES = "d = W @ x[t]\n"
SPIKES += "\n".join(f"s_{name}[t] = heaviside(d + s_{name}[t-1] - 0.5, {name}(3))" for name in SURROGATES)
SPIKES += "\nh[t] = " + " + ".join(f"s_{name}[t]" for name in SURROGATES)


def made(text: str, width: int, engine: str, dtype: torch.dtype = torch.float32) -> Recurrent:
    """A layer of these equations whose W is the identity."""
    layer = Recurrent(Cell("words", text), width, width, engine=engine, dtype=dtype)
    with torch.no_grad():
        layer["W"].copy_(torch.eye(width))
    return layer


def ran(text: str, x_TBH: Tensor, engine: str, dtype: torch.dtype) -> tuple[dict[str, Tensor], Tensor]:
    """The last states by name, and the gradient of the input."""
    layer, x_TBH = made(text, x_TBH.shape[2], engine, dtype), x_TBH.to(dtype).requires_grad_()
    _, found = layer(x_TBH)
    sum(value.sum() for value in found).backward()
    assert x_TBH.grad is not None
    names = [state.name for state in layer.system.states]
    return {name: value.detach() for name, value in zip(names, found, strict=True)}, x_TBH.grad


@pytest.mark.parametrize("name", [name for name in WORDS if name != "where"])
def test_function_has_its_torch_and_its_cpp(name: str) -> None:
    assert name in TORCH
    assert re.search(rf"\bV {name}_\(V", RUNTIME)


@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_function_is_torchs(name: str) -> None:
    function = OF_TORCH.get(name) or getattr(F, name, None) or getattr(torch, name)
    layer = made(f"h[t] = {name}(W @ x[t]) + 0 * h[t-1]", 7, "reference")
    x_TBH = torch.randn(1, 4, 7).abs() + 0.1 if name in ("log", "sqrt") else 4 * torch.randn(1, 4, 7)
    torch.testing.assert_close(layer(x_TBH)[0], function(x_TBH))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("text", [TEXT, SPIKES], ids=["functions", "surrogates"])
def test_native_agrees_with_the_reference(text: str, dtype: torch.dtype) -> None:
    x_TBH = torch.randn(T, B, 19, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (found, slope), (wanted, right) = (ran(text, x_TBH, engine, dtype) for engine in ("native", "reference"))
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")
    torch.testing.assert_close(slope, right)


def test_gates_send_nothing_where_they_are_flat_even_an_infinite_gradient() -> None:
    names = ("relu", "hardsigmoid")
    text = "d = W @ x[t]\n" + "\n".join(f"v_{n}[t] = {n}(d) + v_{n}[t-1]" for n in names)
    text += "\nh[t] = sqrt(" + " + ".join(f"v_{name}[t]" for name in names) + ")"
    for engine in ("native", "reference"):
        layer = made(text, 4, engine)
        x_TBH = torch.full((1, 2, 4), -9.0, requires_grad=True)
        layer(x_TBH)[0].sum().backward()
        assert x_TBH.grad is not None
        assert not x_TBH.grad.isnan().any(), engine


def test_heaviside_is_a_step_with_the_slope_of_its_surrogate() -> None:
    layer = made("h[t] = heaviside(W @ x[t] + 0 * h[t-1], sigmoid(4))", 3, "reference")
    x_TBH = torch.tensor([[[-1.0, 0.0, 2.0]]], requires_grad=True)
    output, _ = layer(x_TBH)
    assert output.flatten().tolist() == [0.0, 0.0, 1.0]
    output.sum().backward()
    smooth = torch.sigmoid(4 * x_TBH.detach())
    torch.testing.assert_close(x_TBH.grad, 4 * smooth * (1 - smooth))


@pytest.mark.parametrize(
    "call",
    ["heaviside(x[t])", "heaviside(x[t], 4)", "heaviside(x[t], sigmoid(p))", "heaviside(x[t], gelu(4))",
     "heaviside(x[t], sigmoid(4, 5))", "heaviside(x[t], sigmoid(k=4))", "heaviside()"],
)  # fmt: skip
def test_heaviside_without_a_surrogate_is_refused(call: str) -> None:
    with pytest.raises(CellError, match=re.escape("heaviside(v, sigmoid(4))")):
        Cell("wrong", f"h[t] = {call} + h[t-1]")


def test_latex_of_functions_has_their_names() -> None:
    lines = Cell("named", "h[t] = silu(W @ x[t]) + softsign(h[t-1]) + heaviside(h[t-1], arctan(2))").latex
    assert r"\operatorname{SiLU}\left(W x_{t}\right)" in lines[0]
    assert r"\operatorname{softsign}\left(h_{t-1}\right)" in lines[0]
    assert r"\Theta\left(h_{t-1}\right)" in lines[0]
