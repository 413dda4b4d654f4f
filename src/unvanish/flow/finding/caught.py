"""What the recurrent modules of a model are called with, and the parts that follow from it.

Shapes: T time, B batch, I input, N full state.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from unvanish.flow.finding.between import (
    Link,
    Piece,
    back_through,
    back_through_pieces,
    by_shape,
    is_state,
    leaves_at,
    leaves_of,
)
from unvanish.flow.finding.chains import LAYERS
from unvanish.flow.finding.convert import as_ours
from unvanish.flow.finding.parts import CallPart, LayerPart, Part, as_states, parts_of
from unvanish.nn import Recurrent
from unvanish.torch_internals import pytree

States = tuple[Tensor, ...] | None


@dataclass
class Seen:
    """One recurrent module of a model, and its calls in one run.

    Attributes:
        name: its name in the model.
        kind: `layer` (a call is a sequence), `cell` (a call is a step), `loop` (found by tracing a run) or `input`.
        calls: how often it was called; `steps`: over how many time steps in all.
        row_resets: how often a row is set back to zero while others go on; `longest_row`: the most steps of any.
        beside: how many steps those have that hand it their last state, or that it hands its own.
        path: the name of the module, where that is another.
        layer: the module as a layer of ours, where each forward pass computes its weights.
        longest: the most steps through which a gradient can flow without a break; `reached`: those through which
            one of the loss does flow from where it arrives.
        runs: where the stretches without a break begin and end; `pieces`: how many steps each recorded pass has.
        carried: of the calls that had one before: `joined` (the state came with its gradient), `detached` (the
            same numbers, without), `reset` (zeros, or none), by their number.
    """

    name: str
    kind: str
    module: nn.Module
    calls: int = 0
    steps: int = 0
    longest: int = 0
    carried: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("joined", "detached", "reset"), 0))
    runs: list[tuple[int, int]] = field(default_factory=list)
    pieces: list[int] = field(default_factory=list)
    row_resets: int = 0
    longest_row: int = 0
    reached: int | None = None
    beside: int = 0
    path: str | None = None
    layer: Recurrent | None = None

    def window(self, need: int, last_read: int | None = None) -> int:
        """How far back a gradient of the loss can come, with the steps of what it goes on from, or what from it.

        Where no stretch is as long as the needed lag, that is what counts; else from where the loss reads.
        """
        found = self.longest if self.reached is None or self.longest < need else min(self.longest, self.reached)
        return (found if last_read is None else min(found, last_read + 1)) + self.beside

    def need_of(self, need: int) -> int:
        """What can be needed of it: no more than it has steps."""
        return min(need, max(1, self.steps - 1))


def module_of(seen: Mapping[str, Seen], part: str) -> Seen:
    """The recurrent module that a part belongs to."""
    return seen[part] if part in seen else seen[part.rpartition(".")[0]]


class Catcher:
    """Writes down what the recurrent modules of a model are called with."""

    def __init__(self, model: nn.Module, links: Mapping[str, Link], rows: int, need: int | None) -> None:
        self.rows, self.links, self.need = rows, links, need
        named = dict(model.named_modules())
        layers = {name: module for name, module in named.items() if isinstance(module, LAYERS)}
        self.modules = layers | {name: named[name] for name in links}
        self.seen = {
            name: Seen(name, "cell" if name in links else "layer", module) for name, module in self.modules.items()
        }
        self.ends: dict[str, tuple[list[Tensor], list[Tensor]]] = {}  # the first states taken, the last returned
        self.given: dict[str, list[tuple[Any, Any, Any]]] = {name: [] for name in self.modules}
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> None:
        for name, module in self.modules.items():
            hook = module.register_forward_hook(self._hook(name), with_kwargs=True, prepend=True)
            self.stack.callback(hook.remove)

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def _hook(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, keywords: Any, output: Any) -> None:
            self.given[name].append((args, keywords, output))
            seen = self.seen[name]
            if isinstance(module, nn.RNNBase) and not set(module._flat_weights_names) <= module._parameters.keys():
                seen.layer = as_ours(module)  # with the weights that this forward pass has made

        return hook

    def link(self, name: str) -> Link:
        """How a module hands its states on; by their shapes, where something changes them between the calls."""
        link, module = self.links[name], self.modules[name]
        missing = isinstance(module, nn.RNNCellBase) and len(link.inputs) != 1 + isinstance(module, nn.LSTMCell)
        return by_shape(self.given[name][-1]) if missing or not link.outputs else link

    def _ends_of(self, name: str) -> tuple[list[Tensor], list[Tensor]]:
        (args, keywords, _), (_, _, output) = self.given[name][0], self.given[name][-1]
        if self.seen[name].kind == "layer":
            return _states_in(args[1:] or keywords.get("hx")), _states_in(output)
        link = self.link(name)
        return _states_in(leaves_at(leaves_of((args, keywords)), link.inputs)), _states_in(output)

    def parts(self) -> dict[str, Part]:
        """Every layer and direction by itself."""
        found: dict[str, Part] = {}
        for name, seen in self.seen.items():
            given = self.given[name]
            seen.calls = len(given)
            if not given:
                continue
            self.ends[name] = self._ends_of(name)
            if seen.kind == "layer":
                found |= _layer_parts(seen, given, self.rows, self.need)
            else:
                longest = _followed(seen, given, self.link(name))
                with contextlib.suppress(RuntimeError, TypeError):
                    part = _cell_part(seen, longest, self.link(name), self.rows)
                    found |= {part.name: part} if part else {}
                if name in found:
                    _look_between(found[name], longest, self.link(name), self.need)
        return found


def _states_in(value: Any) -> list[Tensor]:
    return [one for one in leaves_of(value) if isinstance(one, Tensor) and one.is_floating_point()]


def _look_between(part: Part, given: list[tuple[Any, Any, Any]], link: Link, need: int | None) -> None:
    """Measure a cell in the model where it is not all of the recurrence."""
    with contextlib.suppress(RuntimeError):  # states of one step that have no batch in common
        through = back_through(given, link.outputs, link.inputs, need) if len(given) > 1 else None
        if through is not None:
            part.changed_between, part.squares_DKS = through


def _layer_parts(seen: Seen, given: list[tuple[Any, Any, Any]], rows: int, need: int | None) -> dict[str, Part]:
    """The parts of a layer over its longest sequence: calls that hand the state on are one."""
    assert isinstance(seen.module, LAYERS)
    axis, run = 1 if seen.module.batch_first else 0, 0
    sequences: list[tuple[list[Tensor], States, list[Piece]]] = []
    for number, (args, keywords, output) in enumerate(given):
        x, hx = _sequence(seen.module, args, keywords)
        how = _carried(hx)
        if number:
            seen.carried[how] += 1
        if not (number and how != "reset" and sequences[-1][0][0].shape[1 - axis] == x.shape[1 - axis]):
            sequences.append(([], hx, []))
        sequences[-1][0].append(x)
        sequences[-1][2].append(Piece(x, hx or (), output[0], as_states(output[1])))
        run = run * (number > 0 and how == "joined") + x.shape[axis]
        seen.pieces.append(x.shape[axis])
        before = seen.runs.pop()[0] if number and how == "joined" else seen.steps
        seen.runs.append((before, seen.steps + x.shape[axis]))
        seen.steps, seen.longest = seen.steps + x.shape[axis], max(seen.longest, run)
    inputs, hx, pieces = max(sequences, key=lambda sequence: sum(x.shape[axis] for x in sequence[0]))
    whole = torch.cat([x.detach() for x in inputs], axis)
    few = None if hx is None else tuple(state[:, :rows].detach() for state in hx)
    found = parts_of(seen.layer or seen.module, whole[:rows] if axis else whole[:, :rows], few)
    if len(pieces) > 2 and all(x.shape[axis] == 1 for x in inputs):
        _look_between_pieces(list(found.values()), pieces, need)
    prefix = f"{seen.name}." if seen.name else ""
    for name, part in found.items():
        part.name = prefix + name
    return {part.name: part for part in found.values() if part.widths}


def _look_between_pieces(parts: list[LayerPart], pieces: list[Piece], need: int | None) -> None:
    """Measure a layer that is called step by step in the model, where it is not all of the recurrence."""
    count = len(parts[0].widths)
    if not count or any(part.period > 1 for part in parts) or not isinstance(pieces[0].y, Tensor):
        return
    few = [Piece(one.x, one.taken[:count], one.y, one.returned[:count]) for one in pieces]
    through = back_through_pieces(few, len(parts), need)
    for row, part in enumerate(parts if through is not None else ()):
        assert through is not None
        part.changed_between, part.squares_DKS = through[0], through[1][row]


def _carried(hx: States) -> str:
    if hx is None or not any(bool(state.any()) for state in hx):
        return "reset"
    return "joined" if any(state.requires_grad for state in hx) else "detached"


def _sequence(module: Recurrent | nn.RNNBase, args: Any, keywords: Any) -> tuple[Tensor, States]:
    """What a layer was called with, batched and padded; of rows of different lengths the longest alone."""
    given = [*args, *([keywords["input"]] if "input" in keywords else [])]
    x = given[0]
    hx = given[1] if len(given) > 1 else keywords.get("hx")
    states = None if hx is None else as_states(hx)
    if isinstance(x, PackedSequence):
        padded, lengths = pad_packed_sequence(x, batch_first=module.batch_first)
        longest = (lengths == lengths.max()).nonzero()[:, 0].to(padded.device)
        x = padded.index_select(0 if module.batch_first else 1, longest)
        states = None if states is None else tuple(state.index_select(1, longest) for state in states)
    if x.dim() == 2:
        x = x[None] if module.batch_first else x[:, None]
        states = None if states is None else tuple(state[:, None] for state in states)
    return x, states


def _followed(seen: Seen, given: list[tuple[Any, Any, Any]], link: Link) -> list[tuple[Any, Any, Any]]:
    """Follow the states from call to call; return the longest sequence of calls without a reset in between."""
    seen.steps, seen.pieces, ages = len(given), [len(given)], _Ages()
    run, before, sequences, cut = 0, list[Any](), [[given[0]]], False
    for number, call in enumerate(given):
        taken = leaves_at(leaves_of(call[:2]), link.inputs)
        how = _handed(taken, before) if number else "reset"
        ages.take(before, taken)
        how = "detached" if cut and how == "joined" else how
        if number:
            seen.carried[how] += 1
            was = any(isinstance(state, Tensor) and bool(state.any()) for state in before)
            if how == "reset" and was:
                sequences.append([])
            sequences[-1].append(call)
        run = run * (how == "joined") + 1
        seen.runs.append((seen.runs.pop()[0] if number and how == "joined" else number, number + 1))
        seen.longest = max(seen.longest, run)
        before = leaves_at(leaves_of(call[2]), link.outputs)
        cut = _need_gradients(taken) and not _need_gradients(before)  # as of a call under no_grad
    seen.row_resets, seen.longest_row = ages.resets, ages.longest
    return max(sequences, key=len)


class _Ages:
    """How long the rows of a batch run before one is set back to zero on its own, as where an episode ends."""

    def __init__(self) -> None:
        self.resets, self.longest = 0, 0
        self._age_B: Tensor | None = None

    def take(self, before: list[Any], taken: list[Any]) -> None:
        """Take what one call returned, and what the next takes of it."""
        pairs = [(b, t) for b, t in zip(before, taken, strict=False) if is_state(b) and is_state(t)]
        if not pairs or any(b.shape != t.shape or b.dim() < 2 for b, t in pairs):
            return
        if len({len(b) for b, _ in pairs}) > 1 or not all(b.numel() for b, _ in pairs):
            return
        rows = [(b.detach().flatten(1).any(1), t.detach().flatten(1).any(1)) for b, t in pairs]
        reset_B = torch.stack([was & ~now for was, now in rows]).all(0).cpu()
        if self._age_B is None or len(self._age_B) != len(reset_B):
            self._age_B = torch.ones(len(reset_B), dtype=torch.long, device="cpu")
        self.resets += int(reset_B.sum()) * (not bool(reset_B.all()))
        self._age_B = torch.where(reset_B, 0, self._age_B) + 1
        self.longest = max(self.longest, int(self._age_B.max()))


def _cell_part(seen: Seen, given: list[tuple[Any, Any, Any]], link: Link, rows: int) -> Part | None:
    layer = as_ours(seen.module) if isinstance(seen.module, nn.RNNCellBase) else None
    if layer is not None:
        x_TBI = torch.stack([(args[0] if args else keywords["input"]).detach() for args, keywords, _ in given])
        taken = leaves_at(leaves_of(given[0][:2]), link.inputs)
        zeros = [state[0] for state in layer.zero_states(min(rows, x_TBI.shape[1]))]
        given_one = bool(taken) and all(isinstance(state, Tensor) for state in taken)
        initial = [state.detach()[:rows] for state in taken] if given_one else zeros
        return LayerPart(seen.name, layer.part("l0", training=False), x_TBI[:, :rows], initial)
    return _call_part(seen, given, link, rows)


def _handed(taken: list[Any], before: list[Any]) -> str:
    if not any(bool(state.any()) for state in taken if isinstance(state, Tensor)):
        return "reset"
    return "joined" if _need_gradients(taken) or not _need_gradients(before) else "detached"


def _need_gradients(states: list[Any]) -> bool:
    return any(isinstance(state, Tensor) and state.requires_grad for state in states)


def _with_states(given: list[tuple[Any, Any, Any]], link: Link) -> list[tuple[Any, Any, Any]]:
    """The longest run of calls that bring their states along: a first one may leave them to the module."""
    runs: list[list[tuple[Any, Any, Any]]] = [[]]
    for call in given:
        taken = leaves_at(leaves_of(call[:2]), link.inputs)
        if taken and all(isinstance(state, Tensor) for state in taken):
            runs[-1].append(call)
        else:
            runs.append([])
    return max(runs, key=len)


def _call_part(seen: Seen, given: list[tuple[Any, Any, Any]], link: Link, rows: int) -> Part | None:
    """A part whose states are brought into (B, W) each, whatever their shapes: images, or rows without a batch."""
    given = _with_states(given, link)
    if not given:
        return None
    shapes = [tuple(state.shape) for state in leaves_at(leaves_of(given[-1][:2]), link.inputs)]
    batched = all(len(shape) > 1 for shape in shapes)
    size = shapes[0][0] if batched else -1

    def few(value: Any) -> Any:
        def cut(leaf: Any) -> Any:
            of_batch = isinstance(leaf, Tensor) and leaf.dim() > 0 and leaf.shape[0] == size
            return leaf[:rows].detach() if of_batch else leaf.detach() if isinstance(leaf, Tensor) else leaf

        return pytree.tree_map(cut, value)

    def flat(state: Tensor) -> Tensor:
        return state.flatten(1) if batched else state.flatten()[None]

    def put(args: Any, keywords: Any, states: list[Tensor]) -> tuple[Any, Any]:
        leaves, spec = pytree.tree_flatten((args, keywords))
        for place, state, shape in zip(link.inputs, states, shapes, strict=True):
            leaves[place] = state.reshape(len(state), *shape[1:]) if batched else state.reshape(shape)
        found: tuple[Any, Any] = pytree.tree_unflatten(leaves, spec)
        return found

    def take(output: Any) -> list[Tensor]:
        leaves = leaves_of(output)
        return [flat(leaves[place]) for place in link.outputs]

    calls = [few((args, keywords)) for args, keywords, _ in given]
    before = [[flat(leaves_of(call)[place]) for place in link.inputs] for call in calls]
    after = torch.cat(take(few(given[-1][2])), -1)
    names = ("h",) if len(link.inputs) == 1 else tuple(f"state {place}" for place in range(1, len(shapes) + 1))
    return CallPart(seen.name, seen.module, calls, before, after, names, put, take)
