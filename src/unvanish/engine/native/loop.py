"""The end of a kernel's text: the loop over time, and what comes before it and at the border between two steps."""

from __future__ import annotations

from unvanish.engine.ir.lower import Kernel
from unvanish.engine.native.places import Kind, Places, Slot


class Loop:
    """Writes what a kernel does around its phases.

    Rows are split over the threads, with no barrier between; or units are, with barriers.
    """

    def __init__(self, kernel: Kernel, places: Places) -> None:
        self.kernel, self.places, self.slots = kernel, places, places.slots

    def forward(self) -> list[str]:
        """Write the forward pass."""
        return self.over_time("forward", [f"forward_{number}" for number in range(len(self.kernel.phases))])

    def backward(self) -> list[str]:
        """Write the backward pass, which begins a step with its states where that is asked for."""
        back = reversed(range(len(self.kernel.phases)))
        calls = [call for number in back for call in (f"backward_{number}", f"through_{number}")]
        return self.settle_states() + self.over_time("backward", ["settle_states", *calls])

    def over_time(self, name: str, calls: list[str]) -> list[str]:
        """Write the function that a library has, which packs the matrices and calls what a step consists of."""
        begin = "call->settle ? 0 : 1, " if name == "backward" else ""
        other = "forward" if name == "backward" else "backward"
        return [
            *self.pack(name),
            f"static void step_{name}(const Call& a, int number, const Part& part, int64_t t) {{",
            "  switch (number) {",
            *(f"    case {position}: {call}(a, part, t); break;" for position, call in enumerate(calls)),
            *("  }", "}", ""),
            f"#ifndef {other.upper()}_ALONE",
            f"EXPORT void {name}(const Call* call) {{",
            f"  run_{name}(*call, {begin}{len(calls)}, pack_{name}, step_{name});",
            *("}", "#endif", ""),
        ]

    def pack(self, name: str) -> list[str]:
        """Write what brings the matrices into the order in which they are read."""
        lines = [f"static void pack_{name}(const Call& a, int thread, int count) {{"]
        for index, group in enumerate(self.kernel.groups):
            if name == "backward" and group.operand.name == "x":
                continue
            width, k = self.places.width(group.products[0].target), self.places.width(group.operand)
            weights = ", ".join(self.slots(Slot("weight", matrix)) for matrix in group.matrices)
            panel = self.slots(Slot("panel", index) if name == "forward" else Slot("back panel", index))
            function = f"{'pack' if name == 'forward' else 'pack_back'}<{len(group.products)}>"
            lines.append(f"  {function}({panel}, {{{weights}}}, {width}, {k}, thread, count);")
        return [*lines, "}", ""]

    def settle_states(self) -> list[str]:
        """Write the first thing of a step: tell and clip the adjoint of the full state, row by row."""
        lines = [
            "// the adjoint of the full state",
            "static void settle_states(const Call& a, const Part& part, int64_t t) {",
        ]
        states = self.kernel.plan.system.states
        rows = [f"{{{', '.join(self.settled(state.name))}}}" for state in states]
        if states:
            lines.append("  for (int64_t b = part.first_row; b < part.last_row; b++) {")
            lines += ["    const Adjoint states[] = {", *(f"      {row}," for row in rows), "    };"]
            lines += [f"    settle_row(states, {self.slots(Slot('clip'))}, part.index);", "  }"]
        return [*lines, "}", ""]

    def settled(self, name: str) -> list[str]:
        """What of a row settle_row takes of a state, in the order of the struct Adjoint."""
        carry, width = self.places.carry(name, 0)
        kinds: tuple[Kind, ...] = ("given", "came of", "adjoint of")
        over_time = [self.places.over_time(kind, name) for kind in kinds]
        return [
            f"{carry} + b * {width}",
            *(f"{slot} ? {at} + b * {width} : nullptr" for slot, at in over_time),
            width,
        ]
