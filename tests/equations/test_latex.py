"""Equations as LaTeX: as the paper has them, unambiguous, and readable by what makes the report's MathML."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from latex2mathml.converter import convert

from tests.support.strategies import cells as random_cells
from unvanish import Cell, cells


def test_the_lstm_reads_as_in_its_paper() -> None:
    assert cells["lstm"].latex == (
        r"i = \sigma\left(W_{i} x_{t} + b_{i} + U_{i} h_{t-1} + bh_{i}\right)",
        r"f = \sigma\left(W_{f} x_{t} + b_{f} + U_{f} h_{t-1} + bh_{f}\right)",
        r"g = \tanh\left(W_{g} x_{t} + b_{g} + U_{g} h_{t-1} + bh_{g}\right)",
        r"o = \sigma\left(W_{o} x_{t} + b_{o} + U_{o} h_{t-1} + bh_{o}\right)",
        r"c_{t} = f \odot c_{t-1} + i \odot g",
        r"h_{t} = o \odot \tanh\left(c_{t}\right)",
    )


def test_the_clockwork_network_shows_its_clock() -> None:
    assert cells["clockwork_rnn"].latex == (
        r"n = \tanh\left(W_{h} x_{t} + U_{h} h_{t-1} + b_{h}\right)",
        r"h_{t} = \begin{cases} n & \text{if } t \bmod period = 0 \\ h_{t-1} & \text{otherwise} \end{cases}",
    )


@pytest.mark.parametrize(
    ("right", "wanted"),
    [
        ("(a - (p + q)) * q", r"\left(a - \left(p + q\right)\right) \odot q"),
        ("a - p - q", r"a - p - q"),
        ("2 * a", r"2 \, a"),
        ("(a / p) ** 2 + a ** -1 + q", r"{\left(\frac{a}{p}\right)}^{2} + {a}^{-1} + q"),
        ("(-a) ** 2 * p + q", r"{\left(-a\right)}^{2} \odot p + q"),
        ("V @ (p * a) + q", r"V \left(p \odot a\right) + q"),
        ("-(a + p) + abs(q)", r"-\left(a + p\right) + \left|q\right|"),
        ("0.00001 * (a + p + q)", r"10^{-5} \, \left(a + p + q\right)"),
        ("1.5e-7 * (a + p + q)", r"1.5 \cdot 10^{-7} \, \left(a + p + q\right)"),
        ("0.123456789 * (a + p + q)", r"0.123456789 \, \left(a + p + q\right)"),
    ],
)
def test_brackets_stand_where_the_meaning_needs_them(right: str, wanted: str) -> None:
    cell = Cell("brackets", f"a = W @ x[t] + U @ h[t-1]\nh[t] = {right}")
    assert cell.latex[1] == rf"h_{{t}} = {wanted}"


def test_a_function_slot_shows_what_stands_in_it() -> None:
    assert r"\tanh" in cells["rnn"].latex[0]


@pytest.mark.parametrize("name", sorted(cells))
def test_every_line_of_the_catalogue_converts_to_mathml(name: str) -> None:
    for line in cells[name].latex:
        assert convert(line).startswith("<math")


@given(random_cells(tame=False))
@settings(max_examples=40)
def test_every_line_of_a_random_cell_converts_to_mathml(cell: Cell) -> None:
    for line in cell.latex:
        assert line.count("{") == line.count("}")
        assert convert(line).startswith("<math")


@pytest.mark.parametrize(
    "name", ["alpha", "Lambda_f", "h_1_2", "b_", "a__b", "hbar", "prime", "xhat_f_g", "a_bm", "W1"]
)
def test_every_name_converts_to_mathml(name: str) -> None:
    cell = Cell("named", f"{name}[t] = tanh(W @ x[t] + {name}[t-1])\nh[t] = {name}[t] + p")
    for line in cell.latex:
        assert line.count("{") == line.count("}")
        assert convert(line).startswith("<math")


def test_a_notebook_typesets_all_lines_of_a_cell_below_each_other() -> None:
    shown = cells["clockwork_rnn"]._repr_latex_()
    body = shown.removeprefix("$$\\begin{aligned}\n").removesuffix("\n\\end{aligned}$$")
    assert body.replace(" &= ", " = ").split(" \\\\\n") == [*cells["clockwork_rnn"].latex]
    assert body.count(" &= ") == 2, "where a line has another equals sign, it is not aligned there"
    assert convert(shown.strip("$")).startswith("<math")


@settings(max_examples=30)
@given(random_cells())
def test_a_cell_is_told_in_one_short_line(cell: Cell) -> None:
    assert cell.name in repr(cell)
    assert "\n" not in repr(cell)
    assert len(repr(cell)) < 120


def test_a_cell_tells_its_lines_states_and_what_it_learns() -> None:
    lstm = "W_i b_i U_i bh_i W_f b_f U_f bh_f W_g b_g U_g bh_g W_o b_o U_o bh_o"
    assert repr(cells["lstm"]) == f"Cell(lstm: 6 lines, states h, c; learns {lstm})"
    assert repr(cells["rnn"]) == "Cell(rnn: 1 line, state h; learns W_h b_h U_h bh_h)"
    misspelt = Cell("mgu", "f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)\nh[t] = f * h[t-1] + (1 - ff) * tanh(f)")
    assert repr(misspelt) == "Cell(mgu: 2 lines, state h; learns W_f U_f b_f ff)"
