"""Remedies for cells and loops of a user's own: a gate's bias, orthogonal blocks, a skip around the cell.

Which parameters they are is found by one more run of the model: the calls of a step say which matrices take the
state, and a gradient says which bias moves what a state keeps of itself.

Shapes: W width of a state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.diagnosis.findings import PartFinding
from unvanish.diagnosis.remedying.layers import SHORT, gates_that_hold
from unvanish.diagnosis.remedying.matrices import known_cells, orthogonal, taken_by
from unvanish.diagnosis.remedying.remedy import Patient, Remedy, parameter, read, unsettable
from unvanish.flow.finding.between import leaves_of
from unvanish.flow.finding.calling import random_like
from unvanish.flow.finding.calls import Calls
from unvanish.flow.finding.chains import LAYERS
from unvanish.flow.finding.graph import kept_directly, trained_states
from unvanish.flow.finding.observe import Seen
from unvanish.flow.finding.trace import Loop, loops
from unvanish.flow.finding.untouched import copied
from unvanish.torch_internals import pytree

MOVES = 0.2  # of k(1 - k), by which a bias that is added inside a sigmoid moves the share k that is kept
NEAR = 0.3  # in units of the logit of that share
NO_MODULE = "no module holds the step: with one, cell(x, h) can return alpha * h + (1 - alpha) * new"


@dataclass(frozen=True)
class _Traced:
    """One more run of a copy of the model: the loop, and a call of the module that holds the step, if one does."""

    model: nn.Module
    loop: Loop
    call: tuple[Any, Any, Any] | None


class OwnCell:
    """A part that is not a known layer or cell, and what finds it again in a run of a copy of its model."""

    def __init__(self, patient: Patient, part: PartFinding, seen: Seen) -> None:
        self.patient, self.part, self.seen = patient, part, seen
        self.name = seen.name if seen.path is None else seen.path
        self.steps = patient.observation.parts[part.name].steps

    def remedies(self) -> Iterator[Remedy]:
        """What fits."""
        traced = self._traced(copied(self.patient.model))
        if traced is None:
            return
        cells = known_cells(traced.model, taken_by(traced.model, traced.loop))
        gate = None if cells or self.part.verdict not in SHORT else self._gate(traced)
        if gate is not None:
            yield gate
        hold = [name for name in cells if not isinstance(traced.model.get_submodule(name), nn.RNNCell)]
        if hold and self.part.verdict in SHORT:
            reasons = (unsettable(traced.model.get_submodule(name), read(name), ("bias",)) for name in hold)
            yield gates_that_hold(hold, self.patient.need, next((one for one in reasons if one), None))
        yield from orthogonal(traced.model, traced.loop, zero=gate is None and not hold)
        if self.part.verdict in SHORT and not cells:
            yield self._skip(traced)

    def _traced(self, model: nn.Module) -> _Traced | None:
        """Run a model, and find the loop again."""
        known = [module for module in model.modules() if isinstance(module, LAYERS)]
        calls, caught = Calls(model, known), list[tuple[Any, Any, Any]]()
        module = model.get_submodule(self.name)
        hook = None
        if self.name in self.patient.observation.links and not isinstance(module, torch.jit.ScriptModule):
            hook = module.register_forward_hook(lambda _, *call: caught.append(call), with_kwargs=True)
        with calls, torch.enable_grad():
            self.patient.run(model)
        if hook is not None:
            hook.remove()
        axes = [size for one in self.patient.inputs for size in one.shape[:2]]
        for loop in loops(calls.made, axes):
            inside = any(f"{one.module}.".startswith(f"{self.name}.") for one in loop.calls[-1])
            if abs(loop.steps - self.steps) <= 1 and (loop.name == self.name or inside):
                return _Traced(model, loop, caught[-1] if caught else None)
        return None

    # -- the bias of a gate --------------------------------------------------------------------------------------

    def _gate(self, traced: _Traced) -> Remedy | None:
        """Find the bias that moves what a state keeps of itself, and by how much it has to be moved."""
        found = self._mover(traced)
        if found is None:
            return None
        name, first, width, place, sign = found
        amount = self._amount(name, slice(first, first + width), place, sign)
        if amount is None:
            return None
        values = traced.model.get_parameter(name)
        at = "" if width == values.numel() else f"[{first}:{first + width}]"
        code = f"with torch.no_grad():\n    {parameter(name)}{at}.add_({amount:.4g})"
        need = self.patient.need
        text = f"a gate that holds: {name}{at} {amount:+.2g}, for a time constant of {need} steps"
        return Remedy("gate bias", text, code)

    def _mover(self, traced: _Traced) -> tuple[str, int, int, int, float] | None:
        """The bias that moves a state's share most and alike in all units: name, first, width, state, sign."""
        states = trained_states(traced.loop)
        vectors = {n: p for n, p in traced.model.named_parameters() if p.dim() <= 1 and p.requires_grad}
        best: tuple[float, tuple[str, int, int, int, float]] | None = None
        for place in range(len(states[-1]) if vectors else 0):
            state = states[-1][place]
            width = state.shape[1] if state.dim() > 3 else state.shape[-1] if state.dim() else 1
            kept = _kept(states, place)
            share = 0.0 if kept is None else float(kept.detach())
            if kept is None or not 0 < share < 1:
                continue
            slopes = torch.autograd.grad(kept, list(vectors.values()), retain_graph=True, allow_unused=True)
            for (name, vector), slope in zip(vectors.items(), slopes, strict=True):
                size = width if vector.numel() % width == 0 else vector.numel()
                for number, of_unit in enumerate(() if slope is None else torch.split(slope.reshape(-1), size)):
                    moved, alike = float(of_unit.sum()), float(of_unit.abs().sum())
                    enough = abs(moved) > max(MOVES * share * (1 - share), 0.8 * alike)
                    if enough and (best is None or abs(moved) > best[0]):
                        best = abs(moved), (name, number * size, size, place, math.copysign(1.0, moved))
        return None if best is None else best[1]

    def _amount(self, name: str, at: slice, place: int, sign: float) -> float | None:
        """How much has to be added so that the state keeps 1 - 1/need of itself; None where nothing does that."""
        wanted, low, grows = _logit(1 - 1 / max(self.patient.need, 2)), 0.0, True
        high = max(wanted - _logit(self._share(name, at, 0.0, place)), 0.5)
        for _ in range(12):
            amount = high if grows else (low + high) / 2
            share = _logit(self._share(name, at, sign * amount, place))
            if abs(share - wanted) < NEAR:
                return sign * amount
            if share < wanted:
                low, high = amount, 2 * high if grows else high
            else:
                high, grows = amount, False
        return None

    def _share(self, name: str, at: slice, amount: float, place: int) -> float:
        """What a state keeps of itself with so much added to a bias."""
        model = copied(self.patient.model)
        with torch.no_grad():
            vector = model.get_parameter(name)
            (vector if vector.dim() == 0 else vector[at]).add_(amount)
        traced = self._traced(model)
        if traced is None:
            return math.nan
        return float(kept_directly(trained_states(traced.loop))[place].mean())

    # -- a skip around the cell ----------------------------------------------------------------------------------

    def _skip(self, traced: _Traced) -> Remedy:
        alpha, need = round(1 - 1 / max(self.patient.need, 2), 6), self.patient.need
        text = f"a skip around the cell: it keeps {alpha:g} of its state, for a time constant of {need} steps"
        link = self.patient.observation.links.get(self.name)
        if not self.name or traced.call is None or link is None or not link.inputs:
            return Remedy("skip", text, "", changes_steps=True, refusal=NO_MODULE)
        args, returned = traced.call[:-1], traced.call[-1]
        old = [_old(args, place) for place in link.inputs]
        new = _new(returned, dict(zip(link.outputs, old, strict=True)), alpha)
        path = read(self.name)
        if new is None:
            why = f"{path} returns its states in a {type(returned).__name__} whose parts cannot be exchanged"
            return Remedy("skip", text, "", changes_steps=True, refusal=why)
        code = (
            f"class Leaky(type({path})):\n"
            "    def forward(self, *given, **named):\n"
            "        new = super().forward(*given, **named)\n"
            f"        return {new}\n"
            f"{path}.__class__ = Leaky"
        )
        return Remedy("skip", text, code, changes_steps=True)


