"""What a comparison comes to, in words."""

from __future__ import annotations

from collections.abc import Callable

from unvanish.report.comparison.read import Comparison, Entry, Group, loss_of, named
from unvanish.report.comparison.rows import reach_of
from unvanish.report.page.wording import count, decimal, enumeration, percent, steps

BESIDE = {
    "class": ("accuracy", "right"),
    "agreement": ("accuracy", "right"),
    "number": ("rmse", "off"),
    "forecast": ("mase", "MASE"),
}


def finding(found: Comparison) -> str:
    """Say which run is best, and how far the gradients come."""
    return " ".join(filter(None, [_losses(found), _reaches(found), _needs(found), _data(found)]))


def headline(found: Comparison) -> str:
    """Say in one line what a comparison comes to: which run is best, else how far the gradients come."""
    ranked = len(found.ranked) > 1 or len(found.groups) == 1
    said = (_losses(found) if ranked else "") or _reaches(found) or _data(found)
    return said.split(". ")[0].removesuffix(".") or f"{len(found.entries)} runs beside each other"


def _losses(found: Comparison) -> str:
    ranked, nats = found.ranked, " nats" if found.asked.in_nats else ""
    if len(found.groups) == 1:
        (group,) = found.groups
        told = "" if group.loss is None else f": a loss of {_spread(group, nats)}"
        return f"{len(group.entries)} runs of {group.entries[0].cell} that differ only in the seed{told}."
    if len(ranked) < 2:
        return "" if not found.same_loss else "Fewer than two of these runs have been validated."
    first, *rest = ranked
    against = decimal(rest[0].loss)
    if len(rest) > 1:
        against = f"{against} to {decimal(rest[-1].loss)} of the others"
    words = f"{first.name} is best: {_spread(first, nats)} against {against}{_beside(found, ranked)}."
    if _overlap(first, rest[0]):
        words += f" Its range over seeds and that of {rest[0].name} overlap."
    return words


def _spread(group: Group, unit: str) -> str:
    values = group.known(loss_of)
    mean = f"{decimal(group.loss)}{unit}"
    if min(values) == max(values):
        return mean
    return f"{mean} in the mean, from {decimal(min(values))} to {decimal(max(values))} over {len(values)} seeds"


def _overlap(one: Group, other: Group) -> bool:
    if len(one.entries) == len(other.entries) == 1:
        return False
    return max(one.known(loss_of)) >= min(other.known(loss_of))


def _beside(found: Comparison, ranked: list[Group]) -> str:
    """What the losses mean, where nobody reads a loss; of the first and the second."""
    if found.asked.kind not in BESIDE:
        return ""
    name, word = BESIDE[found.asked.kind]
    values = [group.mean(_metric(name)) for group in ranked[:2]]
    if None in values:
        return ""
    write: Callable[[float | None], str] = percent if name == "accuracy" else decimal
    one, other = map(write, values)
    after = f" of {ranked[1].name}" if len(ranked) > 2 else ""
    told = f"{word} {one} against {other}" if name == "mase" else f"{one} {word} against {other}"
    return f" ({told}{after})"


def _metric(name: str) -> Callable[[Entry], float | None]:
    return lambda entry: None if entry.valid is None else entry.valid.metrics.get(name)


def _reaches(found: Comparison) -> str:
    order = found.ranked + [group for group in found.groups if group not in found.ranked]
    known = [group for group in order if group.known(reach_of)]
    if not known:
        return ""
    first, *rest = known
    far = first.mean(reach_of)
    leads = len(found.ranked) > 1 and first is found.ranked[0]
    verb = (
        "Its gradient" if leads else "The gradient" if len(found.groups) == 1 else f"The gradient of {first.name}"
    )
    words = f"{verb} reaches {_far(first)} {steps(far)}"
    if len(rest) == 1:
        words += f", that of {rest[0].name} {_far(rest[0])}"
    elif rest:
        ordered = sorted(rest, key=lambda group: group.mean(reach_of) or 0.0)
        words += f", those of the others {_far(ordered[0])} to {_far(ordered[-1])}"
    return f"{words}."


def _far(group: Group) -> str:
    values = group.known(reach_of)
    least = "at least " if any(one.reach is not None and one.reach.censored for one in group.entries) else ""
    among = "" if min(values) == max(values) else f" ({count(min(values))} to {count(max(values))})"
    return f"{least}{count(sum(values) / len(values))}{among}"


def _needs(found: Comparison) -> str:
    needs = [entry.run.need for entry in found.entries]
    told = dict.fromkeys(
        f"{'at least ' if need.censored else ''}{count(need.lag)}" for need in needs if need is not None
    )
    if not told or not found.same_data:
        return ""
    return f"The data need {' or '.join(told)} {steps(1 if [*told] == ['1'] else None)} of context."


def _data(found: Comparison) -> str:
    if not found.same_data:
        alike: dict[str, list[str]] = {}
        for entry in found.entries:
            alike.setdefault(entry.digest, []).append(entry.name)
        told = enumeration([f"{enumeration(names)}" for names in alike.values()])
        return f"These runs learned from different data ({told}): their losses cannot be held against each other."
    if not found.same_loss:
        return (
            f"{named(found.groups)} learned from the same data but are not judged alike (another question, part or "
            "unit): their losses cannot be held against each other."
        )
    return ""
