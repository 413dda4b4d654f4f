"""Numbers that stop being finite end a run with the place where they did, and never get into a checkpoint."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.runs import events, latest_of, load_state, numbers, silent, small, weights
from unvanish import Cell
from unvanish.data.text import Vocabulary, Windows, load_corpus
from unvanish.errors import NonFiniteError
from unvanish.record import RunRecord
from unvanish.train import TextModel, TrainSettings, load_model, resume, train

ROOT = Cell("root", "h[t] = tanh(U @ h[t-1] + sqrt(abs(W @ x[t])))", initial={"W": 0.0})
SATURATED = Cell(
    "saturated", "h[t] = tanh(1e-10 * (W @ x[t] + U @ h[t-1]) + minimum(1e17 * b, 1))", initial={"b": 0.0}
)


def assert_keeps_finite_weights(run: Path) -> None:
    state = load_state(run)
    kept = load_file(latest_of(run) / "weights.safetensors")
    for name, value in kept.items():
        assert torch.isfinite(value).all(), name
        assert torch.equal(value, state["state_dict"][f"model.{name}"])
    load_model(run)


def fault_of(settings: TrainSettings, run: Path, cell: Cell | None = None) -> str:
    """Train into a fault, and check what every fault leaves behind."""
    with pytest.raises(NonFiniteError) as caught:
        train(settings, run, cell=cell, say=silent)
    assert events(run) == ["started", "non-finite"]
    assert next(RunRecord(run).read("event"))["step"] == 0
    last = list(RunRecord(run).read("event"))[-1]
    assert last["text"] == str(caught.value)
    assert_keeps_finite_weights(run)
    return str(caught.value)


LINEAR: dict[str, Any] = {"cell": "rnn", "cell_options": {"nonlinearity": "identity"}}
EXPLOSIONS: dict[str, dict[str, Any]] = {
    "in training": {**LINEAR, "lr": 1e4, "optimizer": "sgd", "clip": "none"},
    "though clipped": {**LINEAR, "lr": 1e20, "optimizer": "sgd", "clip": "norm:1"},
    "by value": {**LINEAR, "lr": 1e20, "optimizer": "rmsprop", "clip": "value:1"},
    "seen in validation first": {**LINEAR, "lr": 1e20, "optimizer": "adam", "valid_every": 1},
}


@pytest.mark.parametrize("changes", EXPLOSIONS.values(), ids=EXPLOSIONS)
def test_an_explosion_is_told_with_its_place_and_can_be_mended(tmp_path: Path, changes: dict[str, Any]) -> None:
    settings = small(tmp_path, **changes)
    text = fault_of(settings, tmp_path / "run")
    assert "\n" not in text
    assert "training step" in text
    assert "time step" in text
    assert any(part in text for part in ("embedding.weight", "recurrent.", "head."))
    resume(tmp_path / "run", lr=0.005, clip="norm:5", say=silent)
    assert events(tmp_path / "run") == ["started", "non-finite", "resumed", "finished"]
    assert math.isfinite(numbers(tmp_path / "run", "valid")[-1]["loss"])


def test_without_a_remedy_the_same_fault_comes_again(tmp_path: Path) -> None:
    text = fault_of(small(tmp_path, lr=1e4, optimizer="sgd", clip="none", dropout=0.4, **LINEAR), tmp_path / "run")
    before = weights(tmp_path / "run")
    with pytest.raises(NonFiniteError) as again:
        resume(tmp_path / "run", say=silent)
    assert str(again.value) == text
    assert weights(tmp_path / "run") == before


def test_loss_that_is_not_finite_names_step_time_and_parameter(tmp_path: Path) -> None:
    cell = Cell("spike", "h[t] = tanh(W @ x[t] + U @ h[t-1]) + exp(b)", initial={"b": 1e9})
    text = fault_of(small(tmp_path, layers=1), tmp_path / "run", cell)
    assert text.startswith(
        "non-finite numbers at training step 1: the loss is first non-finite at time step 0 of the window; "
        "all parameters are finite, the first whose gradient is not is "
    )


def test_loss_that_overflows_late_in_a_window_names_that_time_step(tmp_path: Path) -> None:
    """A state doubles its exponent: e^(2^t / 10) leaves single precision between t = 9 and t = 10."""
    cell = Cell("doubling", "s[t] = 2 * s[t-1] + 0.2\nh[t] = tanh(W @ x[t]) + exp(s[t])")
    text = fault_of(small(tmp_path, layers=1, probes=0), tmp_path / "run", cell)
    state, step = 0.0, -1
    while state < math.log(torch.finfo(torch.float32).max):
        state, step = 2 * state + 0.2, step + 1
    assert 0 < step < 12
    assert f"the loss is first non-finite at time step {step} of the window" in text


def test_gradient_that_is_not_finite_under_a_finite_loss_names_its_place(tmp_path: Path) -> None:
    """The derivative of sqrt |W x| at W = 0 is not finite, the loss is; the last step of the window comes first."""
    text = fault_of(small(tmp_path, layers=1), tmp_path / "run", ROOT)
    assert text.startswith(
        "non-finite numbers at training step 1: the loss is finite, its gradient first overflows going back"
    )
    assert "all parameters are finite, the first whose gradient is not is embedding.weight" in text


def test_gradient_that_overflows_on_its_way_back_names_the_time_step(tmp_path: Path) -> None:
    """s stays 0, its gradient grows by 1e8 a step: from under 1 at step 11 past 1e38 by step 6."""
    cell = Cell("amplifier", "s[t] = 1e8 * s[t-1] + b\nh[t] = tanh(W @ x[t]) + s[t]", initial={"b": 0.0})
    text = fault_of(small(tmp_path, layers=1), tmp_path / "run", cell)
    assert re.search(r"its gradient first overflows going back to time step [678] of recurrent\.l0;", text)
    assert "all parameters are finite, the first whose gradient is not is recurrent." in text


def test_dropout_of_the_window_that_went_wrong_is_that_of_its_explanation(tmp_path: Path) -> None:
    """Nearly all inputs of the second layer are dropped; those that are kept are a hundred times larger."""
    cell = Cell("burst", "v = V @ x[t]\nh[t] = tanh(W @ x[t] + U @ h[t-1]) + exp(v * v - 60)")
    settings = small(tmp_path, dropout=0.99, seed=11, probes=0)
    corpus = load_corpus(Path(settings.source or ""))
    vocabulary = Vocabulary.of(corpus.train)
    torch.manual_seed(settings.seed)
    model = TextModel(cell, len(vocabulary), settings)
    x_TB, _ = next(iter(Windows(vocabulary.encode(str(corpus.train)), settings.length, settings.batch_size)))
    finite_T = torch.isfinite(model(x_TB)[0]).all(2).all(1)
    first = int(torch.nonzero(~finite_T)[0])
    assert 2 < first < 11, "another draw of the dropout would most likely differ"
    text = fault_of(settings, tmp_path / "run", cell)
    assert f"the loss is first non-finite at time step {first} of the window" in text


def test_weights_that_saturation_hides_are_not_saved(tmp_path: Path) -> None:
    """minimum(1e17 b, 1) with b infinite gives a finite loss and finite gradients: only b itself shows it."""
    settings = small(tmp_path, layers=1, lr=1e25, optimizer="sgd", clip="none", valid_every=1, probes=0)
    text = fault_of(settings, tmp_path / "run", SATURATED)
    assert "after training step" in text
    assert "the first parameter that holds one is recurrent." in text
