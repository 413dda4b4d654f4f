"""Random cells, written as text in the language, of which every one is valid.

`cells()` composes products of the input, of states and of elementwise expressions, vectors, biases, scalars,
fixed numbers, function slots, `where` on values and on the time, row-wise functions, delays, several states,
states as wide as the input and states of a width of their own. With `tame=True` every value stays finite and
every expression so smooth that derivatives can be compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from unvanish import Cell, Drawn, Grouped

BOUNDED = ("sigmoid", "tanh", "sin", "cos")
UNBOUNDED = ("relu", "identity", "softplus", "abs")
TAME = (
    "exp(tanh({0}))",
    "log(2 + sin({0}))",
    "sqrt(1 + ({0}) ** 2)",
    "({0}) / (2 + cos({1}))",
    "(1.5 + sigmoid({0})) ** -2",
    "where({0} < {1}, {0}, 0.5)",
    "where({0} >= 0.1, {1}, -({0}))",
)
WILD = ("exp({0})", "log({0})", "({0}) / ({1})", "({0}) ** -3", "({0} - {0}) / ({1} - {1})", "1e20 * ({0}) ** 8")
# Where the first is read, the second is a line of the cell.
CARRIED = {
    "(Q_x @ past[t-1])": "past[t] = x[t]",
    "(Q_m @ m[t-2])": "m[t] = tanh(M_x @ x[t] + M_h @ h[t-1] + p_m * m[t-2])",
}


@dataclass
class Writer:
    """Writes the expressions of one cell, and remembers which lines are still to be read."""

    draw: Callable[[st.SearchStrategy[Any]], Any]
    shapes: tuple[str, ...]
    states: dict[str, int | str]  # how far back each is read
    lines: list[str] = field(default_factory=list)
    defined: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    count: int = 0

    def pick(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}_{self.count}"

    def past(self) -> str:
        name = self.pick(*self.states)
        return f"{name}[t-{self.states[name]}]"

    def above(self) -> str:
        """A line above, or where there is none the past."""
        if not self.defined:
            return self.past()
        name = self.pick(*self.defined)
        self.unread = [other for other in self.unread if other != name]
        return name

    def atom(self) -> str:
        match self.pick("input", "state", "past", "above", "vector", "number", "carried", "tied", "slot"):
            case "input":
                return f"({self.fresh('W')} @ x[t])"
            case "tied":
                return f"({self.fresh('W')} @ (x[t] * tanh({self.fresh('p')})))"
            case "state":
                return f"({self.fresh('U')} @ {self.past()})"
            case "past":
                return self.past()
            case "slot":
                return f"clip({self.past()})"
            case "above":
                return self.above()
            case "carried":
                return self.pick(*CARRIED)
            case "number":
                return self.pick("1", "0.25", "-2", "s", "alpha")
        return self.pick(self.fresh("p"), self.fresh("b"), "bh_n", f"({self.fresh('V')} @ tanh({self.fresh('p')}))")

    def expression(self, depth: int) -> str:
        kinds = ("call", "sum", "product", "matrix", "shape", "rowwise", "two", "time")
        match self.pick("atom", *kinds) if depth else "atom":
            case "call":
                return f"{self.pick(*BOUNDED, *UNBOUNDED)}({self.expression(depth - 1)})"
            case "sum":
                return f"({self.expression(depth - 1)} {self.pick('+', '-')} {self.expression(depth - 1)})"
            case "product":
                return f"{self.pick(*BOUNDED)}({self.expression(depth - 1)}) * ({self.expression(depth - 1)})"
            case "matrix":
                factor = f"{self.pick(*BOUNDED)}({self.expression(depth - 1)})"
                return f"({self.fresh('V')} @ ({self.past()} * {factor}))"
            case "shape":
                shape = self.pick(*self.shapes)
                return shape.format(*(self.expression(depth - 1) for _ in range(1 + ("{1}" in shape))))
            case "rowwise":
                return f"{self.pick('softmax', 'layernorm')}({self.past()} + p_r * {self.expression(depth - 1)})"
            case "two":
                name = self.pick("minimum", "maximum")
                return f"{name}({self.expression(depth - 1)}, {self.expression(depth - 1)})"
            case "time":
                when = f"t % {self.pick('period', '3')} == 1"
                return f"where({when}, {self.expression(depth - 1)}, {self.expression(depth - 1)})"
        return self.atom()

    def assign(self, name: str, expression: str) -> None:
        """Write a line; a state is bounded, so that many steps stay finite."""
        target = f"{name}[t]" if name in self.states else name
        self.lines.append(f"{target} = {f'tanh({expression})' if name in self.states else expression}")
        self.defined.append(target)
        self.unread.append(target)

    def text(self) -> str:
        """Lines in any order but that of the output, which reads whatever no line has read."""
        for name in self.pick((), ("c",), ("a", "c"), ("a", "e"), ("a", "c", "e")):
            self.assign(name, self.expression(2))
        last, pasts = self.expression(2), [f"{name}[t-{delay}]" for name, delay in self.states.items()]
        if "c" in self.states and "c[t]" not in self.defined:
            self.assign("c", f"0.5 * {pasts[0]}")
        self.assign("h", f"W_h @ x[t] + sin({last}) + 0.3 * ({' + '.join([*self.unread, *pasts])})")
        carried = [line for read, line in CARRIED.items() if any(read in other for other in self.lines)]
        return "\n".join([*carried, *self.lines])


@st.composite
def cells(draw: Callable[[st.SearchStrategy[Any]], Any], *, tame: bool = True) -> Cell:
    """A valid cell."""
    delays = st.sampled_from([1, 1, 2, 3, "d"])
    states = {name: draw(delays) for name in draw(st.sampled_from(["h", "hc"]))}
    text = Writer(draw, TAME if tame else (*TAME, *WILD), states).text()
    numbers = {
        "alpha": draw(st.sampled_from([0.5, 2.0, Drawn(0.1, 0.9), Grouped((0.2, 0.7))])),
        "period": draw(st.sampled_from([2.0, Grouped((1.0, 2.0, 3.0))])),
    }
    return Cell(
        name="random",
        equations=text,
        scalars=("s",) if _reads("s", text) else (),
        numbers={name: number for name, number in numbers.items() if _reads(name, text)},
        delays={"d": draw(st.integers(1, 4))} if "t-d]" in text else {},
        functions={"clip": draw(st.sampled_from(["tanh", "relu", "identity"]))} if "clip(" in text else {},
        widths={"m": "memory"} if "m[t]" in text else {},
    )


def _reads(name: str, text: str) -> bool:
    return re.search(rf"(?<![\w]){name}(?![\w(\[])", text) is not None
