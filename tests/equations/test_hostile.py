"""The text of a cell may come from a stranger: nothing in it is executed, and all that can come of it is a cell
or a CellError, whatever its size and depth."""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.strategies import cells as random_cells
from tests.support.whole import whole_only
from unvanish import Cell, Recurrent, cells
from unvanish.equations.calculus import linearise
from unvanish.errors import CellError, OptionError

CODE = [
    "h[t] = __import__('os').system('touch {0}')",
    "__import__('os').system('touch {0}')",
    "import os; os.system('touch {0}')",
    "h[t] = open('{0}', 'w')",
    "h[t] = W @ x[t] + (lambda: open('{0}', 'w'))()",
    "h[t] = W @ x[t] + [open(p, 'w') for p in ['{0}']][0]",
    "h[t] = f\"{{open('{0}', 'w')}}\"",
    "h[open('{0}', 'w')] = x[t]",
    "h[t] = W @ x[open('{0}', 'w')]",
    "h[t] = h[t-open('{0}', 'w')]",
    "h[t] = tanh(x[t], key=open('{0}', 'w'))",
    "h[t] = where(open('{0}', 'w') == 0, 1, 2)",
    "h[t] = x[t] ** open('{0}', 'w')",
    "@open('{0}', 'w')\nclass h: pass",
    "def f(a=open('{0}', 'w')): pass",
    "h[t]: open('{0}', 'w') = 1",
    "assert open('{0}', 'w')",
    "exec(\"open('{0}', 'w')\")",
]


def outcome(text: Any) -> Cell | CellError:
    try:
        return Cell("hostile", text)
    except CellError as error:
        return error


@pytest.mark.parametrize("code", CODE)
def test_nothing_is_executed(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("the text was executed")

    target = tmp_path / "touched"
    for room, name in ((os, "system"), (builtins, "eval"), (builtins, "exec")):
        monkeypatch.setattr(room, name, forbidden)
    assert isinstance(outcome(code.format(target)), CellError)
    assert not target.exists()


def doubled(text: str, op: str, times: int) -> str:
    """Nest an operation so that neither brackets nor calls are deep, yet the line is long."""
    for _ in range(times):
        text = f"({text}{op}{text})"
    return text


def chain(separator: str, length: int) -> str:
    """A cell of many lines, each of which is used."""
    return separator.join(
        ["a0 = W @ x[t]", *(f"a{i} = a{i - 1}" for i in range(1, length)), f"h[t] = a{length - 1}"]
    )


def test_the_chain_of_lines_is_a_cell_while_it_is_short() -> None:
    for separator in ("\n", ";"):
        assert isinstance(outcome(chain(separator, 300)), Cell)
    assert isinstance(outcome(f"h[t] = W @ x[t] + {doubled('h[t-1]', '+', 5)}"), Cell)


HUGE = {
    "lines": "a = x[t]\n" * 10_000,
    "carriage returns": "a = x[t]\r" * 1_000,
    "brackets": "h[t] = " + "(" * 10_000 + "x[t]" + ")" * 10_000,
    "calls": "h[t] = " + "tanh(" * 3_000 + "x[t]" + ")" * 3_000,
    "minuses": "h[t] = " + "-" * 10_000 + "x[t]",
    "minuses over lines": "h[t] = (" + ("-" * 25 + "\n") * 399 + "x[t])",
    "exponent": "h[t] = W @ x[t] + h[t-1] ** 1" + "0" * 4_000,
    "exponents": "h[t] = W @ x[t] + h[t-1]" + " ** 8" * 3_000,
    "exponents in exponents": "h[t] = W @ x[t] + " + "(" * 30 + "3 * h[t-1]" + ") ** 8" * 30,
    "additions": "h[t] = " + " + ".join(["x[t]"] * 2_500),
    "short additions": "h[t] = " + "+".join(["a"] * 4_000),
    "balanced additions": f"h[t] = W @ x[t] + {doubled('h[t-1]', '+', 8)}",
    "balanced products": f"h[t] = W @ x[t] + {doubled('h[t-1]', '*', 8)}",
    "equations": chain("\n", 420),
    "equations in one line": chain(";", 420),
    "integer": "h[t] = W @ x[t] + " + "9" * 15_000,
    "hexadecimal": "h[t] = W @ x[t] + 0x" + "f" * 15_000,
    "delay": "h[t] = W @ x[t] + h[t-" + "9" * 4_000 + "]",
    "attributes": "h[t] = x" + ".a" * 9_000,
    "indices": "h[t] = x" + "[t]" * 6_000,
    "nots": "h[t] = " + "not " * 4_000 + "x",
    "targets": "h = " * 4_900 + "1",
    "name": "h[t] = W @ x[t] + " + "p" * 19_990,
    "statements": "a=1;" * 4_999,
    "strings": "h[t] = " + "'a'" * 6_000,
    "null": "h[t] = W @ x[t]\0",
    "surrogate": "h[t] = \ud800",
    "open": "h[t] = ((((",
    "open string": 'h[t] = """',
    "continued": "h[t] = \\",
}


@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE)
def test_what_is_too_large_or_too_deep_is_refused(text: str) -> None:
    assert isinstance(outcome(text), CellError)


