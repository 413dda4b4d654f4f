"""Whatever stands in a run's folder: one of our own exceptions and nothing changed, or a run that ends well."""

from __future__ import annotations

import copy
import json
import math
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.support.runs import (
    keep_state,
    latest_of,
    load_state,
    numbers,
    sign,
    silent,
    small,
    stopped_run,
    straight,
)
from tests.support.whole import usual
from unvanish.errors import RunError, UnvanishError
from unvanish.record import CONFIG, RECORDS, RunRecord
from unvanish.report import write_report
from unvanish.train import Training, ending, load_model, prepare_resume, resume

LONG = "x" * 5000
PLAIN: list[Any] = [None, -1, 0, 7, 2**70, 1e308, "", [], {}, True, LONG, [[[1]]], {"a": {"b": None}}, "\x1b[31m"]
ARRAYS: list[Any] = [torch.zeros(3), torch.full((2, 2), math.nan), torch.zeros(0, dtype=torch.int8), math.nan, b"a"]
DICE = random.Random(1)
Path_ = tuple[Any, ...]


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no run write more than a word at its end."""
    monkeypatch.setattr(ending, "SAMPLE_LENGTH", 5)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in the middle of its second epoch, whose clip and penalty keep numbers."""
    changes: dict[str, Any] = {"engine": "reference", "clip": "zscore:2.5", "penalty": ["omega:2"], "layers": 1}
    return stopped_run(tmp_path_factory.mktemp("stopped"), step=11, **changes)


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(stopped, tmp_path / "copy"))


def places(value: Any, at: Path_ = ()) -> Iterator[Path_]:
    """Yield where something stands in nested data."""
    if at:
        yield at
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*at, name))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from places(inner, (*at, index))


def spoilt(value: Any, at: Path_, wrong: Any) -> Any:
    """Return a copy with something else at a place; `wrong` may be the ellipsis, for nothing at all."""
    made = copy.deepcopy(value)
    inner = made
    for name in at[:-1]:
        if isinstance(inner[name], tuple):
            inner[name] = list(inner[name])
        inner = inner[name]
    if wrong is ...:
        del inner[at[-1]]
    else:
        inner[at[-1]] = wrong
    return made


