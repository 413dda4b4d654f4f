"""Every activation of the language is measured by its own slope. Shapes: T time, B batch, I input."""

from __future__ import annotations

import pytest
import torch

import unvanish
from unvanish.engine.words import TORCH
from unvanish.equations.words import WORDS
from unvanish.flow.measuring.saturation import _Activations


@pytest.mark.parametrize("function", ["gelu", "gelu_tanh", "silu", "elu", "softsign", "leaky_relu", "hardsigmoid"])
def test_every_activation_of_the_language_is_measured(function: str) -> None:
    cell = unvanish.Cell("one", f"h[t] = {function}(W @ x[t] + U @ h[t-1])")
    layer = unvanish.Recurrent(cell, 2, 5, dtype=torch.float64, engine="reference")
    x_TBI = torch.randn(6, 3, 2, dtype=torch.float64)
    found = unvanish.flow.saturation(layer, x_TBI)["h"]
    with torch.no_grad():
        states = torch.cat([torch.zeros(1, 3, 5, dtype=torch.float64), layer(x_TBI)[0][:-1]])
    a = (x_TBI @ layer["W"].T + states @ layer["U"].T).detach().requires_grad_()
    approximate = {"approximate": "tanh"} if function == "gelu_tanh" else {}
    torchs = getattr(torch.nn.functional, function.removesuffix("_tanh"))(a, **approximate)
    (slope,) = torch.autograd.grad(torchs.sum(), a)
    share = slope.abs() / WORDS[function].steepest
    assert found.slope == pytest.approx(float(share.mean()))
    assert found.saturated == pytest.approx(float((share < 0.1).double().mean()))


@pytest.mark.parametrize("function", [name for name, word in WORDS.items() if word.steepest])
def test_steepest_slope_is_the_steepest(function: str) -> None:
    a = torch.linspace(-9, 9, 200_001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(TORCH[function](a).sum(), a)
    assert float(slope.abs().max()) == pytest.approx(WORDS[function].steepest, rel=1e-4)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (torch.nn.ReLU(), "relu"), (torch.nn.GELU(), "gelu"), (torch.nn.GELU("tanh"), "gelu_tanh"),
        (torch.nn.ELU(), "elu"), (torch.nn.LeakyReLU(), "leaky_relu"), (torch.nn.SiLU(), "silu"),
        (torch.nn.ELU(0.5), None), (torch.nn.LeakyReLU(0.2), None),
    ],
)  # fmt: skip
def test_activation_modules_of_torch_are_known_with_their_usual_settings(
    module: torch.nn.Module, name: str | None
) -> None:
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read, self.carry, self.function = torch.nn.Linear(2, 4), torch.nn.Linear(4, 4), module

        def forward(self, x_BI: torch.Tensor, h_BH: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.function(self.read(x_BI) + self.carry(h_BH))
            return found

    own, h_BH = Own(), torch.randn(3, 4)
    seen = _Activations()
    with seen:
        own(torch.randn(3, 2), h_BH)
    assert [function for _, (function, _, _) in seen.values()] == ([] if name is None else [name])
