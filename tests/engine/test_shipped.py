"""Every cell equals the reference with the flags that users get. Most other tests compile quicker: see conftest."""

from __future__ import annotations

import itertools

import pytest
import torch

import unvanish
from tests.engine.test_thresholds import STREAMS
from tests.support.pairs import assert_agree
from unvanish import Cell
from unvanish.engine.native.build import compiler
from unvanish.engine.native.toolchain import FLAGS

pytestmark = pytest.mark.usefixtures("as_shipped")


def test_these_tests_have_the_compiler_and_the_flags_of_users() -> None:
    found = compiler()
    assert found is not None
    assert "quick" not in str(found)
    assert FLAGS[0] == "-O3"


@pytest.mark.parametrize("name", sorted(unvanish.cells))
def test_every_cell_equals_the_reference(name: str) -> None:
    for hidden, batch in itertools.product((7, 16, 33), (3, 17)):
        assert_agree(name, 5, hidden, batch, 9, torch.float32, from_states=True)


BEFORE_THE_LOOP = ["lstm", "gru_reset_before", "lem", *(Cell(name, STREAMS[name]) for name in ("both", "twice"))]


@pytest.mark.parametrize("cell", BEFORE_THE_LOOP, ids=lambda cell: cell if isinstance(cell, str) else cell.name)
def test_input_that_is_multiplied_before_the_loop_in_double_precision(cell: Cell | str) -> None:
    for hidden, steps in itertools.product((7, 33), (1, 9)):
        assert_agree(cell, 21, hidden, 3, steps, from_states=True)