def unchanged(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def goes_on_or_is_refused(run: Path, share: float = 1.0) -> bool:
    """Load and resume: our own exception and nothing changed, or a run, a share of which is run to its end."""
    before = unchanged(run)
    try:
        if share == 1 or DICE.random() < share:
            load_model(run, say=silent)
        training = prepare_resume(run, say=silent)
    except UnvanishError:
        assert unchanged(run) == before
        return False
    if DICE.random() >= share:
        training.claim.release()
        return True
    training.run(silent)
    assert list(RunRecord(run).read("event"))[-1]["what"] == "finished"
    return True


# -- config.yaml ---------------------------------------------------------------------------------------


def test_no_field_of_the_configuration_brings_another_exception(stopped: Path, run: Path) -> None:
    config = yaml.safe_load((stopped / CONFIG).read_text(encoding="utf-8"))
    # A network or a text of another size is another run; these are tried one by one below.
    generator, ended, refused = random.Random(2), 0, 0
    for at in places(config):
        for wrong in generator.sample(PLAIN, 3) if at[0] in ("settings", "cell", "data") else [None, 2**70]:
            shutil.rmtree(run)
            shutil.copytree(stopped, run)
            changed = spoilt(config, at, wrong)
            (run / CONFIG).write_text(json.dumps(changed), encoding="utf-8")  # JSON is YAML
            went = goes_on_or_is_refused(run, 0.1)
            ended, refused = ended + went, refused + (not went)
    assert refused > 150
    assert ended


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
TEXTS = {
    "a billion laughs": (BOMB, "an alias"),
    "a nest": ("settings: " + "[" * 1000, "nested levels"),
    "a nest of lines": ("- " * 1000, "nested levels"),
    "a huge number": (f"seed: {'9' * 5000}", "a number of 5,000 digits"),
    "a huge number of another base": (f"seed: 0x{'f' * 5000}", "a number of 5,002 digits"),
    "a key twice": ("seed: 1\nseed: 2", "the key 'seed' twice"),
    "a number as a key": ("1: 2", "a key that is not a text"),
    "a merge": ("<<: {seed: 1}", "settings is missing"),
    "a tag": ("seed: !!python/name:os.system", "a tag"),
    "two documents": ("seed: 1\n---\nseed: 2", "another document"),
    "a character that is none": ('name: "\\UFFFFFFFF"', "cannot be read"),
    "no character of Unicode": ('name: "\\U00110000"', "cannot be read"),
    "a directive": ("%YAML 9.9\n---\nseed: 1", "incompatible"),
    "a list": ("- 1", "does not hold a run's configuration"),
    "nothing": ("", "does not hold a run's configuration"),
    "another format": ("format: 4", "newer unvanish"),
}


@pytest.mark.parametrize(("text", "says"), TEXTS.values(), ids=TEXTS)
def test_a_hostile_text_is_refused_at_once(run: Path, text: str, says: str) -> None:
    (run / CONFIG).write_text(text, encoding="utf-8")
    before = unchanged(run)
    for read in (load_model, prepare_resume):
        with pytest.raises(RunError) as caught:
            read(run)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
    assert unchanged(run) == before


FIELDS = {
    "settings.hidden": "--hidden is {}",
    "settings.lr": "--lr is {}",
    "settings.skips": "--skips is {}",
    "settings.source": "--source is {}",
    "settings.cell_options": "cell_options is {}",
    "cell.definition.equations": "cell.definition.equations is {}",
    "cell.latex": "cell.latex is {}",
    "data.digest": "data.digest is {}",
    "versions": "versions is {}",
    "created": "created is {}",
}


@pytest.mark.parametrize(("field", "says"), FIELDS.items(), ids=FIELDS)
def test_a_field_that_is_wrong_is_named_with_its_value(run: Path, field: str, says: str) -> None:
    config = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    config = spoilt(config, tuple(field.split(".")), True)
    (run / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
    with pytest.raises(RunError) as caught:
        prepare_resume(run)
    assert says.format(True) in str(caught.value)
    assert str(run / CONFIG) in str(caught.value)


# -- checkpoints ---------------------------------------------------------------------------------------


def test_no_part_of_a_training_state_brings_another_exception(stopped: Path, run: Path) -> None:
    state = load_state(stopped)
    generator, refused, ended = random.Random(3), 0, 0
    for at in places(state):
        ours = "unvanish" in at or "callbacks" in at
        for wrong in generator.sample([..., *PLAIN, *ARRAYS], usual(2, 3) if ours else 1):
            keep_state(run, spoilt(state, at, wrong))
            went = goes_on_or_is_refused(run, 0.1)
            ended, refused = ended + went, refused + (not went)
            if went:
                shutil.rmtree(run)
                shutil.copytree(stopped, run)
    assert refused > 200
    assert ended < refused / 4


def test_a_checkpoint_under_the_name_of_another_step_is_refused(run: Path) -> None:
    latest_of(run).rename(run / "checkpoints" / "step-99")
    with pytest.raises(RunError, match=r"step-99 does not fit its run: it is of step 11"):
        prepare_resume(run, say=silent)


@pytest.mark.parametrize("wrong", [None, [], 7, "text", {}, {"a": 1}, torch.zeros(2)], ids=str)
def test_a_state_that_is_none_is_refused(run: Path, wrong: Any) -> None:
    keep_state(run, wrong)
    with pytest.raises(RunError, match="is not a checkpoint of a run"):
        prepare_resume(run, say=silent)


def test_no_weights_bring_another_exception(run: Path) -> None:
    path = latest_of(run) / "weights.safetensors"
    weights = load_file(path)
    for name, value in weights.items():
        nan = torch.full_like(value, math.nan)
        for wrong in (nan, value.double(), value.long(), value[:1].clone(), value.flatten()[:0].clone(), None):
            others = {other: array for other, array in weights.items() if other != name}
            save_file(others if wrong is None else {**others, name: wrong}, path)
            sign(path.parent)
            for read in (load_model, prepare_resume):
                with pytest.raises(RunError, match="does not fit"):
                    read(run, say=silent)
    save_file({**weights, "more": torch.zeros(1)}, path)
    sign(path.parent)
    with pytest.raises(RunError, match=r"does not fit its run.*more"):
        load_model(run, say=silent)
    path.write_bytes(b"\xff" * 200)
    sign(path.parent)
    with pytest.raises(RunError, match="does not hold weights"):
        load_model(run, say=silent)


# -- records.jsonl -------------------------------------------------------------------------------------

LINES = [
    "[" * 100_000,
    '{"step": 1, "seconds": ' + "9" * 5000 + "}",
    '{"kind": "event", "step": 1, "seconds": "long", "what": ["finished"], "text": {}}',
    '{"kind": "valid", "step": 1, "loss": NaN, "reach": {"l0": 7}}',
    '{"kind": "sample", "step": 1, "prompt": 7, "text": null}',
    '{"kind": ["step"], "step": 1}',
    '{"kind": "remedy", "step": 1, "name": [], "asked": {}, "profiles": "none"}',
    '{"kind": "step", "step": 1e400, "loss": 1}',
    '{"kind": "step", "step": -5}',
    '{"kind": "event", "step": 9, "what": "\\ud800"}',
]


def test_no_line_of_the_record_brings_another_exception(stopped: Path, run: Path) -> None:
    lines = [json.loads(line) for line in (stopped / RECORDS).read_text(encoding="utf-8").splitlines()]
    kinds = {line["kind"]: line for line in lines}
    generator = random.Random(4)
    made = list(LINES)
    for line in kinds.values():
        for at in places(line):
            if len(at) < 4 or generator.random() < 0.02:
                made += [json.dumps(spoilt(line, at, wrong)) for wrong in generator.sample(PLAIN, 4)]
    with (run / RECORDS).open("a", encoding="utf-8") as stream:
        stream.write("\n".join(made) + "\n")
    write_report(run)
    (run / "report.html").unlink()
    assert len(made) > 150
    assert goes_on_or_is_refused(run)
    write_report(run)


def test_hostile_lines_do_not_stand_between_a_run_and_its_numbers(run: Path, tmp_path: Path) -> None:
    with (run / RECORDS).open("a", encoding="utf-8") as stream:
        stream.write("\n".join(line for line in LINES if '"kind": "' not in line) + "\n")
    resume(run, say=silent)
    kept = RunRecord(run).config["settings"]
    whole = straight(small(tmp_path, **{**kept, "source": str(tmp_path / "text.txt")}), tmp_path / "whole")
    assert numbers(run, "step", "valid", "sample") == numbers(whole, "step", "valid", "sample")


def test_a_pipe_in_the_place_of_a_file_does_not_hang(run: Path) -> None:
    for path in (run / CONFIG, run / RECORDS, latest_of(run) / "state.ckpt"):
        content = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        for read in (load_model, prepare_resume):
            told: list[str] = []
            if path.parent == run:
                with pytest.raises(RunError, match="is not a run"):
                    read(run, say=told.append)
            else:
                found = read(run, say=told.append)
                assert "step-11 is damaged" in told[0]
                if isinstance(found, Training):
                    found.claim.release()
        path.unlink()
        path.write_bytes(content)
