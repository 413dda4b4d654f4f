"""What is exported of a run answers as the run itself does: as ONNX, as torch's file, and compiled from C.

Shapes: T time, B batch, F numbers of a step, H steps ahead, K columns known beforehand, O numbers of an answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from torch import Tensor

from tests.export.compiled import Library, compiled
from tests.export.together import near
from tests.support.runs import make_text, small, straight
from tests.support.whole import usual
from unvanish.cli import main
from unvanish.train import Loaded, TrainSettings, evaluate, load_run, predict, train
from unvanish.train.model import Inputs
from unvanish.train.predicting import own_units, read_like
from unvanish.train.questions.series import Borders, SeriesMaterial, Windows
from unvanish.train.writing import generate

HORIZON, STEPS, SERIES = 3, 70, 3
Run = Callable[..., tuple[Tensor, tuple[Tensor, ...]]]


def exported(run: Path, to: str, *options: str) -> tuple[Run, dict[str, Any]]:
    """A run written by the command, as a function of (input, states, what comes behind); and its description."""
    path = run / {"onnx": "model.onnx", "torch": "model.pt2"}[to]
    assert main(["export", str(run), "--to", to, *options]) == 0
    told = json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))
    if to == "torch":
        module = torch.export.load(path).module()
        return (lambda input, states, *more: module(input, states, *more)), told
    session = onnxruntime.InferenceSession(path)
    names = [one.name for one in session.get_inputs()]

    def run_onnx(input: Tensor, states: tuple[Tensor, ...], *more: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        arrays = [array.numpy() for array in (input, *states, *more)]
        output, *final = session.run(None, dict(zip(names, arrays, strict=True)))
        return torch.from_numpy(output), tuple(map(torch.from_numpy, final))

    return run_onnx, told


# -- what is known beforehand --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A forecast of series of several lengths, gaps in them, that knows two columns beforehand."""
    folder, rng, rows = tmp_path_factory.mktemp("known"), np.random.default_rng(4), []
    for series in range(SERIES):
        for step in range(STEPS - 20 * series):
            price, beside = rng.normal(2.0), rng.normal()
            y = price + np.sin(step / 4) + series + 0.1 * rng.normal()
            rows.append((f"s{series}", step, None if step % 17 == 5 else y, price, int(step % 7 == 0), beside))
    columns = ["unique_id", "ds", "y", "price", "open", "beside"]
    data = pl.DataFrame(rows, schema=columns, orient="row")
    data.write_csv(folder / "series.csv")
    last = pl.int_range(pl.len()).over("unique_id") >= pl.len().over("unique_id") - HORIZON
    data.with_columns(pl.when(last).then(None).otherwise(pl.col("y", "beside")).name.keep()).write_csv(
        folder / "ahead.csv"
    )
    settings = TrainSettings(
        source=str(folder / "series.csv"),
        known=["open", "price"],
        scale="standard",
        horizon=HORIZON,
        length=12,
        hidden=7,
        layers=2,
        epochs=1,
        device="cpu",
        probes=1,
    )
    train(settings, folder / "run", say=lambda _: None)
    return folder / "run"


def asked(run: Loaded, source: Path) -> tuple[Inputs, Any]:
    """What `predict` lets the network read, one row for each series."""
    data = read_like(run, source, labelled=True)
    origin_S = data.lengths_B - 1 - HORIZON
    borders = Borders(origin_S + 1, origin_S + 1, origin_S + 1)
    material = SeriesMaterial.whole(data, borders, run.settings, "", run.question)  # type: ignore[arg-type]
    return material.window(Windows(np.arange(SERIES), origin_S), every=False)


