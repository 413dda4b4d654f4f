"""Find a recurrence by what a forward pass does.

The longest repeat in its calls of torch is the step; the tensors that one step makes and the next one reads are the
state.

Shapes: N calls, P calls in a step (the period), C steps.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from unvanish.flow.finding.calls import MODULE, Made
from unvanish.flow.finding.repeat import FEWEST, Repeat, Tokens, best_repeat, goes_on, shortest

FARTHEST = 64  # steps, over which a state that is not read before can be handed on
SHIFTS = 400  # places in a step at which it is tried to begin
SEVERAL = 3  # recurrences, one after the other, that run over tensors of one shape
SMALL = 8  # steps: of fewer, one more or one less is another number
ANCHORS = 100  # calls by which steps that differ are cut apart
READ = 0.25  # of what a call makes, where another step reads it: what is fed back now and then is a state, too
_UNBINDS = frozenset(["unbind", "__iter__"])
_JOINS = frozenset(["stack", "cat", "concat", "concatenate"])
_INDEXES = frozenset(["__getitem__", "select", "index_select", "narrow"])
Slot = tuple[Hashable, int]


@dataclass(frozen=True)
class Loop:
    """A recurrence that was found in the calls of a forward pass.

    Attributes:
        name: the innermost module that all of a step happens in; empty where that is the model itself.
        states: the tensors of the state after each step, one list a step, each slot at the same place.
        calls: what each step does.
        makers: the names of the calls that make the states.
        over_input: whether it runs as often as something is iterated over.
        delay: how many steps later a state is read first.
    """

    name: str
    states: list[list[Tensor]] = field(repr=False)
    calls: list[list[Made]] = field(repr=False)
    makers: frozenset[str]
    over_input: bool
    delay: int = 1

    @property
    def steps(self) -> int:
        """How many steps were seen."""
        return len(self.states)

    def cuts(self, module: str) -> bool:
        """Whether a step detaches something inside a module."""
        return any(cut.startswith(module) for step in self.calls for one in step for cut in one.cuts)

    @property
    def shares_weights(self) -> bool:
        """Whether a step uses a parameter, or a layer, that the step before uses, too: layers one after the other
        do not."""
        used = [
            {id(one) for call in step for one in call.taken if one.is_leaf and one.requires_grad}
            | {call.name for call in step if call.name.startswith(MODULE)}
            for step in self.calls[-2:]
        ]
        return bool(used[0] & used[-1])

    def keeps_past(self, module: str) -> bool:
        """Whether a step hands on something of the step before that does not go through a module."""
        past = {id(one) for one in self.states[-2]}
        for call in self.calls[-1]:
            of_module = call.name == MODULE + module or f"{call.module}.".startswith(f"{module}.")
            if not of_module and any(id(one) in past for one in call.taken):
                past |= {id(one) for one in call.given}
        return any(id(one) in past for one in self.states[-1])


def loops(made: Sequence[Made], axes: Sequence[int] = ()) -> list[Loop]:
    """Find the recurrences in the calls of a forward pass, one after the other.

    Args:
        made: the calls.
        axes: sizes of the input's axes: a repeat of one of these counts is a loop over it.
    """
    tokens = _numbered(made)
    found: list[Loop] = []
    rest = [(0, len(made))]
    while rest:
        first, last = rest.pop()
        axes_here = _iterated(made[first:last], axes)
        repeat = best_repeat(tokens[first:last], axes_here)
        if repeat is not None and not _runs_over(made[first:last], repeat.length // repeat.period):
            repeat = shortest(tokens[first:last], repeat, axes_here)
        if (
            repeat is None
            or not repeat.over_input
            or goes_on(tokens[first:last], repeat)
            or not _gives(made[first:last], repeat.length // repeat.period, axes)
        ):
            anchored = _anchored(made[first:last], tokens[first:last], axes_here, axes)
            if anchored is not None:
                whole, start, end = anchored
                found.append(whole)
                rest += [(first, first + start), (first + end, last)]
                continue
        if repeat is not None:
            start = first + repeat.start
            loop = _loop(made[start : start + repeat.length], repeat)
            found += [] if loop is None else [loop]
            rest += [(first, start), (start + repeat.length, last)]
    return found


def _numbered(made: Sequence[Made]) -> Tokens:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(one.token, len(numbers)) for one in made], dtype=np.int64)


def _iterated(made: Sequence[Made], axes: Sequence[int]) -> set[int]:
    """How many pieces tensors were cut into, all at once or one after the other; else the axes of the input."""
    whole = {len(one.given) for one in made if one.name in _UNBINDS and len(one.given) >= FEWEST}
    pieces = [len(one.given) for one in made if not one.name.startswith(MODULE)]
    whole |= {count for count in pieces if count >= FEWEST and count in axes}
    cut = _cut(made)
    alike = Counter((count, one.shape) for one, count in cut)
    often, once = set[int](), set[int]()
    for one, count in cut:
        sizes = [size for size in one.shape[:2] if size]
        if count in sizes:
            often.add(count)
            continue
        # A step may take its piece several times.
        often |= {size for size in sizes if count in range(2 * size, 9 * size, size)}
        near = any(0 <= size - count <= 2 for size in sizes)
        several = any(count in range(2 * size, 9 * size, size) for size in sizes if size >= FEWEST)
        # Gates that are cut from one tensor are cut at every step, each time from another.
        if count >= FEWEST and (near or not several) and alike[count, one.shape] <= SEVERAL:
            once.add(count)
    return whole | often | once or set(axes)


def _cut(made: Sequence[Made]) -> list[tuple[Tensor, int]]:
    """The tensors that pieces are taken from one by one, and how often."""
    whole = [one.taken[0] for one in made if one.name in _INDEXES and one.taken]
    count = Counter(map(id, whole))
    return [(one, count[key]) for key, one in {id(one): one for one in whole}.items()]


def _runs_over(made: Sequence[Made], steps: int) -> bool:
    """Whether something is cut into as many pieces as there are steps, and whole."""
    sizes = [len(one.given) for one in made if one.name in _UNBINDS]
    sizes += [
        size
        for one, count in _cut(made)
        for size in one.shape[:2]
        if size and count >= size - 2 and min(count % size, -count % size) <= min(2, size // 4)
    ]
    return any(size > FEWEST and abs(size - steps) <= 2 for size in sizes)


def _gives(made: Sequence[Made], steps: int, axes: Sequence[int]) -> bool:
    """Whether what is joined of as many pieces as the input has steps is of so many steps, if anything is."""
    joined = [len(one.taken) for one in made if one.name in _JOINS and len(one.taken) in axes]
    return not joined or any(abs(count - steps) <= 2 for count in joined)


def _loop(made: Sequence[Made], repeat: Repeat) -> Loop | None:
    """A repeat as a recurrence; None where nothing is handed on. A step begins where the least is handed on."""
    period = repeat.period
    delays = range(1, min(len(made) // period // 2, FARTHEST) + 1)
    delay, begin, slots = next(
        ((delay, *found) for delay in delays if (found := _begin(made, period, delay)) is not None), (0, 0, [])
    )
    if not slots:
        return None
    whole = range(begin, len(made) - period + 1, period)
    steps = [list(made[at : at + period]) for at in whole]
    states = [[step[place].given[output] for place, output in slots] for step in steps]
    makers = frozenset(steps[-1][place].name for place, _ in slots)
    return Loop(_common([one.module for one in steps[-1]]), states, steps, makers, repeat.over_input, delay)


def _begin(made: Sequence[Made], period: int, delay: int) -> tuple[int, list[tuple[int, int]]] | None:
    """Where a step begins, and the least that is then handed on over so many steps; None where nothing is."""
    best: tuple[int, int, list[tuple[int, int]]] | None = None
    for shift in range(0, period, max(1, period // SHIFTS)):
        count = (len(made) - shift) // period
        slots = _slots(made, shift, period, count, delay) if count >= FEWEST - 1 else []
        if slots:
            size = sum(made[shift + place].given[output].numel() for place, output in slots)
            if best is None or size < best[0]:
                best = size, shift, slots
    return None if best is None else best[1:]


def _anchored(
    made: Sequence[Made], tokens: Tokens, iterated: set[int], axes: Sequence[int]
) -> tuple[Loop, int, int] | None:
    """A loop whose steps differ, as with a branch: what is called once in each of them cuts it into steps.

    One of as many steps as an axis of the input has comes first. Returns where it begins and ends, too.
    """
    best: tuple[bool, int, int, list[list[Tensor]], list[list[Made]], int] | None = None
    which, first, counts = np.unique(tokens, return_index=True, return_counts=True)
    order = np.argsort(first)
    anchors = [
        token
        for token, count in zip(which[order].tolist(), counts[order].tolist(), strict=True)
        if count >= FEWEST and _is_one_of(count, iterated | set(axes))
    ]
    for token in anchors[:: 1 + len(anchors) // ANCHORS]:
        at = [*np.flatnonzero(tokens == token).tolist(), len(made)]
        steps = [list(made[begin:end]) for begin, end in itertools.pairwise(at)]
        steps[-1] = steps[-1][: max(len(step) for step in steps[:-1])]
        begun, states = _handed_on(steps, {id(one) for call in made[at[-2] :] for one in call.taken})
        if states:
            beside = not _is_one_of(len(steps), axes)
            key = (beside, -len(states), sum(one.numel() for one in states[0]))
            if best is None or key < best[:3]:
                best = (*key, states, steps[begun:], at[begun])
    if best is None:
        return None
    *_, states, steps, start = best
    loop = Loop(_common([one.module for one in steps[-1]]), states, steps, frozenset(["step"]), True)
    return loop, start, start + sum(len(step) for step in steps)


def _is_one_of(count: int, axes: Collection[int]) -> bool:
    """Whether so many steps run along one of the axes: a first or last step may be missing, or be one more."""
    return any(abs(count - size) <= (size >= SMALL) for size in axes)


def _handed_on(steps: Sequence[Sequence[Made]], read_last: Collection[int]) -> tuple[int, list[list[Tensor]]]:
    """The state after each step, from the first that makes any: what a later step reads before it is made again.

    A slot is a call. What some steps do not make, because they are skipped or because a slow part has its turn only
    now and then, stays as it was, as long as it is still read; before it is first made, and after it is last read,
    it is zero. Slots of one shape that are never in use at the same time are one state: cells in turn.

    Args:
        steps: the calls of each.
        read_last: by id, what is read in the last step and after it.
    """
    made = [_slots_of(step) for step in steps]
    taken = [{id(one) for call in step for one in call.taken} for step in steps]
    lives: dict[Slot, list[tuple[int, int]]] = {}  # from the step that makes it up to the last that reads it
    at: dict[Slot, list[int]] = {}
    for k, of_step in enumerate(made):
        for slot in of_step:
            at.setdefault(slot, []).append(k)
    for slot, where in at.items():
        ends = [*where[1:], len(steps) - 1]
        found = []
        for k, end in zip(where, ends, strict=True):
            key = id(made[k][slot])
            readers = [later for later in range(k + 1, end + 1) if key in taken[later]]
            last = len(steps) if k == where[-1] and key in read_last else max(readers, default=k)
            found.append((k, last))
        if sum(last > k for k, last in found[:-1]) >= max(1, READ * (len(where) - 1)):
            lives[slot] = found
    born = {id(one): k for k, of_step in enumerate(made) for slot, one in of_step.items() if slot in lives}
    slots = {slot for slot in lives if _follows(steps, born, at[slot][-2:], made[at[slot][-1]][slot])}
    begun = min((at[slot][0] for slot in slots), default=0)
    states = [
        [_held(made, slots_of_one, lives, k) for slots_of_one in _in_turn(slots, lives, made)]
        for k in range(begun, len(steps))
    ]
    return begun, states if slots and len(states) >= FEWEST else []


def _held(
    made: Sequence[Mapping[Slot, Tensor]],
    slots: Sequence[Slot],
    lives: Mapping[Slot, list[tuple[int, int]]],
    k: int,
) -> Tensor:
    """What a state holds after step k: what one of its slots was given last, if that is still read."""
    held = [(first, slot) for slot in slots for first, last in lives[slot] if first <= k < last or first == k]
    if held:
        first, slot = max(held, key=lambda one: one[0])
        return made[first][slot]
    return torch.zeros_like(made[lives[slots[0]][0][0]][slots[0]])


def _in_turn(
    slots: Collection[Slot], lives: Mapping[Slot, list[tuple[int, int]]], made: Sequence[Mapping[Slot, Tensor]]
) -> list[list[Slot]]:
    """Put slots together that are of one shape and in use at different times."""
    together: list[tuple[torch.Size, set[int], list[Slot]]] = []
    for slot in sorted(slots, key=str):
        shape = made[lives[slot][0][0]][slot].shape
        # Of the last step it cannot be told whether what is read there is handed on, or read by the loss.
        used = {k for first, last in lives[slot] for k in range(first, max(min(last, len(made) - 1), first + 1))}
        for of_shape, others, members in together:
            if of_shape == shape and not used & others:
                others |= used
                members.append(slot)
                break
        else:
            together.append((shape, used, [slot]))
    return [members for _, _, members in together]


def _slots_of(step: Sequence[Made]) -> dict[Slot, Tensor]:
    """What a step makes, by the call and how often that was made in the step before."""
    count, found = Counter[Hashable](), dict[Slot, Tensor]()
    for call in step:
        for one in call.given:
            if one.is_floating_point() and one.dim():
                found[call.token, count[call.token]] = one
                count[call.token] += 1
    return found


def _follows(
    steps: Sequence[Sequence[Made]], born: Mapping[int, int], between: Sequence[int], held: Tensor
) -> bool:
    """Whether what a slot holds follows from what the slots held when it was made before.

    Args:
        born: by id, the step that made what any slot ever held.
        between: the step that made it before, and the one that made what it holds.
    """
    first, last = between
    made = set[int]()
    for call in itertools.chain.from_iterable(steps[first + 1 : last + 1]):
        if any(born.get(id(one), last) <= first or id(one) in made for one in call.taken):
            made |= {id(one) for one in call.given}
    return id(held) in made


def _slots(made: Sequence[Made], start: int, period: int, count: int, delay: int) -> list[tuple[int, int]]:
    """The places of a step, and their outputs, that the step so many later reads, in every pair of steps."""
    found: set[tuple[int, int]] | None = None
    last = count - delay
    middle = range(max(0, last // 2 - 2), min(last, last // 2 + 2)) if count > 8 else range(last)
    for k in middle:
        of_step: dict[int, tuple[int, int]] = {}
        for place in range(period):
            for output, one in enumerate(made[start + k * period + place].given):
                if one.is_floating_point() and one.dim():
                    of_step[id(one)] = (place, output)
        own, cross = set[int](), set[tuple[int, int]]()
        for place in range(period):
            call = made[start + (k + delay) * period + place]
            cross |= {of_step[id(one)] for one in call.taken if id(one) in of_step and id(one) not in own}
            own |= {id(one) for one in call.given}
        found = cross if found is None else found & cross
    return _carried(made, start, period, delay, middle.start, sorted(found)) if found else []


def _carried(
    made: Sequence[Made], start: int, period: int, delay: int, k: int, slots: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """The slots that follow from those of the step so many before: the others are read later, and are no state."""
    here = {id(made[start + k * period + place].given[output]) for place, output in slots}
    for call in made[start + (k + 1) * period : start + (k + 1 + delay) * period]:
        if any(id(one) in here for one in call.taken):
            here |= {id(one) for one in call.given}
    later = start + (k + delay) * period
    return [slot for slot in slots if id(made[later + slot[0]].given[slot[1]]) in here]


def _common(paths: Sequence[str]) -> str:
    """The innermost module that all of them lie in."""
    split = [path.split(".") if path else [] for path in paths]
    common: list[str] = []
    for names in zip(*split, strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return ".".join(common) if len(split) == len([s for s in split if s]) else ""
