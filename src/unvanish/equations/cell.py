"""A cell: one recurrence as data, which checks itself when it is made."""

from __future__ import annotations

import fnmatch
import functools
import keyword
import math
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from unvanish.equations.check import Declarations
from unvanish.equations.expression import Call, Expr, Ref, rebuild, refs, walk
from unvanish.equations.latex import aligned, latex_lines
from unvanish.equations.parse import RESERVED, Line, parse
from unvanish.equations.rewrites.parameters import PROJECTION, with_projection, without_biases
from unvanish.equations.system import System, build
from unvanish.equations.widths import HIDDEN, INPUT
from unvanish.equations.words import SPOKEN
from unvanish.errors import CellError, OptionError, nearest

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
MAX_DELAY = 1_000_000
SLOT_FUNCTIONS = tuple(name for name, arity in SPOKEN.items() if arity == 1)
# A layer stores matrices of a width by its name, and torch's names are taken.
_RESERVED_WIDTHS = frozenset({INPUT, HIDDEN, PROJECTION, "one", "ih", "hh", "hr"})


@dataclass(frozen=True, slots=True)
class Drawn:
    """A fixed number a unit, drawn once when the layer is made, uniformly or log-uniformly from [low, high]."""

    low: float
    high: float
    spacing: Literal["linear", "log"] = "linear"


@dataclass(frozen=True, slots=True)
class Grouped:
    """A fixed number a unit: the units fall into equal groups, in order, one value a group."""

    values: tuple[float, ...]


FixedNumber = float | Drawn | Grouped


