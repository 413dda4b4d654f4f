"""What is not taken, or not in the loss, sends nothing: not even the NaN that zero times infinity would be.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import pytest
import torch

from tests.support.pairs import pair
from unvanish import Cell

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-3}

# Each has a branch whose slope is infinite or missing just where it is not taken.
BRANCHES = {
    "log": "h[t] = where(W @ x[t] > 0, log(W @ x[t]), U @ h[t-1])",
    "named lines": "v = W @ x[t]\na = log(v)\nb = sqrt(v) * a\nh[t] = where(v > 0, b, U @ h[t-1])",
    "nested": "v = W @ x[t]\nh[t] = where(v > 0, where(v > 0.5, sqrt(v - 0.5), tanh(U @ h[t-1])), log(1 - v))",
    "relu of an overflow": "h[t] = relu(1 - exp(2000 * (W @ x[t]))) + 0.1 * (U @ h[t-1])",
    "minimum of an overflow": "e = exp(2000 * (W @ x[t]))\nh[t] = 0.1 * minimum(e, 1 + U @ h[t-1])",
    "maximum of an overflow": "e = -exp(2000 * (W @ x[t]))\nh[t] = 0.1 * maximum(e, tanh(U @ h[t-1]))",
    "division by zero": "v = relu(W @ x[t])\nh[t] = where(v > 0, tanh(1 / v), tanh(U @ h[t-1]))",
    "own vector": "h[t] = relu(p * h[t-1] + W @ x[t]) + minimum(q * h[t-1], 0.1 * (U @ h[t-1]))",
    "power": "v = relu(W @ x[t])\nh[t] = where(v > 0.1, 0.01 * v ** -2, tanh(U @ h[t-1]))",
}


# What blanks an adjoint is the same text for both types; single precision has its own place where exp overflows.
SINGLE = [name for name in BRANCHES if "overflow" in name]
CASES = [*((name, torch.float64) for name in BRANCHES), *((name, torch.float32) for name in SINGLE)]


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=lambda one: str(one).removeprefix("torch."))
def test_branch_that_is_not_taken_sends_no_nan(name: str, dtype: torch.dtype) -> None:
    x_TBI, found = torch.randn(6, 3, 4, dtype=dtype), []
    for layer in pair(Cell("branches", BRANCHES[name]), 4, 5, dtype):
        output_TBH, _ = layer(x_TBI)
        assert output_TBH.isfinite().all()
        found.append(torch.autograd.grad(output_TBH.sin().sum(), list(layer.parameters())))
    for wanted, other in zip(*found, strict=True):
        assert wanted.isfinite().all()
        scale = float(wanted.abs().max()) + 1e-3
        torch.testing.assert_close(other / scale, wanted / scale, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize(
    "text",
    [
        # m overflows, and the loss reads c alone
        "c[t] = tanh(W_c @ x[t] + U_c @ c[t-1])\nm[t] = U_m @ m[t-1] + exp(200 + b)\nh[t] = m[t] * c[t]",
        "c[t] = tanh(W_c @ x[t] + U_c @ c[t-1])\nh[t] = 1 / (c[t] - c[t]) + 0.1 * h[t-1]",
    ],
    ids=["overflow", "division"],
)
def test_state_that_is_not_in_the_loss_sends_no_nan(text: str) -> None:
    x_TBI, found = torch.randn(6, 3, 4), []
    for layer in pair(Cell("outside", text), 4, 5, torch.float32):
        _, states = layer(x_TBI)
        of_c = states[layer.state_names.index("c")]
        assert of_c.isfinite().all()
        assert not all(state.isfinite().all() for state in states)
        found.append(torch.autograd.grad(of_c.sum(), list(layer.parameters()), materialize_grads=True))
    for wanted, other in zip(*found, strict=True):
        assert wanted.isfinite().all()
        torch.testing.assert_close(other, wanted, rtol=1e-4, atol=1e-5)
