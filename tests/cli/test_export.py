"""A run that is taken out of Python answers as its network does, and what its numbers mean lies beside it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from tests.support.runs import forecast, labelled, small, straight
from unvanish.cli import main
from unvanish.data.tokens import symbols_of
from unvanish.train import TrainSettings, load_run
from unvanish.train.model import Inputs

COLOURS, WAYS = ("red", "green", ""), ("up", "down")


def test_a_run_of_words_as_onnx_goes_on_as_the_network(tmp_path: Path) -> None:
    settings = dataclasses.replace(small(tmp_path, 2600, epochs=1), kind="words", tied=True)
    run = straight(settings, tmp_path / "run")
    out = tmp_path / "words.onnx"
    assert main(["export", str(run), "--out", str(out)]) == 0
    told = json.loads((tmp_path / "words.onnx.json").read_text(encoding="utf-8"))
    symbols = symbols_of(told["question"])
    x_TB = symbols.encode("the storm of the sea")[:, None]
    session = onnxruntime.InferenceSession(out)
    zeros = {one.name: np.zeros((2, 1, 8), np.float32) for one in session.get_inputs() if one.name != "input"}
    found = session.run(None, {"input": x_TB.numpy(), **zeros})[0]
    with torch.no_grad():
        expected, _ = load_run(run).model(x_TB)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert (told["kind"], told["answers"]) == ("text", "every step")


@pytest.mark.parametrize("kind", ["labels", "forecast"])
def test_runs_on_numbers_become_one_file_of_c(kind: str, tmp_path: Path) -> None:
    settings = labelled(tmp_path, epochs=1) if kind == "labels" else forecast(tmp_path, length=20, epochs=1)
    run = straight(settings, tmp_path / "run")
    assert main(["export", str(run), "--to", "c"]) == 0
    assert "model_step" in (run / "model.c").read_text(encoding="utf-8")
    told = json.loads((run / "model.c.json").read_text(encoding="utf-8"))
    assert told["answers"] == "the last step"
    assert told["question"]["encoding"] == load_run(run).question.kept()["encoding"]


@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_words_beside_numbers_are_read_in_their_places(to: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [
        f"{series},{step},{rng.normal():.3f},{rng.choice(COLOURS)},{rng.choice(WAYS)},{label}"
        for series, label in enumerate(rng.choice(["yes", "no"], 30))
        for step in range(6)
    ]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["id,t,x,colour,way,label", *rows]) + "\n", encoding="utf-8")
    settings = TrainSettings(
        source=str(table),
        target=["label"],
        group="id",
        time="t",
        hidden=6,
        layers=1,
        epochs=1,
        device="cpu",
        probes=1,
    )
    run = straight(settings, tmp_path / "run")
    assert main(["export", str(run), "--to", to]) == 0
    ending = {"onnx": "onnx", "torch": "pt2"}[to]
    told = json.loads((run / f"model.{ending}.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in told["one_hot"]] == ["colour", "way"]
    places = [one["places"] for one in told["one_hot"]]
    assert places[0][0] is None
    network = load_run(run).model
    numbers_TBF = torch.randn(5, 3, 1)
    codes_TBC = torch.stack([torch.randint(len(one), (5, 3)) for one in places], -1)
    hot = [torch.nn.functional.one_hot(codes_TBC[..., c], len(one)).float() for c, one in enumerate(places)]
    x_TBI = torch.cat([numbers_TBF, *hot], -1)
    with torch.no_grad():
        expected = network(Inputs(numbers_TBF, codes_TBC))[0]
    states = [torch.zeros(1, 3, 6), torch.zeros(1, 3, 6)]
    if to == "onnx":
        session = onnxruntime.InferenceSession(run / "model.onnx")
        zeros = {"h_0": states[0].numpy(), "c_0": states[1].numpy()}
        found = session.run(None, {"input": x_TBI.numpy(), **zeros})[0][-1]
    else:
        found = torch.export.load(run / "model.pt2").module()(x_TBI, tuple(states))[0][-1].detach().numpy()
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert main(["export", str(run), "--to", "c"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "onxx"], "did you mean 'onnx'"),
        (["--to", "c", "--streaming"], "runs step by step"),
        (["--out", "run/config.yaml/model.onnx"], "config.yaml is a file, not a folder"),
        (["--out", "model.so"], "ends like no format"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    run = straight(labelled(tmp_path, epochs=1), tmp_path / "run")
    assert main(["export", str(run), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_an_export_that_fails_leaves_nothing_and_the_file_before_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = straight(labelled(tmp_path, epochs=1), tmp_path / "run")
    out = tmp_path / "here" / "model.onnx"
    out.parent.mkdir()
    out.write_text("the one before", encoding="utf-8")
    monkeypatch.setattr("unvanish.train.parts.beside", lambda loaded: {"no JSON": object()})
    with pytest.raises(TypeError):
        main(["export", str(run), "-o", str(out)])
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"]
    assert out.read_text(encoding="utf-8") == "the one before"
