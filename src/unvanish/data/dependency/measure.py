"""Dependence in data against lag, what shuffled data give in its place, and the context that is needed.

*Visible*, pair by pair. Symbols: the mutual information I(s_t; s_{t-k}) in nats. Numbers: the squared rank
correlation of x_t and x_{t-k}, the largest over all pairs of features, where each feature stands once for its
rank and once for the distance of its rank from the middle. Both are measured as well in data whose blocks are
shuffled (about 20, or as long as 8192 steps): their mean is subtracted, and a lag counts that stands out of
their distribution. The memory of a series widens that band as it must, unless it outlasts a block.

*Needed*, all together: the shortest context that reaches 99 % of what can be predicted at all from the lags
looked at, by the held-out loss of models that see k steps back. Numbers: least squares of all lags, products of
two, and a smooth predictor of the nearest; the gain is a share of the variance. What is predicted is the value,
not its spread. Symbols: counts of what follows each context, then a regression lag by lag; the gain is in nats.

Sources: Li 1990, "Mutual information functions versus correlation functions"; Spearman 1904 for ranks; Bartlett
1946 for what a memory does to the band; Benjamini and Hochberg 1995 for the false discovery rate.

Shapes: B sequences, T steps (of all sequences together), N pairs, F features of x, G of y, K lags, D draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unvanish.data.dependency import stream
from unvanish.data.dependency.needed import Need, needed_of_numbers, needed_of_symbols, one_hot, standard
from unvanish.data.dependency.numbers import Correlation, bins, scores
from unvanish.data.dependency.reading import Series, check_target, read, read_target
from unvanish.data.dependency.result import Dependency, Pairwise, judged
from unvanish.data.dependency.significance import Tail, shuffled_blocks
from unvanish.data.dependency.symbols import BINS, Alphabet, Information
from unvanish.errors import DataError, OptionError
from unvanish.waiting import shown

FARTHEST = 1000
EVERY_LAG_TO, SHORT = 64, 100_000  # in data of so few steps all lags are cheap
PER_OCTAVE = 12
FEWEST_PAIRS = 32
FEWEST_LABELS = 10
CHEAP = 10_000_000  # steps shuffled in all
MORE_DRAWS = 4

Lags = NDArray[np.int64]
Statistic = Information | Correlation
Found = tuple[NDArray[np.float64], NDArray[np.int64], list[Tail]]


def dependency(
    data: Any,
    target: Any = None,
    *,
    lags: int | Iterable[int] | None = None,
    kind: str | None = None,
    draws: int = 100,
    level: float = 0.05,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> Dependency:
    """Measure how far back a sequence depends on itself, or a target on its input, and what of that is needed.

    `visible` is the farthest dependence pair by pair; `needed` the shortest context that predicts as well as any,
    to 1 %. `Dependency` says how they differ, `needed.numbers` and `needed.symbols` what predicts.

    With a target, lag k sets x_{t-k} against y_t, or against the one label of a sequence, where k counts back from
    its last step. Numbers that meet symbols are cut into 8 bins of equal share where they are compared pair by
    pair. An alphabet over 128 symbols is folded: the 127 commonest, and the rest.

    Args:
        data: text, bytes, integers (T,) or (B, T), a list of words, floats (T,), (T, F) or (B, T, F), or a list
            of sequences. A `Path` (UTF-8 text) or an iterator of chunks (text, bytes or arrays of symbols) is read
            once and never held: at most (lags + draws) · 128 KB for counts and some 200 MB beside. The alphabet of
            such a stream is that of its first 2^20 symbols, the needed lag that of its first 2^17.
        target: per step, shaped like the data, or one label per sequence, (B,): give floats as (B, T, 1) then,
            for (B, T) is one sequence of B steps.
        lags: the largest, or those wanted. By default a tenth of the steps (with labels all), at most 1000; of more
            than 100,000 steps all up to 64, then 12 per octave: one far lag alone can fall between.
        kind: `symbols` or `numbers`; by default floats are numbers and all else symbols.
        draws: how often the data are shuffled, and up to four times as often where they are few.
        level: the false discovery rate of `significant`, and the chance that chance alone sets `visible`, or
        `needed`. seed: of the shuffling.
        say: called with what is being done. By default that is a passing line on a terminal, and nothing elsewhere.

    Raises:
        DataError: data that are too short, constant, not finite, or of a shape or type that is not known.
        OptionError: lags beyond the data, no draws, a level outside (0, 1), an unknown kind.

    >>> source = np.random.default_rng(0).integers(0, 4, 5000)
    >>> dependency(source[37:], target=source[37:]).needed, dependency(source[37:], target=source[:-37]).needed
    (0, 37)
    """
    if draws < 10 or not 0 < level < 1:
        raise OptionError(
            f"draws={draws}, level={level}: a distribution needs 10 draws or more, and a level lies between 0 and 1"
        )
    rng = np.random.default_rng(seed)
    if isinstance(data, Path | Iterator) and (target is not None or kind == "numbers"):
        raise OptionError("a stream is read once, as symbols and without a target: load numbers and targets whole")
    with shown(say) as tell:
        return _measured(data, target, lags, kind, (draws, level, rng), tell)


def _measured(
    data: Any,
    target: Any,
    lags: int | Iterable[int] | None,
    kind: str | None,
    chance: tuple[int, float, np.random.Generator],
    say: Callable[[str], None],
) -> Dependency:
    if isinstance(data, Path | Iterator):
        head, pieces = stream.opened(data)
        if pieces is not None:
            say("comparing the data with themselves as they are read")
            return _of_stream(head, pieces, lags, *chance)
        data = head
    if target is not None:
        check_target(data, target)
    return _of_arrays(read(data, kind), target, lags, *chance, say)


def _of_arrays(
    x: Series,
    target: Any,
    lags: int | Iterable[int] | None,
    draws: int,
    level: float,
    rng: np.random.Generator,
    say: Callable[[str], None],
) -> Dependency:
    y, labels = (x, False) if target is None else read_target(target, x)
    wanted = _default_lags(lags, x, labels, first=0 if target is not None else 1)
    name, statistic, x_TF, y_TG = _prepared(x, y)
    source = _Labelled(x_TF, y_TG, x.lengths) if labels else _Stepwise(x_TF, y_TG, x.lengths)
    say(f"comparing steps pair by pair, up to {int(wanted.max()):,} apart")
    pairwise = Pairwise(name, wanted, *source.measured(statistic, wanted, draws, rng))
    say("measuring how much context predicts as well as any")
    found = judged(pairwise, _need(x, y, labels, pairwise, level, rng), level)
    return _at_least(found) if labels else found


def _at_least(found: Dependency) -> Dependency:
    """Of few sequences the predictor may see nothing where pairs do: what they show is the least that is needed."""
    pairs = found.lags[found.decisive]
    if found.needed or not len(pairs) or not pairs[0]:
        return found
    told = (
        f"{found.samples.max():,} sequences are too few to tell how much context predicts the label; pair by pair "
        f"it depends on the input {pairs[0]:,} steps back"
    )
    return replace(found, needed=int(pairs[0]), censored=True, note="; ".join(filter(None, (found.note, told))))


def _need(x: Series, y: Series, labels: bool, pairwise: Pairwise, level: float, rng: np.random.Generator) -> Need:
    """Symbols that predict symbols, step by step, are counted; all else is a regression."""
    lags, strength = pairwise.lags, pairwise.values
    if x.kind == y.kind == "symbols" and not labels and y.values.shape[1] == 1:
        codes = _codes(x)[0][:, 0].astype(np.int64)
        targets = codes if y is x else _codes(y)[0][:, 0].astype(np.int64)
        return needed_of_symbols(codes, targets, x.lengths, lags, strength, level, rng)
    columns, wanted = _columns(x), _columns(y)
    smooth = x.kind == "numbers"
    return needed_of_numbers(
        columns, wanted, x.lengths, lags, strength, level, smooth=smooth, labels=labels, rng=rng
    )


def _columns(series: Series) -> NDArray[np.float64]:
    """Numbers in units of their deviation, symbols as one column each; a constant column is left out."""
    if series.kind == "numbers":
        return standard(series.values.astype(np.float64))
    codes, size = _codes(series)
    hot = np.concatenate([one_hot(column.astype(np.int64), size) for column in codes.T], 1)
    return hot[:, hot.std(0) > 0]


def _of_stream(
    head_T: NDArray[Any],
    pieces: stream.Pieces,
    lags: int | Iterable[int] | None,
    draws: int,
    level: float,
    rng: np.random.Generator,
) -> Dependency:
    wanted = _lags(lags, FARTHEST, stream.HEAD - FEWEST_PAIRS, first=1)
    start_T = Alphabet.of(head_T).encode(head_T)[: stream.START].astype(np.int64)
    pairwise = Pairwise("symbols", wanted, *stream.measured(head_T, pieces, wanted, draws, rng))
    seen = wanted < len(start_T) // 2
    need = needed_of_symbols(
        start_T, start_T, np.array([len(start_T)]), wanted[seen], pairwise.values[seen], level, rng
    )
    note = f"the needed lag was measured in the first {len(start_T):,} symbols of the stream"
    return judged(pairwise, replace(need, note=f"{note}; {need.note}"), level)


def _default_lags(lags: int | Iterable[int] | None, x: Series, labels: bool, first: int) -> Lags:
    longest = int(x.lengths.max())
    fewest, unit, count = (
        (FEWEST_LABELS, "labelled sequences", len(x.lengths)) if labels else (FEWEST_PAIRS, "steps", x.steps)
    )
    if count < fewest or longest < 2:
        raise DataError(f"{count} {unit} are too few to tell dependence from chance: give {fewest} or more")
    largest = longest - 1 if labels else max(1, min(longest * 9 // 10, x.steps // 10))
    every = FARTHEST if x.steps <= SHORT else EVERY_LAG_TO
    return _lags(lags, min(largest, FARTHEST), longest - 1, first, every)


def _lags(lags: int | Iterable[int] | None, default: int, last: int, first: int, every: int = EVERY_LAG_TO) -> Lags:
    if lags is None or isinstance(lags, int | np.integer):
        largest = default if lags is None else int(lags)
        steps = int(PER_OCTAVE * np.log2(max(largest, every) / every))
        far = np.round(largest * 2.0 ** (-np.arange(steps + 1) / PER_OCTAVE)).astype(np.int64)
        wanted = np.union1d(np.arange(first, min(largest, every) + 1), far)
    else:
        wanted = np.unique(np.fromiter(lags, dtype=np.int64))
    if not len(wanted) or wanted[0] < first or wanted[-1] > last:
        shown = f"{wanted[0]} to {wanted[-1]}" if len(wanted) else "none"
        raise OptionError(f"lags: {shown} wanted, and these data have {first} to {last}: choose lags in between")
    return wanted


def _prepared(x: Series, y: Series) -> tuple[str, Statistic, NDArray[Any], NDArray[Any]]:
    """What is compared, by which statistic, and the name of the kind."""
    if x.kind == y.kind == "numbers":
        x_TS = scores(x.values)
        y_TR = x_TS if y is x else scores(y.values)
        _check_varies(bool(x_TS.any()), bool(y_TR.any()))
        return "numbers", Correlation(), x_TS, y_TR
    x_codes, x_size = _codes(x)
    y_codes, y_size = (x_codes, x_size) if y is x else _codes(y)
    _check_varies(bool((x_codes != x_codes[0]).any()), bool((y_codes != y_codes[0]).any()))
    statistic = Information(x_size, y_size, x_codes.shape[1] * y_codes.shape[1])
    return x.kind if x.kind == y.kind else "mixed", statistic, x_codes, y_codes


def _codes(series: Series) -> tuple[NDArray[np.uint16], int]:
    if series.kind == "numbers":
        return bins(series.values, BINS), BINS
    alphabet = Alphabet.of(series.values)
    return alphabet.encode(series.values), alphabet.size


def _check_varies(x: bool, y: bool) -> None:
    if not (x and y):
        name = "target" if x else "data"
        raise DataError(
            f"the {name} are the same at every step: nothing can depend on a constant, give data that vary"
        )


class _Stepwise:
    """x_{t-k} beside y_t, within each sequence."""

    def __init__(self, x_TF: NDArray[Any], y_TG: NDArray[Any], lengths_B: NDArray[np.int64]) -> None:
        self.x_TF, self.y_TG = x_TF, y_TG
        self.row_T = np.repeat(np.arange(len(lengths_B)), lengths_B) if len(lengths_B) > 1 else None

    def pairs(self, lag: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """All that stand `lag` steps apart."""
        stop = len(self.x_TF) - lag
        x_NF, y_NG = self.x_TF[:stop], self.y_TG[lag:]
        if self.row_T is None:
            return x_NF, y_NG
        same_N = self.row_T[:stop] == self.row_T[lag:]
        return x_NF[same_N], y_NG[same_N]

    def measured(self, statistic: Statistic, lags_K: Lags, draws: int, rng: np.random.Generator) -> Found:
        """Raw values (K,), numbers of pairs (K,), and what chance gives (K)."""
        found = [(statistic(*pairs), len(pairs[0])) for pairs in map(self.pairs, lags_K.tolist())]
        raw_K, samples_K = np.array([value for value, _ in found]), np.array([count for _, count in found])
        steps = len(self.x_TF)
        # N times the statistic has the same distribution at every N that is large enough. So one fit serves all
        # lags; only those with fewer than half the pairs get one of their own, from as few.
        size_K = steps >> np.floor(np.log2(steps / np.maximum(samples_K, 8))).astype(np.int64).clip(0)
        fits = self.chances(statistic, np.unique(size_K).tolist(), draws, rng)
        chance_K = [fits[size].scaled(1 / count) for size, count in zip(size_K.tolist(), samples_K, strict=True)]
        return raw_K, samples_K, chance_K

    def chances(
        self, statistic: Statistic, sizes: list[int], draws: int, rng: np.random.Generator
    ) -> dict[int, Tail]:
        """The distribution of N times the statistic in shuffled data, for each N of `sizes`."""
        steps = len(self.x_TF)
        # Where it costs little, more draws than were asked for make the fit sharper.
        times = draws * int(np.clip(CHEAP // (draws * steps), 1, MORE_DRAWS))
        null = {size: list[float]() for size in sizes}
        for _ in range(times):
            y_TG = np.concatenate([self.y_TG[block] for block in shuffled_blocks(steps, rng)])
            for size in sizes:
                start = int(rng.integers(0, steps - size + 1))
                here = slice(start, start + size)
                null[size].append(size * statistic(self.x_TF[here], y_TG[here]))
        return {size: statistic.chance(np.array(values)) for size, values in null.items()}


class _Labelled:
    """x at k steps before the end of its sequence, beside the sequence's one label."""

    def __init__(self, x_TF: NDArray[Any], y_BG: NDArray[Any], lengths_B: NDArray[np.int64]) -> None:
        self.x_TF, self.y_BG, self.lengths_B = x_TF, y_BG, lengths_B
        self.last_B = np.cumsum(lengths_B) - 1

    def measured(self, statistic: Statistic, lags_K: Lags, draws: int, rng: np.random.Generator) -> Found:
        """Raw values (K,), numbers of pairs (K,), and what chance gives (K)."""
        raw, samples, chance = [], [], []
        for lag in lags_K.tolist():
            long = self.lengths_B > lag
            x_NF, y_NG = self.x_TF[self.last_B[long] - lag], self.y_BG[long]
            raw.append(statistic(x_NF, y_NG))
            samples.append(len(x_NF))
            # Each position has its own distribution of x, and so its own of the statistic.
            null = [statistic(x_NF, y_NG[rng.permutation(len(y_NG))]) for _ in range(draws)]
            chance.append(statistic.chance(np.array(null)))
        return np.array(raw), np.array(samples), chance
