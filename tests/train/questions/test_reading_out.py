"""What a sequence is judged by is the output of its own last step, or the mean of its own steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.runs import events, labelled, silent, small
from unvanish.record import RunRecord
from unvanish.train import load_run, resume, train
from unvanish.train.model import Inputs

LENGTHS = (9, 4, 1, 6)


@pytest.mark.parametrize(
    "changes", [{}, {"bidirectional": True}, {"pool": "mean"}, {"pool": "mean", "proj_size": 3}], ids=str
)
def test_a_row_of_a_padded_batch_is_answered_as_if_it_were_alone(
    changes: dict[str, object], tmp_path: Path
) -> None:
    train(labelled(tmp_path, layers=2, epochs=1, **changes), tmp_path / "run", say=silent)
    model = load_run(tmp_path / "run").model
    numbers = torch.randn(max(LENGTHS), len(LENGTHS), 2)
    codes = torch.zeros(max(LENGTHS), len(LENGTHS), 0, dtype=torch.long)
    with torch.no_grad():
        together, _ = model(Inputs(numbers, codes, torch.tensor(LENGTHS)))
        for row, length in enumerate(LENGTHS):
            alone, _ = model(Inputs(numbers[:length, [row]], codes[:length, [row]]))
            torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-5)
            other = numbers.clone()
            other[length:, row] = 7.0
            padded, _ = model(Inputs(other, codes, torch.tensor(LENGTHS)))
            torch.testing.assert_close(padded[row], together[row])


def test_a_time_limit_stops_and_saves_what_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    settings = small(tmp_path, 1500, epochs=2, time_limit=1e-6)
    outcome = train(settings, tmp_path / "run", say=silent)
    assert "time limit of 1e-06 minutes" in outcome.stopped
    assert not outcome.interrupted
    assert events(tmp_path / "run")[-1] == "stopped"
    steps = [line["step"] for line in RunRecord(tmp_path / "run").read("step")]
    assert steps == [1]
    assert "time limit" in resume(tmp_path / "run", say=silent).stopped, "it counts from each start"
    assert [line["step"] for line in RunRecord(tmp_path / "run").read("step")] == [1, 2]
