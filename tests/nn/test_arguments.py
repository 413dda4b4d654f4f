"""An invalid argument is an OptionError, which says what is wrong and what to give instead."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from unvanish import Cell, Drawn, Grouped, Recurrent
from unvanish.errors import OptionError

MEMORY = Cell("memory", "m[t] = M @ x[t]\nh[t] = R @ m[t-1]", widths={"m": "memory"})
MADE_OF = [
    ({"input_size": 0}, "input_size is 0: give a whole number from 1 on"),
    ({"hidden_size": 0}, "hidden_size is 0: give a whole number"),
    ({"hidden_size": -3}, "hidden_size is -3: give a whole number"),
    ({"hidden_size": 3.0}, "hidden_size is 3.0: give a whole number"),
    ({"hidden_size": True}, "hidden_size is True: give a whole number"),
    ({"input_size": "3"}, "input_size is '3': give a whole number"),
    ({"num_layers": 0}, "num_layers is 0: give a whole number"),
    ({"num_layers": True}, "num_layers is True: give a whole number"),
    ({"dropout": 1.5}, "dropout is 1.5: give a probability"),
    ({"dropout": float("nan")}, "dropout is nan: give a probability"),
    ({"dropout": True}, "dropout is True: give a probability"),
    ({"dropout": "0.5"}, "dropout is '0.5': give a probability"),
    ({"proj_size": 4}, "proj_size is 4: give 0 for none, or less than hidden_size=4"),
    ({"proj_size": -1}, "proj_size is -1"),
    ({"proj_size": 2.0}, "proj_size is 2.0"),
    ({"engine": "refrence"}, "unknown engine 'refrence': did you mean 'reference'?"),
    ({"engine": None}, "unknown engine None"),
    ({"cell": "lstmm"}, "unknown cell 'lstmm': did you mean 'lstm'"),
    ({"cell": "GRU"}, "unknown cell 'GRU': did you mean 'gru'"),
    ({"cell": 5}, "5 is not a cell: give a Cell, or the name of one"),
    ({"nonlinearty": "tanh"}, "rnn takes no keyword 'nonlinearty': did you mean 'nonlinearity'?"),
    ({"nonlinearity": "tan"}, "nonlinearity='tan' is not a function of the language: did you mean 'tanh'"),
    ({"nonlinearity": "softmax"}, "nonlinearity='softmax' is not a function"),
    ({"cell": "delayed_rnn", "d": 0}, "the delay d is 0: give a whole number of steps"),
    ({"cell": "delayed_rnn", "d": 2.0}, "the delay d is 2.0: give a whole number of steps"),
    ({"cell": "delayed_rnn", "d": True}, "the delay d is True"),
    ({"cell": "leaky_rnn", "alpha": "much"}, "alpha='much' is not a number"),
    (
        {"cell": "leaky_rnn", "alpha": [0.5] * 9},
        "alpha has shape (9,): give one finite number, or one for each",
    ),
    (
        {"cell": "leaky_rnn", "alpha": (0.5, 0.99)},
        "alpha=(0.5, 0.99) may mean a range or two halves of the units: give Drawn(0.5, 0.99)",
    ),
    ({"cell": "leaky_rnn", "alpha": [0.5, 0.99]}, "or Grouped((0.5, 0.99)), or [0.5, 0.5, 0.99, 0.99]"),
    ({"cell": "leaky_rnn", "alpha": float("inf")}, "alpha has shape (): give one finite number"),
    ({"cell": "leaky_rnn", "alpha": Drawn(1.0, 0.0)}, "the fixed number alpha is Drawn(low=1.0, high=0.0"),
    ({"cell": "leaky_rnn", "alpha": Drawn(0.0, 1.0, "log")}, "the fixed number alpha is Drawn"),
    ({"cell": "clockwork_rnn", "period": Grouped(())}, "the fixed number period is Grouped(values=())"),
    (
        {"cell": Cell("memory", "m[t] = M @ x[t]\nh[t] = R @ m[t-1]", widths={"m": "memory"}), "memory_size": 0},
        "memory_size is 0",
    ),
    ({"cell": Cell("bare", "h[t] = 0.5 * h[t-1]")}, "bare has no parameters"),
]


@pytest.mark.parametrize(("given", "message"), MADE_OF, ids=[str(row[0])[:60] for row in MADE_OF])
def test_what_a_layer_cannot_be_made_of(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        Recurrent(**{"cell": "rnn", "input_size": 2, "hidden_size": 4, **given})
    assert message in str(caught.value)


Z = torch.zeros
RUN_ON = [
    ((Z(5, 3, 3),), {}, "the input is 3 wide, this layer was made for 2"),
    ((Z(5),), {}, "the input has 1 dimensions: give a tensor (T, B, 2), or (T, 2)"),
    ((Z(1, 5, 3, 2),), {}, "the input has 4 dimensions"),
    ((Z(0, 3, 2),), {}, "the input has no time steps"),
    ((Z(5, 3, 2, dtype=torch.float64),), {}, "the input is torch.float64 on cpu, the layer torch.float32"),
    ((Z(5, 3, 2, dtype=torch.int64),), {}, "bring them together with .to"),
    (([[1.0, 2.0]],), {}, "the input has type list: give a tensor"),
    ((Z(5, 3, 2).numpy(),), {}, "the input has type ndarray"),
    ((None,), {}, "the input has type NoneType"),
    ((Z(5, 3, 2), Z(1, 3, 4)), {}, "lstm has 2 states ('h', 'c'): give one tensor for each"),
    ((Z(5, 3, 2), (Z(1, 3, 4), None)), {}, "give one tensor for each, not ['Tensor', 'NoneType']"),
    ((Z(5, 3, 2), 5), {}, "give one tensor for each, not ['int']"),
    ((Z(5, 3, 2), (Z(1, 3, 4), Z(1, 3, 5))), {}, "the initial state c has shape (1, 3, 5), not (1, 3, 4)"),
    ((Z(5, 3, 2), (Z(2, 3, 4), Z(1, 3, 4))), {}, "the initial state h has shape (2, 3, 4), not (1, 3, 4)"),
    ((Z(5, 3, 2), (Z(3, 4), Z(3, 4))), {}, "the initial state h has shape (3, 4), not (1, 3, 4)"),
    ((Z(5, 2), (Z(1, 1, 4), Z(1, 1, 4))), {}, "the initial state h has shape (1, 1, 4), not (1, 4)"),
    ((Z(5, 2), (Z(()), Z(()))), {}, "the initial state h has shape (), not (1, 4)"),
    ((Z(5, 3, 2), (Z(1, 3, 4).double(), Z(1, 3, 4))), {}, "the initial state h is torch.float64 on cpu"),
    ((Z(5, 3, 2),), {"lengths": [1, 2]}, "give one whole number for each of the 3 rows"),
    ((Z(5, 3, 2),), {"lengths": 3}, "give one whole number for each of the 3 rows"),
    ((Z(5, 3, 2),), {"lengths": [1.0, 2.0, 3.0]}, "give one whole number for each of the 3 rows"),
    ((Z(5, 3, 2),), {"lengths": [True, True, False]}, "give one whole number for each of the 3 rows"),
    ((Z(5, 3, 2),), {"lengths": [1, 2, 6]}, "a length lies outside 0 to 5"),
    ((Z(5, 3, 2),), {"lengths": [1, -2, 3]}, "a length lies outside 0 to 5"),
    ((Z(5, 3, 2),), {"lengths": "123"}, "lengths='123' are not lengths"),
    ((Z(5, 3, 2),), {"lengths": [[1], [2, 3]]}, "are not lengths"),
]


@pytest.mark.parametrize(("given", "keywords", "message"), RUN_ON, ids=[row[2][:50] for row in RUN_ON])
@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_what_a_layer_cannot_run_on(
    given: tuple[Any, ...], keywords: dict[str, Any], message: str, engine: str
) -> None:
    with pytest.raises(OptionError) as caught:
        Recurrent("lstm", 2, 4, engine=engine)(*given, **keywords)
    assert message in str(caught.value)


def test_an_error_is_a_value_error_for_those_who_know_nothing_of_us() -> None:
    with pytest.raises(ValueError, match="hidden_size"):
        Recurrent("lstm", 2, 0)


def test_halves_of_the_units_have_two_spellings_and_a_pair_is_one_for_a_cell_of_groups() -> None:
    for halves in (Grouped((0.5, 0.99)), [0.5, 0.5, 0.99, 0.99]):
        assert Recurrent("leaky_rnn", 2, 8, alpha=halves).alpha_l0.tolist() == pytest.approx([0.5] * 4 + [0.99] * 4)
    assert Recurrent("clockwork_rnn", 2, 4, period=(1, 2)).period_l0.tolist() == [1, 1, 2, 2]
    assert Recurrent("leaky_rnn", 2, 2, alpha=(0.5, 0.99)).alpha_l0.tolist() == pytest.approx([0.5, 0.99])
