"""Where a kernel's values live: the pointers and tables that it takes, and the addresses in its text.

Rows of a step lie side by side, and steps follow one another: the first row of step t is row `at[t]` of an array
over time. Rows are sorted by length, the longest first, so that the rows that still run are the first `rows[t]`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

from unvanish.engine.ir.lower import Kernel
from unvanish.equations.expression import Ref

# What an address in a call can mean: arrays of a pass, stored arrays, packed weights, and what listens.
Kind = Literal[
    "x", "time", "state", "saved", "stream", "mask", "vector", "weight", "panel", "back panel", "gradient", "given",
    "carry", "scratch", "adjoint", "adjoint vector", "adjoint vectors", "norms", "clip", "came of", "adjoint of",
    "table", "size",
]  # fmt: skip
KINDS = frozenset(get_args(Kind))


class Slot(NamedTuple):
    """One field of the structure that a kernel takes: what it holds, and of which name or number.

    >>> str(Slot("carry", "h")), str(Slot("norms"))
    ('carry h', 'norms')
    """

    kind: Kind
    name: str | int = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


TABLES = ("rows", "at", "kept at")  # and one for each state: where the values of its steps begin


def identifier(meaning: str) -> str:
    """Return the name in C++ of a field: a role, and the name from the equations after the first underscore.

    A role holds no underscore, so that two meanings never share a name, whatever the lines of a cell are called.

    >>> identifier("adjoint of h_1"), identifier("vector 2 s"), identifier("norms")
    ('adjointof_h_1', 'vector2_s', 'norms')
    """
    *role, name = meaning.split(" ")
    return f"{''.join(role)}_{name}" if role else name


def variable(role: str, ref: Ref) -> str:
    """Return the local variable that has a role for a value; a delay belongs to the role.

    >>> variable("carry", Ref("h_1", 0)), variable("a", Ref("h", 2))
    ('carry_h_1', 'a2_h')
    """
    return identifier(f"{role}{ref.delay if ref.is_past else ''} {ref.name}")


def local(ref: Ref) -> str:
    """Return the local variable that holds a value."""
    return variable("v", ref)


def adjoint(ref: Ref) -> str:
    """Return the local variable that holds the adjoint of a value."""
    return variable("a", ref)


@dataclass
class Slots:
    """The pointers that a kernel takes; the order is that of first use in the text."""

    index: dict[Slot, int] = field(default_factory=dict)

    def __call__(self, slot: Slot) -> str:
        assert slot.kind in KINDS, slot
        self.index.setdefault(slot, len(self.index))
        return "a." + identifier(str(slot))


class Places:
    """Addresses of one kernel's values, as text; remembers which pointers the text needs."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel, self.slots = kernel, Slots()
        self.depth = {state.name: state.depth for state in kernel.plan.system.states}
        self.mask_of = {mask.name: mask.of for mask in kernel.plan.system.masks}
        self.stream_of: dict[str, tuple[int, int, int]] = {}  # name -> stream, part, parts
        for number, stream in enumerate(kernel.streams):
            for part, product in enumerate(stream.products):
                self.stream_of[product.target.name] = (number, part, len(stream.products))

    def width(self, ref: Ref) -> str:
        """How wide a value is."""
        return "a." + identifier(f"w {self.kernel.widths[ref.name]}")

    def step(self, ref: Ref) -> tuple[str, str, str]:
        """Return the address of a step's first row, the distance of rows, and the offset of the value in a row."""
        name, width = ref.name, self.width(ref)
        if name in self.depth:
            back = self.depth[name] - int(ref.delay or 0)
            when = f"t + {back}" if back else "t"
            return f"{self.slots(Slot('state', name))} + a.{identifier(f'at {name}')}[{when}] * {width}", width, ""
        if name in self.stream_of:
            number, part, parts = self.stream_of[name]
            row = f"{parts} * {width}"
            return f"{self.slots(Slot('stream', number))} + (a.at[t] - a.start) * {row}", row, f"{part} * {width}"
        if name == "x":
            return f"{self.slots(Slot('x'))} + a.at[t] * {width}", width, ""
        if name in self.mask_of:
            start = f" + a.at[t] * {width}" if self.mask_of[name] == "step" else ""
            return self.slots(Slot("mask", name)) + start, width, ""
        table = "at" if ref == self.kernel.plan.system.output else "kept_at"
        return f"{self.slots(Slot('saved', name))} + a.{table}[t] * {width}", width, ""

    def gradient(self, name: str) -> tuple[str, str]:
        """Where the gradient of a state or of the output comes from."""
        width = self.width(Ref(name))
        return f"{self.slots(Slot('gradient', name))} + a.at[t] * {width}", width

    def over_time(self, kind: Kind, state: str) -> tuple[str, str]:
        """A pointer to an array as wide as a state, over time, and where in it the first row of the step is."""
        slot = self.slots(Slot(kind, state))
        return slot, f"{slot} + a.at[t] * {self.width(Ref(state))}"

    def carry(self, name: str, back: int) -> tuple[str, str]:
        """Where the adjoint waits for the state of step t - back."""
        ring = self.depth[name] + 1
        slot = f"(t + {ring - back}) % {ring}" if back else f"t % {ring}"
        width = self.width(Ref(name))
        return f"{self.slots(Slot('carry', name))} + {slot} * a.B * {width}", width

    def scratch(self, ref: Ref) -> tuple[str, str]:
        """Where the adjoint of a value waits for the phase that made it."""
        return self.slots(Slot("scratch", ref.name)), self.width(ref)

    def adjoint(self, number: int) -> tuple[str, str]:
        """Where the adjoints of a group's products are kept for the gradient of its weights."""
        products = self.kernel.all_groups[number].products
        row = f"{len(products)} * {self.width(products[0].target)}"
        return f"{self.slots(Slot('adjoint', number))} + (a.at[t] - a.start) * {row}", row
