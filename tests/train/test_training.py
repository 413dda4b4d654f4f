"""Training is what a plain loop of torch does: truncated, carried, clipped; and measuring disturbs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.runs import load_state, numbers, silent, small, straight, weights
from unvanish.cells import find
from unvanish.data.text import Vocabulary, load_corpus
from unvanish.errors import OptionError
from unvanish.record import RunRecord
from unvanish.train import TextModel, TrainSettings, resume, train
from unvanish.train import callback as callbacks

OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop}


@dataclass
class Step:
    """One step of the plain loop."""

    loss: float
    norm: float
    largest: float
    clipped: bool


def plain_loop(settings: TrainSettings, *, carries: bool = True) -> tuple[list[Step], dict[str, Tensor]]:
    """Train with torch.nn.LSTM, Python slices and nothing of ours but the initial weights and the numbering."""
    corpus = load_corpus(Path(settings.source or ""))
    vocabulary = Vocabulary.of(corpus.train)
    torch.manual_seed(settings.seed)
    ours = TextModel(find("lstm"), len(vocabulary), settings)
    lstm = nn.LSTM(settings.hidden, settings.hidden, settings.layers)
    lstm.load_state_dict(ours.recurrent.state_dict())
    model = nn.ModuleDict({"embedding": ours.embedding, "recurrent": lstm, "head": ours.head})
    optimizer = OPTIMIZERS[settings.optimizer](model.parameters(), lr=settings.lr)
    kind, _, threshold = settings.clip.partition(":")
    text = vocabulary.encode(str(corpus.train))
    length = len(text) // settings.batch_size
    streams_NB = torch.stack([text[b * length : (b + 1) * length] for b in range(settings.batch_size)], 1)
    found = []
    for _ in range(settings.epochs):
        states = None
        for start in range(0, length - 1, settings.length):
            stop = min(start + settings.length, length - 1)
            output, states = lstm(model["embedding"](streams_NB[start:stop]), states if carries else None)
            states = tuple(state.detach() for state in states)
            logits = model["head"](output)
            loss = F.cross_entropy(logits.flatten(0, 1), streams_NB[start + 1 : stop + 1].flatten())
            optimizer.zero_grad()
            loss.backward()
            gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
            norm, largest = float(gradients.norm()), float(gradients.abs().max())
            clipped = kind != "none" and {"norm": norm, "value": largest}[kind] > float(threshold)
            scale = float(threshold) / norm if kind == "norm" and clipped else 1.0
            for parameter in model.parameters():
                parameter.grad.mul_(scale)
                if kind == "value":
                    parameter.grad.clamp_(-float(threshold), float(threshold))
            optimizer.step()
            found.append(Step(loss.item(), norm, largest, clipped))
    return found, model.state_dict()


CASES: dict[str, dict[str, Any]] = {
    "adam, by norm": {"optimizer": "adam", "clip": "norm:0.25", "lr": 0.01},
    "sgd, by value": {"optimizer": "sgd", "clip": "value:0.03", "lr": 0.5},
    "rmsprop, unclipped": {"optimizer": "rmsprop", "clip": "none", "lr": 0.003},
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_training_is_what_a_plain_loop_does(tmp_path: Path, changes: dict[str, Any]) -> None:
    settings = small(tmp_path, 1100, epochs=2, **changes)
    run = straight(settings, tmp_path / "run")
    expected, final = plain_loop(settings)
    steps = numbers(run, "step")
    assert len(steps) == len(expected) > 30
    for step, plain in zip(steps, expected, strict=True):
        assert step["loss"] == pytest.approx(plain.loss, rel=2e-5), step["step"]
        assert step["gradient_norm"] == pytest.approx(plain.norm, rel=2e-3), "norm before clipping"
        assert (step["clipped"], step["steps"]) == (plain.clipped, 1)
    clipped = sum(plain.clipped for plain in expected)
    if settings.clip == "none":
        assert clipped == 0
    else:
        assert 0 < clipped < len(expected), "the threshold is meant to bite sometimes"
    last = load_state(run)["state_dict"]
    for name, value in final.items():
        torch.testing.assert_close(last[f"model.{name}"], value, rtol=2e-3, atol=2e-5)


def test_the_plain_loop_can_tell_carried_states_from_zero_ones(tmp_path: Path) -> None:
    settings = small(tmp_path, 1100)
    carried, _ = plain_loop(settings)
    forgetful, _ = plain_loop(settings, carries=False)
    assert carried[0].loss == forgetful[0].loss
    assert abs(carried[1].loss - forgetful[1].loss) > 20 * 2e-5 * carried[1].loss


def test_counts_of_clipped_steps_add_up_over_sparse_records_and_a_break(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small(tmp_path, 1100, epochs=2, clip="norm:0.25", lr=0.01, valid_every=4)
    expected, _ = plain_loop(settings)
    monkeypatch.setattr(callbacks, "STEP_RECORDS", 10)
    run = straight(settings, tmp_path / "run")
    steps = numbers(run, "step")
    width = len(expected) // 10
    assert [line["step"] for line in steps] == list(range(width, len(expected) + 1, width))
    for line in steps:
        part = expected[line["step"] - width : line["step"]]
        assert (line["clipped"], line["steps"]) == (sum(step.clipped for step in part), width)


@pytest.mark.parametrize("name", ["seed", "lr", "hidden", "clip"])
def test_same_settings_same_numbers_and_others_others(tmp_path: Path, name: str) -> None:
    other: dict[str, Any] = {"seed": 2, "lr": 0.004, "hidden": 9, "clip": "norm:0.01"}
    settings = small(tmp_path, epochs=1, dropout=0.2)
    one, again = straight(settings, tmp_path / "one"), straight(settings, tmp_path / "again")
    different = straight(small(tmp_path, epochs=1, dropout=0.2, **{name: other[name]}), tmp_path / "different")
    assert numbers(one) == numbers(again)
    assert weights(one) == weights(again)
    assert numbers(one, "valid") != numbers(different, "valid")
    assert weights(one) != weights(different)


@pytest.mark.parametrize("changes", [{}, {"valid_every": 3, "dropout": 0.3}, {"valid_every": 1000}], ids=str)
def test_more_epochs_later_are_as_good_as_at_once(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Without probes: when they fall depends on the number of epochs, and they round differently."""
    changes = {**changes, "probes": 0}
    run = straight(small(tmp_path, epochs=2, **changes), tmp_path / "run")
    resume(run, epochs=3, say=silent)
    once = straight(small(tmp_path, epochs=3, **changes), tmp_path / "once")
    assert numbers(run, "step") == numbers(once, "step")
    assert numbers(run, "valid")[-1] == numbers(once, "valid")[-1]
    assert numbers(run, "sample")[-1] == numbers(once, "sample")[-1]
    assert [line["lag"] for line in numbers(run, "need")] == [line["lag"] for line in numbers(once, "need")]
    assert weights(run) == weights(once)


