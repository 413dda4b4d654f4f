"""A run's folder is data: nothing in it is executed, damage is told, a cell of one's own comes back from it."""

from __future__ import annotations

import pickle
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.support.runs import (
    assert_same_run,
    at_step,
    interrupt,
    keep_state,
    latest_of,
    load_state,
    numbers,
    sign,
    silent,
    small,
    state_of,
    stopped_run,
    straight,
)
from unvanish import Cell
from unvanish.errors import OptionError, RunError
from unvanish.record import CONFIG, RECORDS, RunRecord
from unvanish.train import generate, load_model, resume, train
from unvanish.train.checkpoint import Checkpoints

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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, not stopped."""
    folder = tmp_path_factory.mktemp("whole")
    return straight(small(folder), folder / "run")


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(stopped, tmp_path / "copy"))


# -- whole or not at all -------------------------------------------------------------------------------


def copy_of(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_two_checkpoints_are_kept_and_a_program_of_the_system_finds_them_intact(run: Path) -> None:
    assert [path.name for path in Checkpoints(run).found()] == ["step-5", "step-0"]
    for path in Checkpoints(run).found():
        subprocess.run(
            ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=path, check=True, capture_output=True
        )


def test_a_flipped_bit_anywhere_is_found_and_the_checkpoint_before_is_taken(run: Path) -> None:
    latest, generator, count = latest_of(run), random.Random(1), 0
    for path in sorted(latest.iterdir()):
        content = path.read_bytes()
        for part in range(200):
            place = len(content) * part // 200 * 8 + generator.randrange(8)
            flipped = bytearray(content)
            flipped[place // 8] ^= 1 << place % 8
            path.write_bytes(flipped)
            told: list[str] = []
            assert Checkpoints(run).latest(told.append).path.name == "step-0"
            assert len(told) == 1
            assert str(latest) in told[0]
            count += 1
        path.write_bytes(content)
    assert count == 600
    assert Checkpoints(run).latest(pytest.fail).path == latest


FILES = ["state.ckpt", "weights.safetensors", "SHA256SUMS"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["empty", "half", "gone", "a folder"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(whole: Path, run: Path, damage: str, name: str) -> None:
    path = latest_of(run) / name
    content = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes(content[: len(content) // 2] if damage == "half" else b"")
    told: list[str] = []
    load_model(run, say=told.append)
    resume(run, say=told.append)
    words = [line for line in told if "the checkpoint before it is used, step-0" in line]
    assert len(words) == 2
    assert all(line.startswith(str(latest_of(run).parent / "step-5")) for line in words)
    assert_same_run(whole, run)
    assert len(Checkpoints(run).found()) == 2


def test_no_intact_checkpoint_is_told_and_nothing_is_changed(run: Path) -> None:
    for path in Checkpoints(run).found():
        (path / "state.ckpt").write_bytes(b"torn")
    before = copy_of(run)
    for read in (load_model, resume):
        with pytest.raises(RunError, match=r"step-5 is damaged: state.ckpt .*no other checkpoint is intact"):
            read(run)
    assert copy_of(run) == before


def test_a_missing_checkpoint_is_told(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    before = copy_of(run)
    for read in (load_model, resume):
        with pytest.raises(RunError, match="has no checkpoint: restore"):
            read(run)
    assert copy_of(run) == before


def test_state_and_weights_are_of_the_same_step(run: Path) -> None:
    for path in Checkpoints(run).found():
        kept, state = load_file(path / "weights.safetensors"), torch.load(path / "state.ckpt", weights_only=True)
        assert f"step-{state['global_step']}" == path.name
        assert all(torch.equal(state["state_dict"][f"model.{name}"], value) for name, value in kept.items())


def test_a_run_of_version_0_1_goes_on_from_its_one_state(whole: Path, run: Path) -> None:
    """Its weights may be those of an earlier step: it was killed between the two."""
    folder = run / "checkpoints"
    (folder / "step-5" / "state.ckpt").rename(folder / "state.ckpt")
    (folder / "step-0" / "weights.safetensors").rename(folder / "weights.safetensors")
    for name in ("step-0", "step-5"):
        shutil.rmtree(folder / name)
    config = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    assert config.pop("format") == 3
    (run / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
    model, _, _ = load_model(run)
    state = torch.load(folder / "state.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(state[f"model.{name}"], value) for name, value in model.state_dict().items())
    resume(run, say=silent)
    assert_same_run(whole, run)
    assert sorted(path.name for path in folder.iterdir()) == ["step-16", "step-8"]


def test_what_a_kill_left_half_written_is_removed(run: Path) -> None:
    (run / "checkpoints" / ".step-9.abc").mkdir()
    (run / "checkpoints" / ".step-9.abc" / "state.ckpt").write_bytes(b"half")
    for name in (".config.yaml.abc", ".records.jsonl.abc", ".report.html.abc", ".lock"):
        (run / name).write_bytes(b"half")
    resume(run, say=silent)
    assert not list(run.rglob(".*"))


def test_a_record_that_ends_before_the_checkpoint_is_told(run: Path) -> None:
    lines = (run / RECORDS).read_bytes().splitlines(keepends=True)
    (run / RECORDS).write_bytes(b"".join(lines[:-4]) + lines[-4][:9])
    told: list[str] = []
    resume(run, say=told.append)
    assert f"{run}: the record ends before the checkpoint; 3 lines of it are lost" in told
    assert "3 lines are lost" in list(RunRecord(run).read("event"))[-2]["text"]


# -- nothing is executed -------------------------------------------------------------------------------


@pytest.mark.parametrize("wraps", [False, True], ids=["bare pickle", "in torch's archive"])
def test_a_checkpoint_is_never_unpickled(run: Path, tmp_path: Path, wraps: bool) -> None:
    trap = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Malicious(trap)))
    assert trap.exists(), "the trap works"
    trap.unlink()
    if wraps:
        keep_state(run, {**load_state(run), "more": Malicious(trap)})
    else:
        state_of(run).write_bytes(pickle.dumps(Malicious(trap)))
        sign(latest_of(run))
    with pytest.raises(RunError, match="is not a checkpoint of a run"):
        resume(run, say=silent)
    assert not trap.exists()


def test_a_checkpoint_of_something_else_is_told(run: Path) -> None:
    keep_state(run, {"weights": torch.ones(3)})
    with pytest.raises(RunError, match="is not a checkpoint of a run"):
        resume(run, say=silent)


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
