"""Where the gradient is lost on its way through a step: activations that are flat, gates that forget.

Shapes: T time, B batch, N full state, W width of a value.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unvanish.engine import evaluate
from unvanish.engine.arrays import as_tensor
from unvanish.engine.tap import Border, States, Tap
from unvanish.engine.words import TORCH
from unvanish.equations.expression import Call, Expr, Ref, refs, walk
from unvanish.equations.gates import keep_factors
from unvanish.equations.slopes import slopes
from unvanish.equations.system import Elementwise, System
from unvanish.equations.words import WORDS
from unvanish.flow.finding.graph import GraphPart
from unvanish.flow.finding.parts import Hx, LayerPart, Part, SteppedPart, chosen, parts_of
from unvanish.record import Result

FLAT = 0.1  # of its steepest slope: a unit whose activation is flatter passes little on
STEEPEST = {name: word.steepest for name, word in WORDS.items() if word.steepest}


@dataclass(frozen=True)
class Activation:
    """One activation of a cell, over all steps, rows and units.

    Attributes:
        name: the line that it is (`f`), or what it is applied to (`tanh(c[t])`).
        function: sigmoid, tanh, relu, or another function of the language that has a steepest slope.
        saturated: the share of values whose slope is under a tenth of the steepest.
        mean: the mean value.
        slope: the mean slope, as a share of the steepest.
        dead: for relu, the share of units that are zero at every step of every row; else 0.
    """

    name: str
    function: str
    saturated: float
    mean: float
    slope: float
    dead: float


@dataclass(frozen=True)
class Memory:
    """What a state keeps of itself by its direct path, s[t] = keep · s[t-1] + …, past all matrices.

    Attributes:
        state: the state's name.
        gate: the names that its share depends on (`f`; `z`), empty where it is a constant.
        keep: the mean share that is kept in a step.
        time_constant: 1 / (1 − keep): after so many steps 1/e is left (∞ where all is kept).
        longest: the time constant of the unit that keeps the most, in the mean over time.
        whole: the rate at which a gradient shrinks, in nats a step, were all kept; NaN where that was not tried.
    """

    state: str
    gate: str
    keep: float
    time_constant: float
    longest: float
    whole: float = math.nan


@dataclass(frozen=True)
class Saturation(Result):
    """The activations of a part, and how its states keep themselves."""

    shown_as: ClassVar[str] = "saturation"
    part: str
    activations: tuple[Activation, ...]
    memories: tuple[Memory, ...]

    def __getitem__(self, name: str) -> Activation:
        """Return an activation by its name."""
        return next(found for found in self.activations if found.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and lists."""
        lists = {"activations": self.activations, "memories": self.memories}
        return {"part": self.part} | {name: [dict(vars(one)) for one in found] for name, found in lists.items()}

    def __repr__(self) -> str:
        flattest = max(self.activations, key=lambda one: one.saturated, default=None)
        words = [] if flattest is None else [f"{flattest.name} saturated {100 * flattest.saturated:.3g} %"]
        words += [f"{one.state} stays {one.time_constant:.3g} steps" for one in self.memories]
        return f"Saturation({self.part}: {', '.join(words) or 'no activation'})"


def saturation(layer: nn.Module, x: Tensor, hx: Hx = None, *, part: str | None = None) -> Saturation:
    """Measure how flat each activation of a cell is, and how long its gates let a state stay.

    Args:
        layer, x, hx, part: as for `flow.jacobian`.

    >>> import unvanish
    >>> layer = unvanish.LSTM(2, 3, init={"b_f": 5.0, "bh_f": 0.0, "W_*": 0.0, "U_*": 0.0})
    >>> found = saturation(layer, torch.randn(4, 1, 2))
    >>> round(found["f"].mean, 3), found["f"].saturated, round(found.memories[0].time_constant)
    (0.993, 1.0, 149)
    """
    return saturation_of(chosen(parts_of(layer, x, hx), part))


