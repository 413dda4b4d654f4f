"""All steps of a pass side by side: what each step's Jacobian does, in one go, where all states are known.

No step waits for another: (∂s_{t+1}/∂s_t)ᵀ d_{t+1} of all t at once is as much work as a layer without recurrence.
All values of the equations are held constant; what is left to differentiate by are the parameters that stand in
the Jacobian itself, such as U in diag(φ′) U.

Shapes: T time, B batch, N all steps of all rows, J output and K input of a product, W width, D how many steps back
a state is read.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from unvanish.engine.arrays import evaluate, rowwise
from unvanish.engine.hoist import Timeless
from unvanish.engine.ir.lower import Kernel, KernelPhase, lower
from unvanish.engine.ir.plan import Group
from unvanish.engine.layout import Weights
from unvanish.engine.product import times_transposed
from unvanish.engine.sequence import Pass
from unvanish.engine.tape import Tape
from unvanish.equations.calculus import Scale, partials
from unvanish.equations.expression import Ref, refs
from unvanish.equations.system import Elementwise
from unvanish.errors import FlowError

Directions = Callable[[str, int, int], Tensor]


WINDOW_BYTES = 1 << 18  # of one value over a window of steps: what is worked out on the way stays in the caches


class Steps:
    """The steps of a pass whose backward pass has come by.

    Raises:
        FlowError: none has, or batch normalisation joins the rows.
    """

    def __init__(self, tape: Tape) -> None:
        if tape.job is None or not tape.adjoints:
            raise FlowError("no gradient has come to the states: call loss.backward() first, with its loss")
        if tape.job.normalisers:
            raise FlowError("batch normalisation joins the rows of a batch: a step of one row has no Jacobian")
        self.tape, self.whole = tape, _Pass(tape, tape.job)

    @functools.cached_property
    def _walked(self) -> _Adjoints:
        return _Adjoints(self.whole)

    @functools.cached_property
    def from_future(self) -> dict[str, Tensor]:
        """What comes to each state from later steps: Σ_j (∂s_{t+j}/∂s_t)ᵀ d_{t+j}, by state, (T, B, W).

        j runs over how many steps back the states are read; where that is 1 there is one term. What crosses a reset
        is cut.
        """
        kept = {name: self.tape.events.get(("from_future", Ref(name, 0))) for name in self.tape.states}
        found = {name: value for name, value in kept.items() if value is not None}
        return found if len(found) == len(kept) else self._walked.from_future

    def gradients(self, directions: Directions) -> dict[str, Tensor]:
        """Differentiate Σ_t ⟨v_t, came_t⟩ by the parameters that stand in the Jacobians, with all else constant.

        Args:
            directions: gives v of a state over some steps, (T', B, W): `directions(name, first, last)`.

        Returns:
            The gradients by the parameters' names in the equations; those that stand in no Jacobian are not there.
        """
        found: dict[str, Tensor] = {}
        whole = self.whole
        widest = max((value[0].nbytes for value in self.tape.states.values()), default=1)
        length = max(1, WINDOW_BYTES // max(widest, 1))
        with torch.no_grad():
            for first in range(0, whole.steps, length):
                window = _Window(whole, first, min(first + length, whole.steps))
                _Gradients(self, window, directions, found).add()
        return found

    def adjoint(self, ref: Ref) -> Tensor | None:
        """The adjoint of a value of a step, at all steps; None where it is zero."""
        kernel = self.whole.kernel
        source = kernel.source(ref)
        for group in kernel.all_groups:
            beside = self.tape.events.get(("products", group.products[0].target))
            for number, product in enumerate(group.products if beside is not None else ()):
                if beside is not None and kernel.source(product.target) == source:
                    return beside.chunk(len(group.products), -1)[number]
        return self._walked.adjoints.get(ref)

    def adjoints(self, group: Group) -> Tensor | None:
        """The adjoints of all products of a group, side by side; None where one of them is zero."""
        kernel = self.whole.kernel
        number = kernel.all_groups.index(group)
        first = kernel.all_groups[kernel.same_adjoint[number]].products[0].target
        kept = self.tape.events.get(("products", first))
        if kept is not None:
            return kept
        found = [self.adjoint(product.target) for product in group.products]
        return torch.cat([one for one in found if one is not None], -1) if None not in found else None


class _Pass:
    """What is the same for all windows of a pass."""

    def __init__(self, tape: Tape, job: Pass) -> None:
        self.tape, self.job = tape, job
        self.kernel: Kernel = lower(job.plan, fold=True)
        self.steps, self.batch = job.x_TBI.shape[:2]
        self.depth = {state.name: state.depth for state in job.plan.system.states}
        once = {statement.target.name for statement in job.plan.once}
        self.parameters = {parameter.name for parameter in job.plan.system.parameters}
        self.constants = self.parameters | once | {*job.numbers, *job.masks, "x"}
        self.row_masks = {mask.name for mask in job.plan.system.masks if mask.of == "row"}
        self.maker = {ref: phase for phase in self.kernel.phases for ref in phase.made}
        self.timeless = Timeless(job)
        self.over_time = {Ref(name, 0): value for name, value in tape.states.items()}
        self.over_time |= {ref: value for (kind, ref), value in tape.events.items() if kind == "value"}

    def is_variable(self, ref: Ref) -> bool:
        """Whether a value follows from the states."""
        return ref.is_past or ref.name not in self.constants

    @functools.cached_property
    def time(self) -> Tensor | None:
        """The index of each step, (T, B, 1); None where the equations do not read it."""
        if self.job.time_B1 is None:
            return None
        steps_T11 = torch.arange(self.steps, device=self.job.x_TBI.device)[:, None, None]
        if self.job.reset_TB is None:
            return self.job.time_B1 + steps_T11
        begin_TB1 = torch.where(self.job.reset_TB, steps_T11[:, :, 0], -1).cummax(0).values[:, :, None]
        return torch.where(begin_TB1 < 0, self.job.time_B1 + steps_T11, steps_T11 - begin_TB1)

    @functools.cached_property
    def pieces_TB(self) -> Tensor | None:
        """How many resets lie before each step, at it too; None if there are none."""
        return None if self.job.reset_TB is None else self.job.reset_TB.long().cumsum(0)

    def reachable(self, first: int, last: int, delay: int) -> Tensor | None:
        """Whether no reset lies between each of some steps and the one so many before, (T', B, 1)."""
        if self.pieces_TB is None:
            return None
        before_TB = torch.cat([torch.zeros_like(self.pieces_TB[:1]).expand(delay, -1), self.pieces_TB])
        return (self.pieces_TB[first:last] == before_TB[first:last])[:, :, None]


class _Window:
    """The values of the equations over some steps: kept, or computed where they are asked for."""

    def __init__(self, whole: _Pass, first: int, last: int) -> None:
        self.whole, self.first, self.last = whole, first, last
        self.found = {ref: value[first:last] for ref, value in whole.over_time.items()}
        self.time = None if whole.time is None else whole.time[first:last]
        self.like = whole.job.x_TBI

    def __getitem__(self, ref: Ref) -> Tensor:
        if ref not in self.found:
            if ref.is_past:
                self.found[ref] = self._past(ref)
            elif ref in self.whole.maker:
                self._make(ref, self.whole.maker[ref])
            else:
                self.found[ref] = self._given(ref)
        return self.found[ref]

    def _make(self, ref: Ref, phase: KernelPhase) -> None:
        for group in phase.groups:
            for product in group.products:
                if product.target == ref:
                    self.found[ref] = self.times(self[group.operand], product.matrix)
                    return
        if phase.rowwise is not None and phase.rowwise.target == ref:
            self.found[ref] = rowwise(phase.rowwise.function, self[phase.rowwise.operand])
            return
        statement = next(statement for statement in phase.statements if statement.target == ref)
        value = evaluate(statement.expression, self.__getitem__, self.time, self.like)
        self.found[ref] = value if isinstance(value, Tensor) else self.like.new_tensor(value)

    def times(self, values_TBW: Tensor, matrix: str) -> Tensor:
        """Multiply the values of all steps with a matrix."""
        weight_JK = self.whole.job.weights[matrix].detach().contiguous()
        return self.in_time(times_transposed(values_TBW.flatten(0, 1).contiguous(), weight_JK))

    def _given(self, ref: Ref) -> Tensor:
        if ref.name == "x":
            return self.whole.job.x_TBI.detach()[self.first : self.last]
        found = self.whole.job.masks.get(ref.name)
        if found is None:
            return self.whole.timeless[ref.name].detach()
        return found if ref.name in self.whole.row_masks else found[self.first : self.last]

    def _past(self, ref: Ref) -> Tensor:
        """A state so many steps before, as each step reads it."""
        delay, depth, states = int(ref.delay or 0), self.whole.depth[ref.name], self.whole.tape.states[ref.name]
        found = states[max(self.first - delay, 0) : max(self.last - delay, 0)]
        if self.first < delay:
            initial = list(reversed(self.whole.job.states[ref.name].detach().chunk(depth, -1)))[depth - delay :]
            found = torch.cat([torch.stack(initial)[self.first : self.last], found])
        return self._reached(found, delay)

    def earlier(self, directions: Callable[[int, int], Tensor], delay: int) -> Tensor:
        """What lies so many steps before: zero before the first step, and past a reset."""
        found = directions(max(self.first - delay, 0), max(self.last - delay, 0))
        if self.first < delay:
            missing = min(self.last, delay) - self.first
            found = torch.cat([found.new_zeros(missing, *found.shape[1:]), found])
        return self._reached(found, delay)

    def _reached(self, values: Tensor, delay: int) -> Tensor:
        reachable = self.whole.reachable(self.first, self.last, delay)
        return values if reachable is None else torch.where(reachable, values, 0.0)

    def factor(self, pull: Scale) -> Tensor | float:
        """∂target/∂operand."""
        return evaluate(pull.factor, self.__getitem__, self.time, self.like)

    def in_time(self, values_NW: Tensor) -> Tensor:
        """Bring what belongs to all steps of all rows into (T', B, W)."""
        return values_NW.view(self.last - self.first, self.whole.batch, values_NW.shape[1])


class _Adjoints:
    """The adjoints of all values of all steps, and what comes to the states, by walking back through the phases."""

    def __init__(self, whole: _Pass) -> None:
        self.whole, self.values = whole, _Window(whole, 0, whole.steps)
        self.adjoints = {Ref(name, 0): adjoint for name, adjoint in whole.tape.adjoints.items()}
        self.from_future = {name: torch.zeros_like(value) for name, value in whole.tape.states.items()}
        kernel = whole.kernel
        with torch.no_grad():
            for phase, pulls in zip(reversed(kernel.phases), reversed(kernel.pulls), strict=True):
                self._phase(phase, pulls)

    def _phase(self, phase: KernelPhase, pulls: tuple[Scale, ...]) -> None:
        for pull in pulls:
            if pull.target in self.adjoints and self.whole.is_variable(pull.operand):
                self._add(pull.operand, self.values.factor(pull) * self.adjoints[pull.target])
        if phase.rowwise is not None and phase.rowwise.target in self.adjoints:
            operand = phase.rowwise.operand
            adjoint = self.adjoints[phase.rowwise.target]
            self._add(operand, _through_row(phase.rowwise.function, self.values[operand], adjoint))
        for group in phase.groups:
            products = [product for product in group.products if product.target in self.adjoints]
            if products and self.whole.is_variable(group.operand):
                beside_NJ = torch.cat([self.adjoints[p.target] for p in products], -1).flatten(0, 1)
                weight_JK = self.whole.job.weights.side_by_side(tuple(p.matrix for p in products)).detach()
                through_NK = times_transposed(beside_NJ.contiguous(), weight_JK.t().contiguous())
                self._add(group.operand, self.values.in_time(through_NK))

    def _add(self, ref: Ref, adjoint: Tensor) -> None:
        if not ref.is_past:
            before = self.adjoints.get(ref)
            self.adjoints[ref] = adjoint if before is None else before + adjoint
            return
        delay = int(ref.delay or 0)
        reachable = self.whole.reachable(0, self.whole.steps, delay)
        adjoint = adjoint if reachable is None else torch.where(reachable, adjoint, 0.0)
        earlier = torch.cat([adjoint[delay:], torch.zeros_like(adjoint[:delay])])
        self.from_future[ref.name] = self.from_future[ref.name] + earlier


def _through_row(function: str, operand: Tensor, adjoint: Tensor) -> Tensor:
    """Back through a row-wise function."""
    with torch.enable_grad():
        leaf = operand.detach().requires_grad_()
        (found,) = torch.autograd.grad(rowwise(function, leaf), leaf, adjoint)
    return found


def _along_row(function: str, operand: Tensor, tangent: Tensor) -> Tensor:
    """Forward through a row-wise function, to first order."""
    with warnings.catch_warnings():  # torch loads its own derivatives through what it warns of
        warnings.simplefilter("ignore", DeprecationWarning)
        found: Tensor = torch.func.jvp(lambda value: rowwise(function, value), (operand,), (tangent,))[1]
    return found


@functools.lru_cache(maxsize=4096)
def _timeless(pull: Scale) -> tuple[Ref, ...]:
    """What a factor reads that belongs to no step."""
    return tuple(ref for ref in refs(pull.factor) if ref.delay is None)


class _Gradients:
    """⟨v, Jᵀ d⟩ = ⟨J v, d⟩ differentiated by a matrix is (adjoint of its product) ⊗ (tangent of its operand).

    The tangent is that of a step which is moved by v; of a matrix that meets a past state it is v itself.
    """

    def __init__(self, steps: Steps, values: _Window, directions: Directions, found: dict[str, Tensor]) -> None:
        self.steps, self.values, self.whole, self.directions = steps, values, steps.whole, directions
        self.kernel, self.found = steps.whole.kernel, found
        self.tangents: dict[Ref, Tensor | None] = {}

    def add(self) -> None:
        """Add what the steps of the window give."""
        for phase, pulls in zip(self.kernel.phases, self.kernel.pulls, strict=True):
            for group in phase.groups:
                tangent = self._tangent(group.operand)
                if tangent is not None:
                    self._of_group(group, tangent)
            for pull in pulls:
                self._of_factor(pull)

    def _of_group(self, group: Group, tangent: Tensor) -> None:
        beside = self.steps.adjoints(group)
        if beside is not None:
            whole = self._outer(beside, tangent)
            parts = list(zip(group.products, whole.chunk(len(group.products)), strict=True))
        else:
            one_by_one = [(product, self.steps.adjoint(product.target)) for product in group.products]
            parts = [(p, self._outer(adjoint, tangent)) for p, adjoint in one_by_one if adjoint is not None]
        for product, part in parts:
            self._add(product.matrix, part)

    def _outer(self, adjoint: Tensor, tangent: Tensor) -> Tensor:
        here = adjoint[self.values.first : self.values.last]
        return self.steps.tape.outer(here.flatten(0, 1), tangent.flatten(0, 1))

    def _add(self, name: str, part: Tensor) -> None:
        self.found[name] = self.found[name].add_(part) if name in self.found else part

    def _of_factor(self, pull: Scale) -> None:
        """A vector that stands in a factor, such as a peephole: Σ adjoint · ∂factor/∂vector · tangent."""
        own = [ref for ref in _timeless(pull) if ref.name in self.whole.parameters]
        tangent = self._tangent(pull.operand) if own else None
        adjoint = None if tangent is None else self.steps.adjoint(pull.target)
        if tangent is None or adjoint is None:
            return
        moved = adjoint[self.values.first : self.values.last] * tangent
        for term in partials(Elementwise(pull.target, pull.factor, "")):
            if isinstance(term, Scale) and term.operand in own:
                slope = evaluate(term.factor, self.values.__getitem__, self.values.time, self.values.like)
                part = (slope * moved).sum((0, 1))
                one = self.whole.job.weights[term.operand.name].shape[0] == 1
                self._add(term.operand.name, part.sum(0, keepdim=True) if one else part)

    def _tangent(self, ref: Ref) -> Tensor | None:
        """How a value of each step moves where the states before it move along the directions; None: not at all."""
        if ref not in self.tangents:
            self.tangents[ref] = self._made_tangent(ref)
        return self.tangents[ref]

    def _made_tangent(self, ref: Ref) -> Tensor | None:
        if ref.is_past:
            of_state = functools.partial(self.directions, ref.name)
            return self.values.earlier(of_state, int(ref.delay or 0))
        if not self.whole.is_variable(ref):
            return None
        phase = self.whole.maker[ref]
        for group in phase.groups:
            for product in group.products:
                if product.target == ref:
                    moved = self._tangent(group.operand)
                    return None if moved is None else self.values.times(moved, product.matrix)
        if phase.rowwise is not None and phase.rowwise.target == ref:
            moved = self._tangent(phase.rowwise.operand)
            operand = self.values[phase.rowwise.operand]
            return None if moved is None else _along_row(phase.rowwise.function, operand, moved)
        total: Tensor | None = None
        for pull in self.kernel.pulls[self.kernel.phases.index(phase)]:
            moved = self._tangent(pull.operand) if pull.target == ref else None
            if moved is not None:
                part = self.values.factor(pull) * moved
                total = part if total is None else total.add_(part)
        return total


def put_together(gradients: Mapping[str, Tensor], weights: Weights) -> dict[str, Tensor]:
    """Bring gradients by the names of the equations into the shapes of the stored arrays."""
    found: dict[str, Tensor] = {}
    for name, gradient in gradients.items():
        stack, rows = weights.rows[name]
        if stack.name not in found:
            found[stack.name] = torch.zeros_like(weights.arrays[stack.name])
        found[stack.name][rows] += gradient
    return found
