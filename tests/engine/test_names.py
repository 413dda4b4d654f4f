"""What a user calls a line never meets what a kernel calls something."""

from __future__ import annotations

import keyword
import re

import pytest

import unvanish
from tests.support.pairs import assert_agree
from tests.support.whole import whole_only
from unvanish import Cell
from unvanish.engine import make_plan
from unvanish.engine.ir.lower import lower
from unvanish.engine.native import toolchain
from unvanish.engine.native.emit import emit
from unvanish.engine.native.places import Slot, Slots, identifier, variable
from unvanish.equations.expression import Ref
from unvanish.equations.parse import RESERVED

DECLARED = re.compile(r"(?:[*&]|\bV|\blong|\bint|\bint64_t) +(?:const +)?([A-Za-z][A-Za-z0-9_]*)")


def identifiers(*cells: str) -> list[str]:
    """Everything that the kernels' texts declare, folded and not, and that a line of a cell may be called."""
    found: set[str] = set()
    for plan in (make_plan(unvanish.cells[name].system()) for name in cells):
        for fold in (True, False):
            found |= {*DECLARED.findall(emit(lower(plan, fold), False, 64).text)}
        found -= {p.name for p in plan.system.parameters}
    return sorted(found - RESERVED - {"x", "h", *keyword.kwlist})


@whole_only
def test_lines_named_as_the_kernel_names_things_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        toolchain, "FLAGS", ("-O0", *toolchain.FLAGS[1:])
    )  # a hundred lines: nothing but names is looked at
    names = identifiers("leaky_rnn", "clockwork_rnn", "skip_rnn")
    assert {"carry_h", "at_h", "thread", "panel_0", "v_h"} <= set(names)
    lines = [f"{word} = sigmoid(W_{n} @ x[t] + p_{n} * h[t-1])" for n, word in enumerate(names)]
    read = [f"0.1 * {word} * tanh(q_{n} * h[t-1])" for n, word in enumerate(names)]
    sums = [f"sum{first} = {' + '.join(read[first : first + 20])}" for first in range(0, len(read), 20)]
    total = " + ".join(line.partition(" = ")[0] for line in sums)
    text = "\n".join([*lines, *sums, f"h[t] = tanh(0.5 * (U @ h[t-1]) + {total})"])
    assert_agree(Cell("named", text), 3, 4, 2, 4)


def test_a_line_named_as_a_delayed_state_is_not_that_state() -> None:
    text = "h_1_back = sigmoid(W @ x[t] + U @ h[t-1])\nh[t] = h_1_back * h[t-1] + tanh(V @ x[t]) + 0.1 * h[t-2]"
    assert_agree(Cell("delayed", text), 3, 4, 2, 6)


def test_one_number_at_two_widths_is_told_from_the_number_named_as_both() -> None:
    text = "m[t] = tanh(A @ x[t] + s * m[t-1] + s_mem)\nh[t] = tanh(U @ h[t-1] + s + B @ m[t])"
    assert_agree(Cell("two", text, scalars=("s",), widths={"m": "mem"}), 3, 4, 2, 6, mem_size=5)


def test_no_two_meanings_have_one_identifier() -> None:
    names = ["h", "h_1", "s", "s_mem", "U", "_U", "of_h", "vector_s", "2_s"]
    roles = [
        "state",
        "adjoint",
        "adjoint of",
        "came of",
        "vector",
        "vector 2",
        "adjoint vector",
        "w",
        "at",
        "back panel",
    ]
    meanings = [f"{role} {name}" for role in roles for name in names]
    assert len({identifier(meaning) for meaning in meanings}) == len(meanings)
    locals_ = [
        variable(role, Ref(name, delay)) for role in ("v", "a", "at", "to") for name in names for delay in (0, 1, 2)
    ]
    assert len(set(locals_)) == len(locals_)


def test_a_slot_of_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(AssertionError, match="stat"):
        Slots()(Slot("stat", "h"))  # type: ignore[arg-type]