def saturation_of(part: Part) -> Saturation:
    """Measure a part (see `saturation`); of one whose equations are not known, only its activations, by number."""
    if isinstance(part, LayerPart):
        return _of_layer(part)
    if isinstance(part, GraphPart):
        return _of_graph(part)
    assert isinstance(part, SteppedPart)
    seen = _Activations()
    s_TBN = part.trajectory()
    with torch.no_grad():
        for t in range(part.steps):
            seen.step = t
            with seen:
                part.step(t)(s_TBN[t])
    activations = tuple(_measured(name, *values) for name, values in seen.values())
    return Saturation(part.name, activations, _kept(part))


def _measured(name: str, function: str, y_TBW: Tensor, a_TBW: Tensor) -> Activation:
    """Measure the values of an activation and their arguments."""
    known = {"y": y_TBW, "a": a_TBW}
    found = as_tensor(evaluate(slopes(function)[0], lambda ref: known[ref.name], None, y_TBW), y_TBW)
    slope = found.abs() / STEEPEST[function]
    dead = (y_TBW <= 0).flatten(0, -2).all(0).double().mean() if function == "relu" else y_TBW.new_zeros(())
    flat = (slope < FLAT).double().mean()
    return Activation(name, function, float(flat), float(y_TBW.mean()), float(slope.mean()), float(dead))


# -- parts whose equations are known -------------------------------------------------------------------------


class _Inspector(Tap):
    """Writes down what expressions are worth at every step."""

    def __init__(self, wanted: Mapping[str, Expr], like: Tensor) -> None:
        self.wanted, self.like = wanted, like
        self.seen: dict[str, list[Tensor]] = {name: [] for name in wanted}

    def border(self, states: States, at: Border) -> States:
        for name, expr in self.wanted.items():
            value = evaluate(expr, at.read, at.time_B1, self.like)
            tensor = value if isinstance(value, Tensor) else self.like.new_tensor(value)
            self.seen[name].append(tensor.expand(self.like.shape[1], -1) if tensor.dim() else tensor.expand(1, 1))
        return states


def _of_layer(part: LayerPart) -> Saturation:
    system = part.layer_part.system
    calls, keeps = dict(_calls(system)), dict(keep_factors(system))
    wanted: dict[str, Expr] = {f"call {name}": call for name, call in calls.items()}
    wanted |= {f"argument {name}": call.args[0] for name, call in calls.items()}
    wanted |= {f"keep {state}": factor for state, factor in keeps.items()}
    inspector = _Inspector(wanted, part.x_TBI)
    with torch.no_grad():
        part.layer_part.run(part.x_TBI, part.initial, taps=(inspector,))
    seen = {name: torch.stack(values) for name, values in inspector.seen.items()}
    activations = tuple(
        _measured(name, call.function, seen[f"call {name}"], seen[f"argument {name}"])
        for name, call in calls.items()
    )
    memories = tuple(_memory(state, factor, seen[f"keep {state}"]) for state, factor in keeps.items())
    return Saturation(part.name, activations, memories)


def _calls(system: System) -> Iterator[tuple[str, Call]]:
    """Every activation of a cell: named by its line where it is all of it, else by what it is applied to."""
    taken: set[str] = set()
    for statement in system.statements:
        if not isinstance(statement, Elementwise):
            continue
        for node in walk(statement.expression):
            if isinstance(node, Call) and node.function in STEEPEST:
                whole = node is statement.expression
                name = statement.target.name if whole else _named(node, statement.target)
                numbered = itertools.chain([name], (f"{name} ({number})" for number in itertools.count(2)))
                name = next(free for free in numbered if free not in taken)
                taken.add(name)
                yield name, node


def _named(call: Call, line: Ref) -> str:
    arguments = list(dict.fromkeys(str(ref) for ref in refs(call)))
    plain = len(arguments) == 1 and not arguments[0].startswith("_")
    return f"{call.function}({arguments[0]})" if plain else f"{call.function} in {line.name}"


def _memory(state: str, factor: Expr, keep_TBW: Tensor) -> Memory:
    per_unit_W = keep_TBW.double().abs().flatten(0, -2).mean(0)
    gate = ", ".join(dict.fromkeys(ref.name for ref in refs(factor)))
    return Memory(state, gate, float(per_unit_W.mean()), _constant(per_unit_W.mean()), _constant(per_unit_W.max()))


