"""Find the recurrences of any model by running it, with what each of them was given.

A layer is known by its type; a module that is called once a step by what it does: what one call returns goes into
the next; a loop that is written out by what a run repeats. Where none of these is seen, the steps of the input are
what is left to measure along.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.errors import FlowError
from unvanish.flow.finding.between import Link, comes_from
from unvanish.flow.finding.calls import MODULE, Calls
from unvanish.flow.finding.caught import Catcher, Seen, module_of
from unvanish.flow.finding.chains import LAYERS, links_of
from unvanish.flow.finding.graph import (
    GraphPart,
    Norms,
    by_last_output,
    longest_run,
    of_input,
    of_loop,
    reached,
    squares_of_loop,
    time_axis,
    watched_input,
)
from unvanish.flow.finding.lost import Lost, first_lost, located
from unvanish.flow.finding.parts import CallPart, Part
from unvanish.flow.finding.recorder import Recording, record
from unvanish.flow.finding.trace import SMALL, Loop, loops
from unvanish.flow.finding.untouched import eagerly, untouched

__all__ = ["Observation", "Seen", "observe"]
FEWEST_ALONE = 5  # steps of a loop that runs over nothing: fewer may be layers one after the other
TINY = 1e-8  # a loss so small has gradients that single precision cannot hold
FAINT, FULL = 1e-14, 1e30  # gradients whose squares single precision cannot hold, and what it can hold
SAME = 1e-4  # of the norm, by which a step that is run once more may differ from what the model's own run gave


@dataclass
class Observation:
    """One run of a model with its loss and its gradients.

    Attributes:
        loss: what the model was trained on.
        seen: its recurrences, by name.
        parts: every layer and direction of them by itself.
        recording: ‖∂L/∂s_t‖ of every part; empty where no gradient came.
        gradients: of every parameter, None where none came.
        links: how the modules that are called once a step hand their states on.
        lost: where the first number that is not finite is made, where the loss is not finite.
        scale: what the loss was multiplied by for the recording, so that small numbers keep their digits.
    """

    loss: Tensor
    seen: dict[str, Seen]
    parts: dict[str, Part]
    recording: Recording
    gradients: dict[str, Tensor | None]
    links: Mapping[str, Link]
    lost: Lost | None = None
    scale: float = 1.0

    def module_of(self, part: str) -> Seen:
        """The recurrent module that a part belongs to."""
        return module_of(self.seen, part)


def observe(
    model: nn.Module,
    loss: Callable[[], Tensor],
    *,
    cells: Iterable[str] = (),
    links: Mapping[str, Link] | None = None,
    rows: int = 4,
    inputs: Sequence[Tensor] = (),
    need: int | None = None,
) -> Observation:
    """Run a model with its loss and its gradients, and take its recurrences apart.

    Args:
        model: any module.
        loss: runs the model once and returns its loss.
        cells: names of modules that are called once a step, where they do not hand on what they return.
        links: how such modules hand their states on, where an earlier observation has found it out.
        rows: so many rows of the batch are kept with the parts, for measurements.
        inputs: the tensors of the batch. Where no recurrence is seen, the gradient is measured along their steps.
        need: the needed lag, if it is known: it tells time from the batch where nothing else does, and how many
            directions are drawn.

    The model's gradients, its buffers, the tensors that its modules hold and the state of the random numbers are
    afterwards what they were before.

    Raises:
        FlowError: there is nothing to measure along, the loss is not a single number or has no gradient.
    """
    with untouched(model), eagerly(model), _checkpointed():
        links = links_of(model, loss, cells) if links is None else links
        run = _Run(model, loss, links, rows, inputs, need)
        found = run.observed(list(cells))
        faint = _faint(found)
        if faint:
            found = _Run(model, loss, links, rows, inputs, need, faint).observed(list(cells))
    return found if found.parts else _along_the_input(found, model, loss, inputs, need)


@contextlib.contextmanager
def _checkpointed() -> Iterator[None]:
    """Say in one line what torch says of gradients by states inside its older checkpoints."""
    try:
        yield
    except RuntimeError as fault:
        if "use_reentrant" not in str(fault):
            raise
        raise FlowError(
            "the model calls torch.utils.checkpoint with use_reentrant=True, through which no gradient by a state "
            "can be taken: give use_reentrant=False, as torch advises"
        ) from fault


class _Run:
    """One run of a model under watch."""

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[], Tensor],
        links: Mapping[str, Link],
        rows: int,
        inputs: Sequence[Tensor],
        need: int | None,
        scale: float | None = None,
    ) -> None:
        self.model, self.loss, self.links, self.inputs = model, loss, links, inputs
        self.need, self.scale = need, scale
        self.axes = [size for one in inputs for size in one.shape[:2]]
        self.known = [module for module in model.modules() if isinstance(module, LAYERS)]
        self.catcher = Catcher(model, links, rows, need)

    def observed(self, cells: Sequence[str]) -> Observation:
        """Run it, and take its recurrences apart."""
        known = bool(self.known or self.links)
        recorded = record(self.model, list(self.links)) if known else contextlib.nullcontext(Recording())
        with self.catcher, recorded as recording:
            with Calls(self.model, self.known) as calls:
                value = self.loss()
            _check_loss(value)
            lost = None if bool(torch.isfinite(value)) else first_lost(calls.made, self._own())
            whole = [loop for loop in loops(calls.made, self.axes) if not _is_a_layer(loop)]
            every = [of_loop(loop, value, self.need) for loop in whole]
            # What the loss does not depend on is no recurrence of its, where there is another.
            graphs = [graph for graph in every if graph.arrives] or every
            parts = self.catcher.parts()
            for graph in graphs:
                self._put(graph, parts, recording, cells)
            lost = lost if lost is None else located(lost, parts)
            handed = self._handed_over(parts, {graph.name: graph for graph in graphs})
            scale = _scale(value) if self.scale is None else self.scale
            for track in itertools.chain(*recording.passes.values()):
                track.clear()  # of what was sent back to measure
            value.backward(torch.full_like(value, scale))  # type: ignore[no-untyped-call]
        self._look_where_it_arrives(parts, recording)
        for name, before in handed.items():
            one, other = self.catcher.seen[name], self.catcher.seen[before]
            one.beside, other.beside = one.beside + other.longest, other.beside + one.longest
        named = self.model.named_parameters()
        gradients = {name: None if p.grad is None else p.grad.to_dense().double() / scale for name, p in named}
        return Observation(value.detach(), self.catcher.seen, parts, recording, gradients, self.links, lost, scale)

    def _handed_over(self, parts: Mapping[str, Part], graphs: Mapping[str, GraphPart]) -> dict[str, str]:
        """Which recurrence begins with what another one ends with: a decoder with its encoder's last state."""
        ends: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
        for name in parts:
            graph, seen = graphs.get(name), module_of(self.catcher.seen, name)
            if graph is not None and graph.loop is not None:
                ends[seen.name] = graph.loop.states[0], graph.loop.states[-1]
            elif seen.name in self.catcher.ends:
                ends[seen.name] = self.catcher.ends[seen.name]
        found: dict[str, str] = {}
        for name, (entry, _) in ends.items():
            for other, (_, left) in ends.items():
                if other != name and name not in found and found.get(other) != name and comes_from(entry, left):
                    found[name] = other
        return found

    def _look_where_it_arrives(self, parts: Mapping[str, Part], recording: Recording) -> None:
        """Count the steps of a recurrence that is cut from where a gradient of the loss arrives."""
        for name in parts:
            seen = module_of(self.catcher.seen, name)
            tracks = recording.passes.get(name, [])
            if len(seen.runs) < 2 or not any(track.arrived for track in tracks):
                continue
            arrives: list[bool] = []
            for track, steps in zip(tracks, seen.pieces, strict=False):
                arrives += track.norms.any(1).tolist() if track.arrived else [False] * steps
            if len(arrives) == seen.runs[-1][1]:
                seen.reached = reached(seen.runs, arrives)

    def _own(self) -> list[Tensor]:
        """What a model has before it is run."""
        return [*self.model.parameters(), *self.model.buffers(), *self.inputs]

    def _put(self, graph: GraphPart, parts: dict[str, Part], recording: Recording, cells: Sequence[str]) -> None:
        """Put a loop beside the parts, in place of those that are only a piece of it, or leave it out."""
        loop, seen = graph.loop, self.catcher.seen
        assert loop is not None
        if not graph.sizes or not _is_recurrence(loop, graph.joints):
            return
        inside = self._inside(loop, parts)
        for name in inside:
            if _is_whole(parts[name], graph, module_of(seen, name)):
                parts[name].direct, parts[name].whole = graph.direct, graph.whole
                for other in inside:  # a wrapper of what is whole hands the same states through
                    if other != name and module_of(seen, name).name.startswith(f"{module_of(seen, other).name}."):
                        del parts[other]
                return
        for name in inside:
            del parts[name]
        graph.name = _name(loop, [name for name in seen if name in cells], inside, parts)
        graph.again = lambda around: self._again(graph, around)
        parts[graph.name] = graph
        module = self.model.get_submodule(loop.name)
        first, last = longest_run(graph.joints)
        seen[graph.name] = Seen(graph.name, "loop", module, graph.steps, graph.steps, last - first, path=loop.name)
        seen[graph.name].reached = graph.window
        seen[graph.name].carried.update(Counter(graph.joints))
        track = recording.start(graph.name, graph.names)
        for states in loop.states:
            track.listen(states)

    def _inside(self, loop: Loop, parts: Mapping[str, Part]) -> list[str]:
        """The parts that a loop's steps call."""
        made = [one for step in loop.calls for one in step]
        called = {one.name.removeprefix(MODULE) for one in made if one.name.startswith(MODULE)}
        modules = {one.module for one in made}
        found = []
        for name in parts:
            seen = module_of(self.catcher.seen, name)
            of_cell = seen.kind == "cell" and any(f"{one}.".startswith(f"{seen.name}.") for one in modules)
            if seen.name in called or of_cell:
                found.append(name)
        return found

    def _again(self, graph: GraphPart, around: contextlib.AbstractContextManager[Any]) -> Norms | None:
        """Run the model once more in a context, and measure the same loop."""
        with untouched(self.model):
            with Calls(self.model, self.known) as calls, around:
                value = self.loss()
            assert graph.loop is not None
            same = (graph.loop.name, graph.steps)
            found = [loop for loop in loops(calls.made, self.axes) if (loop.name, loop.steps) == same]
            return squares_of_loop(found[0], value, self.need) if found else None


