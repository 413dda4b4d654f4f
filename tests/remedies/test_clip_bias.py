"""What clipping every mini-batch does to the mean gradient: against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import unvanish
from unvanish.errors import FlowError, OptionError
from unvanish.remedies import clip


def measured(rows: list[list[float]], found: clip.Clip, parts: int | None = None) -> clip.Bias:
    """Bias where the gradients of the rows are these: those of a linear layer whose output is the loss."""
    model = nn.Linear(len(rows[0]), 1, bias=False).double()
    x_BI = torch.tensor(rows, dtype=torch.float64)
    return clip.bias(model, x_BI, lambda output: output.mean(), found, parts=parts or len(rows), dim=0)


def test_nothing_is_turned_where_nothing_is_clipped() -> None:
    rows = torch.randn(8, 3).tolist()
    for found in (clip.ByNorm(1e3), clip.ByValue(1e3), clip.ZScore(), clip.UnitWise(1e9)):
        result = measured(rows, found)
        assert result.angle == pytest.approx(0.0, abs=1e-6)
        assert result.ratio == pytest.approx(1.0, rel=1e-12)
        assert (result.acted, result.parts, result.nonfinite) == (0.0, 8, 0)


@pytest.mark.parametrize("length", [1.0, 2.0, 10.0, 1000.0])
def test_two_parts_at_a_right_angle(length: float) -> None:
    """Gradients (length, 0) and (0, 1), clipped to 1, have the mean (1, 1)/2; their mean points to (length, 1)."""
    result = measured([[length, 0.0], [0.0, 1.0]], clip.ByNorm(1.0))
    assert result.angle == pytest.approx(45 - math.degrees(math.atan2(1.0, length)), abs=1e-6)
    clipped_mean = min(1.0, math.hypot(length, 1.0) / 2)
    assert result.ratio == pytest.approx(math.sqrt(0.5) / clipped_mean, rel=1e-9)
    assert result.acted == (0.5 if length > 1 else 0.0)


def test_it_grows_with_the_skew_and_may_turn_the_step_round() -> None:
    angles = [measured([[1.0, 0.1]] * 3 + [[-size, 0.0]], clip.ByNorm(1.0)).angle for size in (1.0, 2.0, 2.9, 6.0)]
    assert angles == sorted(angles)
    assert angles[0] < 10
    assert angles[-1] > 150


def test_parts_are_weighed_by_their_rows() -> None:
    result = measured([[2.0, 0.0], [2.0, 0.0], [0.0, 8.0]], clip.ByNorm(100.0), parts=2)
    assert result.angle == pytest.approx(0.0, abs=1e-6)
    assert result.ratio == pytest.approx(1.0, rel=1e-12)
    # one row, and two whose mean is (1, 4): each is clipped to 1, and the second counts twice
    result = measured([[2.0, 0.0], [2.0, 0.0], [0.0, 8.0]], clip.ByNorm(1.0), parts=2)
    mean = (1 / 3 + 2 / 3 / math.sqrt(17), 8 / 3 / math.sqrt(17))
    assert result.angle == pytest.approx(math.degrees(math.atan2(2, 1) - math.atan2(mean[1], mean[0])), abs=1e-6)
    assert result.ratio == pytest.approx(math.hypot(*mean), rel=1e-9)


def test_time_first_tensors_and_targets_are_split_by_rows() -> None:
    layer = unvanish.Recurrent("gru_reset_before", 2, 3)
    batch = (torch.randn(5, 6, 2), torch.randn(1, 6, 3))
    targets = torch.arange(6) % 3
    seen = []

    def loss(output: tuple[Tensor, Tensor], answer_B: Tensor) -> Tensor:
        seen.append((output[0].shape[1], answer_B.tolist()))
        return nn.functional.cross_entropy(output[0][-1], answer_B)

    result = clip.bias(layer, batch, loss, clip.ByNorm(1e-3), parts=3, targets=targets)
    assert seen == [(2, [0, 1]), (2, [2, 0]), (2, [1, 2])]
    assert result.acted == 1.0
    assert result.angle > 1


def test_the_clip_and_the_model_are_as_they_were() -> None:
    layers = nn.Linear(2, 2), nn.Linear(2, 1)
    model = nn.Sequential(*layers).eval()
    for found in (clip.RandomStep(1e-3, seed=1), clip.Percentile(50), clip.PerLayer(1e-3, groups=layers)):
        state = str(found.state_dict())
        result = clip.bias(model, torch.randn(16, 2), lambda output: output.mean(), found, parts=16, dim=0)
        assert str(found.state_dict()) == state
        assert result.acted > 0
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_parts_that_are_not_finite_are_counted_and_left_out() -> None:
    result = measured([[1.0], [math.nan], [3.0]], clip.ByNorm(2.0))
    assert (result.parts, result.nonfinite, result.acted) == (2, 1, 0.5)
    assert result.ratio == pytest.approx(1.5 / 2)
    with pytest.raises(FlowError, match="no part"):
        measured([[math.nan], [math.inf]], clip.ByNorm(1.0))
    with pytest.raises(FlowError, match="zero"):
        measured([[1.0], [-1.0]], clip.ByNorm(5.0))


def test_what_cannot_be_split_is_refused() -> None:
    model, found = nn.Linear(2, 1), clip.ByNorm(1.0)
    for batch, options, says in (
        (torch.ones(4, 2), {"dim": 0, "parts": 5}, "2 to 4"),
        (torch.ones(4, 2), {"dim": 2}, "no dimension 2"),
        ((torch.ones(4, 2), torch.ones(3, 2)), {"dim": 0}, r"\[3, 4\] rows"),
        ("text", {}, "no rows"),
    ):
        with pytest.raises(OptionError, match=says):
            clip.bias(model, batch, torch.sum, found, **options)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="inside the backward"):
        clip.bias(model, torch.ones(4, 2), torch.sum, clip.PerStep(1.0), dim=0)