@dataclass(frozen=True, eq=False)
class Cell:
    """One recurrence: equations, parameters, initial values, citation.

    The time index is written out. `name[t] = …` is a per-step variable, and a state if some line reads it
    at an earlier step; `M @ v` is a matrix product, `*` elementwise; names that no line defines are
    parameters. See `docs/equations.md` for the language.

    Args:
        name: lower case with underscores; the catalogue and the command line know the cell by it.
        equations: the text, one assignment a line.
        output: the per-step variable that the layer puts out.
        initial: initial values by parameter name or pattern (`"b_f": 1.0`, `"U_*": "orthogonal"`).
        scalars: parameters that are one number for all units.
        numbers: fixed numbers with their defaults: a number, `Drawn` or `Grouped` for one per unit. The layer
            takes each as a keyword.
        delays: whole numbers d for `h[t-d]`, with their defaults. The layer takes each as a keyword.
        functions: slots for an elementwise function, with their defaults. The layer takes each as a keyword.
        widths: widths other than input and hidden, by name of variable: `{"m": "memory"}`; the layer takes
            `memory_size` as a keyword (default: the hidden size).
        slower_to_faster: recurrent matrices whose entry (i, j) exists only where the fixed number named of
            unit j is at least that of unit i (the block-triangular matrix of clockwork networks).
        cite: the paper.
        note: one sentence on what the cell is for.
        class_name: name of the layer's class where it is not the name's words in capitals run together.

    Raises:
        CellError: with line and column, what was expected and how to mend it.

    >>> cell = Cell("leaky", "h[t] = a * h[t-1] + (1 - a) * tanh(W @ x[t] + U @ h[t-1] + b)", scalars=("a",))
    >>> [parameter.name for parameter in cell.system().parameters]
    ['a', 'W', 'U', 'b']
    """

    name: str
    equations: str
    output: str = "h"
    initial: Mapping[str, float | str] = field(default_factory=dict)
    scalars: tuple[str, ...] = ()
    numbers: Mapping[str, FixedNumber] = field(default_factory=dict)
    delays: Mapping[str, int] = field(default_factory=dict)
    functions: Mapping[str, str] = field(default_factory=dict)
    widths: Mapping[str, str] = field(default_factory=dict)
    slower_to_faster: Mapping[str, str] = field(default_factory=dict)
    cite: str = ""
    note: str = ""
    class_name: str = ""

    def __post_init__(self) -> None:
        self._check_declarations()
        object.__setattr__(self, "_lines", parse(self.equations, frozenset(self.functions)))
        self._check_use()
        try:
            system = self.system()
        except OptionError as fault:  # a default that no layer could be given either
            raise CellError(f"a default of {self.name} is invalid: {fault}") from fault
        if not any(ref.name == "x" for line in self.lines for ref in refs(line.expression)):
            warnings.warn(
                f"{self.name}: its output does not depend on the input: no line reads x[t]",
                UserWarning,
                stacklevel=3,
            )
        names = {parameter.name: parameter for parameter in system.parameters}
        for pattern in self.initial:
            if not fnmatch.filter(names, pattern):
                raise CellError(f"initial names '{pattern}', which is not a parameter", nearest(pattern, names))
        for matrix, number in self.slower_to_faster.items():
            parameter = names.get(matrix)
            if parameter is None or (parameter.rows, parameter.columns) != (HIDDEN, HIDDEN):
                raise CellError(f"slower_to_faster names '{matrix}', no recurrent matrix", nearest(matrix, names))
            if number not in self.numbers:
                raise CellError(f"slower_to_faster orders by '{number}', no fixed number", "declare it in numbers")

    def _check_declarations(self) -> None:
        if not isinstance(self.name, str) or not _IDENTIFIER.match(self.name) or keyword.iskeyword(self.name):
            raise CellError(f"{self.name!r} is not a name for a cell", "use letters, digits and _")
        groups = {
            "scalars": self.scalars,
            "numbers": self.numbers,
            "delays": self.delays,
            "functions": self.functions,
        }
        seen: dict[str, str] = {}
        for group, names in groups.items():
            for name in names:
                if not isinstance(name, str) or not _IDENTIFIER.match(name) or name in RESERVED | {"x"}:
                    raise CellError(f"{group} declares {name!r}, which is not a free name", "take another name")
                if name in seen:
                    raise CellError(f"'{name}' is declared in {seen[name]} and in {group}", "declare it once")
                seen[name] = group
        for name, number in self.numbers.items():
            try:
                check_number(name, number)
            except OptionError as fault:
                raise CellError(str(fault)) from fault
        for name, width in self.widths.items():
            if width in _RESERVED_WIDTHS or not isinstance(width, str) or not _IDENTIFIER.match(width):
                raise CellError(f"{width!r} is not a new width for '{name}'", "name it, e.g. memory")

    def _check_use(self) -> None:
        nodes = [node for line in self.lines for node in walk(line.expression)]
        used = {node.function for node in nodes if isinstance(node, Call)}
        used |= {str(node.delay) for node in nodes if isinstance(node, Ref)}
        for name in (*self.functions, *self.delays):
            if name not in used:
                raise CellError(f"'{name}' is declared but no line uses it", "use it or take it out")

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines as parsed."""
        lines: tuple[Line, ...] = self._lines  # type: ignore[attr-defined]
        return lines

    @property
    def latex(self) -> tuple[str, ...]:
        """Each line as LaTeX."""
        return latex_lines(self.lines, self.functions)

    def _repr_latex_(self) -> str:
        return aligned(self.latex)

    def __repr__(self) -> str:
        names = [state.name for state in self.system().states]
        lines = "1 line" if len(self.lines) == 1 else f"{len(self.lines)} lines"
        states = f"state{'s' if len(names) > 1 else ''} {', '.join(names)}" if names else "no state"
        states = states if len(states) < 40 else f"{len(names)} states"
        head = f"Cell({self.name[:48]}: {lines}, {states}"
        learnt = _briefly([one.name for one in self.system().parameters], max(108 - len(head), 20))
        return f"{head}; learns {learnt})" if learnt else f"{head})"

    @property
    def options(self) -> tuple[str, ...]:
        """The keywords that a layer of this cell takes beside the common ones."""
        sizes = sorted({f"{width}_size" for width in self.widths.values()})
        return (*self.numbers, *self.delays, *self.functions, *sizes)

    def check_options(self, given: Iterable[str]) -> None:
        """Refuse names that are no options of this cell, though a layer may know them.

        Raises:
            OptionError: with what it has.

        >>> Cell("leaky", "h[t] = alpha * h[t-1] + W @ x[t]", numbers={"alpha": 0.9}).check_options(["alpha"])
        """
        for name in given:
            if name not in self.options:
                why = nearest(name, self.options) if self.options else "it has none at all"
                raise OptionError(f"{self.name} has no option {name!r}: {why}")

    def system(
        self,
        *,
        bias: bool = True,
        projection: bool = False,
        delays: Mapping[str, int] | None = None,
        functions: Mapping[str, str] | None = None,
    ) -> System:
        """Return the checked system of statements, with delays and function slots filled in."""
        chosen_delays = {**self.delays, **(delays or {})}
        chosen_functions = {**self.functions, **(functions or {})}
        for name, delay in chosen_delays.items():
            check_delay(name, delay)
        for slot, function in chosen_functions.items():
            check_function(slot, function)
        return _system(self, bias, projection, tuple(chosen_delays.items()), tuple(chosen_functions.items()))

    def to_dict(self) -> dict[str, Any]:
        """Return the cell as plain data, for a configuration file."""
        fields = ("name", "equations", "output", "cite", "note", "class_name")
        plain: dict[str, Any] = {name: getattr(self, name) for name in fields}
        for name in ("initial", "delays", "functions", "widths", "slower_to_faster"):
            plain[name] = dict(getattr(self, name))
        plain["scalars"] = list(self.scalars)
        plain["numbers"] = {name: _plain_number(number) for name, number in self.numbers.items()}
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Cell:
        """Make a cell from what `to_dict` returned. Nothing in it is executed.

        >>> cell = Cell("plain", "h[t] = tanh(W @ x[t] + U @ h[t-1])")
        >>> Cell.from_dict(cell.to_dict()).to_dict() == cell.to_dict()
        True
        """
        known = set(cls.__dataclass_fields__)
        unknown = sorted(set(plain) - known)
        if unknown:
            raise CellError(f"a cell has no field '{unknown[0]}'", nearest(unknown[0], known))
        try:
            fields = dict(plain)
            fields["scalars"] = tuple(fields.get("scalars", ()))
            fields["numbers"] = {name: _number(n) for name, n in dict(fields.get("numbers", {})).items()}
            return cls(**fields)
        except (TypeError, AttributeError) as fault:
            raise CellError(f"a cell cannot be made of this: {fault}", "give what to_dict returns") from fault


@functools.lru_cache(maxsize=1024)
def _system(
    cell: Cell,
    bias: bool,
    projection: bool,
    delays: tuple[tuple[str, int], ...],
    functions: tuple[tuple[str, str], ...],
) -> System:
    chosen = dict(functions)

    def fill(expr: Expr) -> Expr:
        inner = rebuild(expr, fill)
        if isinstance(inner, Call) and inner.function in chosen:
            return Call(chosen[inner.function], inner.args, inner.place)
        return inner

    lines = tuple(Line(line.name, line.timed, fill(line.expression), line.place) for line in cell.lines)
    lines = lines if bias else without_biases(lines, frozenset(cell.scalars) | frozenset(cell.numbers))
    output, widths = cell.output, dict(cell.widths)
    if projection:
        system = _system(cell, bias, False, delays, functions)
        if cell.output not in {state.name for state in system.states}:
            raise OptionError(
                f"{cell.name} cannot be projected: its output {cell.output} is not a state; use proj_size=0"
            )
        lines, output = with_projection(lines, output)
        widths[output] = PROJECTION
    per_unit = frozenset(name for name, number in cell.numbers.items() if not isinstance(number, float | int))
    declared = Declarations(
        output, frozenset(cell.scalars), frozenset(cell.numbers), per_unit, dict(delays), widths
    )
    return build(lines, declared)


def _briefly(names: Iterable[str], most: int) -> str:
    """List names, cut where they are many: those of one stem together, and what stands alone, as a misspelt name
    does, before them.

    >>> _briefly(["W_f", "U_f", "b_f", "ff"], 48)
    'W_f U_f b_f ff'
    >>> _briefly([f"{stem}_{gate}" for gate in "ifgo" for stem in ("W", "U", "b", "bh")] + ["ff"], 48)
    'ff W_(i f g o) U_(i f g o) b_(i f g o) bh_(i f…'
    """
    text = " ".join(names)
    if len(text) > most:
        ends: dict[str, list[str]] = {}
        for name in text.split():
            ends.setdefault(name.partition("_")[0], []).append(name.partition("_")[2])
        alike = {stem: found for stem, found in ends.items() if len(found) > 1 and all(found)}
        alone = [name for name in text.split() if name.partition("_")[0] not in alike]
        text = " ".join([*alone, *(f"{stem}_({' '.join(found)})" for stem, found in alike.items())])
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def check_delay(name: str, delay: object) -> None:
    """Refuse what is not a whole number of steps."""
    if not isinstance(delay, int) or isinstance(delay, bool) or not 1 <= delay <= MAX_DELAY:
        raise OptionError(f"the delay {name} is {delay!r}: give a whole number of steps from 1 on")


def check_function(slot: str, function: object) -> None:
    """Refuse what is not the name of an elementwise function of one argument."""
    if function not in SLOT_FUNCTIONS:
        raise OptionError(
            f"{slot}={function!r} is not a function of the language: {nearest(str(function), SLOT_FUNCTIONS)}"
        )


def check_number(name: str, number: object) -> None:
    """Refuse what is neither a finite number nor a rule that gives one for each unit."""
    match number:
        case Drawn(low, high, spacing):
            fits = _is_finite(low) and _is_finite(high) and low <= high
            fits &= spacing == "linear" or (spacing == "log" and fits and low > 0)
        case Grouped(values):
            fits = len(values) > 0 and all(map(_is_finite, values))
        case _:
            fits = _is_finite(number)
    if not fits:
        raise OptionError(f"the fixed number {name} is {number!r}: give a finite number, Drawn or Grouped")


def _is_finite(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)


def _plain_number(number: FixedNumber) -> Any:
    match number:
        case Drawn(low, high, spacing):
            return {"low": low, "high": high, "spacing": spacing}
        case Grouped(values):
            return {"values": list(values)}
    return number


def _number(plain: Any) -> FixedNumber:
    if isinstance(plain, Mapping):
        return Grouped(tuple(plain["values"])) if "values" in plain else Drawn(**plain)
    return float(plain) if isinstance(plain, int) else plain
