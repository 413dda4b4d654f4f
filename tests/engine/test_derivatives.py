"""Derivatives that the kernels do not have: second ones, forward mode, many at once. All are right by themselves.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from unvanish import Cell, Recurrent

CELLS: list[Cell | str] = [
    "lstm",
    "gru_reset_before",
    "delayed_rnn",
    "clockwork_rnn",
    "trained_leaky_rnn",
    Cell("rows", "h[t] = layernorm(U @ h[t-1] + W @ x[t]) * g"),
    Cell(
        "scaled",
        "m[t] = tanh(r * (A @ h[t-1]) + x[t] * exp(q))\n"
        "h[t] = tanh(r * (B @ m[t]) + W @ x[t] + exp(q) * (C @ h[t-1]))",
        scalars=("r", "q"),
    ),
]

# torch scripts its own forward-mode rules, with a warning about scripting.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


def pair(cell: Cell | str) -> tuple[Recurrent, Recurrent]:
    layers = [Recurrent(cell, 3, 4, dtype=torch.float64, engine=engine) for engine in ("native", "reference")]
    layers[1].load_state_dict(layers[0].state_dict())
    return layers[0], layers[1]


def total(layer: Recurrent, lengths: list[int] | None = None) -> Callable[..., Tensor]:
    def run(x_TBI: Tensor, *weights: Tensor) -> Tensor:
        names = [name for name, _ in layer.named_parameters()]
        arrays = dict(zip(names, weights, strict=True)) if weights else {}
        output, _ = torch.func.functional_call(layer, arrays, (x_TBI,), {"lengths": lengths})
        return (output**3).sum()

    return run


@pytest.mark.parametrize("lengths", [None, [5, 2, 0]], ids=["even", "uneven"])
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: getattr(cell, "name", cell))
def test_second_derivatives(cell: Cell | str, lengths: list[int] | None) -> None:
    found = []
    for layer in pair(cell):
        x_TBI = (
            torch.sin(torch.arange(5.0 * 3 * layer.input_size, dtype=torch.float64)).view(5, 3, -1).requires_grad_()
        )
        leaves = [x_TBI, *layer.parameters()]
        gradients = torch.autograd.grad(total(layer, lengths)(x_TBI), leaves, create_graph=True, allow_unused=True)
        whole = sum((g**2).sum() for g in gradients if g is not None)
        found.append(torch.autograd.grad(whole, leaves, allow_unused=True))
    for native, reference in zip(*found, strict=True):
        assert (native is None) == (reference is None)
        if native is not None:
            torch.testing.assert_close(native, reference, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("transform", ["jacrev", "jacfwd", "hessian", "vmap", "functional", "vectorised"])
def test_function_transforms(transform: str) -> None:
    x_TBI = torch.linspace(-1, 1, 4 * 2 * 3, dtype=torch.float64).view(4, 2, 3)
    native, reference = (transformed(transform, layer, x_TBI) for layer in pair("lstm"))
    torch.testing.assert_close(native, reference, rtol=1e-10, atol=1e-12)


def transformed(transform: str, layer: Recurrent, x_TBI: Tensor) -> Tensor:
    run = total(layer)
    match transform:
        case "vmap":
            return torch.func.vmap(run)(torch.stack([x_TBI, 2 * x_TBI]))
        case "functional":
            return torch.autograd.functional.hessian(run, x_TBI)
        case "vectorised":
            return torch.autograd.functional.jacobian(lambda x: layer(x)[0], x_TBI, vectorize=True)
    found: Tensor = getattr(torch.func, transform)(run)(x_TBI)
    return found


def test_forward_mode() -> None:
    found = []
    for layer in pair("gru_reset_before"):
        x_TBI = torch.linspace(-1, 1, 4 * 2 * 3, dtype=torch.float64).view(4, 2, 3)
        with forward_ad.dual_level():
            output, _ = layer(forward_ad.make_dual(x_TBI, torch.cos(x_TBI)))
            found.append(forward_ad.unpack_dual(output).tangent)
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-12)


def test_gradients_agree_with_finite_differences() -> None:
    layer, _ = pair("peephole_lstm")
    x_TBI = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x)[0], x_TBI)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], x_TBI)


@pytest.mark.parametrize("all_states", [False, True], ids=["output", "all states"])
@pytest.mark.parametrize("name", ["lstm", "gru", "lem"])
def test_output_that_is_changed_in_place_leaves_the_gradient_right(name: str, all_states: bool) -> None:
    layer, _ = pair(name)
    x_TBI = torch.randn(6, 2, 3, dtype=torch.float64)
    for change in (lambda y: y.mul_(2), torch.relu_, lambda y: y[3:, 1].zero_(), lambda y: y[0].add_(1)):
        found = []
        for in_place in (True, False):
            output, *_ = layer(x_TBI, all_states=all_states)
            output = output if in_place else output.clone()
            change(output)
            found.append(torch.autograd.grad(output.sin().sum(), list(layer.parameters())))
        assert all(map(torch.equal, *found))


def test_backward_pass_can_be_run_again() -> None:
    layer, _ = pair("lstm")
    x_TBI = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    output, _ = layer(x_TBI)
    other, _ = layer(2 * x_TBI)  # takes memory of its own
    first = torch.autograd.grad(output.sum(), x_TBI, retain_graph=True)[0]
    second = torch.autograd.grad(output.sum(), x_TBI)[0]
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(output.sum(), x_TBI)
    other.sum().backward()
