"""A threshold from the norms of a model's gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unvanish.errors import FlowError
from unvanish.remedies import clip


class Net(nn.Module):
    """Two inputs, and parts that training mode changes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.body[1].eval()

    def forward(self, x_BI: Tensor, scale: Tensor) -> Tensor:
        found: Tensor = self.body(x_BI) * scale
        return found


def test_the_figures_are_those_of_the_norms() -> None:
    model = nn.Linear(2, 1, bias=False)
    rows = torch.randn(9, 1, 2)
    found = clip.suggest(model, iter(rows), lambda output: output.sum())  # the gradient is the input
    norms = rows.norm(dim=(1, 2)).double().numpy()
    np.testing.assert_allclose(found.norms, norms, rtol=1e-6)
    assert found.threshold == found.mean == pytest.approx(norms.mean(), rel=1e-6)
    assert found.spread == pytest.approx(norms.std(), rel=1e-5)
    assert found.percentiles[50] == pytest.approx(np.median(norms), rel=1e-6)
    assert found.percentiles[90] == pytest.approx(np.percentile(norms, 90), rel=1e-6)
    assert (found.lowest, found.highest) == (0.5 * found.mean, 10 * found.mean)


def test_the_model_is_as_it_was() -> None:
    model = Net().eval()
    model.body[0].train()
    model.body[0].weight.grad = torch.ones(4, 3)
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    batches = [(torch.randn(5, 3), torch.tensor(2.0))] * 3
    generator = torch.get_rng_state()
    found = clip.suggest(model, batches, lambda output: output.square().mean())
    assert len(set(found.norms.tolist())) > 1  # dropout was drawn: it ran in training mode
    assert torch.equal(torch.get_rng_state(), generator)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(model.body[0].weight.grad, torch.ones(4, 3))
    assert model.body[3].weight.grad is None


def test_batches_that_are_not_finite_are_counted_and_left_out() -> None:
    model = nn.Linear(1, 1, bias=False)
    batches = [torch.tensor([[size]]) for size in (1.0, float("nan"), 3.0, float("inf"))]
    found = clip.suggest(model, batches, lambda output: output.sum())
    assert (found.mean, found.nonfinite, len(found.norms)) == (2.0, 2, 2)
    assert "2 not finite" in repr(found)
    with pytest.raises(FlowError, match="none of the 1"):
        clip.suggest(model, batches[1:2], lambda output: output.sum())
    with pytest.raises(FlowError, match="no batches"):
        clip.suggest(model, [], lambda output: output.sum())
    assert model.weight.grad is None


def test_a_loss_that_is_no_number_is_refused_and_the_model_as_it_was() -> None:
    model = nn.Linear(1, 1).eval()
    with pytest.raises(FlowError, match="one number"):
        clip.suggest(model, [torch.ones(2, 1)], lambda output: output)
    with pytest.raises(FlowError, match="one number"):
        clip.suggest(model, [torch.ones(2, 1)], lambda output: output.detach().sum())
    assert not model.training


def test_it_is_measured_where_gradients_are_switched_off() -> None:
    with torch.no_grad():
        assert clip.suggest(nn.Linear(1, 1), [torch.ones(1, 1)], lambda output: output.sum()).mean > 0
