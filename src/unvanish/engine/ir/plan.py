"""System -> plan: what is computed once, what for all steps at once, and what step by step in which stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unvanish.engine.arrays import Program
from unvanish.engine.ir.opened import programs
from unvanish.engine.shared import shared
from unvanish.equations.expression import Phase, Ref, walk
from unvanish.equations.system import Elementwise, Product, Statement, System, reads


@dataclass(frozen=True, slots=True)
class Group:
    """Products of one operand: run as a single product with all gates side by side."""

    operand: Ref
    products: tuple[Product, ...]

    @property
    def matrices(self) -> tuple[str, ...]:
        """The names of the matrices, each once."""
        return tuple(product.matrix for product in self.products)


@dataclass(frozen=True, slots=True)
class Stage:
    """Recurrent products that can start together, and the statements that follow from them."""

    groups: tuple[Group, ...]
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True, eq=False)  # made once for each system, so that identity will do
class Plan:
    """How a system is run.

    `once` depends on parameters alone, `hoisted` on the input as well but on no state: it is worked out for
    all time steps at once. `stages` are run at every step, one after the other. `programs` compute the elementwise
    lines: made here, since torch before 2.8 cannot trace through how they are made.
    """

    system: System
    once: tuple[Statement, ...]
    hoisted: tuple[Group | Statement, ...]
    stages: tuple[Stage, ...]
    programs: Mapping[str, Program]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy a plan by its system."""
        return _plan_of, (self.system,)

    def describe(self) -> str:
        """Say in words what is hoisted and how many products a step needs.

        >>> from unvanish.cells import find
        >>> make_plan(find("gru_reset_before").system()).describe()
        '3 input products hoisted out of time as 1; 3 recurrent products a step in 2 stages'
        """
        groups = [group for group in self.hoisted if isinstance(group, Group)]
        hoisted = sum(len(group.products) for group in groups)
        stepped = [stage for stage in self.stages if stage.groups]
        products = sum(len(group.products) for stage in stepped for group in stage.groups)
        return (
            f"{hoisted} input product{'s' * (hoisted != 1)} hoisted out of time as {len(groups)}; "
            f"{products} recurrent product{'s' * (products != 1)} a step in {len(stepped)} "
            f"stage{'s' * (len(stepped) != 1)}"
        )


def _plan_of(system: System) -> Plan:
    return make_plan(system)


@shared(256)
def make_plan(system: System) -> Plan:
    """Sort the statements of a system by when they can be run."""
    params = {parameter.name for parameter in system.parameters} | set(system.numbers)
    once: list[Statement] = []
    hoisted: list[Statement] = []
    stepped: list[Statement] = []
    fixed, timeless = set(params), {*params, "x"}
    states = {state.name for state in system.states}
    for statement in system.statements:
        names = {ref.name for ref in reads(statement) if not ref.is_past}
        # A state is written step by step, whatever it is made of: the steps before the first have it too.
        stays = statement.target.name not in states and not _reads_time(statement)
        stays = stays and not any(ref.is_past for ref in reads(statement))
        if stays and names <= fixed:
            once.append(statement)
            fixed.add(statement.target.name)
            timeless.add(statement.target.name)
        elif stays and names <= timeless:
            hoisted.append(statement)
            timeless.add(statement.target.name)
        else:
            stepped.append(statement)
    return Plan(system, tuple(once), grouped(hoisted), stages_of(stepped), programs(system))


def _reads_time(statement: Statement) -> bool:
    return isinstance(statement, Elementwise) and any(
        isinstance(node, Phase) for node in walk(statement.expression)
    )


def grouped(statements: list[Statement]) -> tuple[Group | Statement, ...]:
    """Bring products of one operand together at the place of the first of them."""
    groups: dict[Ref, list[Product]] = {}
    for statement in statements:
        if isinstance(statement, Product):
            groups.setdefault(statement.operand, []).append(statement)
    found: list[Group | Statement] = []
    for statement in statements:
        if not isinstance(statement, Product):
            found.append(statement)
        elif groups[statement.operand][0] is statement:
            found.append(Group(statement.operand, tuple(groups[statement.operand])))
    return tuple(found)


def stages_of(statements: list[Statement]) -> tuple[Stage, ...]:
    """Sort statements into stages, by how many products of this step come before them."""
    level: dict[str, int] = {}
    placed: dict[int, list[Statement]] = {}
    for statement in statements:
        before = (level.get(ref.name, 0) for ref in reads(statement) if not ref.is_past)
        rank = max(before, default=0) + isinstance(statement, Product)
        level[statement.target.name] = rank
        placed.setdefault(rank, []).append(statement)
    stages = []
    for rank in sorted(placed):
        parts = grouped(placed[rank])
        groups = tuple(part for part in parts if isinstance(part, Group))
        stages.append(Stage(groups, tuple(part for part in parts if not isinstance(part, Group))))
    return tuple(stages)
