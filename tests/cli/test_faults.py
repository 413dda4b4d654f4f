"""Whatever is given wrongly ends with status 2 and one line that says so; --debug shows the traceback as well."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.runs import make_text, state_of, stopped_run
from unvanish.cli import main
from unvanish.train.checkpoint import Checkpoints


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in the middle."""
    return stopped_run(tmp_path_factory.mktemp("stopped"))


@pytest.fixture
def place(stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files good and bad, to stand in."""
    (tmp_path / "good.txt").write_text(make_text(420), encoding="utf-8")
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "binary.bin").write_bytes(b"\x7fELF\0\0")
    (tmp_path / "latin.txt").write_bytes(b"na\xefve")
    (tmp_path / "short.txt").write_text("too short", encoding="utf-8")
    (tmp_path / "narrow.txt").write_text(make_text(200), encoding="utf-8")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work", encoding="utf-8")
    shutil.copytree(stopped, tmp_path / "run")
    shutil.copytree(stopped, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "checkpoints")
    shutil.copytree(stopped, tmp_path / "torn")
    state_of(tmp_path / "torn").write_bytes(b"torn")
    for path in Checkpoints(tmp_path / "torn").found():
        (path / "weights.safetensors").write_bytes(b"torn")
    shutil.copytree(stopped, tmp_path / "broken")
    (tmp_path / "broken" / "config.yaml").write_text("name: [1\n", encoding="utf-8")
    (tmp_path / "bomb").mkdir()
    shutil.copytree(stopped, tmp_path / "bomb", dirs_exist_ok=True)
    (tmp_path / "bomb" / "config.yaml").write_text("a: &a [x]\nb: *a\n", encoding="utf-8")
    (tmp_path / "loop").symlink_to("loop")
    shutil.copytree(tmp_path / "bare", tmp_path / "looping")
    (tmp_path / "looping" / "checkpoints").symlink_to("checkpoints")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "piped").mkdir()
    os.mkfifo(tmp_path / "piped" / "train.txt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


GOOD = "train good.txt --hidden 8 --length 12 --batch-size 4 --out new"
FAULTS = {
    "train empty.txt": "empty.txt is empty",
    "train binary.bin": "is a binary file",
    "train latin.txt": "is not UTF-8 text",
    "train short.txt": "fewer than one window of 50 steps",
    "train narrow.txt": "use --batch-size 3",
    "train no/such.txt": "the file no/such.txt does not exist",
    "train full": "full holds nothing that is known: name a file, or a folder with train.txt",
    "train good.txt again.txt": "again.txt",
    f"{GOOD} --cell lstn": "unknown cell 'lstn': did you mean 'lstm'",
    f"{GOOD} --hidden 0": "--hidden is 0",
    f"{GOOD} --hidden -3": "--hidden is -3",
    f"{GOOD} --hidden abc": "'--hidden'",
    f"{GOOD} --hidden 1000000000": "lower --hidden or --layers",
    f"{GOOD} --layers 0": "--layers is 0",
    f"{GOOD} --length -1": "--length is -1",
    f"{GOOD} --batch-size -1": "--batch-size is -1",
    f"{GOOD} --epochs -1": "--epochs is -1",
    f"{GOOD} --valid-every -1": "--valid-every is -1",
    f"{GOOD} --probes -1": "--probes is -1",
    f"{GOOD} --seed -1": "--seed is -1",
    f"{GOOD} --lr nan": "--lr is nan",
    f"{GOOD} --lr -1": "--lr is -1",
    f"{GOOD} --lr 1e300": "--lr is 1e+300",
    f"{GOOD} --dropout 1": "--dropout is 1.0",
    f"{GOOD} --optimizer adams": "unknown optimizer 'adams': did you mean 'adam'",
    f"{GOOD} --clip foo": "unknown clip 'foo'",
    f"{GOOD} --clip nrom:1": "unknown clip 'nrom': did you mean 'norm'",
    f"{GOOD} --clip norm:-1": "the clip 'norm:-1' cannot be made",
    f"{GOOD} --clip value:nan": "'nan' is not a number",
    f"{GOOD} --penalty omga:2": "unknown penalty 'omga' in 'omga:2': did you mean 'omega'",
    f"{GOOD} --penalty omega": "the penalty 'omega' has no weight",
    f"{GOOD} --penalty omega:1 --penalty omega-paper:2": "--penalty omega:1 is one of two of its kind",
    f"{GOOD} --penalty omega:2 --weight-drop 0.1": "Omega differentiates by matrices that weight_drop thins",
    f"{GOOD} --penalty orthogonal:1 --cell clockwork_rnn": "leave Orthogonality out",
    f"{GOOD} --init chrno:784": "unknown initialiser 'chrno': did you mean 'chrono'",
    f"{GOOD} --init chrono": "'chrono' has 0 numbers after its name",
    f"{GOOD} --init orthogonal --init forget:1 --cell rnn": "rnn",
    f"{GOOD} --connect residul": "connect='residul': did you mean 'residual'",
    f"{GOOD} --connect residual --layers 1": "joins layers, and this stack has one",
    f"{GOOD} --layer-norm --hidden 1": "layer_norm over one unit leaves nothing",
    f"{GOOD} --skips 5,x": "--skips 5,x is not understood",
    f"{GOOD} --skips 1": "give delays of 2 steps or more",
    f"{GOOD} --constrain orthogonl": "unknown constraint 'orthogonl': did you mean 'orthogonal'",
    f"{GOOD} --recurrent-dropout 1": "--recurrent-dropout is 1.0",
    f"{GOOD} --zoneout nan": "--zoneout is nan",
    f"{GOOD} --weight-drop -0.1": "--weight-drop is -0.1",
    f"{GOOD} --set nonsense": "--set nonsense is not understood: write NAME=VALUE",
    f"{GOOD} --set d=9": "lstm has no option 'd': it has none at all",
    f"{GOOD} --set engine=native": "lstm has no option 'engine'",
    f"{GOOD} --cell skip_rnn --set d=0": "the delay d is 0",
    f"{GOOD} --cell skip_rnn --set d=x": "the delay d is 'x'",
    f"{GOOD} --cell rnn --set nonlinearity=tanhh": "is not a function of the language",
    f"{GOOD} --cell leaky_rnn --set alpha=nan": "alpha",
    f"{GOOD} --engine quick": "unknown engine 'quick'",
    f"{GOOD} --engine builtin --cell skip_rnn": "engine='builtin' cannot run this layer",
    f"{GOOD} --device tpu": "--device tpu is not known",
    "train good.txt --hidden 8 --length 12 --batch-size 4 --out full": "full is not empty",
    "train good.txt --hidden 8 --length 12 --batch-size 4 --out good.txt/run": "is a file, not a folder",
    "train good.txt --out good.txt": "--out good.txt is a file: name a folder for the run",
    "train empty.txt --out full": "full is not empty",
    "train empty.txt --seeds 2 --out good.txt": "--out good.txt is a file",
    "diagnose no_such:made -o full": "--out full is a folder: name a file in it, such as full/diagnosis.html",
    "diagnose no_such:made -o good.txt/a.html": "good.txt is a file, not a folder",
    "diagnose no_such:made -o pipe": "pipe is a device, a pipe or a socket: name a file",
    "diagnose no_such:made -o run/report.html": "is a file of the run run: name another",
    "compare torn torn -o good.txt/such.html": "good.txt is a file, not a folder",
    "predict torn good.txt -o good.txt/a.csv": "good.txt is a file, not a folder",
    "export torn -o net.so": "--out net.so ends like no format: give --to onnx, torch or c, or end it with .onnx,",
    "export torn -o good.txt/such.onnx": "good.txt is a file, not a folder",
    "export torn -o full": "--out full is a folder: name a file in it, such as full/model.onnx",
    "train --resume full": "full is not a run: it has no config.yaml",
    "train --resume no-such": "no-such is not a run",
    "train --resume bare": "bare has no checkpoint: restore",
    "train --resume torn": "no other checkpoint is intact",
    "train good.txt --resume run": "leave SOURCE away",
    "train --resume run --out new": "leave --out away",
    "train --resume run --cell lstm": "leave --cell away",
    "train --resume run --batch-size 50": "leave --batch-size away",
    "train --resume run --set d=3": "leave --set away",
    "train --resume run --lr 0": "--lr is 0.0",
    "train --resume run --clip foo": "unknown clip 'foo'",
    "train --resume run --penalty omega:2": "leave --penalty away",
    "train --resume run --layer-norm": "leave --layer-norm away",
    "train --resume run --skips 5": "leave --skips away",
    "train --nonsense": "--nonsense",
    "nonsense": "nonsense",
    "generate run --prompt seaX": "the run has never seen 'X'",
    "generate full": "full is not a run",
    "generate bare": "bare has no checkpoint",
    "generate torn": "no other checkpoint is intact",
    "generate broken": "config.yaml cannot be read",
    "train --resume broken": "config.yaml cannot be read",
    "generate run --temperature -1": "--temperature is -1.0: give a finite number from 0 on",
    "generate run --temperature nan": "--temperature is nan",
    "generate run --temperature inf": "--temperature is inf",
    "generate run --length -5": "--length is -5: give the number of symbols to write, from 0 on",
    f"generate run --seed {2**64}": f"--seed is {2**64}: give a whole number from 0 to 4294967295",
    "generate run --seed -1": "--seed is -1",
    f"diagnose run --seed {2**64}": "--seed",
    "diagnose run --need 0": "need",
    "diagnose run --data pipe": "pipe is not a file",
    "diagnose bomb": "an alias",
    "diagnose torn": "no other checkpoint is intact",
    "generate bomb": "line 2, column 4: an alias",
    "report bomb": "an alias",
    "train --resume bomb": "an alias",
    "train --resume good.txt": "good.txt is not a run",
    "train --resume loop": "loop is not a run",
    "train --resume looping": "Too many levels of symbolic links",
    "train --resume run --epochs 0": "--epochs is 0",
    "train pipe": "pipe cannot be read: it is a device, a pipe or a socket",
    "train piped": "piped/train.txt cannot be read: it is a device, a pipe or a socket",
    "train /dev/zero": "/dev/zero cannot be read: it is a device, a pipe or a socket",
    "train no\x1b[31m\x07such\u202e.txt": "the file no\\x1b[31m\\x07such\\u202e.txt does not exist",
    "train --resume no\x1b[31msuch": "no\\x1b[31msuch is not a run",
    "no\x1b[31msuch": "no\\x1b[31msuch",
    f"{GOOD} --seed {2**64}": f"--seed is {2**64}: it should be less than or equal to 4294967295",
    f"{GOOD} --batch-size {10**12}": f"--batch-size is {10**12}",
    f"{GOOD} --layers {10**9}": f"--layers is {10**9}",
    f"{GOOD} --length {10**9}": "fewer than one window",
    f"{GOOD} --probes {10**9}": f"--probes is {10**9}",
    f"{GOOD} --epochs {10**30}": "--epochs is 1000000000000000000000000000000",
    "generate": "Missing argument 'run'",
    "cells gruu": "unknown cell 'gruu': did you mean 'gru'",
    "report full": "full is not a run",
}


def contents(place: Path) -> dict[Path, bytes | None]:
    """Return all files with what is in them, and all else."""
    return {path: path.read_bytes() if path.is_file() else None for path in place.rglob("*")}


@pytest.mark.parametrize(("line", "says"), FAULTS.items(), ids=FAULTS)
def test_a_fault_is_one_line_and_status_2(
    place: Path, capsys: pytest.CaptureFixture[str], line: str, says: str
) -> None:
    before = contents(place)
    assert main(line.split()) == 2
    captured = capsys.readouterr()
    (told,) = captured.err.splitlines()
    assert told.startswith("unvanish: ")
    assert says in told
    assert "Traceback" not in captured.out
    assert contents(place) == before, "a fault found before the start leaves nothing behind and changes nothing"


def test_a_very_low_temperature_is_nearly_0(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for temperature in ("0", "1e-39", "1e-320"):
        assert main(["generate", "run", "--prompt", "sea", "--temperature", temperature, "--seed", "1"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] == said[2]


def test_hostile_lines_in_the_record_do_not_stop_a_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        '{"kind": "valid", "step": 1}',
        '{"kind": "valid", "step": 1, "loss": "low", "reach": 7}',
        "[" * 99_999,
    ]
    lines += ['{"kind": "sample", "step": 1, "prompt": []}', '{"kind": "event", "step": 1, "what": {}}']
    with (place / "run" / "records.jsonl").open("a", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")
    assert main(["train", "--resume", "run"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "validation loss" in out


def test_epochs_below_what_has_begun_are_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", "run"]) == 0
    assert main(["train", "--resume", "run", "--epochs", "3", "--lr", "0.001"]) == 0
    before = contents(place)
    capsys.readouterr()
    assert main(["train", "--resume", "run", "--epochs", "2"]) == 2
    assert capsys.readouterr().err == "unvanish: run is finished: go on with --epochs 4 or more\n"
    assert contents(place) == before


def test_a_damaged_checkpoint_is_told_in_one_line_and_the_one_before_is_used(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with state_of(place / "run").open("r+b") as stream:
        stream.seek(700)
        stream.write(b"\xff\xff\xff")
    for line in ("generate run --length 5", "diagnose run --need 3 --no-prescriptions", "train --resume run"):
        assert main(line.split()) in (0, 1)
        told = [one for one in capsys.readouterr().err.splitlines() if not one.startswith("unvanish: compiling")]
        assert told == [
            "unvanish: run/checkpoints/step-5 is damaged: state.ckpt does not have its checksum; the "
            "checkpoint before it is used, step-0"
        ]


@pytest.mark.parametrize(
    ("line", "raised"),
    [
        ("train empty.txt", "unvanish.errors.DataError: "),
        ("train --debug empty.txt", "unvanish.errors.DataError: "),
        ("generate full", "unvanish.errors.RunError: "),
        ("nonsense", "unvanish.errors.OptionError: "),
        ("train good.txt --out good.txt/run", "Error: "),
    ],
)
def test_debug_shows_where_it_came_from_and_keeps_the_status(
    place: Path, capsys: pytest.CaptureFixture[str], line: str, raised: str
) -> None:
    assert main(line.replace(" --debug", "").split()) == 2
    told = capsys.readouterr().err
    assert main([*line.split(), "--debug"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):\n")
    assert shown.count('  File "') > 2
    assert raised in shown
    assert shown.endswith(f"\n{told}"), "the last line is that of every fault"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*GOOD.split(), "--device", "cuda"]) == 2
    assert (
        capsys.readouterr().err == "unvanish: --device cuda: torch sees no GPU on this machine; use --device cpu\n"
    )


def test_a_file_name_that_is_no_text_is_no_hindrance(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"na\xefve.txt")
    (place / name).write_text(make_text(420), encoding="utf-8")
    assert main(["train", name, *GOOD.split()[2:], "--epochs", "1", "--probes", "0"]) == 0
    assert main(["train", "--resume", "new", "--epochs", "2"]) == 0
    assert capsys.readouterr().err == ""


def numberless(folder: Path) -> list[str]:
    (folder / "tiny.txt").write_text("abababababababababab", encoding="utf-8")  # two characters to validate on
    return ["train", "tiny.txt", "--length", "5", "--batch-size", "1", "--epochs", "1", "--probes", "1"]


def enormous(folder: Path) -> list[str]:
    return f"{GOOD} --lr 1e20 --optimizer sgd --clip none --epochs 1".split()


@pytest.mark.parametrize("make", [numberless, enormous])
def test_a_run_without_a_rate_or_a_perplexity_ends_like_any_other(
    place: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], list[str]]
) -> None:
    assert main(make(place)) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "no rate" in captured.out or "infinite" in captured.out


def test_a_run_that_goes_on_counts_its_epochs_from_the_first(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--resume", "run"]) == 0
    first = capsys.readouterr().out
    assert main(["train", "--resume", "run", "--epochs", "3"]) == 0
    second = capsys.readouterr().out
    assert [line.split()[1] for line in first.splitlines() if line.startswith("epoch ")][-1] == "2/2"
    assert {line.split()[1] for line in second.splitlines() if line.startswith("epoch ")} == {"3/3"}


def test_a_warning_of_ours_is_one_line_and_told_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--layers", "1", "--dropout", "0.1", "--epochs", "1", "--hidden", "4", "--probes", "0"]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        main(["train", "good.txt", *asked, "--length", "10", "--batch-size", "4", "--out", "warned"])
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "dropout" in line] == lines[:1]
    assert lines[0].startswith("unvanish: dropout=0.1 does nothing in a single layer")
