"""What is known without SymPy is what SymPy finds, and it is enough for the whole catalogue.

Where a cell is new or another:  make golden, and read what git diff shows.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from unvanish import Cell, cells
from unvanish.engine import make_plan
from unvanish.engine.ir.lower import lower
from unvanish.equations import derived, symbolic
from unvanish.equations.calculus import partials
from unvanish.equations.expression import Expr
from unvanish.equations.parse import parse
from unvanish.equations.system import Elementwise

WHOLE_CATALOGUE = """
import sys, torch, unvanish
for name in unvanish.cells:
    layer = unvanish.Recurrent(unvanish.cells[name], 3, 4, engine=sys.argv[1])
    layer(torch.randn(5, 2, 3))[0].sum().backward()
    assert "sympy" not in sys.modules, name
"""


def differentiated() -> list[Expr]:
    """Every expression of the catalogue that the engine, or who reads a cell, differentiates."""
    found: dict[Expr, None] = {}
    for name in cells:
        system = cells[name].system()
        kernels = [lower(make_plan(system), fold) for fold in (True, False)]
        lines = [
            *system.statements,
            *(s for kernel in kernels for phase in kernel.phases for s in phase.statements),
        ]
        found |= dict.fromkeys(line.expression for line in lines if isinstance(line, Elementwise))
    return list(found)


def test_what_is_kept_is_what_sympy_finds() -> None:
    kept = resources.files("unvanish.equations").joinpath(derived.FILE).read_text(encoding="utf-8")
    assert kept == derived.written(differentiated()), "derivatives are others; where that is meant: make golden"


def test_each_expression_has_the_derivatives_of_sympy_by_its_own_names() -> None:
    for expression in differentiated():
        assert derived.gradient(expression) == symbolic.gradient(expression)


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_no_cell_of_the_catalogue_waits_for_sympy(engine: str) -> None:
    subprocess.run([sys.executable, "-c", WHOLE_CATALOGUE, engine], check=True, timeout=600)


def test_another_expression_is_differentiated_by_sympy(monkeypatch: pytest.MonkeyPatch) -> None:
    expression = parse("h[t] = a * a * sin(b) * cos(a)")[0].expression
    asked: list[Expr] = []
    found = symbolic.gradient(expression)
    monkeypatch.setattr(symbolic, "gradient", lambda given: asked.append(given) or found)
    assert derived.gradient(expression) == found
    assert asked == [expression]


def test_a_name_that_stands_twice_is_not_taken_for_two() -> None:
    once, twice = (parse(f"h[t] = {text}")[0].expression for text in ("a * b", "a * a"))
    assert derived.gradient(once) != derived.gradient(twice)
    assert derived.gradient(twice) == symbolic.gradient(twice)


def test_a_cell_that_is_not_in_the_catalogue_has_its_derivatives() -> None:
    own = Cell("own", "h[t] = tanh(W @ x[t] + U @ h[t-1]) * exp(-a * a)\n")
    lines = [line for line in own.system().statements if isinstance(line, Elementwise)]
    assert all(partials(line) for line in lines)


def test_the_file_is_read_as_it_is_written() -> None:
    text = resources.files("unvanish.equations").joinpath(derived.FILE).read_text(encoding="utf-8")
    assert len(json.loads(text)) == len(text.splitlines()) - 2


if __name__ == "__main__":
    place = Path(derived.__file__).with_name(derived.FILE)
    place.write_text(derived.written(differentiated()), encoding="utf-8")
