"""A plan runs every statement once, none before what it reads, as much as can be out of time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given

from tests.support.strategies import cells as random_cells
from unvanish import Cell, cells
from unvanish.engine import Plan, make_plan
from unvanish.engine.ir.plan import Group
from unvanish.equations.backends import unsupported_by_native
from unvanish.equations.expression import Phase, walk
from unvanish.equations.system import Elementwise, Product, Statement, System, reads


def flat(parts: tuple[Group | Statement, ...]) -> Iterator[Statement]:
    for part in parts:
        yield from part.products if isinstance(part, Group) else (part,)


def in_order(plan: Plan) -> list[Statement]:
    stepped = [s for stage in plan.stages for s in flat((*stage.groups, *stage.statements))]
    return [*plan.once, *flat(plan.hoisted), *stepped]


def reads_time(statement: Statement) -> bool:
    return isinstance(statement, Elementwise) and any(isinstance(n, Phase) for n in walk(statement.expression))


def depends_on_a_step(statement: Statement, stepped: set[str]) -> bool:
    return reads_time(statement) or any(ref.is_past or ref.name in stepped for ref in reads(statement))


def check(system: System) -> None:
    plan = make_plan(system)
    ran = in_order(plan)
    assert sorted(map(str, ran)) == sorted(map(str, system.statements))  # none lost, none twice
    known = {parameter.name for parameter in system.parameters} | set(system.numbers)
    for index, statement in enumerate(ran):
        if index == len(plan.once):
            known.add("x")
        present = {ref.name for ref in reads(statement) if not ref.is_past}
        assert present <= known, f"{statement} runs before what it reads"
        known.add(statement.target.name)
    stepped: set[str] = set()
    states = {state.name for state in system.states}
    for statement in system.statements:
        if statement.target.name in states or depends_on_a_step(statement, stepped):
            stepped.add(statement.target.name)
    assert bool(plan.stages) == (unsupported_by_native(system) is None)
    in_stages = {s.target.name for stage in plan.stages for s in flat((*stage.groups, *stage.statements))}
    assert in_stages == stepped  # all that is not a state and depends on no step is out of time
    for parts in (plan.hoisted, *(stage.groups for stage in plan.stages)):
        groups = [part for part in parts if isinstance(part, Group)]
        assert len({group.operand for group in groups}) == len(groups)
        assert all(product.operand == group.operand for group in groups for product in group.products)
    for stage in plan.stages[1:]:
        assert stage.groups  # a further stage is there only because a product had to wait


@pytest.mark.parametrize("name", sorted(cells))
def test_catalogue(name: str) -> None:
    for bias in (True, False):
        check(cells[name].system(bias=bias))


def test_what_reads_the_time_runs_at_every_step() -> None:
    text = "g = where(t % 2 == 0, p, W @ x[t])\na = sigmoid(g)\nh[t] = a + U @ h[t-1]"
    check(Cell("timed", text).system())


@given(random_cells(tame=False))
def test_random_cells(cell: Cell) -> None:
    check(cell.system())


@pytest.mark.parametrize(
    ("name", "stages"),
    [("rnn", 1), ("lstm", 1), ("peephole_lstm", 1), ("gru_reset_before", 2), ("gru", 1), ("simple_gru", 1)],
)
def test_recurrent_products_need_as_few_stages_as_can_be(name: str, stages: int) -> None:
    plan = make_plan(cells[name].system())
    assert sum(1 for stage in plan.stages if stage.groups) == stages
    assert sum(1 for part in plan.hoisted if isinstance(part, Group)) == 1


def test_a_statement_that_waits_for_no_product_runs_before_the_first() -> None:
    text = "a = sigmoid(p * h[t-1])\nh[t] = tanh(W @ x[t] + U @ a + V @ (U @ a))"
    plan = make_plan(Cell("waiting", text).system())
    assert [[p.matrix for g in stage.groups for p in g.products] for stage in plan.stages] == [[], ["U"], ["V"]]


def test_what_depends_on_parameters_alone_is_worked_out_once() -> None:
    plan = make_plan(Cell("once", "a = V @ sigmoid(p)\nh[t] = tanh(W @ x[t] + a * h[t-1])").system())
    assert [type(statement) for statement in plan.once] == [Elementwise, Product, Elementwise]
    assert plan.describe() == "1 input product hoisted out of time as 1; 0 recurrent products a step in 0 stages"
