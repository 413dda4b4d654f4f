"""Which parameters a cell has, and how wide they are, follows from its text."""

from __future__ import annotations

import pytest

from unvanish import Cell, Drawn, cells
from unvanish.equations.system import System
from unvanish.errors import CellError, OptionError


def parameters(system: System) -> dict[str, tuple[str, ...]]:
    """Name to role, rows and, for a matrix, columns."""
    return {p.name: (p.role, p.rows, *([p.columns] if p.columns else [])) for p in system.parameters}


EXAMPLES = {
    "a matrix on the input, one on a state, a bias": (
        "h[t] = tanh(W @ x[t] + U @ h[t-1] + b)",
        {},
        {
            "W": ("input", "hidden", "input"),
            "U": ("recurrent", "hidden", "hidden"),
            "b": ("bias", "hidden"),
        },
    ),
    "x[t] * g ties g to the input": (
        "h[t] = tanh(W @ (x[t] * g) + h[t-1])",
        {},
        {"W": ("input", "hidden", "input"), "g": ("vector", "input")},
    ),
    "a gate on the input is as wide as the input": (
        "g = sigmoid(V @ h[t-1] + b_g)\nh[t] = tanh(W @ (x[t] * g) + h[t-1])",
        {},
        {"V": ("recurrent", "input", "hidden"), "b_g": ("bias", "input"), "W": ("input", "hidden", "input")},
    ),
    "a carried input is as wide as the input": (
        "past[t] = x[t]\nh[t] = tanh(W @ x[t] + V @ past[t-1] + h[t-1])",
        {},
        {"W": ("input", "hidden", "input"), "V": ("input", "hidden", "input")},
    ),
    "a memory of a width of its own": (
        "m[t] = p * m[t-1] + M @ x[t]\nh[t] = tanh(R @ m[t] + U @ h[t-1])",
        {"widths": {"m": "memory"}},
        {
            "p": ("vector", "memory"),
            "M": ("input", "memory", "input"),
            "R": ("recurrent", "hidden", "memory"),
            "U": ("recurrent", "hidden", "hidden"),
        },
    ),
    "scalars and fixed numbers fit anywhere": (
        "h[t] = tanh(W @ (s * x[t]) + s * alpha * h[t-1])",
        {"scalars": ("s",), "numbers": {"alpha": 0.5}},
        {"W": ("input", "hidden", "input"), "s": ("scalar", "one")},
    ),
    "names tell biases from vectors": (
        "h[t] = tanh(W @ x[t] + b1 + bh_2 + beta + bh + b * h[t-1])",
        {},
        {
            "W": ("input", "hidden", "input"),
            "b1": ("bias", "hidden"),
            "bh_2": ("hidden_bias", "hidden"),
            "beta": ("vector", "hidden"),
            "bh": ("hidden_bias", "hidden"),
            "b": ("bias", "hidden"),
        },
    ),
    "the product of a product": (
        "h[t] = tanh(W @ x[t] + V @ (U @ h[t-1]))",
        {},
        {
            "W": ("input", "hidden", "input"),
            "V": ("recurrent", "hidden", "hidden"),
            "U": ("recurrent", "hidden", "hidden"),
        },
    ),
}


@pytest.mark.parametrize(("text", "declared", "wanted"), EXAMPLES.values(), ids=EXAMPLES)
def test_widths_are_inferred(text: str, declared: dict[str, object], wanted: dict[str, tuple[str, ...]]) -> None:
    assert parameters(Cell("example", text, **declared).system()) == wanted  # type: ignore[arg-type]


def test_the_seed_product_of_the_gru_is_hidden_wide_and_a_product_of_its_own() -> None:
    system = cells["gru_reset_before"].system()
    assert parameters(system)["U_n"] == ("recurrent", "hidden", "hidden")
    assert [s.name for s in system.states] == ["h"]


def test_a_product_is_made_once_however_often_it_stands_there() -> None:
    system = Cell("twice", "h[t] = tanh(W @ x[t] + U @ h[t-1]) * sigmoid(U @ h[t-1])").system()
    assert sum("U" in str(statement.target.name) for statement in system.statements) == 1


def test_the_output_comes_first_among_the_states_as_in_torch() -> None:
    assert [state.name for state in cells["lstm"].system().states] == ["h", "c"]


def test_one_number_a_unit_is_hidden_wide() -> None:
    with pytest.raises(CellError, match="alpha holds one number a unit"):
        Cell("leaking", "h[t] = W @ (alpha * x[t]) + h[t-1]", numbers={"alpha": Drawn(0, 1)})


class TestWithoutBiases:
    def test_every_bias_goes_and_nothing_else(self) -> None:
        for cell in cells.values():
            with_biases, without = parameters(cell.system()), parameters(cell.system(bias=False))
            kept = {name: one for name, one in with_biases.items() if one[0] not in ("bias", "hidden_bias")}
            assert without == kept

    def test_a_matrix_and_a_scalar_whose_names_begin_with_b_stay(self) -> None:
        cell = Cell("b", "h[t] = tanh(b_in @ x[t] + b * h[t-1] + b_h - b_g)", scalars=("b",))
        assert parameters(cell.system(bias=False)) == {
            "b_in": ("input", "hidden", "input"),
            "b": ("scalar", "one"),
        }

    def test_a_product_of_nothing_but_a_bias_is_nothing(self) -> None:
        cell = Cell("b", "h[t] = tanh(W @ x[t] + V @ b_v + h[t-1])")
        assert set(parameters(cell.system(bias=False))) == {"W"}


class TestWithProjection:
    def test_products_of_the_output_read_the_projection(self) -> None:
        system = cells["lstm"].system(projection=True)
        assert parameters(system)["W_hr"] == ("recurrent", "projection", "hidden")
        assert parameters(system)["U_f"] == ("recurrent", "hidden", "projection")
        assert [(s.name, s.width) for s in system.states] == [("h_projected", "projection"), ("c", "hidden")]

    def test_what_reads_the_output_unit_by_unit_keeps_it(self) -> None:
        system = cells["gru_reset_before"].system(projection=True)
        assert [(s.name, s.width) for s in system.states] == [("h_projected", "projection"), ("h", "hidden")]
        assert parameters(system)["U_n"] == ("recurrent", "hidden", "hidden")

    def test_a_cell_whose_output_is_no_state_cannot_be_projected(self) -> None:
        cell = Cell("readout", "c[t] = tanh(W @ x[t] + U @ c[t-1])\nh[t] = V @ c[t]")
        with pytest.raises(OptionError, match="cannot be projected"):
            cell.system(projection=True)
