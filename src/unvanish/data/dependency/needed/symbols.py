"""The needed lag of symbols: the held-out log-loss of context models by the length of their context.

Near: counts of what follows each context, every length resting on the one below it (absolute discounting; Ney,
Essen, Kneser 1994). Where a long sample knows few contexts of a length, the lengths are mixed by weights that
depend on how often each context was seen. Farther back, every lag is a term more in a regression of what is left
(and so are products of two lags, in small alphabets): other joint dependence is not looked for there.

Shapes: T steps, N steps that are predicted, R of them in one fold, A symbols of x, S of y, C context lengths, K
lags, E columns of a step, P columns, B blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from unvanish.data.dependency.needed.contexts import Table, contexts_of, predictions, surprise
from unvanish.data.dependency.needed.curve import Need, judged
from unvanish.data.dependency.needed.mixing import mixed
from unvanish.data.dependency.needed.numbers import affordable, with_products
from unvanish.data.dependency.needed.ordered import BLOCKS, FOLDS, Ordered, Sums, blocks_of
from unvanish.data.dependency.needed.past import Floats, Lags, Steps, one_hot

CELLS = 2_500_000  # of a table of predictions
MOST = 12_000  # steps that a regression is fitted on, or judged by
MANY = 50_000  # steps: enough to keep some for fitting weights
PASSAGE = 5  # blocks
COLUMNS = 400
WHOLE = 8  # symbols beside the first that have a column each; of more, the main directions are taken
DIRECTIONS = 6
LEAST = 1e-3  # probability of all symbols together that seem impossible
FEW, OFTEN = (
    8,
    0.25,
)  # contexts seen less than 8 times tell little; where a quarter are such, the sample is at its end


@dataclass(frozen=True, eq=False)
class _Task:
    """What is asked of every fold."""

    x_T: Lags
    y_N: Lags
    size: int
    steps: Steps
    context_CN: list[Lags]
    columns_AE: Floats
    lags_K: Lags


@dataclass(frozen=True, eq=False)
class _Fold:
    """Rows that are counted, rows that weights are fitted on, rows that are held out."""

    counted_N: NDArray[np.bool_]
    fitted: Lags
    held: Lags

    @property
    def rows(self) -> Lags:
        return np.concatenate([self.fitted, self.held])

    @property
    def is_fitted(self) -> NDArray[np.bool_]:
        return np.arange(len(self.fitted) + len(self.held)) < len(self.fitted)


def needed_of_symbols(
    x_T: Lags,
    y_T: Lags,
    lengths_B: Lags,
    lags_K: Lags,
    strength_K: Floats,
    level: float,
    rng: np.random.Generator,
) -> Need:
    """Measure how many symbols of x predict the symbol of y, both as codes from 0 on."""
    steps = Steps.of(lengths_B, lags_K, labels=False, most=len(x_T), rng=rng)
    y_N, size = y_T[steps.now], int(y_T.max()) + 1
    context_CN = contexts_of(x_T, steps, lags_K)
    columns_AE = _columns(x_T, y_N, steps, lags_K, size)
    many = len(y_N) > MANY
    room = min(COLUMNS, len(y_N) // 4) // columns_AE.shape[1]
    seen_K = affordable(lags_K, strength_K, max(room, len(context_CN) - 1))
    task = _Task(x_T, y_N, size, steps, context_CN, columns_AE, seen_K)
    parts = 2 * FOLDS if many else FOLDS
    block_N = blocks_of(len(y_N), parts * BLOCKS if many else BLOCKS)
    # Of a long text whole passages are held out: what is near was written about the same things.
    part_N = (block_N // PASSAGE if many else block_N) % parts
    found_BK, held, at_end = np.zeros((block_N.max() + 1, len(seen_K) + 1)), 0, False
    for part in range(1 if many else parts):
        fold = _fold(part_N, part, size, rng, many=many)
        loss_NK, ends = _losses(task, fold)
        at_end, held = at_end | ends, held + len(fold.held)
        for one in np.unique(block_N[fold.held]):
            found_BK[one] = loss_NK[block_N[fold.held] == one].mean(0)
    longest = int(lags_K[len(context_CN) - 2])
    notes = [f"joint dependence of several symbols was looked for up to {longest} steps back"]
    if at_end:
        notes.append("contexts that are longer come too seldom in this sample")
    grain = 2 * math.log(COLUMNS) / len(y_N)
    found_BK = found_BK[found_BK.any(1)]
    need = judged(found_BK, seen_K, level, "nats", notes, -held * found_BK.mean(0), grain=grain)
    return replace(need, censored=need.censored or (at_end and need.steps > 0))


def _fold(part_N: Lags, part: int, size: int, rng: np.random.Generator, *, many: bool) -> _Fold:
    held_N = part_N == part
    counted_N = (part_N > 1) if many else ~held_N
    fitted_N = (part_N == 1) if many else counted_N
    most = max(min(MOST, CELLS // size), 100)
    fitted, held = (
        np.sort(rng.choice(rows, most, replace=False)) if len(rows) > most else rows
        for rows in (np.flatnonzero(fitted_N), np.flatnonzero(held_N))
    )
    return _Fold(counted_N, fitted, held)


def _losses(task: _Task, fold: _Fold) -> tuple[Floats, bool]:
    """Held-out losses (N, 1 + K) by context, and whether the sample knows no longer contexts than the best."""
    y_R, fitted_R = task.y_N[fold.rows], fold.is_fitted
    levels, seen = predictions(task.context_CN, task.y_N, task.size, fold.counted_N, fold.rows)
    depth, at_end = _best(levels, seen, y_R, fitted_R)
    if at_end and not fold.counted_N[fold.fitted].any():
        levels = mixed(levels, seen, y_R, fitted_R)
        depth, _ = _best(levels, seen, y_R, fitted_R)
    near = [surprise(level[~fitted_R], y_R[~fitted_R]) for level in levels[: depth + 1]]
    found_NK = np.stack([*near, *_far(task, fold, levels[depth], depth)], 1)
    return found_NK, at_end


def _best(levels: list[Table], seen: list[Lags], y_R: Lags, fitted_R: NDArray[np.bool_]) -> tuple[int, bool]:
    """The length that predicts the fitted rows best, and whether the sample hardly knows any longer contexts."""
    loss_C = np.array([surprise(level[fitted_R], y_R[fitted_R]).mean() for level in levels])
    depth = int(np.flatnonzero(loss_C <= loss_C.min() + 1e-9)[0])
    return depth, bool((seen[min(depth + 1, len(seen) - 1)] < FEW).mean() > OFTEN)


def _columns(x_T: Lags, y_N: Lags, steps: Steps, lags_K: Lags, size: int) -> Floats:
    """What a symbol is in a regression, (A, E): a column each, or the directions that tell most of y."""
    count_A = np.bincount(x_T).astype(np.float64)
    share_A = count_A / count_A.sum()
    if len(share_A) - 1 <= WHOLE:
        columns_AE = one_hot(np.arange(len(share_A)), len(share_A))[:, 1:]
    else:
        table = np.zeros((len(share_A), size))
        for lag in lags_K[:4].tolist():
            np.add.at(table, (x_T[np.maximum(steps.now - lag, 0)], y_N), 1)
        table /= table.sum()
        alone = np.outer(table.sum(1), table.sum(0))
        left, _, _ = np.linalg.svd((table - alone) / np.sqrt(alone + 1e-12))
        columns_AE = left[:, :DIRECTIONS] / np.sqrt(share_A + 1e-9)[:, None]
    columns_AE = columns_AE - share_A @ columns_AE
    found: Floats = columns_AE / np.sqrt(share_A @ columns_AE**2 + 1e-12)
    return found


def _far(task: _Task, fold: _Fold, base_RS: Table, depth: int) -> list[Floats]:
    """Held-out losses with every lag beyond `depth`: a regression of what the near context leaves, lag by lag."""
    train, size = len(fold.fitted), task.size
    y_R, lags_K = task.y_N[fold.rows], task.lags_K
    left = one_hot(y_R[:train], size) - base_RS[:train]
    x_RP = task.steps.at(fold.rows).columns(task.columns_AE[task.x_T], lags_K)
    place_P = np.repeat(np.arange(len(lags_K)), task.columns_AE.shape[1])
    if task.columns_AE.shape[1] <= 3:
        known = np.concatenate([left, np.zeros((len(x_RP) - train, size))])
        x_RP, place_P = with_products(x_RP, place_P, known, lags_K, within=False)
    x = torch.from_numpy(x_RP)
    fit = Ordered(Sums.of(x[:train], torch.from_numpy(left)), threshold=2 * math.log(x.shape[1] + 1), jitter=1e-6)
    terms_PN, weights = fit.terms(x[train:]).numpy(), fit.weights.numpy()
    now_NS, held_N, found = base_RS[train:].astype(np.float64), y_R[train:], []
    loss_N = surprise(now_NS, held_N)
    ends = np.searchsorted(place_P, np.arange(len(lags_K)), side="right")
    for place, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        used = start + np.flatnonzero(weights[start:end].any(1))
        if len(used):
            now_NS += terms_PN[used].T @ weights[used]
            positive = np.maximum(now_NS, LEAST / size)
            loss_N = surprise(positive / positive.sum(1, keepdims=True), held_N)
        if place >= depth:
            found.append(loss_N)
    return found
