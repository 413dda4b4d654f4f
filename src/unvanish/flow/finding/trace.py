"""Find a recurrence by what a forward pass does.

The longest repeat in its calls of torch is the step; the tensors that one step makes and the next one reads are the
state.

Shapes: N calls, P calls in a step (the period), C steps.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unvanish.flow.finding.repeat import FEWEST, Repeat, Tokens, best_repeat, goes_on, shortest
from unvanish.torch_internals import pytree

FARTHEST = 64  # steps, over which a state that is not read before can be handed on
SHIFTS = 400  # places in a step at which it is tried to begin
ANCHORS = 100  # calls by which steps that differ are cut apart
# What only asks a tensor about itself: no part of a computation.
_SILENT = frozenset(
    {"size", "dim", "shape", "stride", "is_contiguous", "requires_grad", "numel", "__len__", "device"}
    | {"dtype", "ndim", "is_floating_point", "data_ptr", "element_size", "item", "__bool__", "__int__", "__float__"}
    | {"__index__", "__repr__", "__format__", "__hash__"}
)
_UNBINDS = frozenset(["unbind", "__iter__"])
_INDEXES = frozenset(["__getitem__", "select", "index_select", "narrow"])
CUTS = frozenset(["detach", "detach_", "data"])
MODULE = "module "  # before the name of a module whose call is one call


@dataclass(frozen=True)
class Made:
    """One call of torch: its name, the module that it was made in, what went in and the tensors that came out.

    `cuts` are the modules in which something was detached since the call before; `inside` says whether it is the
    model's, not the loss's.
    """

    name: str
    module: str
    function: Any
    arguments: tuple[Any, Any]
    taken: tuple[Tensor, ...]
    given: tuple[Tensor, ...]
    cuts: tuple[str, ...] = ()
    inside: bool = True

    @property
    def token(self) -> Hashable:
        """What is the same whenever the same line of code runs."""
        return (self.name, self.module, *(tuple(one.shape) for one in self.given))


def tensors_in(value: Any) -> tuple[Tensor, ...]:
    """Return the tensors in nested arguments."""
    return tuple(leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor))


class Calls(TorchFunctionMode):
    """Writes down every call of torch in the block; a call of a module in `whole` is one call."""

    def __init__(self, model: nn.Module, whole: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.made: list[Made] = []
        self._uncut: dict[int, Tensor] = {}  # what a detached tensor was before, by its id
        self._cuts: list[str] = []  # the modules that have detached something since the last call
        self._alive: list[Tensor] = []  # so that no id is used twice
        self._whole, self._names = set(whole), {module: name for name, module in model.named_modules()}
        self._inside: list[str] = [""]
        self._hidden = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Calls:
        for module in self._names:
            with contextlib.suppress(RuntimeError):  # what is scripted takes no hooks
                before = module.register_forward_pre_hook(self._enter, with_kwargs=True)
                self._stack.callback(before.remove)
                after = module.register_forward_hook(self._leave, with_kwargs=True, always_call=True)
                self._stack.callback(after.remove)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *fault: Any) -> None:
        self._stack.close()
        super().__exit__(*fault)  # type: ignore[no-untyped-call]

    def _enter(self, module: nn.Module, args: Any, keywords: Any) -> None:
        self._inside.append(self._names[module])
        self._hidden += module in self._whole

    def _leave(self, module: nn.Module, args: Any, keywords: Any, output: Any) -> None:
        self._inside.pop()
        if module in self._whole:
            self._hidden -= 1
            self._note(f"{MODULE}{self._names[module]}", module, (args, keywords), output)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", str(func))
        if name == "__get__":  # a property: `data`, `T`
            name = getattr(getattr(func, "__self__", None), "__name__", name)
        if name not in _SILENT and not self._hidden:
            self._note(name, func, (args, kwargs or {}), found)
        return found

    def _note(self, name: str, function: Any, taken: tuple[Any, Any], given: Any) -> None:
        out = () if self._hidden else tensors_in(given)
        before = tuple(self._uncut.get(id(one), one) for one in tensors_in(taken)) if out else ()
        if out and before and name in CUTS:
            # A cut is no call of its own: a loop that cuts now and then does the same at every step.
            self._cuts.append(self._inside[-1])
            self._alive.append(out[0])
            self._uncut[id(out[0])] = before[0]
        elif out:
            cuts, inside = tuple(self._cuts), len(self._inside) > 1
            self.made.append(Made(name, self._inside[-1], function, taken, before, out, cuts, inside))
            self._cuts.clear()


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
        if repeat is None or not repeat.over_input or goes_on(tokens[first:last], repeat):
            anchored = _anchored(made[first:last], tokens[first:last], axes_here | set(axes))
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
    taken = Counter(id(one.taken[0]) for one in made if one.name in _INDEXES and one.taken)
    cut = {id(one.taken[0]): one.taken[0] for one in made if one.name in _INDEXES and one.taken}
    # A step may take its piece several times.
    often = {
        size for key, one in cut.items() for size in one.shape[:2] if taken[key] in range(size, 9 * size, size)
    }
    once = {
        count
        for key, count in taken.items()
        if count >= FEWEST
        and (
            any(0 <= size - count <= 2 for size in cut[key].shape[:2])
            or not any(count in range(2 * size, 9 * size, size) for size in cut[key].shape[:2] if size >= FEWEST)
        )
    }
    return whole | often | once or set(axes)


def _runs_over(made: Sequence[Made], steps: int) -> bool:
    """Whether something is cut into as many pieces as there are steps, and whole."""
    cut = {id(one.taken[0]): one.taken[0] for one in made if one.name in _INDEXES and one.taken}
    taken = Counter(id(one.taken[0]) for one in made if one.name in _INDEXES and one.taken)
    sizes = [len(one.given) for one in made if one.name in _UNBINDS]
    sizes += [
        size
        for key, one in cut.items()
        for size in one.shape[:2]
        if taken[key] >= size - 2 and min(taken[key] % size, -taken[key] % size) <= min(2, size // 4)
    ]
    return any(size > FEWEST and abs(size - steps) <= 2 for size in sizes)


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


def _anchored(made: Sequence[Made], tokens: Tokens, axes: set[int]) -> tuple[Loop, int, int] | None:
    """A loop whose steps differ, as with a branch: what is called once in each of them cuts it into steps.

    A slot is then a call, by its name and how often that was called in the step so far. Returns where it begins and
    ends, too.
    """
    best: tuple[int, int, list[list[Tensor]], list[list[Made]], int] | None = None
    which, first, counts = np.unique(tokens, return_index=True, return_counts=True)
    order = np.argsort(first)
    anchors = [
        token
        for token, count in zip(which[order].tolist(), counts[order].tolist(), strict=True)
        if count >= FEWEST and any(abs(count - size) <= 1 for size in axes)
    ]
    for token in anchors[:: 1 + len(anchors) // ANCHORS]:
        at = [*np.flatnonzero(tokens == token).tolist(), len(made)]
        steps = [list(made[begin:end]) for begin, end in itertools.pairwise(at)]
        steps[-1] = steps[-1][: max(len(step) for step in steps[:-1])]
        states = _handed_on(steps)
        if states:
            key = (-len(states), sum(one.numel() for one in states[0]))
            if best is None or key < best[:2]:
                best = (*key, states, steps[: len(states)], at[0])
    if best is None:
        return None
    _, _, states, steps, start = best
    loop = Loop(_common([one.module for one in steps[-1]]), states, steps, frozenset(["step"]), True)
    return loop, start, start + sum(len(step) for step in steps)


def _handed_on(steps: Sequence[Sequence[Made]]) -> list[list[Tensor]]:
    """The tensors of each step that the next one reads, where the same calls make them in all steps."""
    made: list[dict[tuple[Hashable, int], Tensor]] = []
    for step in steps:
        count = Counter[Hashable]()
        of_step: dict[tuple[Hashable, int], Tensor] = {}
        for call in step:
            for one in call.given:
                if one.is_floating_point() and one.dim():
                    of_step[call.token, count[call.token]] = one
                    count[call.token] += 1
        made.append(of_step)
    common: set[tuple[Hashable, int]] | None = None
    for k, step in enumerate(steps[1:]):
        taken = {id(one) for call in step for one in call.taken}
        cross = {slot for slot, one in made[k].items() if id(one) in taken}
        common = cross if common is None else common & cross
    slots = sorted(common or (), key=str)
    whole = [of_step for of_step in made if all(slot in of_step for slot in slots)]
    return [[of_step[slot] for slot in slots] for of_step in whole] if slots and len(whole) >= FEWEST else []


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