def _is_recurrence(loop: Loop, joints: Sequence[str]) -> bool:
    """Whether a repeat is more than layers one after the other, or rows one by one."""
    if loop.steps < SMALL and joints.count("reset") >= max(1, len(joints) / 2):
        return False
    long = loop.steps >= FEWEST_ALONE and loop.shares_weights
    return long or (loop.over_input and (loop.steps >= SMALL or loop.shares_weights))


def _is_a_layer(loop: Loop) -> bool:
    """Whether a loop is a layer by itself, called piece by piece: it is known by its type."""
    return len(loop.makers) == 1 and next(iter(loop.makers)).startswith(MODULE)


def _is_whole(part: Part, graph: GraphPart, seen: Seen) -> bool:
    """Whether a part that can be stepped is all of a loop: the same states, and what it does is what was done."""
    if abs(seen.calls - graph.steps) > 2:  # several calls are one step of time; the first and last may differ
        return False
    if graph.loop is not None and graph.loop.delay > 1 and seen.kind == "cell":
        return False
    if graph.loop is not None and (part.squares_DKS is not None or seen.kind == "layer"):
        return not graph.loop.keeps_past(seen.name)
    if not isinstance(part, CallPart):
        return sorted(part.widths.values()) == sorted(graph.held)
    if sorted(part.widths.values()) != sorted(graph.held) or (
        graph.loop is not None and graph.loop.cuts(part.name)
    ):
        return False
    try:
        last = part.steps - 1
        with torch.no_grad():
            found = part.step(last)(part.state_before(last))
    except Exception:  # whatever the user's own code raises where it is called by itself
        return False
    return bool((found - part.after).norm() <= SAME * part.after.norm().clamp_min(1e-12))


