"""The task of agreement in a training, and the corpora of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.runs import numbers, silent, straight
from unvanish import cells
from unvanish.cli import main
from unvanish.errors import DataError, OptionError, RunError, UnvanishError
from unvanish.report import write_report
from unvanish.tasks import Agreement
from unvanish.tasks.agreement import COLUMNS, NOUNS, WORDS
from unvanish.train import TrainSettings, load_model, load_run, prepare
from unvanish.train.questions import read_material
from unvanish.train.questions.agreement import AgreementQuestion

SINGULARS, PLURALS = ({pair[place] for pair in NOUNS} for place in (0, 1))
SMALL = TrainSettings(
    task="agreement",
    distance=9,
    attractors=1,
    hidden=32,
    layers=1,
    epochs=5,
    device="cpu",
    probes=1,
    lr=0.02,
)


def test_it_is_learnt_and_told_by_distance_and_attractors(tmp_path: Path) -> None:
    run = straight(SMALL, tmp_path / "run")
    metrics = numbers(run, "valid")[-1]["metrics"]
    assert metrics["accuracy"] >= 0.99, "solved, as the task says"
    cells = [name for name in metrics if name.startswith("accuracy, ")]
    assert cells == [
        "accuracy, 1 step, 0 attractors",
        "accuracy, 5 steps, 0 attractors",
        "accuracy, 6 steps, 0 attractors",
        "accuracy, 8 steps, 0 attractors",
        "accuracy, 8 steps, 1 attractor",
        "accuracy, 9 steps, 0 attractors",
        "accuracy, 9 steps, 1 attractor",
    ]
    assert numbers(run, "need")[0]["lag"] == 9
    model = load_run(run).model
    fresh = Agreement(9, 1).draw(500, seed=99, hard=True)
    with torch.no_grad():
        answer = model(1 + fresh.codes_TB[:-1])[0]
    right = Agreement(9, 1).accuracy(answer[..., 1:], fresh)
    assert right == pytest.approx(metrics["accuracy, 9 steps, 1 attractor"], abs=0.03)
    page = write_report(run).read_text(encoding="utf-8")
    assert "of the verbs the number of their subject" in page
    assert "steps to the subject" in page
    with pytest.raises(RunError, match="is not a run on text"):
        load_model(run)
    assert main(["evaluate", str(run), __file__]) == 2


def test_a_network_that_knows_nothing_and_one_that_keeps_the_latest_noun() -> None:
    """The metrics, of answers that are made by hand."""
    question, settings = (
        AgreementQuestion(),
        TrainSettings(task="agreement", distance=12, attractors=2, batch_size=8),
    )
    material = read_material(settings)
    model = question.network(cells["rnn"], material.settings)
    latest: dict[str, torch.Tensor] = {}
    for _, y in material.valid():
        answer = torch.zeros(*y.shape, 1 + len(WORDS))
        number = {code + 1: word for code, word in enumerate(WORDS)}
        for row in range(y.shape[1]):
            nouns = [number[int(code)] for code in y[:-3, row] if number[int(code)] in PLURALS | SINGULARS]
            answer[-3, row, 1 + WORDS.index("were" if nouns[-1] in PLURALS else "was")] = 5.0
        for name, value in question.judge(model, answer, y).items():
            latest[name] = latest.get(name, torch.tensor(0.0)) + value
    metrics = question.metrics(latest)
    for name, value in metrics.items():
        if name.startswith("accuracy, "):
            assert value == (1.0 if "0 attractors" in name else 0.0), name
    assert dict(material.baselines())["agreeing with the latest noun"]["accuracy"] == pytest.approx(
        metrics["accuracy"]
    )


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    for changes, told in (
        ({"distance": 5, "attractors": 1}, "do not fit"),
        ({"length": 5}, "reads sentences whole"),
        ({"task": "agrement"}, "did you mean 'agreement'"),
    ):
        with pytest.raises(OptionError, match=told):
            prepare(TrainSettings(**{"task": "agreement", **changes}), tmp_path / "run", say=silent)
    assert not (tmp_path / "run").exists()


def test_a_run_of_the_task_says_that_it_answers_of_nothing_else(tmp_path: Path) -> None:
    settings = TrainSettings(task="agreement", distance=5, attractors=0, hidden=4, layers=1, epochs=1, probes=1)
    loaded = load_run(straight(settings, tmp_path / "run"))
    for ask in (loaded.predict, loaded.evaluate):
        with pytest.raises(UnvanishError, match="draws its own sentences"):
            ask(tmp_path / "run")
    with pytest.raises(OptionError, match="not on text"):
        loaded.generate("the cat")


def test_a_corpus_of_others(tmp_path: Path) -> None:
    path = tmp_path / "corpus.tsv"
    rows = []
    for seed in range(300):
        found = Agreement(8).draw(1, seed)
        words = found.text()[0]
        verb = "VBP" if bool(found.plural_B[0]) else "VBZ"
        rows.append(f"{words}\t{verb}\t{found.verb + 1}\t8\t0")
    head = "\t".join(COLUMNS)
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    settings = TrainSettings(
        str(path), task="agreement", hidden=16, layers=1, epochs=40, device="cpu", probes=1, lr=0.02
    )
    run = straight(settings, tmp_path / "run")
    assert numbers(run, "valid")[-1]["metrics"]["accuracy"] > 0.9
    path.write_text("\ufeff" + path.read_text(encoding="utf-8"), encoding="utf-8")
    loaded = load_run(run)
    answered = loaded.predict(path)
    assert set(answered["verb"]) == {"singular", "plural"}
    verbs = ["plural" if "VBP" in row else "singular" for row in rows]
    right = float(np.mean([one == verb for one, verb in zip(answered["verb"], verbs, strict=True)]))
    assert loaded.evaluate(path).metrics["accuracy"] == pytest.approx(right)
    path.write_text(head + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="no rows"):
        prepare(settings, tmp_path / "other", say=silent)
