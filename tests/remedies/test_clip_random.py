"""The random step: its length, its direction, and that it leaves where a clipped gradient stays."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from unvanish.errors import OptionError
from unvanish.remedies import clip


def stepped(found: clip.Clip, gradient: Tensor) -> Tensor:
    weight = nn.Parameter(torch.zeros_like(gradient))
    weight.grad = gradient.clone()
    found([weight])
    assert weight.grad is not None
    return weight.grad


def test_the_length_is_the_threshold_and_the_direction_uniform() -> None:
    draws = 4000
    found = clip.RandomStep(2.0, seed=5)
    steps = torch.stack([stepped(found, torch.tensor([1e8, 0.0, 0.0])) for _ in range(draws)]).double() / 2
    torch.testing.assert_close(steps.norm(dim=1), torch.ones(draws, dtype=torch.float64), rtol=1e-6, atol=0.0)
    # of a uniform direction in three dimensions each coordinate has mean 0 and variance 1/3, and they do not covary
    assert float(steps.mean(0).abs().max()) < 4 / math.sqrt(3 * draws)
    torch.testing.assert_close(steps.T @ steps / draws, torch.eye(3).double() / 3, rtol=0.0, atol=0.03)
    # and each is uniform in ±1, which tells a direction on the sphere from one in the cube
    spread = steps.abs().quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64), dim=0)
    torch.testing.assert_close(spread[:, 0], torch.tensor([0.25, 0.5, 0.75]).double(), rtol=0.0, atol=0.04)


def test_a_short_gradient_stays_and_draws_nothing() -> None:
    found, twin = clip.RandomStep(2.0, seed=5), clip.RandomStep(2.0, seed=5)
    gradient = torch.tensor([1.0, -1.0])
    assert torch.equal(stepped(found, gradient), gradient)
    assert torch.equal(stepped(found, 9 * gradient), stepped(twin, 9 * gradient))


def test_the_seed_decides_and_torchs_generator_is_not_touched() -> None:
    gradient, before = torch.full((50,), 9.0), torch.get_rng_state()
    first, same, other = (stepped(clip.RandomStep(1.0, seed=seed), gradient) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.allclose(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    given = stepped(clip.RandomStep(1.0, generator=torch.Generator().manual_seed(1)), gradient)
    assert torch.equal(first, given)
    with pytest.raises(OptionError, match="not both"):
        clip.RandomStep(1.0, seed=1, generator=torch.Generator())


def test_a_copy_draws_the_same_and_by_itself() -> None:
    found, gradient = clip.RandomStep(1.0, seed=1), torch.full((5,), 9.0)
    twin = copy.deepcopy(found)
    assert torch.equal(stepped(found, gradient), stepped(twin, gradient))


def descent(
    found: clip.Clip, loss: Callable[[Tensor], Tensor], start: float, steps: int, lr: float = 0.03
) -> list[clip.ClipRecord]:
    """Take steps of gradient descent."""
    weight = nn.Parameter(torch.tensor(start))
    optimiser, records = torch.optim.SGD([weight], lr=lr), []
    for _ in range(steps):
        optimiser.zero_grad()
        loss(weight).backward()
        records.append(found([weight]))
        optimiser.step()
    return records


def unit(weight: Tensor) -> Tensor:
    """One linear unit, h[t] = w h[t-1] from 1 on, that should be 100 after 100 steps.

    The solution, w = 1.047, is just past the border of explosion, at the foot of walls that rise by 10,000 and more
    a unit on both sides.
    """
    return 0.5 * (weight**100 - 100.0) ** 2


def test_a_random_step_leaves_the_wall_on_which_a_clipped_gradient_swings() -> None:
    swinging = descent(clip.ByNorm(1.0), unit, 1.06, 800)
    assert all(record.norm > 1.0 for record in swinging)
    random = [descent(clip.RandomStep(1.0, seed=seed), unit, 1.06, 800) for seed in range(6)]
    left = [any(record.norm < 1.0 for record in records) for records in random]
    # Five steps to the left of the wall it is flat; a walk of 800 steps has been there with probability 0.86.
    assert sum(left) >= 4


def test_a_random_step_leaves_where_the_gradient_is_not_finite() -> None:
    """At w = 1.2 six hundred steps overflow: without a gradient nothing moves, at random it gets away."""

    def long(weight: Tensor) -> Tensor:
        return weight**600

    stuck = descent(clip.ByNorm(1.0), long, 1.2, 100)
    assert all(record.nonfinite for record in stuck)
    for seed in range(5):
        records = descent(clip.RandomStep(1.0, seed=seed, nonfinite="random"), long, 1.2, 400)
        assert records[0].nonfinite
        assert not all(record.nonfinite for record in records)
