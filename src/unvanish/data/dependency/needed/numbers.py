"""The needed lag of numbers: the held-out error of regularised predictors by the length of their context.

Linear least squares, with products of two columns where these stand out; then a smooth predictor over the nearest
steps (Rahimi, Recht 2008, "Random features for large-scale kernel machines"), which counts only where it beats
them. What is predicted is the value: where the past tells only the spread (GARCH), nothing is needed.

Shapes: N steps that are predicted, F features, E columns of a step, G targets, K lags, P columns, B blocks.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from unvanish.data.dependency.needed.curve import ENOUGH, Need, judged
from unvanish.data.dependency.needed.kernels import FEWEST, MOST, losses_of_kernels
from unvanish.data.dependency.needed.ordered import FOLDS, Sums, blocks_of, folds, losses
from unvanish.data.dependency.needed.past import Floats, Lags, Steps

ROWS = 20_000
COLUMNS = 600
THRESHOLD = 5.0
PRODUCTS, NEAR = 200, 24  # products of steps no farther back than NEAR
SURE = 4.0  # times log N: what a product's correlation has to stand out by, of thousands that are tried
SMOOTH = (1, 2, 4, 8, 16)
WIDEST = 24  # columns of a smooth predictor: in more dimensions nothing is near to anything
FEATURES = 160
MORE = 0.01  # of the variance, by which kernels must predict labels better


def needed_of_numbers(
    x_TE: Floats,
    y_TG: Floats,
    lengths_B: Lags,
    lags_K: Lags,
    strength_K: Floats,
    level: float,
    *,
    smooth: bool = True,
    labels: bool = False,
    rng: np.random.Generator,
) -> Need:
    """Measure how many steps of x predict y: y per step, or one label per sequence (B, G).

    Args:
        strength_K: of the pairwise dependence: which lags are looked at where there are too many.
        smooth: whether columns of x are numbers, for which near values mean near predictions.
    """
    steps = Steps.of(lengths_B, lags_K, labels=labels, most=ROWS, rng=rng)
    y_NG = y_TG[np.searchsorted(np.cumsum(lengths_B), steps.now, side="right") if labels else steps.now]
    room = min(COLUMNS, len(steps.now) // 4)
    seen_K = affordable(lags_K, strength_K, max(room // x_TE.shape[1], 1))
    x_NP, place_P = steps.columns(x_TE, seen_K), np.repeat(np.arange(len(seen_K)), x_TE.shape[1])
    x_NP, place_P = with_products(x_NP, place_P, y_NG, seen_K)
    block_N = blocks_of(len(y_NG))
    ends_K = np.searchsorted(place_P, np.arange(len(seen_K)), side="right")
    # Of more pairs of a feature and a target, more stand out by chance.
    threshold = THRESHOLD + 2 * math.log(x_TE.shape[1] * y_NG.shape[1])
    found_BK = losses(x_NP, y_NG, ends_K, block_N, threshold)
    if smooth:
        found_BK = _with_smooth(found_BK, steps, x_TE, y_NG, seen_K, block_N, rng)
    notes = [] if len(seen_K) == len(lags_K) else [f"{len(seen_K)} of {len(lags_K)} lags were looked at"]
    grain = threshold / len(y_NG)
    if not labels:
        return _judged(found_BK, len(y_NG), seen_K, level, notes, grain=grain)
    if len(steps.now) < FEWEST:
        return _judged(found_BK, len(y_NG), seen_K, level, notes, grain=grain, closed=True)
    # Two ways to predict are two chances to be wrong.
    found = _judged(found_BK, len(y_NG), seen_K, level / 2, notes, grain=grain, closed=True)
    other = _by_kernels(steps, x_TE, y_NG, lags_K, level / 2)
    return other if other.curve.gain.max() > found.curve.gain.max() + MORE else found


def _judged(
    losses_BK: Floats,
    count: int,
    lags_K: Lags,
    level: float,
    notes: list[str],
    *,
    grain: float,
    closed: bool = False,
) -> Need:
    """Judge squared errors as shares of the variance, and as likelihoods of errors of one normal distribution."""
    losses_BK = losses_BK / max(float(losses_BK[:, 0].mean()), 1e-300)
    told_K = -count / 2 * np.log(np.maximum(losses_BK.mean(0), 1e-300))
    return judged(losses_BK, lags_K, level, "share of the variance", notes, told_K, closed=closed, grain=grain)


def _by_kernels(steps: Steps, x_TE: Floats, y_NG: Floats, lags_K: Lags, level: float) -> Need:
    few = steps.at(np.arange(min(MOST, len(steps.now))))
    block_N = blocks_of(len(few.now))
    losses_BK = losses_of_kernels(few, x_TE, y_NG[: len(few.now)], lags_K, block_N, ENOUGH)
    return _judged(losses_BK, len(few.now), lags_K, level, [], grain=0.0, closed=True)


def affordable(lags_K: Lags, strength_K: Floats, room: int) -> Lags:
    """All lags, or the nearest and those on which the data depend most pair by pair."""
    if len(lags_K) <= room:
        return lags_K
    near = lags_K[: (room + 1) // 2]
    far = np.argsort(-strength_K[len(near) :], kind="stable")[: room - len(near)]
    return np.sort(np.concatenate([near, lags_K[len(near) + far]]))


def with_products(
    x_NP: Floats, place_P: Lags, y_NG: Floats, lags_K: Lags, *, within: bool = True
) -> tuple[Floats, Lags]:
    """Add the products of two columns that tell something of a target, each at the farther lag of the two.

    Tried are all pairs of columns of near steps and, with `within`, of the columns of any one step. The choice is
    made in all rows, held out or not: it takes so much to be chosen that chance hardly ever is.
    """
    near = int(np.searchsorted(place_P, np.searchsorted(lags_K, NEAR, side="right")))
    near, places = min(near, 3 * NEAR), np.arange(len(place_P))
    y_NG = y_NG - y_NG.mean(0)
    scale_G = (y_NG**2).mean(0)
    chosen: list[tuple[float, int, int]] = []
    for one in range(len(place_P) if within else near):
        same = place_P == place_P[one]
        others = np.flatnonzero((same & within & (places >= one)) | (~same & (one < places) & (places < near)))
        if not len(others):
            continue
        products = x_NP[:, [one]] * x_NP[:, others]
        products -= products.mean(0)
        spread = np.einsum("np,np->p", products, products)[:, None] + 1e-9
        score = ((products.T @ y_NG) ** 2 / (spread * scale_G + 1e-300)).max(1)
        passed = np.flatnonzero(score > SURE * math.log(len(x_NP)))
        chosen += [(float(score[place]), one, int(others[place])) for place in passed]
    best = sorted(chosen, reverse=True)[:PRODUCTS]
    if not best:
        return x_NP, place_P
    one_M, other_M = np.array([pair[1] for pair in best]), np.array([pair[2] for pair in best])
    place_P = np.concatenate([place_P, place_P[other_M]])
    order = np.argsort(place_P, kind="stable")
    return np.concatenate([x_NP, x_NP[:, one_M] * x_NP[:, other_M]], 1)[:, order], place_P[order]


def _with_smooth(
    linear_BK: Floats,
    steps: Steps,
    x_TE: Floats,
    y_NG: Floats,
    lags_K: Lags,
    block_N: NDArray[np.int64],
    rng: np.random.Generator,
) -> Floats:
    """Take the losses of smooth predictors, by context, if they are better by more than chance and 1 %."""
    ends = [end for end in SMOOTH if end <= min(len(lags_K), WIDEST // x_TE.shape[1])]
    if not ends:
        return linear_BK
    seed = int(rng.integers(2**31))

    def loss(end: int) -> Floats:
        x_NP = steps.columns(x_TE, lags_K[:end])
        return _ridge(x_NP, y_NG, block_N, np.random.default_rng(seed))

    found = {end: loss(end) for end in ends}
    best = min(ends, key=lambda end: found[end].mean())
    gained_B = linear_BK[:, linear_BK.mean(0).argmin()] - found[best]
    whole = float((linear_BK[:, 0] - found[best]).mean())
    if gained_B.mean() <= max(3 * gained_B.std(ddof=1) / math.sqrt(len(gained_B)), 0.01 * whole):
        return linear_BK
    enough = next(end for end in ends if found[end].mean() <= found[best].mean() + 0.01 * whole)
    below = max((end for end in ends if end < enough), default=0)
    found |= {end: loss(end) for end in range(below + 1, enough)}
    losses_BK = linear_BK.copy()
    for end in sorted(found):
        worse = losses_BK[:, end:].mean(0) > found[end].mean()
        losses_BK[:, end:][:, worse] = found[end][:, None]
    return losses_BK


def _ridge(x_NP: Floats, y_NG: Floats, block_N: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Ridge regression on random cosines of several widths, its strength by generalised cross-validation."""
    width = x_NP.shape[1]
    frequency = rng.normal(size=(width, FEATURES)) * np.exp(rng.uniform(-1.2, 1.2, FEATURES)) / math.sqrt(width)
    phase = rng.uniform(0, 2 * math.pi, FEATURES)
    design = torch.from_numpy(np.concatenate([x_NP, np.cos(x_NP @ frequency + phase)], 1))
    y = torch.from_numpy(y_NG)
    rows = [torch.from_numpy(one) for one in folds(block_N)]
    sums = [Sums.of(design[one], y[one]) for one in rows]
    whole = sums[0] + sums[1] + sums[2] + sums[3]
    found_B = np.zeros(block_N.max() + 1)
    for fold in range(FOLDS):
        count, x_mean, y_mean, gram, cross, square = (whole - sums[fold]).centred()
        values, vectors = torch.linalg.eigh(gram)
        values, turned = values.clamp_min(0), vectors.T @ cross
        best, kept = math.inf, turned
        for strength in 10.0 ** np.arange(-8, 1) * count:
            shrunk = turned / (values[:, None] + strength)
            left = float((square - (2 * turned * shrunk - values[:, None] * shrunk**2).sum(0)).sum())
            score = left / max(count - float((values / (values + strength)).sum()), 1.0) ** 2
            if score < best:
                best, kept = score, shrunk
        error = y[rows[fold]] - y_mean - (design[rows[fold]] - x_mean) @ (vectors @ kept)
        np.add.at(found_B, block_N[rows[fold].numpy()], (error**2).sum(1).numpy())
    return found_B / np.bincount(block_N)
