"""Find the recurrences of any model by running it, with what each of them was given.

A layer is known by its type. A module that is called once a step is known by what it does: what one call returns
goes into the next.

Shapes: T time, B batch, I input, N full state.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from unvanish.errors import FlowError
from unvanish.flow.finding.between import Link, back_through, by_shape, is_state, leaves_at, leaves_of
from unvanish.flow.finding.convert import as_ours
from unvanish.flow.finding.parts import CallPart, LayerPart, Part, as_states, parts_of
from unvanish.flow.finding.recorder import Recording, record
from unvanish.flow.finding.untouched import untouched
from unvanish.nn import Recurrent
from unvanish.torch_internals import pytree

States = tuple[Tensor, ...] | None
LAYERS = (Recurrent, nn.RNNBase)
FEW = 3  # calls: fewer are not a recurrence


@dataclass
class Seen:
    """One recurrent module of a model, and its calls in one run.

    Attributes:
        name: its name in the model.
        kind: `layer` (a call is a sequence) or `cell` (a call is a step).
        calls: how often it was called; `steps`: over how many time steps in all.
        longest: the most steps through which a gradient can flow without a break.
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


@dataclass
class Observation:
    """One run of a model with its loss and its gradients.

    Attributes:
        loss: what the model was trained on.
        seen: its recurrent modules, by name.
        parts: every layer and direction of them by itself.
        recording: ‖∂L/∂s_t‖ of every part; empty where no gradient came.
        gradients: of every parameter, None where none came.
        links: how the modules that are called once a step hand their states on.
    """

    loss: Tensor
    seen: dict[str, Seen]
    parts: dict[str, Part]
    recording: Recording
    gradients: dict[str, Tensor | None]
    links: Mapping[str, Link]

    def module_of(self, part: str) -> Seen:
        """The recurrent module that a part belongs to."""
        return self.seen[part] if part in self.seen else self.seen[part.rpartition(".")[0]]


def observe(
    model: nn.Module,
    loss: Callable[[], Tensor],
    *,
    cells: Iterable[str] = (),
    links: Mapping[str, Link] | None = None,
    rows: int = 4,
) -> Observation:
    """Run a model with its loss and its gradients, and take its recurrences apart.

    Args:
        model: any module.
        loss: runs the model once and returns its loss.
        cells: names of modules that are called once a step, where they do not hand on what they return.
        links: how such modules hand their states on, where an earlier observation has found it out.
        rows: so many rows of the batch are kept with the parts, for measurements.

    The model's gradients, its buffers and the state of the random numbers are afterwards what they were before.

    Raises:
        FlowError: the model has no recurrence, the loss is not a single number or has no gradient.
    """
    with untouched(model):
        links = _links(model, loss, cells) if links is None else links
        if not links and not any(isinstance(module, LAYERS) for module in model.modules()):
            raise FlowError(
                "the model has no recurrent layer, and no module called once a step that takes what it gave: "
                "name it with cells=['decoder.cell'] (--cells), or make a loop written out into such a module"
            )
        catcher = _Catcher(model, links, rows)
        with catcher, record(model, list(links)) as recording:
            value = loss()
            _check_loss(value)
            through = catcher.norms_through_the_model()
            value.backward()  # type: ignore[no-untyped-call]
        gradients = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    parts = catcher.parts()
    for name, (changed, norms_KS) in through.items():
        if name in parts:
            parts[name].changed_between, parts[name].norms_KS = changed, norms_KS
    return Observation(value.detach(), catcher.seen, parts, recording, gradients, links)


def _check_loss(value: object) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1:
        given = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise FlowError(f"the loss is {given}: return one number, as a tensor, such as the mean over the batch")
    if not value.requires_grad:
        raise FlowError("the loss has no gradient: it was computed under no_grad, or detached from the model")


# -- modules that are called once a step -------------------------------------------------------------------------


