"""All steps of a pass side by side: what each step's Jacobian does, in one go, where all states are known.

No step waits for another: (∂s_{t+1}/∂s_t)ᵀ d_{t+1} of all t at once is as much work as a layer without recurrence.
All values of the equations are held constant; what is left to differentiate by are the parameters that stand in
the Jacobian itself, such as U in diag(φ′) U.

Shapes: T time, B batch, N all steps of all rows, J output and K input of a product, W width, D how many steps back
a state is read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from unvanish.engine.arrays import evaluate, rowwise
from unvanish.engine.hoist import Timeless
from unvanish.engine.layout import Weights
from unvanish.engine.native.lower import Kernel, KernelPhase, Pull, lower
from unvanish.engine.native.product import times_transposed
from unvanish.engine.plan import Group
from unvanish.engine.sequence import Run
from unvanish.engine.tape import Tape
from unvanish.equations.calculus import Scale, partials
from unvanish.equations.expression import Ref, refs
from unvanish.equations.system import Elementwise
from unvanish.errors import FlowError


class Steps:
    """The steps of a pass whose backward pass has come by.

    Raises:
        FlowError: none has, or batch normalisation joins the rows.
    """

    def __init__(self, tape: Tape) -> None:
        if tape.run is None or not tape.adjoints:
            raise FlowError("no gradient has come to the states: call loss.backward() first, with its loss")
        if tape.run.normalisers:
            raise FlowError("batch normalisation joins the rows of a batch: a step of one row has no Jacobian")
        self.tape, self.values = tape, _Values(tape, tape.run)

    @functools.cached_property
    def _walked(self) -> _Adjoints:
        return _Adjoints(self.tape, self.values)

    @functools.cached_property
    def came(self) -> dict[str, Tensor]:
        """What comes to each state from later steps: Σ_j (∂s_{t+j}/∂s_t)ᵀ d_{t+j}, by state, (T, B, W).

        j runs over how many steps back the states are read; where that is 1 there is one term. What crosses a reset
        is cut.
        """
        told = {name: self.tape.told.get(("came", Ref(name, 0))) for name in self.tape.states}
        found = {name: value for name, value in told.items() if value is not None}
        return found if len(found) == len(told) else self._walked.came

    def gradients(self, directions: Callable[[str], Tensor]) -> dict[str, Tensor]:
        """Differentiate Σ_t ⟨v_t, came_t⟩ by the parameters that stand in the Jacobians, with all else constant.

        Args:
            directions: gives v, (T, B, W), of a state by its name.

        Returns:
            The gradients by the parameters' names in the equations; those that stand in no Jacobian are not there.
        """
        return _Gradients(self).of(directions)

    def adjoint(self, ref: Ref) -> Tensor | None:
        """The adjoint of a value of a step, at all steps; None where it is zero."""
        source = self.values.kernel.source(ref)
        for group in self.values.kernel.all_groups:
            beside = self.tape.told.get(("products", group.products[0].target))
            for number, product in enumerate(group.products if beside is not None else ()):
                if beside is not None and self.values.kernel.source(product.target) == source:
                    return beside.chunk(len(group.products), -1)[number]
        return self._walked.adjoints.get(ref)

    def adjoints(self, group: Group) -> Tensor | None:
        """The adjoints of all products of a group, side by side; None where one of them is zero."""
        kernel = self.values.kernel
        number = kernel.all_groups.index(group)
        first = kernel.all_groups[kernel.same_adjoint[number]].products[0].target
        told = self.tape.told.get(("products", first))
        if told is not None:
            return told
        found = [self.adjoint(product.target) for product in group.products]
        return torch.cat([one for one in found if one is not None], -1) if None not in found else None


class _Values:
    """The values of the equations at all steps: told, or worked out where they are asked for."""

    def __init__(self, tape: Tape, job: Run) -> None:
        self.tape, self.job = tape, job
        self.kernel: Kernel = lower(job.plan, fold=True)
        self.steps, self.batch = job.x_TBI.shape[:2]
        self.depth = {state.name: state.depth for state in job.plan.system.states}
        once = {statement.target.name for statement in job.plan.once}
        parameters = {parameter.name for parameter in job.plan.system.parameters}
        self.parameters, self.constants = parameters, parameters | once | {*job.numbers, *job.masks, "x"}
        self.maker = {ref: phase for phase in self.kernel.phases for ref in phase.made}
        self.timeless = Timeless(job)
        self.found = {Ref(name, 0): value for name, value in tape.states.items()}
        self.found |= {ref: value for (kind, ref), value in tape.told.items() if kind == "value"}

    def __getitem__(self, ref: Ref) -> Tensor:
        if ref not in self.found:
            if ref.is_past:
                self.found[ref] = self._past(ref)
            elif ref in self.maker:
                self._make(ref, self.maker[ref])
            else:
                self.found[ref] = self._given(ref)
        return self.found[ref]

    def _make(self, ref: Ref, phase: KernelPhase) -> None:
        for group in phase.groups:
            for product in group.products:
                if product.target == ref:
                    weight_JK = self.job.weights[product.matrix].detach().contiguous()
                    operand_NK = self[group.operand].flatten(0, 1).contiguous()
                    self.found[ref] = self.in_time(times_transposed(operand_NK, weight_JK))
                    return
        if phase.rowwise is not None and phase.rowwise.target == ref:
            self.found[ref] = rowwise(phase.rowwise.function, self[phase.rowwise.operand])
            return
        statement = next(statement for statement in phase.statements if statement.target == ref)
        value = evaluate(statement.expression, self.__getitem__, self.time, self.job.x_TBI)
        self.found[ref] = value if isinstance(value, Tensor) else self.job.x_TBI.new_tensor(value)

    def _given(self, ref: Ref) -> Tensor:
        if ref.name == "x":
            return self.job.x_TBI.detach()
        found = self.job.masks.get(ref.name)
        return self.timeless[ref.name].detach() if found is None else found

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

    def _past(self, ref: Ref) -> Tensor:
        """A state so many steps before, as each step reads it."""
        delay, depth = int(ref.delay or 0), self.depth[ref.name]
        initial = list(reversed(self.job.states[ref.name].detach().chunk(depth, -1)))[depth - delay :]
        return self.earlier(self.tape.states[ref.name], delay, torch.stack(initial))

    def earlier(self, values_TBW: Tensor, delay: int, initial_DBW: Tensor | None = None) -> Tensor:
        """What lies so many steps before, (T, B, W): zero before the first step, if not given, and past a reset."""
        if initial_DBW is None:
            initial_DBW = values_TBW.new_zeros(delay, *values_TBW.shape[1:])
        whole = torch.cat([initial_DBW, values_TBW])[: self.steps]
        reachable_TB1 = self.reachable(delay)
        return whole if reachable_TB1 is None else torch.where(reachable_TB1, whole, 0.0)

    def later(self, values_TBW: Tensor, delay: int) -> Tensor:
        """Bring what belongs to each step to the one so many before, the transpose of `earlier`."""
        reachable_TB1 = self.reachable(delay)
        values_TBW = values_TBW if reachable_TB1 is None else torch.where(reachable_TB1, values_TBW, 0.0)
        return torch.cat([values_TBW[delay:], torch.zeros_like(values_TBW[:delay])])

    def reachable(self, delay: int) -> Tensor | None:
        """Whether no reset lies between each step and the one so many before, (T, B, 1); None if there is none."""
        if self.job.reset_TB is None:
            return None
        pieces_TB = self.job.reset_TB.long().cumsum(0)
        before_TB = torch.cat([torch.zeros_like(pieces_TB[:1]).expand(delay, -1), pieces_TB])[: self.steps]
        return (pieces_TB == before_TB)[:, :, None]

    def factor(self, pull: Pull) -> Tensor | float:
        """∂target/∂operand."""
        return evaluate(pull.factor, self.__getitem__, self.time, self.job.x_TBI)

    def in_time(self, values_NW: Tensor) -> Tensor:
        """Bring what belongs to all steps of all rows into (T, B, W)."""
        return values_NW.view(self.steps, self.batch, values_NW.shape[1])

    def is_variable(self, ref: Ref) -> bool:
        """Whether a value follows from the states."""
        return ref.is_past or ref.name not in self.constants


class _Adjoints:
    """The adjoints of all values of all steps, and what comes to the states, by walking back through the phases."""

    def __init__(self, tape: Tape, values: _Values) -> None:
        self.values, self.weights = values, values.job.weights
        self.adjoints = {Ref(name, 0): adjoint for name, adjoint in tape.adjoints.items()}
        self.came = {name: torch.zeros_like(value) for name, value in tape.states.items()}
        kernel = values.kernel
        with torch.no_grad():
            for phase, pulls in zip(reversed(kernel.phases), reversed(kernel.pulls), strict=True):
                self._phase(phase, pulls)

    def _phase(self, phase: KernelPhase, pulls: tuple[Pull, ...]) -> None:
        for pull in pulls:
            if pull.target in self.adjoints and self.values.is_variable(pull.operand):
                self._add(pull.operand, self.values.factor(pull) * self.adjoints[pull.target])
        if phase.rowwise is not None and phase.rowwise.target in self.adjoints:
            operand = phase.rowwise.operand
            through = _through_row(
                phase.rowwise.function, self.values[operand], self.adjoints[phase.rowwise.target]
            )
            self._add(operand, through)
        for group in phase.groups:
            products = [product for product in group.products if product.target in self.adjoints]
            if products and self.values.is_variable(group.operand):
                beside_NJ = torch.cat([self.adjoints[p.target] for p in products], -1).flatten(0, 1)
                weight_KJ = self.weights.side_by_side(tuple(p.matrix for p in products)).detach().t().contiguous()
                through_NK = times_transposed(beside_NJ.contiguous(), weight_KJ)
                self._add(group.operand, self.values.in_time(through_NK))

    def _add(self, ref: Ref, adjoint: Tensor) -> None:
        if ref.is_past:
            self.came[ref.name] = self.came[ref.name] + self.values.later(adjoint, int(ref.delay or 0))
        else:
            before = self.adjoints.get(ref)
            self.adjoints[ref] = adjoint if before is None else before + adjoint


def _through_row(function: str, operand: Tensor, adjoint: Tensor) -> Tensor:
    """Back through a row-wise function."""
    with torch.enable_grad():
        leaf = operand.detach().requires_grad_()
        (found,) = torch.autograd.grad(rowwise(function, leaf), leaf, adjoint)
    return found


def _along_row(function: str, operand: Tensor, tangent: Tensor) -> Tensor:
    """Forward through a row-wise function, to first order."""
    found: Tensor = torch.func.jvp(lambda value: rowwise(function, value), (operand,), (tangent,))[1]
    return found


class _Gradients:
    """⟨v, Jᵀ d⟩ = ⟨J v, d⟩ differentiated by a matrix is (adjoint of its product) ⊗ (tangent of its operand).

    The tangent is that of a step which is moved by v; of a matrix that meets a past state it is v itself.
    """

    def __init__(self, steps: Steps) -> None:
        self.steps, self.values, self.kernel = steps, steps.values, steps.values.kernel
        self.weights = self.values.job.weights
        self.tangents: dict[Ref, Tensor | None] = {}

    @torch.no_grad()
    def of(self, directions: Callable[[str], Tensor]) -> dict[str, Tensor]:
        self.directions = functools.cache(directions)
        found: dict[str, Tensor] = {}
        for phase, pulls in zip(self.kernel.phases, self.kernel.pulls, strict=True):
            for group in phase.groups:
                self._of_group(group, found)
            for pull in pulls:
                self._of_factor(pull, found)
        return found

    def _of_group(self, group: Group, found: dict[str, Tensor]) -> None:
        beside, delay, tangent = self.steps.adjoints(group), 0, None
        if group.operand.is_past and self.values.reachable(1) is None:
            # What a step reads of an earlier one is met by its own adjoint: nothing has to be moved in memory.
            delay = min(int(group.operand.delay or 0), self.values.steps)
            tangent = self.directions(group.operand.name)[: self.values.steps - delay]
        elif self.values.is_variable(group.operand):
            tangent = self._tangent(group.operand)
        if tangent is None:
            return
        if beside is not None:
            whole = self._outer(beside, delay, tangent)
            parts = list(zip(group.products, whole.chunk(len(group.products)), strict=True))
        else:
            one_by_one = [(product, self.steps.adjoint(product.target)) for product in group.products]
            parts = [(p, self._outer(a, delay, tangent)) for p, a in one_by_one if a is not None]
        for product, part in parts:
            found[product.matrix] = found[product.matrix] + part if product.matrix in found else part

    def _outer(self, adjoint: Tensor, delay: int, tangent: Tensor) -> Tensor:
        return self.steps.tape.outer(adjoint[delay:].flatten(0, 1), tangent.flatten(0, 1))

    def _of_factor(self, pull: Pull, found: dict[str, Tensor]) -> None:
        """A vector that stands in a factor, such as a peephole: Σ adjoint · ∂factor/∂vector · tangent."""
        own = [ref for ref in refs(pull.factor) if ref.delay is None and ref.name in self.values.parameters]
        if not own or not self.values.is_variable(pull.operand):
            return
        tangent, adjoint = self._tangent(pull.operand), self.steps.adjoint(pull.target)
        if tangent is None or adjoint is None:
            return
        for term in partials(Elementwise(pull.target, pull.factor, "")):
            if isinstance(term, Scale) and term.operand in own:
                slope = evaluate(term.factor, self.values.__getitem__, self.values.time, self.values.job.x_TBI)
                name, vector = term.operand.name, self.weights[term.operand.name]
                part = (slope * adjoint * tangent).flatten(0, 1).sum(0)
                part = part.sum(0, keepdim=True) if vector.shape[0] == 1 else part
                found[name] = found[name] + part if name in found else part

    def _tangent(self, ref: Ref) -> Tensor | None:
        """How a value of each step moves where the states before it move along the directions; None: not at all."""
        if ref.is_past:
            return self.values.earlier(self.directions(ref.name), int(ref.delay or 0))
        if not self.values.is_variable(ref):
            return None
        if ref not in self.tangents:
            self.tangents[ref] = self._made_tangent(ref, self.values.maker[ref])
        return self.tangents[ref]

    def _made_tangent(self, ref: Ref, phase: KernelPhase) -> Tensor | None:
        for group in phase.groups:
            for product in group.products:
                if product.target == ref:
                    return self._through_matrix(product.matrix, self._tangent(group.operand))
        if phase.rowwise is not None and phase.rowwise.target == ref:
            moved = self._tangent(phase.rowwise.operand)
            operand = self.values[phase.rowwise.operand]
            return None if moved is None else _along_row(phase.rowwise.function, operand, moved)
        total: Tensor | None = None
        for pull in self.kernel.pulls[self.kernel.phases.index(phase)]:
            moved = self._tangent(pull.operand) if pull.target == ref else None
            if moved is not None:
                part = self.values.factor(pull) * moved
                total = part if total is None else total + part
        return total

    def _through_matrix(self, matrix: str, moved: Tensor | None) -> Tensor | None:
        if moved is None:
            return None
        weight_JK = self.weights[matrix].detach().contiguous()
        return self.values.in_time(times_transposed(moved.flatten(0, 1).contiguous(), weight_JK))


def put_together(gradients: Mapping[str, Tensor], weights: Weights) -> dict[str, Tensor]:
    """Bring gradients by the names of the equations into the shapes of the stored arrays."""
    found: dict[str, Tensor] = {}
    for name, gradient in gradients.items():
        stack, rows = weights.rows[name]
        if stack.name not in found:
            found[stack.name] = torch.zeros_like(weights.arrays[stack.name])
        found[stack.name][rows] += gradient
    return found