def _constant(keep: Tensor) -> float:
    return 1 / (1 - float(keep)) if keep < 1 else math.inf


# -- activations of any code -----------------------------------------------------------------------------------

_FUNCTIONS: dict[Any, str] = {
    **{TORCH[name]: name for name in STEEPEST},
    **dict.fromkeys((Tensor.sigmoid, nn.functional.sigmoid), "sigmoid"),
    **dict.fromkeys((Tensor.tanh, nn.functional.tanh), "tanh"),
    **dict.fromkeys((Tensor.relu, nn.functional.relu), "relu"),
}
_SETTINGS = {nn.functional.elu: 1.0, nn.functional.leaky_relu: 0.01}


def _activation(func: Any, args: Any, keywords: Any) -> str | None:
    """The activation that a call of torch is, with its usual settings; None for any other call."""
    further = [*args[1:], *keywords.values()]
    if func is nn.functional.gelu and further == ["tanh"]:
        return "gelu_tanh"
    usual = all(value is False or value in ("none", _SETTINGS.get(func)) for value in further)
    return _FUNCTIONS.get(func) if usual else None


def _of_graph(part: GraphPart) -> Saturation:
    """The activations of a loop in the order in which a step calls them, and what its states keep directly."""
    seen: dict[tuple[int, str], list[tuple[Tensor, Tensor]]] = {}
    for step in part.loop.calls if part.loop is not None else ():
        for place, call in enumerate(step):
            function = _activation(call.function, *call.arguments)
            if function is not None:
                argument = call.arguments[0][0]
                seen.setdefault((place, function), []).append((call.given[0].detach(), argument.detach()))
    return Saturation(part.name, tuple(_measured(n, *values) for n, values in _numbered(seen)), _kept(part))


def _kept(part: Part) -> tuple[Memory, ...]:
    """What the states of a cell whose equations are not known keep of themselves."""
    return tuple(
        Memory(name, "", float(mean), _constant(mean), _constant(keep_W.max()), part.whole.get(name, math.nan))
        for name, keep_W in part.direct.items()
        for mean in [keep_W.mean()]
    )


class _Activations(TorchFunctionMode):
    """Writes down what the activations of a block give, in the order in which they are called in a step."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[tuple[int, str], list[tuple[Tensor, Tensor]]] = {}
        self.step, self.at, self.last = 0, 0, -1

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        value = func(*args, **(kwargs or {}))
        function = _activation(func, args, kwargs or {})
        if function is not None and isinstance(value, Tensor) and value.dim() == 2:
            self.at = 0 if self.step != self.last else self.at + 1
            self.last = self.step
            self.found.setdefault((self.at, function), []).append((value.detach(), args[0].detach()))
        return value

    def values(self) -> Iterator[tuple[str, tuple[str, Tensor, Tensor]]]:
        """Name what was seen: `sigmoid 1`, `sigmoid 2`, `tanh 1`, …"""
        yield from _numbered(self.found)


def _numbered(
    found: Mapping[tuple[int, str], list[tuple[Tensor, Tensor]]],
) -> Iterator[tuple[str, tuple[str, Tensor, Tensor]]]:
    counts: dict[str, int] = {}
    for (_, function), seen in sorted(found.items(), key=lambda one: one[0]):
        if len({value.shape for value, _ in seen}) == 1:
            counts[function] = counts.get(function, 0) + 1
            values, arguments = (torch.stack(some) for some in zip(*seen, strict=True))
            yield f"{function} {counts[function]}", (function, values, arguments)


class Steepest(TorchFunctionMode):
    """Inside the block activations keep their values and are as steep as they can be: σ′ = ¼, tanh′ = relu′ = 1."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        value = func(*args, **(kwargs or {}))
        function = _activation(func, args, kwargs or {})
        if function is None or not isinstance(value, Tensor):
            return value
        argument = args[0]
        return value.detach() + STEEPEST[function] * (argument - argument.detach())
