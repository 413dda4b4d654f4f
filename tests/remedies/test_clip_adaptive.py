"""Clips that find their threshold: equal to slow transcriptions of the papers, and the same at every scale."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from torch import nn

from unvanish.errors import OptionError
from unvanish.remedies import clip

STEPS = 400


def sizes(seed: int = 0) -> list[float]:
    """Gradient norms as training makes them: a falling level, noise, and now and then a spike."""
    random = np.random.default_rng(seed)
    level = 3 * np.exp(-np.arange(STEPS) / 300) * random.lognormal(0, 0.3, STEPS)
    spikes = np.where(random.random(STEPS) < 0.04, random.lognormal(3, 1, STEPS), 1.0)
    return list(level * spikes)


def run(found: clip.Clip, norms: list[float]) -> tuple[list[float], list[bool]]:
    """Clip gradients of these norms; return the norms after, and where the clip acted."""
    weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    after, acted = [], []
    for norm in norms:
        weight.grad = norm * torch.tensor([0.6, -0.8], dtype=torch.float64)
        acted.append(found([weight]).acted)
        after.append(math.hypot(*weight.grad.tolist()))
    return after, acted


def autoclip(norms: list[float], percentile: float, history: int | None = None) -> list[float]:
    """AutoClip, Seetharaman et al. 2020, step by step."""
    seen, after = [], []
    for norm in norms:
        seen.append(norm)
        after.append(min(norm, float(np.percentile(seen[-(history or len(seen)) :], percentile))))
    return after


def zclip(norms: list[float], z_threshold: float, alpha: float, warmup: int) -> list[float]:
    """ZClip, Kumar et al. 2025, with reciprocal clipping, step by step."""
    after = list(norms[:warmup])
    mean, variance = float(np.mean(after)), float(np.var(after))
    for norm in norms[warmup:]:
        z = (norm - mean) / variance**0.5
        kept = mean + z_threshold**2 / z * variance**0.5 if z > z_threshold else norm
        mean = alpha * mean + (1 - alpha) * kept
        variance = alpha * variance + (1 - alpha) * (kept - mean) ** 2
        after.append(kept)
    return after


@pytest.mark.parametrize("percentile", [5, 10, 33.3, 50, 100])
@pytest.mark.parametrize("history", [None, 1, 50])
def test_percentile_is_the_papers(percentile: float, history: int | None) -> None:
    norms = sizes()
    after, acted = run(clip.Percentile(percentile, history), norms)
    wanted = autoclip(norms, percentile, history)
    np.testing.assert_allclose(after, wanted, rtol=1e-10)
    shortened = [ours < norm * (1 - 1e-9) for ours, norm in zip(wanted, norms, strict=True)]
    assert sum(a != s for a, s in zip(acted, shortened, strict=True)) <= 2  # a norm that is the percentile itself


@pytest.mark.parametrize(("z_threshold", "alpha", "warmup"), [(2.5, 0.97, 25), (1.0, 0.9, 2), (4.0, 0.5, 10)])
def test_zscore_is_the_papers(z_threshold: float, alpha: float, warmup: int) -> None:
    norms = sizes(1)
    after, acted = run(clip.ZScore(z_threshold, alpha=alpha, warmup=warmup), norms)
    wanted = zclip(norms, z_threshold, alpha, warmup)
    np.testing.assert_allclose(after, wanted, rtol=1e-10)
    assert 0 < sum(acted) < STEPS / 2
    assert not any(acted[:warmup])


def test_a_spike_that_stands_out_more_is_brought_nearer_to_the_mean() -> None:
    kept = []
    for spike in (4.0, 8.0, 1e6):
        found = clip.ZScore(2.0, warmup=4)
        kept.append(run(found, [1.0, 2.0, 1.0, 2.0, spike])[0][-1])
    assert kept[0] > kept[1] > kept[2]
    assert kept[2] == pytest.approx(1.5, rel=1e-5)


def test_a_spread_of_zero_divides_nothing() -> None:
    found = clip.ZScore(2.5, warmup=3)
    after, acted = run(found, [1.0, 1.0, 1.0, 5.0, 0.5])
    assert after[3] == pytest.approx(1.0)
    assert acted[3:] == [True, False]
    assert math.isfinite(found.threshold)


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1e12, 1e200])
@pytest.mark.parametrize("make", [lambda: clip.Percentile(10), lambda: clip.ZScore(2.5)])
def test_the_scale_of_the_loss_changes_no_decision(make: object, scale: float) -> None:
    norms = [float(np.float32(norm)) for norm in sizes(2)]
    after, acted = run(make(), norms)  # type: ignore[operator]
    exact = 2.0 ** round(math.log2(scale))  # a power of two rounds nothing
    scaled, acted_scaled = run(make(), [norm * exact for norm in norms])  # type: ignore[operator]
    np.testing.assert_allclose(scaled, np.array(after) * exact, rtol=1e-9)
    assert sum(a != b for a, b in zip(acted, acted_scaled, strict=True)) <= STEPS // 100


def test_a_gradient_of_zero_is_not_taken_in() -> None:
    for found in (clip.Percentile(10), clip.ZScore(2.5, warmup=2)):
        run(found, [0.0] * 50 + [1.0, 1.2, 1.1])
        assert found.threshold >= 1.0
        run(found, [0.0] * 50)
        assert found.threshold >= 1.0


def through_a_file(state: dict[str, object]) -> dict[str, object]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, object] = torch.load(file, weights_only=True)
    return loaded


MAKERS = {
    "ByNorm": lambda: clip.ByNorm(1.0),
    "ByValue": lambda: clip.ByValue(0.5),
    "PerLayer": lambda: clip.PerLayer(1.0),
    "UnitWise": lambda: clip.UnitWise(0.01),
    "Percentile": lambda: clip.Percentile(20),
    "Percentile of 30": lambda: clip.Percentile(20, 30),
    "ZScore": lambda: clip.ZScore(2.0, warmup=25),
    "RandomStep": lambda: clip.RandomStep(1.0, seed=3),
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("cut", [10, 200])  # within the warm-up, and after it
def test_a_resumed_run_does_the_same(kind: str, cut: int) -> None:
    norms = sizes(3)
    whole, first, second = MAKERS[kind](), MAKERS[kind](), MAKERS[kind]()
    wanted = run(whole, norms)
    head = run(first, norms[:cut])
    run(second, norms[:7])  # what is loaded takes the place of what was there
    second.load_state_dict(through_a_file(first.state_dict()))
    tail = run(second, norms[cut:])
    assert (head[0] + tail[0], head[1] + tail[1]) == wanted
    assert str(second.state_dict()) == str(whole.state_dict())
    assert (second.calls, second.acted) == (STEPS, sum(wanted[1]))


def test_a_state_of_another_kind_is_refused() -> None:
    with pytest.raises(OptionError, match="that of ByNorm"):
        clip.ByValue(1.0).load_state_dict(clip.ByNorm(1.0).state_dict())
    state = clip.ZScore().state_dict()
    del state["mean"]
    with pytest.raises(OptionError, match="lacks mean"):
        clip.ZScore().load_state_dict(state)


@pytest.mark.parametrize(
    "make",
    [
        lambda: clip.Percentile(0),
        lambda: clip.Percentile(100.5),
        lambda: clip.Percentile(10, 0),
        lambda: clip.Percentile(10, 2.5),
        lambda: clip.ZScore(-1),
        lambda: clip.ZScore(alpha=1.0),
        lambda: clip.ZScore(warmup=1),
        lambda: clip.UnitWise(0.01, eps=0.0),
        lambda: clip.ByNorm(1.0, nonfinite="ignore"),
        lambda: clip.ByNorm(1.0, nonfinite="random"),
    ],
)
def test_options_that_cannot_be_meant_so(make: object) -> None:
    with pytest.raises(OptionError):
        make()  # type: ignore[operator]
