"""A run's folder is data: nothing in it is executed, damage is told, a cell of one's own comes back from it."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from tests.train.runs import (
    assert_same_run,
    at_step,
    interrupt,
    numbers,
    silent,
    small,
    state_of,
    stopped_run,
    straight,
)
from unvanish import Cell
from unvanish.errors import OptionError, RunError
from unvanish.record import CONFIG
from unvanish.train import generate, load_model, resume, train

OWN = Cell(
    "own_cell",
    """
        g    = sigmoid(W_g @ x[t] + V_g @ h[t-d] + b_g)
        h[t] = where(t % 2 == 0, g * squash(W @ x[t] + U @ h[t-1] + b), rest * h[t-1])
    """,
    delays={"d": 3},
    functions={"squash": "tanh"},
    numbers={"rest": 0.9},
    initial={"b_g": 1.5},
    cite="ours",
)


class Malicious:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in the middle."""
    return stopped_run(tmp_path_factory.mktemp("stopped"))


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(stopped, tmp_path / "copy"))


@pytest.mark.parametrize("wraps", [False, True], ids=["bare pickle", "in torch's archive"])
def test_a_checkpoint_is_never_unpickled(run: Path, tmp_path: Path, wraps: bool) -> None:
    trap = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Malicious(trap)))
    assert trap.exists(), "the trap works"
    trap.unlink()
    if wraps:
        state = torch.load(state_of(run), weights_only=True)
        torch.save({**state, "more": Malicious(trap)}, state_of(run))
    else:
        state_of(run).write_bytes(pickle.dumps(Malicious(trap)))
    with pytest.raises(RunError, match="is no checkpoint of a run"):
        resume(run, say=silent)
    assert not trap.exists()


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not an archive", None], ids=["empty", "torn", "half"])
def test_a_damaged_checkpoint_is_told_and_left(run: Path, damage: bytes | None) -> None:
    content = state_of(run).read_bytes()
    damage = content[: len(content) // 2] if damage is None else damage
    state_of(run).write_bytes(damage)
    with pytest.raises(RunError, match="is no checkpoint of a run"):
        resume(run, say=silent)
    assert state_of(run).read_bytes() == damage


def test_a_checkpoint_of_something_else_is_told(run: Path) -> None:
    torch.save({"weights": torch.ones(3)}, state_of(run))
    with pytest.raises(RunError, match="is no checkpoint of a run"):
        resume(run, say=silent)


def test_a_missing_checkpoint_is_told(run: Path) -> None:
    state_of(run).unlink()
    with pytest.raises(RunError, match=r"there is no checkpoint .* start the run anew"):
        resume(run, say=silent)


@pytest.mark.parametrize("kept", [0, 7, 100, -1], ids=["empty", "header cut", "half a header", "a byte short"])
def test_damaged_weights_are_told(run: Path, kept: int) -> None:
    path = run / "checkpoints" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(RunError, match=r"cannot be loaded: .*restore it or train anew"):
        load_model(run)
    path.unlink()
    with pytest.raises(RunError, match="has no weights yet"):
        load_model(run)


@pytest.mark.parametrize("read", [load_model, lambda run: resume(run, say=silent)], ids=["load", "resume"])
@pytest.mark.parametrize(
    "damage",
    [
        {"settings": None},
        {"settings": {"hidden": 16}},
        {"settings": {"lr": "fast"}},
        {"cell": {}},
        {"cell": 7},
        {"data": {"characters": 7, "digest": ""}},
        {"data": None},
    ],
    ids=str,
)
def test_a_damaged_configuration_is_told(
    run: Path, damage: dict[str, object], read: Callable[[Path], object]
) -> None:
    config = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    settings = damage.get("settings")
    if isinstance(settings, dict):
        damage = {"settings": {**config["settings"], **settings}}
    (run / CONFIG).write_text(yaml.safe_dump({**config, **damage}), encoding="utf-8")
    with pytest.raises((RunError, OptionError)):
        read(run)


def test_a_tag_of_python_in_the_configuration_is_not_executed(run: Path, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    line = f"trap: !!python/object/apply:os.system ['touch {trap}']\n"
    (run / CONFIG).write_text((run / CONFIG).read_text(encoding="utf-8") + line, encoding="utf-8")
    for read in (load_model, resume):
        with pytest.raises(RunError, match="cannot be read"):
            read(run)
    assert not trap.exists()


def test_a_cell_of_ones_own_comes_back_from_the_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small(tmp_path, cell="own_cell", cell_options={"d": 2, "squash": "sin"}, dropout=0.2, probes=0)
    once = straight(settings, tmp_path / "once", cell=OWN)
    with monkeypatch.context() as patch:
        at_step(11, interrupt, patch)
        train(settings, tmp_path / "run", cell=OWN, say=silent)
    resume(tmp_path / "run", say=silent)
    assert_same_run(once, tmp_path / "run")
    model, vocabulary, config = load_model(tmp_path / "run")
    assert (config["cell"]["name"], config["cell"]["cite"]) == ("own_cell", "ours")
    assert model.recurrent.cell.to_dict() == OWN.to_dict()
    sample = numbers(once, "sample")[-1]
    written = generate(model, vocabulary, sample["prompt"], 400, 0.8, settings.seed)
    assert written == sample["text"], "the weights in the folder are those that the run ended with"
