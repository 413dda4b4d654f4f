"""Text that is documents, and windows of random lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.runs import assert_same_run, labelled, load_state, numbers, silent, small, stopped_run, straight
from unvanish.errors import OptionError
from unvanish.train import TrainSettings, load_run, prepare, resume
from unvanish.train.parts import parts_of_run
from unvanish.train.questions import read_material


def test_nothing_is_carried_over_the_border_of_a_document(tmp_path: Path) -> None:
    run = straight(small(tmp_path, document_mark=r"\n", epochs=1), tmp_path / "run")
    found = load_run(run)
    assert found.settings.document_mark == "\n"
    symbols = found.question.symbols  # type: ignore[attr-defined]
    one, other = (symbols.encode(f"{words}\nthe sea and the storm\ncalm")[:, None] for words in ("moon", "wind"))
    assert not torch.equal(one, other)
    with torch.no_grad():
        answers = [found.model(x)[0][:, 0] for x in (one, other)]
    assert torch.equal(answers[0][4:], answers[1][4:]), "from the mark on"
    assert not torch.equal(answers[0][:4], answers[1][:4])
    with torch.no_grad():
        alone = found.model(one[4:])[0][:, 0]
    torch.testing.assert_close(answers[0][4:], alone)
    assert parts_of_run(found).mark == symbols.encode("\n").item()


def test_a_run_on_documents_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    asked: dict[str, Any] = {
        "document_mark": "\n",
        "random_windows": True,
        "length": 24,
        "dropout": 0.3,
        "epochs": 3,
    }
    whole = straight(small(tmp_path, 900, **asked), tmp_path / "whole")
    assert len(numbers(whole, "step")) >= 12
    part = stopped_run(tmp_path / "part", 6, characters=900, **asked)
    assert load_state(part)["global_step"] == 6
    resume(part, say=silent)
    assert_same_run(whole, part)


def test_random_windows_hold_every_step_once_and_differ_from_epoch_to_epoch(tmp_path: Path) -> None:
    material = read_material(small(tmp_path, 3000, random_windows=True, length=40))
    plain = read_material(small(tmp_path, 3000, length=40))
    borders = []
    for epoch in range(3):
        material.epoch = lambda epoch=epoch: epoch  # type: ignore[misc]
        batches = list(material.train())
        assert len(batches) == len(material.train()) == len(plain.train())
        for place in (0, 1):
            whole = torch.cat([one[place] for one in plain.train()])
            assert torch.equal(torch.cat([one[place] for one in batches]), whole)
        borders.append([len(x) for x, _ in batches])
        assert min(borders[-1]) >= 1
    assert borders[0] != borders[1] != borders[2]


@pytest.mark.parametrize("together", [1, 3])
def test_a_short_window_gets_a_smaller_step(tmp_path: Path, together: int) -> None:
    settings = small(tmp_path, 3000, random_windows=True, length=40, epochs=1, accumulate=together)
    run = straight(settings, tmp_path / "run")
    lengths = [len(x) for x, _ in read_material(settings).train()]
    steps = [lengths[start : start + together] for start in range(0, len(lengths), together)]
    rates = [line["learning_rate"] for line in numbers(run, "step")]
    assert rates == pytest.approx([settings.lr * sum(step) / len(step) / 40 for step in steps])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"document_mark": "the"}, "is not one character"),
        ({"document_mark": "#"}, "is not one character"),
        ({"random_windows": True, "length": 12}, "--random-windows"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        prepare(small(tmp_path, **changes), tmp_path / "run", say=silent)


def test_they_are_for_text(tmp_path: Path) -> None:
    for changes in ({"document_mark": "a"}, {"random_windows": True}):
        with pytest.raises(OptionError, match="is for text"):
            prepare(TrainSettings(**{**labelled(tmp_path).to_dict(), **changes}), tmp_path / "run", say=silent)
