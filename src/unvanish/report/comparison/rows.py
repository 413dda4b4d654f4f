"""The rows of a comparison as texts, the same on the page and in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath

from unvanish.record.measures import NAMES, measures
from unvanish.record.reaching import held_back
from unvanish.record.schema import mapping, number, text
from unvanish.report.comparison.read import Comparison, Entry, Group, differing, loss_of
from unvanish.report.page.wording import MISSING, count, decimal, duration, inside, part_order, plain
from unvanish.report.run.answers import PARTS

LEADS = {"text": "loss", "class": "accuracy", "number": "rmse", "forecast": "mase", "agreement": "accuracy"}
TOLD = ("cell", "hidden", "layers", "epochs", "length")  # settings that have rows of their own
Value = Callable[[Entry], float | None]


@dataclass(frozen=True)
class Row:
    """One thing that is compared, with a cell for each group.

    Attributes:
        best: the place of the group that is best in it, where that can be said.
        asked: whether it is a setting in which the groups differ.
    """

    name: str
    cells: list[str]
    best: int | None = None
    asked: bool = False


def rows(found: Comparison) -> list[Row]:
    """Write all of them, but those of which nothing is known."""
    written = [*_what(found), *_how_well(found), *_how_far(found), *_how_long(found), *_settings(found)]
    return [row for row in written if set(row.cells) != {MISSING}]


def spread(values: list[float], write: Callable[[float], str]) -> str:
    """Write one value, or the mean of several with the least and the greatest.

    >>> spread([1.5], str), spread([1.0, 2.0], str), spread([2.0, 2.0], str), spread([], str)
    ('1.5', '1.5 (1.0 to 2.0)', '2.0', '—')
    """
    if not values:
        return MISSING
    mean, least, greatest = (write(one) for one in (sum(values) / len(values), min(values), max(values)))
    return mean if least == greatest else f"{mean} ({least} to {greatest})"


def _figures(found: Comparison, name: str, value: Value, write: Callable[[float], str] = decimal) -> Row:
    return Row(name, [spread(group.known(value), write) for group in found.groups])


def _words(found: Comparison, name: str, word: Callable[[Entry], str]) -> Row:
    told = [dict.fromkeys(map(word, group.entries)) for group in found.groups]
    return Row(name, [", ".join(one for one in words if one) or MISSING for words in told])


# -- what was trained --------------------------------------------------------------------------------------------


def _what(found: Comparison) -> Iterator[Row]:
    yield _words(found, "data", lambda entry: PurePath(text(entry.data.get("source"))).name)
    yield _words(found, "cell", lambda entry: entry.cell)
    yield _words(found, "units", _units)
    yield _figures(found, "parameters", lambda entry: number(entry.run.config.get("parameters")), count)
    yield _words(found, "epochs", _epochs)
    if any(len(group.entries) > 1 for group in found.groups):
        yield _words(found, "seeds", lambda entry: plain(entry.settings.get("seed")))
    if any(entry.run.status != "finished" for entry in found.entries):
        yield _words(found, "status", lambda entry: entry.run.status)


def _units(entry: Entry) -> str:
    layers, hidden = (number(entry.settings.get(name)) for name in ("layers", "hidden"))
    return "" if layers is None or hidden is None else f"{count(layers)} × {count(hidden)}"


def _epochs(entry: Entry) -> str:
    wanted = number(entry.settings.get("epochs"))
    begun = [valid.epoch for valid in entry.run.valids if valid.epoch is not None]
    done = begun[-1] + 1 if begun else 0
    if wanted is None:
        return count(done) if begun else ""
    return count(wanted) if done >= wanted else f"{count(done)} of {count(wanted)}"


# -- how well it answers -----------------------------------------------------------------------------------------


def _how_well(found: Comparison) -> Iterator[Row]:
    units = {entry.run.asked.loss_unit for entry in found.entries}
    unit = f", {units.pop()}" if len(units) == 1 else ""
    ranked = found.ranked
    best = found.groups.index(ranked[0]) if len(ranked) > 1 else None
    losses = _figures(found, f"validation loss{unit}", loss_of)
    yield Row(losses.name, losses.cells, best)
    names = dict.fromkeys(name for entry in found.entries if entry.valid for name in entry.valid.metrics)
    for name in names:
        if name != "loss":
            yield _figures(found, _called(name, found), _metric(name), partial(_value, name))
    yield Row("best loss", [_best(group) for group in found.groups])
    yield from _beside(found)


def _called(name: str, found: Comparison) -> str:
    return f"bits per {found.asked.unit}" if name == "bits" else NAMES.get(name, name)


def _metric(name: str) -> Value:
    return lambda entry: None if entry.valid is None else entry.valid.metrics.get(name)


def _value(name: str, value: float) -> str:
    if name in ("loss", "bits"):
        return decimal(value)
    return next(told for _, told in measures({name: value}, ""))


def best_of(entry: Entry) -> float | None:
    """Return the best validation loss of a run."""
    return None if entry.best is None else entry.best.loss


def _best(group: Group) -> str:
    first = group.entries[0].best
    if len(group.entries) == 1 and first is not None:
        return f"{decimal(first.loss)} at training step {count(first.step)}"
    return spread(group.known(best_of), decimal)


def _beside(found: Comparison) -> Iterator[Row]:
    """What naive answers come to, and what came of the test."""
    answers = dict.fromkeys((one.name, one.part) for entry in found.entries for one in entry.run.worths)
    for name, part in sorted(answers, key=lambda one: one[1] == "test"):

        def worth(entry: Entry, name: str = name, part: str = part) -> str:
            lead = LEADS[entry.run.asked.kind]
            known = [one.metrics.get(lead) for one in entry.run.worths if (one.name, one.part) == (name, part)]
            told = [f"{NAMES.get(lead, lead)} {_value(lead, one)}" for one in known[-1:] if one is not None]
            return told[0] if told else ""

        told = ["" if name == "the network" else "naive", "" if part == "valid" else PARTS.get(part, part)]
        beside = ", ".join(filter(None, told))
        yield _words(found, f"{beside}: {name}", worth)


# -- how far the gradient comes ----------------------------------------------------------------------------------


def _how_far(found: Comparison) -> Iterator[Row]:
    yield _words(found, "need", _need)
    yield _words(found, "window", lambda entry: count(entry.run.window) if entry.run.window else "")
    yield Row("reach", [_reach(group) for group in found.groups])
    parts = sorted({reach.part for entry in found.entries for reach in entry.run.reaches}, key=part_order)
    for part in parts if len(parts) > 1 else []:
        yield Row(f"reach of {inside(part)}", [_reach(group, part) for group in found.groups])
    yield _words(found, "gradient", _held_back)


def _need(entry: Entry) -> str:
    need = entry.run.need
    return "" if need is None else f"{'≥ ' if need.censored else ''}{count(need.lag)}"


def reach_of(entry: Entry) -> float | None:
    """Return how far back the gradient of a run comes."""
    return None if entry.reach is None else entry.reach.steps


def _reach(group: Group, part: str | None = None) -> str:
    """Write the reach of a part, or of the part that reaches furthest in each run."""
    found = [
        reach
        for entry in group.entries
        for reach in ([entry.reach] if part is None else entry.run.reaches)
        if reach is not None and part in (None, reach.part)
    ]
    told = spread([reach.steps for reach in found if reach.steps is not None], count)
    return f"≥ {told}" if any(reach.censored for reach in found) else told


def _held_back(entry: Entry) -> str:
    need = None if entry.run.need is None else entry.run.need.lag
    reach = entry.reach
    return "" if reach is None else held_back(reach.steps, entry.run.window, need, censored=reach.censored)


# -- how long it took, and what else differs ---------------------------------------------------------------------


def _how_long(found: Comparison) -> Iterator[Row]:
    yield _figures(found, "time", lambda entry: entry.run.seconds, duration)
    steps = {entry.run.asked.steps for entry in found.entries}
    name = steps.pop() if len(steps) == 1 else "steps"
    name = "time steps" if name == "steps" else name
    yield _figures(found, f"{name} per second", _speed, count)
    yield _words(found, "device", lambda entry: text(mapping(entry.run.config.get("versions")).get("device")))


def _speed(entry: Entry) -> float | None:
    known = [valid.tokens_per_second for valid in entry.run.valids if valid.tokens_per_second is not None]
    return known[-1] if known else None


def _settings(found: Comparison) -> Iterator[Row]:
    for name in differing(found.groups, TOLD):
        values = [group.entries[0].settings.get(name) for group in found.groups]
        yield Row(name.replace("_", " "), [plain(value) or MISSING for value in values], asked=True)
