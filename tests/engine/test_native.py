"""The native back end gives what the reference gives, and is built safely.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings

import unvanish
from tests.support.pairs import assert_agree
from tests.support.strategies import cells
from tests.support.whole import KINDS, usual
from unvanish import Cell, Recurrent
from unvanish.engine.native.schedule import even
from unvanish.equations.backends import unsupported_by_native
from unvanish.errors import OptionError

NARROW, WIDE = 5, 21


assert_same = functools.partial(assert_agree, from_states=True)


# In single precision every cell is compared by test_shipped.
CASES = [(name, torch.float64) for name in sorted(unvanish.cells)]
CASES += [(name, torch.float32) for name in usual(KINDS, sorted(unvanish.cells))]
# Of all hidden widths, batches and steps each pair of two.
SIZES = [
    (h, b, (1, 2, 17)[(i + j) % 3]) for i, h in enumerate((1, 7, 16, 33, 100)) for j, b in enumerate((1, 3, 17))
]


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=lambda one: str(one).removeprefix("torch."))
def test_every_cell_equals_the_reference(name: str, dtype: torch.dtype) -> None:
    for hidden, batch, steps in usual(SIZES, itertools.product((1, 7, 16, 33, 100), (1, 3, 17), (1, 2, 17))):
        # A narrow input is multiplied inside the loop over time, a wide one before it.
        assert_same(name, NARROW if hidden % 3 else WIDE, hidden, batch, steps, dtype)


@pytest.mark.parametrize("name", usual((*KINDS, "lem"), sorted(unvanish.cells)))
def test_chunks_of_steps_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unvanish.engine.native.memory.CHUNK_BYTES", 1)
    monkeypatch.setattr("unvanish.engine.native.memory.CHUNK_HEIGHTS", 0)
    even.clear()  # what is computed once for a schedule
    try:
        assert_same(name, WIDE, 7, 3, 20, torch.float64)
        assert_same(name, NARROW, 7, 3, 20, torch.float64)
    finally:
        even.clear()


@given(cells(tame=True))
@settings(max_examples=6, phases=[Phase.generate], suppress_health_check=list(HealthCheck), deadline=None)
def test_random_cells_equal_the_reference(cell: Cell) -> None:
    try:
        system = Recurrent(cell, 5, 6).system
    except OptionError:
        return
    if unsupported_by_native(system) is None:
        assert_same(cell, NARROW, 19, 5, 4, torch.float64)
        assert_same(cell, WIDE, 19, 3, 4, torch.float64)  # too few rows to multiply inside the loop


def test_rows_of_no_steps_send_no_gradient() -> None:
    for width in (NARROW, WIDE):
        layer = Recurrent("rnn", width, 4, engine="native")
        output, final = layer(torch.randn(4, 2, width), lengths=[0, 0])
        (output.sum() + final.sum()).backward()
        assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())


def test_threads_do_not_change_the_numbers_beyond_rounding() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert_same("peephole_lstm", NARROW, 33, 7, 9, torch.float64)
    finally:
        torch.set_num_threads(before)


def test_what_a_pass_cannot_do_natively_runs_on_the_reference() -> None:
    layer = unvanish.LSTM(3, 4, engine="native")
    reference = unvanish.LSTM(3, 4, engine="reference")
    reference.load_state_dict(layer.state_dict())
    x_TBI = torch.randn(6, 2, 3)
    torch.testing.assert_close(layer(x_TBI, lengths=[2, 6])[0], reference(x_TBI, lengths=[2, 6])[0])
    assert unvanish.flow.profile(layer, x_TBI).norms[0] == pytest.approx(1)
    half = unvanish.LSTM(3, 4, engine="native", dtype=torch.bfloat16)
    assert half(x_TBI.bfloat16())[0].dtype is torch.bfloat16
    with pytest.raises(OptionError, match="nothing depends on an earlier step"):
        Recurrent(Cell("none", "h[t] = tanh(W @ x[t])"), 3, 4, engine="native")(x_TBI)


@pytest.mark.parametrize("function", ["layernorm", "softmax"])
def test_functions_of_whole_rows(function: str) -> None:
    for lines in (
        f"h[t] = {function}(U @ h[t-1] + W @ x[t])",
        f"h[t] = tanh(W @ {function}(x[t]) + {function}(U @ h[t-1]) * g + b)",
        f"c[t] = tanh(W @ x[t] + c[t-1])\nh[t] = tanh({function}(c[t-2] + p) + U @ h[t-1])",
    ):
        for hidden, batch, steps in ((1, 1, 1), (7, 3, 4), (33, 17, 5)):
            assert_same(Cell("rows", lines), NARROW, hidden, batch, steps, torch.float64)
            assert_same(Cell("rows", lines), WIDE, hidden, batch, steps, torch.float64)


def test_matrix_that_is_used_twice_and_products_of_different_widths() -> None:
    twice = Cell("twice", "a = tanh(U @ h[t-1] + W @ x[t])\nh[t] = tanh(U @ a + V @ h[t-2] + s * a)", scalars=["s"])
    wide = Cell(
        "wide",
        "m[t] = tanh(A @ h[t-1] + W_m @ x[t])\nh[t] = tanh(B @ m[t] + C @ h[t-1] + W @ x[t])",
        widths={"m": "memory"},
    )
    assert_same(twice, NARROW, 19, 5, 6, torch.float64)
    assert_same(wide, NARROW, 19, 5, 6, torch.float64, memory_size=9)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "default", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


LAYER = "import torch, unvanish; print(unvanish.RNN(2, 3, engine='native')(torch.ones(4, 1, 2))[0].shape)"


def test_no_compiler_says_what_to_install(tmp_path: Path) -> None:
    without = "import sys; sys.modules['ziglang'] = None; "
    done = run_python(without + LAYER, PATH=str(tmp_path), CXX="")
    assert "pip install 'unvanish[compiler]', or install g++" in done.stderr


def test_nothing_is_printed_where_the_kernel_is_there() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unvanish.LSTM(2, 3, engine="native")(torch.ones(4, 1, 2))