def _name(loop: Loop, cells: Sequence[str], inside: Sequence[str], parts: Mapping[str, Part]) -> str:
    name = loop.name or next(iter(cells), "") or " and ".join(inside) or "loop"
    free, number = name, 2
    while free in parts:
        free, number = f"{name} {number}", number + 1
    return free


def _along_the_input(
    found: Observation, model: nn.Module, loss: Callable[[], Tensor], inputs: Sequence[Tensor], need: int | None
) -> Observation:
    """Where no recurrence is seen: the gradient of the loss by the steps of the input."""
    outputs: list[Any] = []
    with untouched(model), watched_input(model, inputs) as watched, contextlib.ExitStack() as stack:
        with contextlib.suppress(RuntimeError):  # what is scripted may take no hooks
            hook = model.register_forward_hook(lambda *call: outputs.append(call[-1]))
            stack.callback(hook.remove)
        value = loss()
        if not watched:
            raise FlowError(
                "the model has no recurrence that can be seen (no layer of torch or of unvanish, no module that is "
                "called once a step, no loop), and its batch has no tensor along whose steps to measure: name the "
                "module that is called once a step, cells=['decoder.cell'] (--cells)"
            )
        x = watched[0]
        axis = time_axis(model, x, need, embedded=all(x is not one for one in inputs))
        (by_loss,) = torch.autograd.grad(value, x, retain_graph=True, allow_unused=True)
        gradient = by_last_output(outputs, x, axis)
        gradient = by_loss if gradient is None else gradient
    part = of_input(x.detach(), gradient, axis)
    seen = Seen(part.name, "input", model, 1, part.steps, part.steps, path="")
    track = found.recording.start(part.name, part.names)
    if by_loss is not None:
        track.take_norms(by_loss.detach().movedim(axis, 0).flatten(1).norm(dim=1)[:, None])
    return replace(found, seen={part.name: seen}, parts={part.name: part})


def _scale(value: Tensor) -> float:
    """A power of two by which a gradient of tiny numbers is kept from becoming zero."""
    size = abs(float(value.detach()))
    far = 0 < size < TINY or (math.isfinite(size) and size > 1 / TINY)
    return 2.0 ** round(-math.log2(size)) if far else 1.0


def _faint(found: Observation) -> float | None:
    """The scale at which what comes to the recurrences keeps its digits, where much before them shrinks it."""
    paths = [seen.name if seen.path is None else seen.path for seen in found.seen.values()]
    sizes = {name: float(g.abs().max()) for name, g in found.gradients.items() if g is not None and g.numel()}
    largest = max(sizes.values(), default=0.0)
    size = max((size for name, size in sizes.items() if any(name.startswith(path) for path in paths)), default=0.0)
    if not 0 < size < FAINT or not math.isfinite(largest):
        return None
    return 2.0 ** math.floor(-math.log2(max(size, largest / FULL)))


def _check_loss(value: object) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1:
        given = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise FlowError(f"the loss is {given}: return one number, as a tensor, such as the mean over the batch")
    if not value.requires_grad:
        raise FlowError("the loss has no gradient: it was computed under no_grad, or detached from the model")
