"""The derivatives taken line by line are those of automatic differentiation, backwards and forwards.

Shapes: B batch, I input, H hidden, D how many steps back a state is read.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from tests.support.strategies import cells as random_cells
from unvanish import Cell, cells
from unvanish.engine import Pass, Weights, layout, make_plan
from unvanish.engine.reference import Reference
from unvanish.equations.calculus import linearise
from unvanish.equations.expression import Ref
from unvanish.errors import CellError
from unvanish.nn.options import fixed_number

from .walker import Walker

BATCH, INPUT, HIDDEN = 3, 4, 5
# torch's forward mode compiles something of its own on its first use, in a way that torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
TIGHT = {"rtol": 1e-10, "atol": 1e-10}


@dataclass
class Step:
    """One step of a cell in double precision, as the reference back end runs it and as the walker does."""

    job: Pass
    walker: Walker
    names: dict[str, Ref]  # of states that the step makes, and of the output

    def leaves(self) -> dict[str, Tensor]:
        """All that the step is a function of: the input, the stored past, the stored parameters."""
        return {"x": self.job.x_TBI[0], **self.job.states, **self.job.weights.arrays}

    def function(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        weights = copy.copy(self.job.weights)
        weights.arrays = {name: leaves[name] for name in self.job.weights.arrays}
        states = {name: leaves[name] for name in self.job.states}
        job = replace(self.job, x_TBI=leaves["x"][None], states=states, weights=weights, wants_all_states=True)
        result = Reference().run(job)
        assert result.all_states is not None
        made = {name: values[0] for name, values in result.all_states.items()}
        return {**made, self.job.plan.system.output.name: result.output_TBW[0]}


def step_of(cell: Cell) -> Step:
    generator, system = torch.Generator().manual_seed(7), cell.system()
    sizes = {**dict.fromkeys(system.widths, HIDDEN), "input": INPUT, "memory": 2, "one": 1}

    def draw(*shape: int) -> Tensor:
        return 0.8 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    stacks = layout(system, sizes)
    weights = Weights(stacks, {stack.name: draw(*stack.shape) for stack in stacks})
    numbers = {name: fixed_number(cell, name, None, HIDDEN, None, torch.float64) for name in system.numbers}
    states = {s.name: draw(BATCH, sizes[s.width] * s.depth) for s in system.states}
    time_B1, x_1BI = torch.tensor([[0], [1], [4]]), draw(1, BATCH, INPUT)
    job = Pass(make_plan(system), weights, numbers, x_1BI, states, time_B1 if system.uses_time else None)
    known = {Ref("x", 0): x_1BI[0], **{Ref(name): number for name, number in numbers.items()}}
    known |= {Ref(p.name): weights[p.name] for p in system.parameters if p.columns is None}
    for state in system.states:
        blocks = states[state.name].chunk(state.depth, -1)
        known |= {Ref(state.name, back): block for back, block in enumerate(blocks, 1)}
    matrices = {p.name: weights[p.name] for p in system.parameters if p.columns is not None}
    names = {name: Ref(name, 0) for name in (*states, system.output.name)}
    return Step(job, Walker(system, known, matrices, time_B1), names)


def stored(step: Step, of_ref: Callable[[Ref], Tensor], of_matrix: Callable[[str], Tensor]) -> dict[str, Tensor]:
    """Arrange what belongs to names of the equations as the step stores them."""
    found = {"x": of_ref(Ref("x", 0))}
    for state in step.job.plan.system.states:
        found[state.name] = torch.cat([of_ref(Ref(state.name, back + 1)) for back in range(state.depth)], -1)
    for name in step.job.weights.arrays:
        rows = {p: rows for p, (stack, rows) in step.job.weights.rows.items() if stack.name == name}
        found[name] = torch.cat([of_matrix(p) if p in step.walker.matrices else of_ref(Ref(p)) for p in rows])
    return found


def check_backwards(cell: Cell) -> None:
    step = step_of(cell)
    leaves = {name: leaf.clone().requires_grad_() for name, leaf in step.leaves().items()}
    made = step.function(leaves)
    for name, ref in step.names.items():
        torch.testing.assert_close(step.walker.value[ref].expand_as(made[name]), made[name], **TIGHT)
    sent = {name: torch.randn_like(value) for name, value in made.items()}
    wanted = torch.autograd.grad(
        [value for value in made.values() if value.requires_grad],
        list(leaves.values()),
        [sent[name] for name, value in made.items() if value.requires_grad],
        allow_unused=True,
    )
    adjoint, of_matrix = step.walker.backwards({ref: sent[name] for name, ref in step.names.items()})
    zeros = step.walker.value
    found = stored(step, lambda ref: adjoint.get(ref, torch.zeros_like(zeros[ref])), of_matrix.__getitem__)
    for (name, leaf), gradient in zip(leaves.items(), wanted, strict=True):
        gradient = torch.zeros_like(leaf) if gradient is None else gradient
        torch.testing.assert_close(found[name], gradient, **TIGHT, msg=lambda text, at=name: f"{at}: {text}")


def check_forwards(cell: Cell) -> None:
    step = step_of(cell)
    leaves = step.leaves()
    tangents = {name: torch.randn_like(leaf) for name, leaf in leaves.items()}
    _, wanted = torch.func.jvp(step.function, (leaves,), (tangents,))
    of_ref, of_matrix = {Ref("x", 0): tangents["x"]}, {}
    for state in step.job.plan.system.states:
        blocks = tangents[state.name].chunk(state.depth, -1)
        of_ref |= {Ref(state.name, back): block for back, block in enumerate(blocks, 1)}
    for name, (stack, rows) in step.job.weights.rows.items():
        of_matrix[name] = of_ref[Ref(name)] = tangents[stack.name][rows]
    found = step.walker.forwards(of_ref, of_matrix)
    for name, ref in step.names.items():
        got = found.get(ref, torch.zeros(())).to(torch.float64).expand_as(wanted[name])
        torch.testing.assert_close(got, wanted[name], **TIGHT)


@pytest.mark.parametrize("check", [check_backwards, check_forwards])
@pytest.mark.parametrize("name", sorted(cells))
def test_catalogue(name: str, check: Callable[[Cell], None]) -> None:
    check(cells[name])


@given(random_cells())
def test_random_cells_backwards(cell: Cell) -> None:
    check_backwards(cell)


@given(random_cells())
@settings(max_examples=40)
def test_random_cells_forwards(cell: Cell) -> None:
    check_forwards(cell)


@pytest.mark.parametrize(
    "right",
    [
        "minimum(a, a)",
        "maximum(a, 2 * a - a)",
        "relu(a - a) + abs(a - a)",
        "where(a > 0, a, a ** 2)",
        "a / (3 - a ** 2)",
        "a ** -3 * a ** 3 + a",
        "softplus(-a) - 3 * sigmoid(-a)",
        "exp(-a ** 2) * sqrt(2 + a ** 2) / 7",
        "log(4 + a ** 2) * 1e-12 + 1e9 * a + 123456789.5 * a",
        "identity(sin(a)) * cos(2 * a) * 0.1",
        "-(-a) - -a",
    ],
)
def test_every_function_and_its_corners(right: str) -> None:
    cell = Cell("corner", f"a = W @ x[t] + U @ h[t-1]\nh[t] = {right}")
    check_backwards(cell)
    check_forwards(cell)


@pytest.mark.parametrize("right", ["h[t-1] / (p - p)", "h[t-1] * (1e30 * p) ** 8 * (1e30 * p) ** 8"])
def test_a_derivative_without_a_finite_value_is_refused(right: str) -> None:
    cell = Cell("infinite", f"h[t] = W @ x[t] + {right}")
    with pytest.raises(CellError, match="no finite value"):
        linearise(cell.system())