class _Chain:
    """Watches the calls of one module: does what it returns come back as what it takes?"""

    def __init__(self) -> None:
        self.before: list[Any] = []
        self.found: dict[tuple[int, int], int] = {}
        self.calls = 0

    def call(self, module: nn.Module, args: Any, keywords: Any, output: Any) -> None:
        for place, given in enumerate(leaves_of((args, keywords))):
            for position, returned in enumerate(self.before):
                if is_state(given) and is_state(returned) and _same_numbers(given, returned):
                    self.found[position, place] = self.found.get((position, place), 0) + 1
        self.before, self.calls = leaves_of(output), self.calls + 1

    def link(self) -> Link | None:
        """The links that nearly every call after the first has, each place used once."""
        steady = [pair for pair, count in self.found.items() if count >= max(1, self.calls // 2)]
        outputs, inputs = list[int](), list[int]()
        for position, place in sorted(steady):
            if position not in outputs and place not in inputs:
                outputs.append(position)
                inputs.append(place)
        return Link(tuple(outputs), tuple(inputs)) if outputs and self.calls >= FEW else None


def _same_numbers(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.numel() > 0)


def _links(model: nn.Module, loss: Callable[[], Tensor], cells: Iterable[str]) -> dict[str, Link]:
    """Run the model once, and find the modules that are called once a step."""
    named = dict(model.named_modules())
    inside = {m for module in named.values() if isinstance(module, LAYERS) for m in module.modules()}
    chains = {name: _Chain() for name, module in named.items() if name and module not in inside}
    with contextlib.ExitStack() as stack:
        for name, chain in chains.items():
            stack.callback(named[name].register_forward_hook(chain.call, with_kwargs=True).remove)
        loss()
    found = {name: link for name, chain in chains.items() if (link := chain.link()) is not None}
    # The innermost: a wrapper that hands the state through is not the recurrence.
    called = {n for n, chain in chains.items() if isinstance(named[n], nn.RNNCellBase) and chain.calls >= FEW}
    found |= {name: Link((), ()) for name in called - found.keys()}
    inner = {name: link for name, link in found.items() if not any(o.startswith(f"{name}.") for o in found)}
    for name in cells:
        if name not in named:
            raise FlowError(f"the model has no module '{name}': it has {', '.join(filter(None, named))}")
        inner.setdefault(name, Link((), ()))
    return inner


# -- what they were given ----------------------------------------------------------------------------------------


class _Catcher:
    """Writes down what the recurrent modules of a model are called with."""

    def __init__(self, model: nn.Module, links: Mapping[str, Link], rows: int) -> None:
        self.rows, self.links = rows, links
        named = dict(model.named_modules())
        layers = {name: module for name, module in named.items() if isinstance(module, LAYERS)}
        self.modules = layers | {name: named[name] for name in links}
        self.seen = {
            name: Seen(name, "cell" if name in links else "layer", module) for name, module in self.modules.items()
        }
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

        return hook

    def link(self, name: str) -> Link:
        """How a module hands its states on; by their shapes, where something changes them between the calls."""
        return self.links[name] if self.links[name].outputs else by_shape(self.given[name][-1])

    def norms_through_the_model(self) -> dict[str, tuple[float, NDArray[np.float64]]]:
        """What comes back to modules that are called once a step, where something stands between the calls."""
        found: dict[str, tuple[float, NDArray[np.float64]]] = {}
        for name, seen in self.seen.items():
            if seen.kind == "cell" and len(self.given[name]) > 1:
                link = self.link(name)
                result = back_through(self.given[name], link.outputs, link.inputs)
                found |= {name: result} if result else {}
        return found

    def parts(self) -> dict[str, Part]:
        """Every layer and direction by itself."""
        found: dict[str, Part] = {}
        for name, seen in self.seen.items():
            given = self.given[name]
            seen.calls = len(given)
            if not given:
                continue
            if seen.kind == "layer":
                found |= _layer_parts(seen, given, self.rows)
            else:
                part = _cell_part(seen, given, self.link(name), self.rows)
                found |= {part.name: part} if part else {}
        return found


def _layer_parts(seen: Seen, given: list[tuple[Any, Any, Any]], rows: int) -> dict[str, Part]:
    """The parts of a layer over its longest sequence: calls that hand the state on are one."""
    assert isinstance(seen.module, LAYERS)
    axis, run = 1 if seen.module.batch_first else 0, 0
    sequences: list[tuple[list[Tensor], States]] = []
    for number, (args, keywords, _) in enumerate(given):
        x, hx = _sequence(seen.module, args, keywords)
        how = _carried(hx)
        if number:
            seen.carried[how] += 1
        if number and how != "reset" and sequences[-1][0][0].shape[1 - axis] == x.shape[1 - axis]:
            sequences[-1][0].append(x)
        else:
            sequences.append(([x], hx))
        run = run * (number > 0 and how == "joined") + x.shape[axis]
        seen.steps, seen.longest = seen.steps + x.shape[axis], max(seen.longest, run)
    pieces, hx = max(sequences, key=lambda sequence: sum(x.shape[axis] for x in sequence[0]))
    whole = torch.cat([x.detach() for x in pieces], axis)
    few = None if hx is None else tuple(state[:, :rows].detach() for state in hx)
    found = parts_of(seen.module, whole[:rows] if axis else whole[:, :rows], few)
    prefix = f"{seen.name}." if seen.name else ""
    for name, part in found.items():
        part.name = prefix + name
    return {part.name: part for part in found.values() if part.widths}


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


def _cell_part(seen: Seen, given: list[tuple[Any, Any, Any]], link: Link, rows: int) -> Part | None:
    seen.steps = len(given)
    run, before = 0, list[Any]()
    for number, (args, keywords, output) in enumerate(given):
        taken = leaves_at(leaves_of((args, keywords)), link.inputs)
        how = _handed(taken, before) if number else "reset"
        if number:
            seen.carried[how] += 1
        run = run * (how == "joined") + 1
        seen.longest = max(seen.longest, run)
        before = leaves_at(leaves_of(output), link.outputs)
    layer = as_ours(seen.module) if isinstance(seen.module, nn.RNNCellBase) else None
    if layer is not None:
        x_TBI = torch.stack([args[0].detach() for args, _, _ in given])
        taken = leaves_at(leaves_of(given[0][:2]), link.inputs)
        zeros = [state[0] for state in layer.zero_states(min(rows, x_TBI.shape[1]))]
        initial = [state.detach()[:rows] for state in taken] or zeros
        return LayerPart(seen.name, layer.part("l0", training=False), x_TBI[:, :rows], initial)
    return _call_part(seen, given, link, rows)


def _handed(taken: list[Any], before: list[Any]) -> str:
    tensors = [state for state in taken if isinstance(state, Tensor)]
    if not any(bool(state.any()) for state in tensors):
        return "reset"
    return (
        "joined"
        if any(state.requires_grad for state in tensors) or not any(state.requires_grad for state in before)
        else "detached"
    )


def _call_part(seen: Seen, given: list[tuple[Any, Any, Any]], link: Link, rows: int) -> Part | None:
    """A part whose states are brought into (B, W) each, whatever their shapes: images, or rows without a batch."""
    if not link.inputs:
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