def _logit(share: float) -> float:
    if not math.isfinite(share):
        return share
    return math.inf if share >= 1 else -math.inf if share <= 0 else math.log(share / (1 - share))


def _kept(states: Sequence[Sequence[Tensor]], place: int, steps: int = 4, draws: int = 4) -> Tensor | None:
    """What a state keeps of itself in the mean, as `kept_directly` estimates it, with its graph."""
    generator, found = torch.Generator().manual_seed(0), list[Tensor]()
    for t in sorted({1 + (len(states) - 2) * number // max(steps - 1, 1) for number in range(steps)}):
        now, before = states[t][place], states[t - 1][place]
        if not now.requires_grad or not before.requires_grad:
            continue
        for _ in range(draws):
            signs = random_like(now, generator).sign()
            (pulled,) = torch.autograd.grad(now, before, signs, create_graph=True, allow_unused=True)
            if pulled is not None and pulled.requires_grad:
                found.append((signs * pulled).mean())
    return torch.stack(found).mean() if found else None


def _old(given: tuple[Any, Any], place: int) -> str:
    """Write the state among what a module is called with."""
    path = pytree.tree_flatten_with_path(given)[0][place][0]
    which = "given" if pytree.keystr(path[:1]) == "[0]" else "named"
    return which + pytree.keystr(path[1:])


def _new(returned: Any, old: dict[int, str], alpha: float) -> str | None:
    """Write what the module returns instead; `old` are the states before, by their place among its leaves."""

    def mixed(place: int, new: str) -> str:
        return f"{alpha:g} * {old[place]} + {1 - alpha:.6g} * {new}"

    if isinstance(returned, Tensor):
        return mixed(0, "new")
    if type(returned) in (tuple, list) and len(leaves_of(returned)) == len(returned):
        inner = [mixed(i, f"new[{i}]") if i in old else f"new[{i}]" for i in range(len(returned))]
        return f"({', '.join(inner)},)" if isinstance(returned, tuple) else f"[{', '.join(inner)}]"
    if type(returned) is dict and len(leaves_of(returned)) == len(returned):
        keys = [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path(returned)[0]]
        inner = [f"{keys[place][1:-1]}: {mixed(place, f'new{keys[place]}')}" for place in old]
        return f"{{**new, {', '.join(inner)}}}"
    return None
