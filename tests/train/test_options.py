"""What a training is asked for beside data and network: steps of several batches, precision, seeds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.support.runs import (
    assert_same_run,
    at_step,
    events,
    forecast,
    interrupt,
    labelled,
    latest_of,
    numbers,
    silent,
    small,
    stopped_run,
    straight,
)
from unvanish.cli import main
from unvanish.errors import OptionError
from unvanish.report.run.read import Run
from unvanish.report.run.remedies import remedy_summary
from unvanish.train import TrainSettings, fit, load_run, prepare, read_settings, resume
from unvanish.train.checkpoint import WEIGHTS
from unvanish.train.finding import falls


def trained(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(latest_of(folder) / WEIGHTS)


# -- steps of several batches ------------------------------------------------------------------------------------


def equal_lengths(folder: Path, **changes: Any) -> TrainSettings:
    """Settings for 36 labelled sequences of one length, of which 32 are trained on."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(36, 7, 2)).astype(np.float32)
    np.savez(folder / "equal.npz", x=x, y=(x[:, 0, 0] > 0).astype(np.int64))
    usual = {"hidden": 6, "layers": 1, "device": "cpu", "epochs": 3, "valid": 0.1, "optimizer": "sgd", "lr": 0.1}
    return TrainSettings(**{**usual, "source": str(folder / "equal.npz"), **changes})