@pytest.mark.parametrize("engine", ["reference", "auto"])
def test_measuring_disturbs_no_number_of_the_training(tmp_path: Path, engine: str) -> None:
    """On the reference engine exactly; else a probed step is run by another engine, so to its rounding."""
    runs = {
        probes: straight(
            small(tmp_path, epochs=2, dropout=0.3, engine=engine, probes=probes, valid_every=every),
            tmp_path / f"run{probes}",
        )
        for probes, every in ((0, 0), (5, 3))
    }
    quiet, probed = (numbers(run, "step") for run in runs.values())
    assert [len(numbers(run, "flow")) for run in runs.values()][1] >= 5
    assert sum(1 for line in numbers(runs[5], "flow") if line["loss_norms"]) == 5
    assert not any(line["loss_norms"] for line in numbers(runs[0], "flow"))
    if engine == "reference":
        assert quiet == probed
        assert weights(runs[0]) == weights(runs[5])
    for one, other in zip(quiet, probed, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)


def test_flow_records_hold_a_norm_for_every_step_of_the_window(tmp_path: Path) -> None:
    run = straight(small(tmp_path, probes=1, epochs=1), tmp_path / "run")
    line = numbers(run, "flow")[0]
    assert line["step"] == 1
    assert line["epoch"] == 0
    for part in ("l0", "l1"):
        assert {state: len(norms) for state, norms in line["loss_norms"][part].items()} == {"h": 12, "c": 12}
        assert all(norm > 0 for norm in line["loss_norms"][part]["h"])
        profile = line["profiles"][part]
        squares = [sum(profile["norms"][state][lag] ** 2 for state in ("h", "c")) for lag in profile["lags"]]
        assert profile["norms"]["all"] == pytest.approx([square**0.5 for square in squares])


def test_a_step_is_measured_once_even_where_a_probe_and_a_validation_meet(tmp_path: Path) -> None:
    run = straight(small(tmp_path, probes=8, valid_every=2, epochs=1), tmp_path / "run")
    assert [line["step"] for line in numbers(run, "flow")] == list(range(1, 9))
    assert [line["step"] for line in numbers(run, "valid")] == [2, 4, 6, 8]


def test_every_run_ends_with_a_validation_of_the_weights_that_it_keeps(tmp_path: Path) -> None:
    run = straight(small(tmp_path, valid_every=1000, probes=0), tmp_path / "run")
    (valid,) = numbers(run, "valid")
    assert (valid["step"], valid["epoch"]) == (16, 1)
    assert load_state(run)["global_step"] == 16


def test_settings_that_cannot_be_kept_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cell_options"):
        small(tmp_path, cell_options={"alpha": torch.ones(8)})


def test_a_source_is_found_from_wherever_the_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small(tmp_path, epochs=1)
    monkeypatch.chdir(tmp_path)
    train(TrainSettings(**{**settings.to_dict(), "source": "text.txt"}), tmp_path / "run", say=silent)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resume(tmp_path / "run", epochs=2, say=silent)
    assert RunRecord.open(tmp_path / "run").config["settings"]["epochs"] == 2