WORDS = """
    h c x W U b p t tanh sigmoid softmax where minimum layernorm t-1 [t] [t-1] [t-d] h[t] h[t-1] x[t] c[t-1]
    ( ) [ ] , @ * + - / ** % == < = := 0 1 2 1e9 0.5 -1 a.b lambda import not if else : ; # ' \\ é
"""
TOKENS = st.sampled_from([*WORDS.split(), "\n", "\t", " ", "\nh[t] = ", "W @ x[t]", "U @ h[t-1]"])


@given(st.text() | st.lists(TOKENS, max_size=40).map(" ".join) | st.lists(TOKENS, max_size=40).map("".join))
@settings(max_examples=400)
def test_any_text_gives_a_cell_or_a_cell_error(text: str) -> None:
    outcome(text)
    outcome(f"h[t] = tanh(W @ x[t] + U @ h[t-1] + {text})")


@given(st.sampled_from(sorted(cells)), st.data())
@settings(max_examples=150)
def test_a_catalogue_text_with_a_mistake_gives_a_cell_or_a_cell_error(name: str, data: st.DataObject) -> None:
    cell = cells[name]
    text = cell.equations
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 6)))
        text = text[:start] + data.draw(TOKENS | st.characters()) + text[end:]
    try:
        found = Cell.from_dict({**cell.to_dict(), "equations": text})
    except CellError:
        return
    assert usable(found)


def usable(cell: Cell) -> bool:
    """Put an accepted cell through all that the package does with one before it runs."""
    assert Cell.from_dict(cell.to_dict()).to_dict() == cell.to_dict()
    assert len(cell.latex) == len(cell.lines)
    for make in (lambda: cell.system(bias=False), lambda: cell.system(projection=True), cell.system):
        try:
            linearise(make())
        except (CellError, OptionError):
            continue
    return True


@given(random_cells(tame=False))
def test_what_is_accepted_can_be_used(cell: Cell) -> None:
    assert usable(cell)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("numbers", 5),
        ("numbers", {"alpha": {"low": 0.1, "hihg": 0.9}}),
        ("numbers", {"alpha": {"low": "0", "high": "1"}}),
        ("numbers", {"alpha": {"values": 3}}),
        ("numbers", {"alpha": None}),
        ("delays", ["d"]),
        ("delays", {"d": "2"}),
        ("functions", {"f": ["tanh"]}),
        ("scalars", 3),
        ("widths", {"h": None}),
        ("initial", 3),
        ("output", None),
        ("name", None),
        ("equations", None),
        ("colour", "red"),
    ],
)
def test_plain_data_that_is_no_cell_is_refused(name: str, value: Any) -> None:
    plain = {**cells["leaky_rnn"].to_dict(), name: value}
    with pytest.raises(CellError):
        Cell.from_dict(plain)


@whole_only
def test_a_cell_whose_value_doubles_with_every_line_is_never_multiplied_out() -> None:
    lines = [f"a{i} = tanh(a{i - 1} * sigmoid(a{i - 1}) + a{i - 1})" for i in range(1, 40)]
    cell = Cell("doubling", "\n".join(["a0 = W @ x[t] + U @ h[t-1]", *lines, "h[t] = a39"]))
    assert len(linearise(cell.system())) < 200
    assert Recurrent(cell, 2, 3)(torch.ones(2, 1, 2))[0].isfinite().all()