def test_gathered_over_two_batches_it_is_trained_as_by_batches_twice_as_large(tmp_path: Path) -> None:
    whole = straight(equal_lengths(tmp_path, batch_size=8), tmp_path / "whole")
    halves = straight(equal_lengths(tmp_path, batch_size=4, accumulate=2), tmp_path / "halves")
    steps = [line["step"] for line in numbers(whole, "step")]
    assert steps == [line["step"] for line in numbers(halves, "step")]
    assert len(steps) >= 9
    for name, array in trained(whole).items():
        torch.testing.assert_close(trained(halves)[name], array, atol=1e-6, rtol=1e-5)
    for one, other in zip(numbers(whole, "step"), numbers(halves, "step"), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-5)
        assert other["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3)


@pytest.mark.parametrize("asked", ["class", "number"])
def test_batches_of_a_step_count_by_what_is_known_in_them(tmp_path: Path, asked: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(45, 7, 2)).astype(np.float32)
    y: Any = np.cumsum(x[:, :, 0], 1).astype(np.float32)
    y[rng.random(y.shape) < 0.4], y[5:15] = np.nan, np.nan
    if asked == "class":
        y = (x[:, 0, 0] > 0).astype(np.int64)
    settings = equal_lengths(tmp_path, batch_size=4, accumulate=3)  # 41 sequences: 11 batches, the last of one
    np.savez(tmp_path / "equal.npz", x=x, y=y)
    gathered = straight(settings, tmp_path / "gathered")
    whole = straight(dataclasses.replace(settings, batch_size=12, accumulate=1), tmp_path / "whole")
    for name, array in trained(whole).items():
        torch.testing.assert_close(trained(gathered)[name], array, atol=1e-6, rtol=1e-5)
    for one, other in zip(numbers(whole, "step"), numbers(gathered, "step"), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-5)
        assert other["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(("every", "stop"), [(0, 5), (2, 4), (2, 5)])
def test_a_step_of_several_batches_is_not_broken_off_within(tmp_path: Path, every: int, stop: int) -> None:
    asked = {"accumulate": 3, "dropout": 0.3, "epochs": 3, "valid_every": every}
    whole = straight(small(tmp_path, **asked), tmp_path / "whole")
    assert [line["step"] for line in numbers(whole, "step")] == list(range(1, 10)), "8 windows are 3 steps"
    assert [line["step"] for line in numbers(whole, "valid")] == ([2, 4, 6, 8, 9] if every else [3, 6, 9])
    (tmp_path / "stopped").mkdir()
    stopped = stopped_run(tmp_path / "stopped", stop, **asked)
    assert numbers(stopped, "step")[-1]["step"] == stop
    assert resume(stopped, say=silent).interrupted == 0
    assert_same_run(whole, stopped)


def test_omega_is_of_one_backward_pass() -> None:
    with pytest.raises(OptionError, match="--accumulate"):
        TrainSettings(penalty=["omega:2"], accumulate=2)


# -- update rates of their own -----------------------------------------------------------------------------------


PACED: dict[str, Any] = {"pace": ["U_*=1,3", "b_f=2"], "dropout": 0.3, "valid_every": 3}


def test_parameters_at_rates_of_their_own_stay_as_they_are_between_their_updates(tmp_path: Path) -> None:
    run = straight(small(tmp_path, 360, **PACED), tmp_path / "run")
    last = numbers(run, "step")[-1]
    assert last["step"] == 14
    assert last["paced"] == {"1": 14, "2": 7, "3": 4}
    for stop, units in ((2, slice(4, 8)), (3, slice(0, 0))):
        (tmp_path / str(stop)).mkdir()
        part = stopped_run(tmp_path / str(stop), stop, characters=360, **PACED)
        begun = prepare(small(tmp_path, 360, **PACED), tmp_path / f"begun {stop}", say=silent)
        begun.claim.release()
        before = begun.session.module.model.recurrent["U_i"].detach()
        now = load_run(part).model.recurrent["U_i"].detach()
        assert torch.equal(now[units], before[units])
        assert not torch.equal(now[:4], before[:4])
        resume(part, say=silent)
        assert_same_run(run, part)
    told = remedy_summary(Run.read(run))
    assert [one["asked"] for one in told if one["name"] == "pace"] == PACED["pace"]


def test_rates_of_one_are_the_plain_training(tmp_path: Path) -> None:
    plain = straight(small(tmp_path, dropout=0.3), tmp_path / "plain")
    paced = straight(small(tmp_path, dropout=0.3, pace=["*=1"]), tmp_path / "paced")
    for name, array in trained(plain).items():
        assert torch.equal(trained(paced)[name], array), name


@pytest.mark.parametrize("word", ["U_*", "U_*=", "U_*=0", "U_*=a", "=2", "X_q=2", f"U_*={2**63}"])
def test_rates_that_cannot_be_are_refused(tmp_path: Path, word: str) -> None:
    with pytest.raises(OptionError, match=r"pace|X_q"):
        prepare(small(tmp_path, pace=[word]), tmp_path / "run", say=silent)
    assert not (tmp_path / "run").exists()


# -- precision ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [small, labelled], ids=["text", "labels"])
def test_in_64_bits_it_is_the_same_training(tmp_path: Path, make: Any) -> None:
    settings = dataclasses.replace(make(tmp_path), epochs=1, init=["orthogonal"])
    usual = straight(settings, tmp_path / "usual")
    exact = straight(dataclasses.replace(settings, precision="64"), tmp_path / "exact")
    assert {array.dtype for array in trained(exact).values()} == {torch.float64}
    for name, array in trained(usual).items():
        torch.testing.assert_close(trained(exact)[name].float(), array, atol=2e-3, rtol=0)
    assert load_run(exact).model.dtype == torch.float64
    assert resume(exact, epochs=2, say=silent).interrupted == 0
    if make is labelled:
        answered = load_run(exact).predict(Path(settings.source or ""))
        assert answered.height == load_run(usual).predict(Path(settings.source or "")).height


def test_bf16_keeps_the_parameters_in_32_bits(tmp_path: Path) -> None:
    run = straight(small(tmp_path, precision="bf16", epochs=1), tmp_path / "run")
    assert {array.dtype for array in trained(run).values()} == {torch.float32}
    usual = straight(small(tmp_path, epochs=1), tmp_path / "usual")
    one, other = (numbers(folder, "valid")[-1]["loss"] for folder in (run, usual))
    assert one == pytest.approx(other, abs=0.05)


@pytest.mark.parametrize("more", [{}, {"pace": ["U_*=1,3"]}, {"accumulate": 3, "cell": "gru"}])
def test_bf16_goes_on_after_a_break(tmp_path: Path, more: dict[str, Any]) -> None:
    asked = {"precision": "bf16", "dropout": 0.3, "epochs": 3, **more}
    whole = straight(small(tmp_path, **asked), tmp_path / "whole")
    (tmp_path / "stopped").mkdir()
    stopped = stopped_run(tmp_path / "stopped", **asked)
    assert resume(stopped, say=silent).interrupted == 0
    assert_same_run(whole, stopped)


def test_half_precision_is_refused_on_a_cpu(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--precision 16 needs a GPU"):
        prepare(small(tmp_path, precision="16"), tmp_path / "run", say=silent)
    assert not (tmp_path / "run").exists()


# -- settings from a file ----------------------------------------------------------------------------------------


def test_the_configuration_of_a_run_makes_it_again(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nequations: |\n  h[t] = tanh(W @ x[t] + U @ h[t-1] + b)\n", encoding="utf-8"
    )
    text = tmp_path / "text.txt"
    small(tmp_path)
    first, again = tmp_path / "first", tmp_path / "again"
    asked = ["--cell", str(tmp_path / "mine.yaml"), "--hidden", "8", "--length", "12", "--batch-size", "4"]
    assert main(["train", str(text), *asked, "--epochs", "1", "--out", str(first)]) == 0
    (tmp_path / "mine.yaml").unlink()  # the run has it
    assert main(["train", "--config", str(first), "--out", str(again)]) == 0
    assert_same_run(first, again)
    assert main(["train", "--config", str(first), "--hidden", "4", "--out", str(tmp_path / "other")]) == 0
    assert load_run(tmp_path / "other").settings.hidden == 4
    assert load_run(tmp_path / "other").settings.length == 12


def test_settings_by_their_names_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"hidden": 8, "init": ["orthogonal"], "epochs": 1}), encoding="utf-8")
    assert read_settings(path).settings["init"] == ["orthogonal"]
    for content, told in (("hiden: 8", "did you mean 'hidden'?"), ("- 8", "NAME: VALUE"), ("a: [", "line 1")):
        path.write_text(content, encoding="utf-8")
        assert main(["train", "--config", str(path), "--out", str(tmp_path / "run")]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_beside_another_source_the_configuration_gives_no_more_than_fits_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, table, path = tmp_path / "run", forecast(tmp_path).source, tmp_path / "exponent.yaml"
    straight(small(tmp_path, epochs=1), run)
    found = read_settings(run)
    assert found.beside({"source": table, "horizon": 5}).kind is None
    assert found.beside({"source": str(tmp_path / "text.txt")}).kind == "text"
    given = tmp_path / "given"
    fit(np.zeros((8, 3, 1)), np.arange(8) % 2, folder=given, hidden=4, epochs=1, device="cpu")
    assert main(["train", "--config", str(given), "--out", str(tmp_path / "none")]) == 2
    assert "name a source" in capsys.readouterr().err
    task = straight(
        TrainSettings(task="agreement", distance=8, attractors=0, hidden=4, layers=1, epochs=1, probes=1),
        given / "task",
    )
    assert read_settings(task).beside({"distance": 10}).length == 0
    path.write_text("lr: 1e-3\n", encoding="utf-8")  # which YAML takes for a word
    assert read_settings(path).beside({}).lr == 1e-3


def test_other_data_than_those_of_the_configuration_are_told(tmp_path: Path) -> None:
    said: list[str] = []
    run = straight(small(tmp_path, epochs=1), tmp_path / "run")
    found = read_settings(run)
    small(tmp_path, 500)  # writes another text
    settings = TrainSettings.from_dict(found.settings)
    prepare(settings, tmp_path / "again", digest=found.digest, say=said.append).claim.release()
    assert any("expect other numbers" in line for line in said)


# -- the learning rate, and seeds --------------------------------------------------------------------------------


def test_a_rate_that_was_looked_for_trains_as_one_that_was_given(tmp_path: Path) -> None:
    said: list[str] = []
    found = prepare(small(tmp_path, dropout=0.2), tmp_path / "found", lr_find=True, say=said.append)
    rate = found.session.settings.lr
    assert 1e-5 < rate < 1
    assert f"{rate:g}" in next(line for line in said if line.startswith("rate"))
    found.run(silent)
    given = straight(small(tmp_path, dropout=0.2, lr=rate), tmp_path / "given")
    assert_same_run(given, tmp_path / "found")


def test_a_rate_is_found_where_an_epoch_has_fewer_batches_than_a_step(tmp_path: Path) -> None:
    settings = labelled(tmp_path, rows=10, batch_size=50, accumulate=2)
    found = prepare(settings, tmp_path / "run", lr_find=True, say=silent)
    found.claim.release()
    assert found.session.settings.lr != settings.lr


def test_a_rate_is_not_taken_from_noise(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x, noise = rng.normal(size=(2000, 4, 1)).astype(np.float32), rng.normal(size=2000).astype(np.float32)
    told: dict[str, str] = {}
    for name, y in (("noise", noise), ("last", x[:, -1, 0])):  # the network begins with the mean: nothing is better
        said: list[str] = []
        np.savez(tmp_path / "equal.npz", x=x, y=y)
        settings = TrainSettings(
            source=str(tmp_path / "equal.npz"), hidden=8, layers=1, device="cpu", batch_size=16, epochs=1, lr=0.003
        )
        found = prepare(settings, tmp_path / name, lr_find=True, say=said.append)
        found.claim.release()
        told[name] = next(line for line in said if line.startswith("rate"))
        assert (found.session.settings.lr == 0.003) == (name == "noise")
    assert told["noise"].endswith("by more than noise: --lr 0.003 is kept")
    assert "where the loss falls fastest" in told["last"]


def test_losses_fall_where_they_come_to_lie_below_their_noise() -> None:
    noise = 0.05 * np.random.default_rng(0).normal(size=(40, 100))
    down, up = np.linspace(2, 1.7, 100), np.linspace(2, 4, 100)
    assert all(falls((down + one).tolist()) for one in noise)
    assert not any(falls((up + one).tolist()) for one in noise)
    assert sum(falls((2 + one).tolist()) for one in noise) <= 4
    assert falls((2 - 1e-6 * np.arange(100.0)).tolist()), "without noise every fall counts"
    assert not falls([2.0, 1.0, float("nan")])


def test_seeds_side_by_side_and_after_a_break(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small(tmp_path)
    asked = ["--hidden", "8", "--layers", "1", "--length", "12", "--batch-size", "4", "--epochs", "1"]
    base = tmp_path / "seeds"
    with monkeypatch.context() as patch:
        at_step(4, interrupt, patch)
        assert main(["train", str(tmp_path / "text.txt"), *asked, "--seeds", "3", "--out", str(base)]) == 130
    assert f"--resume {base}" in capsys.readouterr().out
    assert main(["train", "--resume", str(base)]) == 0
    told = capsys.readouterr().out
    assert [events(base / f"seed-{seed}") for seed in (1, 2, 3)] == [
        ["started", "stopped", "resumed", "finished"],
        ["started", "finished"],
        ["started", "finished"],
    ]
    losses = [numbers(base / f"seed-{seed}", "valid")[-1]["loss"] for seed in (1, 2, 3)]
    assert len(set(losses)) == 3
    row = next(line.split() for line in told.splitlines() if line.startswith("loss "))
    assert row[1:] == [f"{one:.4g}" for one in (*losses, sum(losses) / 3, min(losses), max(losses))]
    alone = straight(small(tmp_path, seed=2, layers=1, epochs=1, probes=8), tmp_path / "alone")
    assert_same_run(alone, base / "seed-2")
    resume(base / "seed-1", epochs=2, say=silent)
    assert main(["train", "--resume", str(base), "--epochs", "2"]) == 0, (
        "those that have come so far are left alone"
    )
    assert [events(base / f"seed-{seed}").count("finished") for seed in (1, 2, 3)] == [2, 2, 2]


@pytest.mark.parametrize(("seed", "count", "told"), [("1", "0", "--seeds 0"), (str(2**32 - 2), "3", "--seed is")])
def test_seeds_that_cannot_be_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: str, count: str, told: str
) -> None:
    small(tmp_path)
    asked = ["train", str(tmp_path / "text.txt"), "--seed", seed, "--seeds", count, "--out", str(tmp_path / "runs")]
    assert main(asked) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_seeds_are_kept_in_a_folder_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = straight(small(tmp_path, epochs=1), tmp_path / "run")
    asked = ["train", "--config", str(run), "--seeds", "2"]
    assert main([*asked, "--out", str(run)]) == 2
    assert "is not empty" in capsys.readouterr().err
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nequations: |\n  h[t] = tanh(W @ x[t] + U @ h[t-1] + b)\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path / "run")
    assert main([*asked, "--cell", str(tmp_path / "mine.yaml")]) == 0
    assert len(list(Path("runs").glob("mine-*-seeds/seed-*/config.yaml"))) == 2


def test_a_seed_that_diverges_does_not_keep_the_others_from_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = small(tmp_path, epochs=1)
    base = tmp_path / "seeds"
    for seed, lr in ((1, 1e30), (2, 1e-2)):
        changed = dataclasses.replace(settings, seed=seed, lr=lr, optimizer="sgd", clip="none")
        prepare(changed, base / f"seed-{seed}", say=silent).claim.release()
    assert main(["train", "--resume", str(base)]) == 2
    assert "1 of 2 trainings" in capsys.readouterr().err
    assert events(base / "seed-2") == ["started", "finished"]


def test_seeds_with_patience_tell_what_the_kept_networks_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = small(tmp_path, epochs=6, lr=0.5, optimizer="sgd", patience=2)
    base = tmp_path / "seeds"
    for seed in (1, 2):
        prepare(dataclasses.replace(settings, seed=seed), base / f"seed-{seed}", say=silent).claim.release()
    for seed in (1, 2):
        resume(base / f"seed-{seed}", say=silent)
        record = base / f"seed-{seed}" / "records.jsonl"
        lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
        last = next(line for line in reversed(lines) if line["kind"] == "valid")
        worse = {**last, "step": last["step"] + 1, "loss": 9.0, "metrics": {**last["metrics"], "loss": 9.0}}
        with record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(worse) + "\n" + json.dumps(lines[-1]) + "\n")
    capsys.readouterr()
    assert main(["train", "--resume", str(base)]) == 0
    told = capsys.readouterr().out
    best = [min(numbers(base / f"seed-{seed}", "valid"), key=lambda line: line["loss"]) for seed in (1, 2)]
    rows = {line.split("  ")[0].strip(): line.split()[-5:] for line in told.splitlines()}
    losses = [one["loss"] for one in best]
    expected = [f"{one:.4g}" for one in (*losses, sum(losses) / 2, min(losses), max(losses))]
    assert rows["loss"] == expected
    assert rows["best at step"][:2] == [f"{one['step']:.4g}" for one in best]
    assert rows["reach of l0"][:2] == [f"{one['reach']['l0']['steps']}" for one in best]


def test_what_is_not_as_usual_is_told_and_a_list_read_from_a_file_is_as_usual() -> None:
    plain = TrainSettings().to_dict()
    read = {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}
    assert TrainSettings.from_dict(read).chosen == []
    assert TrainSettings(hidden=5, penalty=["omega:2"], zoneout=0.1).chosen == ["hidden", "penalty", "zoneout"]


def test_seeds_name_metrics_as_everything_else_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = labelled(tmp_path, asked="number", epochs=1)
    base = tmp_path / "seeds"
    for seed in (1, 2):
        prepare(dataclasses.replace(settings, seed=seed), base / f"seed-{seed}", say=silent).claim.release()
    assert main(["train", "--resume", str(base)]) == 0
    names = [line.split("  ")[0].strip() for line in capsys.readouterr().out.splitlines()]
    assert {"loss", "RMSE", "MAE"} <= {*names}
    assert not {"rmse", "mae", "r2"} & {*names}
