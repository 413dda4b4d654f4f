"""Thousands of sets of gradients at all scales, a third not finite: no clip is poisoned, none lets through."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import nn

import unvanish
from tests.support.whole import usual
from unvanish.remedies import clip

SETS, SHAPES = usual(2_000, 10_000), [(3, 2), (4,), (2, 2)]
SIZES = [math.prod(shape) for shape in SHAPES]
FACTOR = 0.05


def storm(seed: int) -> Iterator[tuple[list[torch.Tensor], bool]]:
    """Make sets of gradients, and say of each whether all of it is finite."""
    random = np.random.default_rng(seed)
    scale = 10 ** random.uniform(-36, 36, (SETS, 1)) * 10 ** random.uniform(-2, 2, (SETS, sum(SIZES)))
    usual = random.random((SETS, 1)) < 0.5
    values = random.standard_normal((SETS, sum(SIZES))) * np.where(usual, 1.0, scale)
    hit = (random.random((SETS, 1)) < 1 / 3) & (random.random((SETS, sum(SIZES))) < 0.15)
    values = np.where(hit, random.choice([math.nan, math.inf, -math.inf], values.shape), values)
    for row in torch.from_numpy(values.astype(np.float32)):
        parts = torch.split(row, SIZES)
        yield (
            [part.view(shape).clone() for part, shape in zip(parts, SHAPES, strict=True)],
            bool(row.isfinite().all()),
        )


def largest(kind: str, parameters: list[nn.Parameter]) -> float:
    """Return what a clip bounds: of a clip by norm the norm, by value the entry, and so on."""
    gradients = [parameter.grad.detach().double().numpy() for parameter in parameters]
    norms = [math.hypot(*gradient.ravel()) for gradient in gradients]
    if kind == "ByValue":
        return max(float(np.abs(gradient).max()) for gradient in gradients)
    if kind == "PerLayer":
        return max(norms)
    if kind == "UnitWise":
        shares = []
        for parameter, gradient in zip(parameters, gradients, strict=True):
            rows = gradient.reshape(-1 if gradient.ndim > 1 else 1, gradient.shape[-1])
            weights = parameter.detach().double().numpy().reshape(rows.shape)
            sizes = np.maximum(np.linalg.norm(weights, axis=1), 1e-3)
            shares += [math.hypot(*row) / size for row, size in zip(rows, sizes, strict=True)]
        return max(shares)
    return math.hypot(*norms)


KINDS: dict[str, Callable[[str], clip.Clip]] = {
    "ByNorm": lambda policy: clip.ByNorm(1.0, nonfinite=policy),
    "ByValue": lambda policy: clip.ByValue(0.5, nonfinite=policy),
    "PerLayer": lambda policy: clip.PerLayer(1.0, nonfinite=policy),
    "UnitWise": lambda policy: clip.UnitWise(FACTOR, nonfinite=policy),
    "Percentile": lambda policy: clip.Percentile(10, nonfinite=policy),
    "ZScore": lambda policy: clip.ZScore(2.5, nonfinite=policy),
    "RandomStep": lambda policy: clip.RandomStep(1.0, seed=0, nonfinite=policy),
    "PerStep": lambda policy: clip.PerStep(1.0, nonfinite=policy).attach(unvanish.RNN(1, 1)),
}
BOUNDED = ("ByNorm", "ByValue", "PerLayer", "UnitWise", "Percentile", "RandomStep")


def numbers(state: object) -> Iterator[float]:
    """Return every number of a state."""
    if isinstance(state, torch.Tensor):
        yield from state.double().flatten().tolist()
    elif isinstance(state, dict):
        for one in state.values():
            yield from numbers(one)
    elif isinstance(state, list):
        yield from state
    elif isinstance(state, int | float):
        yield state


@pytest.mark.parametrize("kind", KINDS)
def test_no_clip_is_poisoned_and_none_lets_through(kind: str) -> None:
    parameters = [nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    clips = [KINDS[kind]("skip"), KINDS[kind]("zero")]
    lost = sum_acted = 0
    for index, (gradients, finite) in enumerate(storm(1)):
        found = clips[index % 2]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        record = found(parameters)
        lost += not finite
        sum_acted += record.acted
        assert record.nonfinite is not finite
        if not finite and found.policy == "skip":
            assert all(parameter.grad is None for parameter in parameters)
            continue
        assert math.isfinite(record.norm)
        assert all(bool(parameter.grad.isfinite().all()) for parameter in parameters)
        if kind in BOUNDED or (kind == "ZScore" and record.acted):
            assert largest(kind, parameters) <= record.threshold * (1 + 1e-5)
    assert sum(found.calls for found in clips) == SETS
    assert sum(found.nonfinite for found in clips) == lost
    assert clips[0].skipped == clips[0].nonfinite
    assert clips[1].skipped == 0
    assert sum(found.acted for found in clips) == sum_acted
    assert (sum_acted > 0) is (kind != "PerStep")  # that one acts inside the backward pass: below
    for found in clips:
        assert all(math.isfinite(number) for number in numbers(found.state_dict()))
    assert 0.2 * SETS < lost < 0.5 * SETS


def test_no_adjoint_is_poisoned_and_none_lets_through() -> None:
    """Thousands of rows of adjoints, whose last step's gradient is a storm: of each the counts and the bound."""
    rows, width, steps = SETS // 10, 4, 3
    layer = unvanish.Recurrent("rnn", 2, width)
    found = clip.PerStep(0.5, nonfinite="zero").attach(layer)
    random = np.random.default_rng(2)
    lost = 0
    for _ in range(10):
        values = random.standard_normal((rows, width)) * 10 ** random.uniform(-36, 36, (rows, 1))
        hit = (random.random((rows, 1)) < 1 / 3) & (random.random((rows, width)) < 0.5)
        values = np.where(hit, random.choice([math.nan, math.inf], values.shape), values).astype(np.float32)
        lost += int((~np.isfinite(values).all(1)).sum())
        x_TBI = torch.randn(steps, rows, 2, requires_grad=True)
        output_TBH, _ = layer(x_TBI)
        output_TBH[-1].backward(torch.from_numpy(values))
        record = found(layer)
        assert record.nonfinite
        assert math.isfinite(record.norm)
        bound = 0.5 * float(layer.weight_ih_l0.detach().abs().sum(0).max())
        assert float(x_TBI.grad.abs().max()) <= bound * (1 + 1e-5)
        layer.zero_grad()
        assert found.adjoints[0] == steps * rows
        assert found.adjoints[2] == int((~np.isfinite(values).all(1)).sum())
    assert lost > 0.2 * SETS
    assert (found.calls, found.nonfinite, found.skipped) == (10, 10, 0)