def same_forecast(run: Loaded, answer_BO: Tensor, y: Any, source: Path) -> None:
    """An answer, in the units of the data, is what `predict` says."""
    question: Any = run.question
    answer = answer_BO.view(SERIES, HORIZON, 1, -1)
    wanted = predict(run, source)
    for name, values in own_units(run, question, answer, y.centre_BG[:, None], y.scale_BG[:, None]).items():
        np.testing.assert_allclose(values.numpy().reshape(-1), wanted[name].to_numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_what_is_known_beforehand_is_an_input_of_whole_sequences(to: str, known_run: Path) -> None:
    loaded, source = load_run(known_run), known_run.parent / "ahead.csv"
    run, told = exported(known_run, to)
    assert told["answers"] == "the last step"
    # In the order of the table, not of the option.
    assert told["ahead"] == {"steps": HORIZON, "columns": ["price", "open"]}
    x, y = asked(loaded, source)
    assert x.ahead is not None
    ahead_BHK = x.ahead.view(SERIES, HORIZON, 2)
    zeros = loaded.model.recurrent.zero_states(SERIES)
    output_BO, final = run(x.numbers_TBF, zeros, ahead_BHK)
    near(output_BO, loaded.model(x)[0].detach().flatten(1))
    near(final, loaded.model(x)[1])
    same_forecast(loaded, output_BO, y, source)
    other, _ = run(x.numbers_TBF, zeros, ahead_BHK + 1)
    assert (other - output_BO).abs().max() > 1e-3


@pytest.mark.parametrize("to", usual(["onnx"], ["onnx", "torch"]))
def test_a_forecast_from_rows_of_several_lengths_takes_each_ones_last_step(to: str, known_run: Path) -> None:
    loaded = load_run(known_run)
    run, _ = exported(known_run, to, "--lengths")
    x, _ = asked(loaded, known_run.parent / "ahead.csv")
    assert x.ahead is not None
    lengths_B = torch.tensor([9, 12, 1])
    with torch.no_grad():
        expected, states = loaded.model(x._replace(lengths_B=lengths_B))
    ahead_BHK, zeros = x.ahead.view(SERIES, HORIZON, 2), loaded.model.recurrent.zero_states(SERIES)
    near(run(x.numbers_TBF, zeros, ahead_BHK, lengths_B), (expected.flatten(1), states))


@pytest.mark.parametrize("to", ["onnx", "torch", pytest.param("c", marks=compiled)])
def test_a_step_reads_what_is_known_beforehand_too(to: str, known_run: Path, tmp_path: Path) -> None:
    loaded, source = load_run(known_run), known_run.parent / "ahead.csv"
    x, y = asked(loaded, source)
    assert x.ahead is not None
    answers = by_step(known_run, x, tmp_path) if to == "c" else streamed(known_run, to, loaded, x)
    with torch.no_grad():
        near(answers, loaded.model(x)[0].flatten(1))
    same_forecast(loaded, answers, y, source)


def streamed(run: Path, to: str, loaded: Loaded, x: Inputs) -> Tensor:
    step, _ = exported(run, to, "--streaming")
    states, ahead = loaded.model.recurrent.zero_states(SERIES), x.ahead
    assert ahead is not None
    for numbers_BF in x.numbers_TBF:
        output_BO, states = step(numbers_BF, states, ahead.view(SERIES, HORIZON, 2))
    return output_BO


def by_step(run: Path, x: Inputs, folder: Path) -> Tensor:
    assert main(["export", str(run), "--to", "c"]) == 0
    library, answers = Library(run / "model.c", folder), []
    ahead = x.ahead
    assert ahead is not None
    for row in range(SERIES):
        library.init()
        for numbers_F in x.numbers_TBF[:, row]:
            answer = library.step(numbers_F, HORIZON * 5, ahead[row])
        answers.append(answer)
    return torch.stack(answers)


# -- documents ---------------------------------------------------------------------------------------------------


NETWORKS: list[dict[str, Any]] = [{"cell": "lstm", "tied": True}, {"cell": "clockwork_rnn", "skips": [3]}]


@pytest.fixture(scope="module", params=usual(NETWORKS[:1], NETWORKS))
def document_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on text whose states are reset at each new line."""
    folder = tmp_path_factory.mktemp("documents")
    settings = small(folder, 1300, document_mark="\n", hidden=7, lr=0.05, **request.param)
    return straight(settings, folder / "run")


def read(run: Path) -> tuple[Loaded, Tensor]:
    """A run, and a text that it has not seen, as numbers."""
    loaded = load_run(run)
    return loaded, loaded.question.symbols.encode(unseen())  # type: ignore[attr-defined]


def unseen() -> str:
    return make_text(1300, seed=9)


def loss_of(logits_NV: Tensor, numbers_N: Tensor) -> float:
    return float(torch.nn.functional.cross_entropy(logits_NV, numbers_N[1:]))


@pytest.mark.parametrize("to", usual(["torch"], ["onnx", "torch"]))
def test_a_text_in_pieces_is_reset_at_each_document_as_evaluate_does(
    to: str, document_run: Path, tmp_path: Path
) -> None:
    loaded, numbers_N = read(document_run)
    mark = loaded.model.mark
    assert int((numbers_N == mark).sum()) > 20
    run, told = exported(document_run, to)
    assert told["document_mark"] == mark
    states, pieces = loaded.model.recurrent.zero_states(1), []
    for piece in numbers_N[:-1].split(600):
        logits_TBV, states = run(piece[:, None], states)
        pieces.append(logits_TBV[:, 0])
    (tmp_path / "unseen.txt").write_text(unseen(), encoding="utf-8")
    wanted = evaluate(loaded, tmp_path / "unseen.txt").metrics["loss"]
    assert loss_of(torch.cat(pieces), numbers_N) == pytest.approx(wanted, rel=1e-5)
    loaded.model.mark = None  # and without resets it is another number
    assert evaluate(loaded, tmp_path / "unseen.txt").metrics["loss"] != pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("to", usual(["onnx"], ["onnx", "torch"]))
def test_rows_that_are_reset_at_different_steps_and_end_at_others_are_each_by_itself(
    to: str, document_run: Path
) -> None:
    loaded, numbers_N = read(document_run)
    run, _ = exported(document_run, to, "--lengths")
    x_TB, lengths_B = numbers_N[:120].view(3, 40).t().contiguous(), torch.tensor([40, 11, 25])
    logits_TBV, _ = run(x_TB, loaded.model.recurrent.zero_states(3), lengths_B)
    for row, length in enumerate(lengths_B.tolist()):
        with torch.no_grad():
            near(logits_TBV[:length, row], loaded.model(x_TB[:length, row : row + 1])[0][:, 0])


@pytest.mark.parametrize("to", ["onnx", "torch", pytest.param("c", marks=compiled)])
def test_a_step_is_reset_at_a_document_and_writes_on_as_generate_does(
    to: str, document_run: Path, tmp_path: Path
) -> None:
    loaded, numbers_N = read(document_run)
    symbols, model = loaded.question.symbols, loaded.model  # type: ignore[attr-defined]
    in_c = to == "c"
    step = symbols_in_c(document_run, symbols, tmp_path) if in_c else symbol_by_symbol(document_run, to, model)
    with torch.no_grad():
        wanted_NV = model(numbers_N[:200, None])[0][:, 0]
    near(torch.stack([step(int(number)) for number in numbers_N[:200]]), wanted_NV)
    step(model.mark)
    prompt = "the storm\nof t"
    for number in symbols.encode(prompt).tolist():
        logits_V = step(number)
    found = []
    for _ in range(60):
        found.append(1 + int(logits_V[1:].argmax()))
        logits_V = step(found[-1])
    # The mark is in its prompt as it was in ours: both begin there.
    assert symbols.decode(found) == generate(model, symbols, "\n" + prompt, 60, temperature=0.0)


def symbol_by_symbol(run: Path, to: str, model: Any) -> Callable[[int], Tensor]:
    """The exported step, its states carried on."""
    step, _ = exported(run, to, "--streaming")
    states = model.recurrent.zero_states(1)

    def next_one(number: int) -> Tensor:
        nonlocal states
        logits_BV, states = step(torch.tensor([number]), states)
        return logits_BV[0].detach()

    return next_one


def symbols_in_c(run: Path, symbols: Any, folder: Path) -> Callable[[int], Tensor]:
    """The same, compiled."""
    assert main(["export", str(run), "--to", "c"]) == 0
    library = Library(run / "model.c", folder)
    return lambda number: library.step(number, len(symbols))
