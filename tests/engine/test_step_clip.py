"""Clipping between two steps of the backward pass: the kernels do what plain torch does, and that is as claimed."""

from __future__ import annotations

import copy
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

import unvanish
from unvanish.engine import StepClip
from unvanish.errors import OptionError

By = Literal["value", "norm"]


def gradients(layer: unvanish.Recurrent, x: Tensor, v: Tensor, clip: StepClip | None, **given: Any) -> list[Tensor]:
    """The gradients of the input and of all parameters, of a loss that the cotangent v gives."""
    layer = copy.deepcopy(layer)
    layer.taps = () if clip is None else (clip,)
    x = x.clone().requires_grad_()
    output, states = layer(x, **given)
    states = states if isinstance(states, tuple) else (states,)
    loss = (output * v).sum() + sum(3 * s.sum() for s in states if s.is_floating_point())
    return list(torch.autograd.grad(loss, [x, *layer.parameters()]))


@pytest.mark.parametrize("by", ["value", "norm"])
@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before", "lem", "skip_rnn", "clockwork_rnn", "peephole_lstm"])
@pytest.mark.parametrize("given", ["whole", "lengths", "reset", "lean", "projected"])
def test_the_kernels_clip_as_plain_torch_does(cell: str, by: By, given: str) -> None:
    if given == "projected" and cell == "clockwork_rnn":
        pytest.skip("a projection would mix its units")
    torch.manual_seed(0)
    options: dict[str, Any] = {"proj_size": 4} if given == "projected" else {}
    layer = unvanish.Recurrent(cell, 3, 9, num_layers=2, dtype=torch.float64, **options)
    x, v = torch.randn(7, 5, 3, dtype=torch.float64), torch.randn(7, 5, options.get("proj_size", 9))
    call: dict[str, Any] = {}
    if given == "lengths":
        call["lengths"] = torch.tensor([3, 7, 1, 6, 7])
    if given == "reset":
        call["reset"] = torch.rand(7, 5) < 0.3
    if given == "lean":
        layer.memory = 3
    found, clips = [], []
    for engine in ("reference", "native"):
        layer.engine = engine
        clips.append(StepClip(0.5 if by == "value" else 1.5, by))
        found.append(gradients(layer, x, v, clips[-1], **call))
    for slow, fast in zip(*found, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    assert 0 < clips[0].clipped < clips[0].seen
    assert (clips[0].seen, clips[0].clipped) == (clips[1].seen, clips[1].clipped)
    if given == "lengths":
        assert clips[1].seen == 2 * int(call["lengths"].sum())


@pytest.mark.parametrize("threads", [1, 3])
def test_units_split_over_threads_are_clipped_by_whole_rows(threads: int) -> None:
    torch.manual_seed(1)
    layer = unvanish.LSTM(8, 160, dtype=torch.float64)  # large enough for one row to be shared by threads
    x, v = torch.randn(5, 1, 8, dtype=torch.float64), torch.randn(5, 1, 160)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        layer.engine = "native"
        fast = gradients(layer, x, v, StepClip(2.0, "norm"))
    finally:
        torch.set_num_threads(before)
    layer.engine = "reference"
    for a, b in zip(fast, gradients(layer, x, v, StepClip(2.0, "norm")), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("engine", ["reference", "native"])
@pytest.mark.parametrize("by", ["value", "norm"])
def test_no_adjoint_goes_on_that_is_longer_than_the_threshold(engine: str, by: By) -> None:
    cell = unvanish.Cell("grows", "h[t] = W @ x[t] + U @ h[t-1]")
    layer = unvanish.Recurrent(cell, 4, 4, engine=engine, init={"W": "identity", "U": "identity"})
    with torch.no_grad():
        layer["U"].mul_(3)
    layer.taps = (StepClip(1.0, by),)
    x = torch.zeros(60, 1, 4, requires_grad=True)
    with unvanish.flow.record(layer) as recording:
        layer(x)[0][-1].sum().backward()
    norms = recording["l0"].norms[:, 0]
    wanted = 2.0 if by == "value" else 1.0  # four units of 1 each, or all together
    torch.testing.assert_close(norms, torch.full((60,), wanted))
    assert x.grad is not None
    torch.testing.assert_close(torch.linalg.vector_norm(x.grad, dim=-1)[:, 0], torch.full((60,), wanted))


@pytest.mark.parametrize("engine", ["reference", "native"])
def test_a_threshold_that_nothing_exceeds_changes_nothing(engine: str) -> None:
    torch.manual_seed(2)
    layer = unvanish.GRUResetBefore(3, 5, engine=engine)
    x, v = torch.randn(6, 2, 3), torch.randn(6, 2, 5)
    clip = StepClip(1e6, "norm")
    for clipped, plain in zip(gradients(layer, x, v, clip), gradients(layer, x, v, None), strict=True):
        torch.testing.assert_close(clipped, plain)
    assert (clip.seen, clip.clipped, clip.nonfinite) == (12, 0, 0)


@pytest.mark.parametrize("engine", ["reference", "native"])
@pytest.mark.parametrize("by", ["value", "norm"])
def test_what_is_not_finite_stops_at_its_own_row_and_step(engine: str, by: By) -> None:
    torch.manual_seed(3)
    layer = unvanish.RNN(3, 5, engine=engine)
    x, v = torch.randn(6, 3, 3), torch.randn(6, 3, 5)
    v[4, 1, 2] = float("nan")
    v[2, 0, 0] = float("inf")
    clip = StepClip(10.0, by)
    found = gradients(layer, x, v, clip)
    assert all(bool(torch.isfinite(gradient).all()) for gradient in found)
    assert clip.nonfinite == 2
    cut = v.clone()
    cut[4, 1], cut[2, 0] = 0.0, 0.0
    # Row 2 knows nothing of it; row 1 has what it would have if nothing had come from step 4 on.
    plain = gradients(layer, x, cut, StepClip(10.0, by))[0]
    torch.testing.assert_close(found[0][:, 2], plain[:, 2])
    torch.testing.assert_close(found[0][5, 1], plain[5, 1])
    assert not found[0][4, 1].any()


@pytest.mark.parametrize("engine", ["reference", "native"])
def test_adjoints_whose_squares_overflow_are_clipped_by_norm(engine: str) -> None:
    layer = unvanish.RNN(3, 5, engine=engine)
    v = torch.full((4, 1, 5), 1e30)
    clip = StepClip(1.0, "norm")
    found = gradients(layer, torch.zeros(4, 1, 3), v, clip)
    assert all(bool(torch.isfinite(gradient).all()) for gradient in found)
    assert (clip.clipped, clip.nonfinite) == (4, 0)


def test_second_derivatives_go_through_the_clip() -> None:
    torch.manual_seed(4)
    layer = unvanish.RNN(2, 3, dtype=torch.float64)
    layer.taps = (StepClip(0.1, "norm"),)

    def outer(x: Tensor) -> Tensor:
        (first,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
        return first.square().sum()

    x = torch.randn(4, 1, 2, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(outer(x), x)
    step = 1e-6 * torch.randn_like(x)
    slope = (outer(x + step) - outer(x - step)) / 2
    torch.testing.assert_close((found * step).sum(), slope.detach(), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan"), float("inf"), True, "1"])
def test_a_threshold_is_a_positive_number(threshold: Any) -> None:
    with pytest.raises(OptionError, match="give a positive number"):
        StepClip(threshold)


def test_by_is_one_of_two_words() -> None:
    with pytest.raises(OptionError, match="'value' or by 'norm'"):
        StepClip(1.0, "length")  # type: ignore[arg-type]


def test_a_profile_is_measured_past_the_clip() -> None:
    torch.manual_seed(5)
    layer = unvanish.RNN(3, 8, init="orthogonal")
    x = torch.randn(30, 4, 3)
    before = unvanish.flow.profile(layer, x, generator=torch.Generator().manual_seed(0))
    clip = StepClip(1e-3, "norm")
    layer.taps = (clip,)
    after = unvanish.flow.profile(layer, x, generator=torch.Generator().manual_seed(0))
    assert after.reach == before.reach
    assert clip.seen == 0
