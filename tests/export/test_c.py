"""Files of C99 give the numbers of the layers, step by step, as strict compilers take them.

Shapes: T time, I input, W width.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unvanish
from tests.export.compiled import COMPILER, STRICT, Library, compiled
from tests.export.together import layer_of, near
from tests.nn.layers import INPUT, each_cell
from unvanish import Cell, Recurrent
from unvanish.equations.words import ROWWISE, SPOKEN
from unvanish.errors import ExportError
from unvanish.export import to_c
from unvanish.export.c.text import FUNCTIONS

STEPS = 50


def agrees(model: Any, layer: Recurrent, x_TI: Tensor, folder: Path) -> None:
    """A layer alone, step by step, is the layer in torch."""
    with torch.no_grad():
        wanted_TW = layer.eval()(x_TI)[0]
    library = Library(model, folder)
    for _ in range(2):  # begun anew, it begins anew
        library.init()
        near(torch.stack([library.step(x_I, wanted_TW.shape[1]) for x_I in x_TI]), wanted_TW)


@compiled
@each_cell
def test_every_cell_is_the_layer_over_fifty_steps(name: str, tmp_path: Path) -> None:
    layer = layer_of(name, num_layers=2)
    agrees(layer, layer, torch.randn(STEPS, INPUT), tmp_path)


OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "no biases": ("lstm", {"bias": False}),
    "projection": ("lstm", {"proj_size": 3, "num_layers": 2}),
    "skips": ("gru", {"skips": (2, 7)}),
    "layer_norm": ("gru_reset_before", {"layer_norm": True}),
    "residual": ("rnn", {"num_layers": 3, "connect": "residual"}),
    "dense": ("mgu", {"num_layers": 3, "connect": "dense"}),
    "highway": ("rnn", {"num_layers": 3, "connect": "highway"}),
    "zoneout": ("lstm", {"zoneout": {"c": 0.5, "h": 0.1}}),
    "constrain": ("rnn", {"constrain": {"U_h": "antisymmetric:0.1"}}),
    "double": ("lstm", {"dtype": torch.float64}),
}


@compiled
@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_layers_are_in_the_file(name: str, tmp_path: Path) -> None:
    cell, options = OPTIONS[name]
    layer = Recurrent(cell, INPUT, 8, **options)
    agrees(layer, layer.float() if name == "double" else layer, torch.randn(STEPS, INPUT), tmp_path)


def test_every_function_of_the_language_has_a_form_in_c() -> None:
    assert {*SPOKEN, *ROWWISE} <= FUNCTIONS


@compiled
def test_every_function_of_the_language_is_in_the_file(tmp_path: Path) -> None:
    one = [name for name, arity in SPOKEN.items() if arity == 1]
    lines = [f"f_{name} = {name}({'abs(v) + 0.1' if name in ('log', 'sqrt') else 'v'})" for name in one]
    surrogates = [f"heaviside(v, {name}(4))" for name in ("sigmoid", "fast_sigmoid", "arctan", "triangle")]
    more = ["minimum(v, 0.5)", "maximum(v, -0.5)", "where(v < 0, v ** 2, v / 3)", "v ** 3", *surrogates]
    lines += [f"g_{number} = {text}" for number, text in enumerate(more)]
    sums = [f"f_{name}" for name in one] + [f"g_{number}" for number in range(len(more))]
    rows = ["softmax(v)", "layernorm(v)"]
    text = "\n".join(
        [
            "v = 3 * tanh(W @ x[t]) + 0.3 * tanh(h[t-1])",
            *lines,
            f"h[t] = 0.05 * ({' + '.join(sums)}) + {' + '.join(rows)}",
        ]
    )
    layer = Recurrent(Cell("all_words", text), INPUT, 5)
    agrees(layer, layer, torch.randn(STEPS, INPUT), tmp_path)


@compiled
def test_numbers_beyond_single_precision_and_scalars_are_written(tmp_path: Path) -> None:
    text = "alpha = sigmoid(a)\nh[t] = where(t % 3 == 1, alpha * h[t-1], tanh(W @ x[t] + k * g)) + 1e-50 * h[t-4]"
    layer = Recurrent(Cell("odd", text, scalars=("a",), numbers={"k": 0.5}), INPUT, 4)
    agrees(layer, layer, torch.randn(STEPS, INPUT), tmp_path)


@compiled
def test_symbols_go_through_an_embedding_and_a_head(tmp_path: Path) -> None:
    parts = SimpleNamespace(
        embedding=nn.Embedding(11, 6),
        recurrent=unvanish.GRU(6, 9),
        head=nn.Sequential(nn.Dropout(0.5), nn.Linear(9, 5), nn.Tanh(), nn.Linear(5, 3)),
    )
    codes_T = torch.randint(0, 11, (STEPS,))
    with torch.no_grad():
        wanted_TW = parts.head.eval()(parts.recurrent(parts.embedding(codes_T))[0])
    library = Library(parts, tmp_path)
    near(torch.stack([library.step(code, 3) for code in codes_T.tolist()]), wanted_TW)
    state = library.state.raw
    for code in (-1, 11):
        assert library.functions.net_step(library.state, code, None) == -1
    assert library.state.raw == state


@compiled
@pytest.mark.parametrize("ahead", [None, (2, 3)])
def test_a_step_is_timed(ahead: tuple[int, int] | None, tmp_path: Path) -> None:
    head = nn.Linear(4 if ahead is None else 10, 2)
    to_c(SimpleNamespace(recurrent=unvanish.LSTM(3, 4), head=head, ahead=ahead), tmp_path / "net.c", name="net")
    command = [str(COMPILER), *STRICT, "-DNET_MAIN", tmp_path / "net.c", "-o", tmp_path / "net", "-lm"]
    subprocess.run(command, check=True)
    found = subprocess.run([tmp_path / "net"], check=True, capture_output=True, text=True).stdout
    assert "ns per step" in found


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (unvanish.LSTM(3, 4, bidirectional=True), "two directions"),
        (nn.Linear(3, 4), "to_onnx"),
        (SimpleNamespace(recurrent=unvanish.LSTM(3, 4), head=lambda x: x), "code of Python"),
        (SimpleNamespace(recurrent=unvanish.LSTM(3, 4), head=nn.LayerNorm(4)), "LayerNorm"),
        (SimpleNamespace(recurrent=unvanish.LSTM(3, 4), head=nn.Linear(4, 1), ahead=(2, 3)), "reads 4 numbers"),
        (SimpleNamespace(recurrent=unvanish.LSTM(3, 4), head=nn.Linear(4, 1), ahead=7), "ahead is"),
        (SimpleNamespace(recurrent=unvanish.LSTM(3, 4), ahead=(2, 3)), "which a head reads"),
        (SimpleNamespace(recurrent=unvanish.LSTM(3, 4), head=nn.Linear(5, 4)), "reads 5 numbers and is given 4"),
        (SimpleNamespace(recurrent=unvanish.LSTM(3, 4), embedding=nn.Embedding(5, 2)), "read 3 numbers"),
        (SimpleNamespace(recurrent=unvanish.LSTM(3, 4), embedding=nn.Embedding(5, 3, max_norm=1.0)), "max_norm"),
        (SimpleNamespace(recurrent=unvanish.LSTM(3, 4), mark=2), "mark=2 is not a symbol"),
        (SimpleNamespace(recurrent=unvanish.LSTM(3, 4), embedding=nn.Embedding(5, 3), mark=5), "mark=5 is not"),
        (lambda x: x, "function"),
    ],
)
def test_what_c_cannot_have_is_refused_in_one_line(model: Any, why: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=why) as caught:
        to_c(model, tmp_path / "net.c")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_weight_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    layer = unvanish.LSTM(3, 4)
    with torch.no_grad():
        layer["U_f"][0, 0] = float("nan")
    with pytest.raises(ExportError, match="NaN"):
        to_c(layer, tmp_path / "net.c")


def test_a_name_that_is_none_in_c_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="not a name in C"):
        to_c(unvanish.LSTM(3, 4), tmp_path / "net.c", name="my net")
