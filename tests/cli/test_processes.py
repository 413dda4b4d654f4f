"""Real processes: signals, full disks, terminals, pipes."""

from __future__ import annotations

import contextlib
import os
import pty
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.processes import ENVIRONMENT, SMALL, start, wait_for_steps
from tests.support.runs import assert_same_run, at_step, events, make_text, numbers, state_of
from tests.support.whole import whole_only
from unvanish.cli import main
from unvanish.train import load_model


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(make_text(2700), encoding="utf-8")  # 51 windows an epoch
    return path


def test_ctrl_c_saves_reports_and_says_how_to_go_on(tmp_path: Path, text: Path) -> None:
    run, once = tmp_path / "run", tmp_path / "once"
    arguments = ["train", str(text), *SMALL, "--epochs", "1"]
    with start(*arguments, "--out", str(run)) as process:
        wait_for_steps(run, 20)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    assert process.returncode == 130
    assert err == ""
    assert out.splitlines()[-2:] == [
        f"stopped and saved; go on with  unvanish train --resume {run}",
        f"report  {run / 'report.html'}",
    ]
    assert (run / "report.html").is_file()
    assert events(run) == ["started", "stopped"]
    assert 20 <= len(numbers(run, "step")) < 51, "in the middle of an epoch"
    assert main(["train", "--resume", str(run)]) == 0
    assert main([*arguments, "--out", str(once)]) == 0
    assert_same_run(once, run)


def test_ctrl_c_twice_ends_at_once(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: two signals sent to another one may reach it as one."""
    run, before = tmp_path / "run", signal.getsignal(signal.SIGINT)

    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second one does not end it at once")

    at_step(5, twice, monkeypatch)
    assert main(["train", str(text), *SMALL, "--out", str(run)]) == 130
    out, err = capsys.readouterr()
    assert out.splitlines()[4:] == [
        f"stopped at once; go on from the last checkpoint with  unvanish train --resume {run}"
    ]
    assert err == ""
    assert signal.getsignal(signal.SIGINT) is before
    assert events(run) == ["started"]
    load_model(run)


@whole_only
def test_sigterm_is_as_good_as_one_ctrl_c(tmp_path: Path, text: Path) -> None:
    run = tmp_path / "run"
    with start("train", str(text), *SMALL, "--epochs", "9", "--out", str(run)) as process:
        wait_for_steps(run, 20)
        process.terminate()
        out, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (143, "")
    assert f"stopped and saved; go on with  unvanish train --resume {run}" in out
    assert events(run) == ["started", "stopped"]


def test_a_reader_that_goes_away_ends_the_run_quietly(tmp_path: Path, text: Path) -> None:
    arguments = [*SMALL, "--epochs", "9", "--valid-every", "5", "--out", str(tmp_path / "run")]
    with start("train", str(text), *arguments) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (141, "")


def test_a_terminal_without_the_characters_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "odd.txt").write_text("東京 ≥ \N{GRINNING FACE}" * 60, encoding="utf-8")
    arguments = ["train", str(tmp_path / "odd.txt"), *SMALL, "--epochs", "1", "--out", str(tmp_path / "run")]
    with start(*arguments, env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}) as process:
        out, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (0, "")
    assert out.isascii()
    (sample,) = numbers(tmp_path / "run", "sample")
    assert "".join(c if c.isascii() else "?" for c in sample["text"]) in out


def test_under_a_terminal_the_progress_bar_runs_without_a_fault(tmp_path: Path, text: Path) -> None:
    leader, follower = pty.openpty()
    environment = {**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "160", "LINES": "40"}
    arguments = ["train", str(text), *SMALL, "--epochs", "2", "--out", str(tmp_path / "run")]
    with start(
        *arguments, stdin=follower, stdout=follower, stderr=follower, env=environment, text=False
    ) as process:
        os.close(follower)
        content = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while piece := os.read(leader, 65536):
                content += piece
    os.close(leader)
    shown = content.decode()
    assert process.returncode == 0
    assert "Traceback" not in shown
    assert "Warning" not in shown
    assert "51/51" in shown, "the bar reached the end of an epoch"
    assert all(f"epoch {epoch}/2" in shown for epoch in (1, 2)), "the lines of the validations come through"
    assert "report.html" in shown


def limit_files(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def assert_earlier_checkpoint_stands(run: Path, before: bytes, text: Path, tmp_path: Path) -> None:
    """The run goes on from it to the numbers of a run that never met a fault."""
    assert state_of(run).read_bytes() == before
    assert not [path for path in run.rglob(".*") if path.is_file()], "no half-written file is left"
    load_model(run)
    assert main(["train", "--resume", str(run), "--epochs", "2"]) == 0
    assert main(["train", str(text), *WIDE, "--epochs", "2", "--out", str(tmp_path / "once")]) == 0
    assert numbers(run, "step", "valid") == numbers(tmp_path / "once", "step", "valid")


WIDE = ["--hidden", "64", "--length", "12", "--batch-size", "16", "--probes", "0", "--device", "cpu"]


def test_a_file_that_may_not_grow_leaves_the_earlier_checkpoint(tmp_path: Path, text: Path) -> None:
    run = tmp_path / "run"
    assert main(["train", str(text), *WIDE, "--epochs", "1", "--out", str(run)]) == 0
    before = state_of(run).read_bytes()
    arguments = ["train", "--resume", str(run), "--epochs", "2"]
    (run / "report.html").unlink()
    (run / "report.html").mkdir()  # a report is small: nothing else hinders it
    with start(*arguments, preexec_fn=limit_files(len(before) // 2)) as process:
        out, err = process.communicate(timeout=600)
    assert process.returncode == 2
    assert err == "unvanish: File too large: make room or name another place with --out\n"
    assert f"the report could not be written; write it later with  unvanish report {run}" in out
    (run / "report.html").rmdir()
    assert_earlier_checkpoint_stands(run, before, text, tmp_path)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this process may not mount a disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_earlier_checkpoint(
    tmp_path: Path, text: Path, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = disk / "run"
    assert main(["train", str(text), *WIDE, "--epochs", "1", "--out", str(run)]) == 0
    before = state_of(run).read_bytes()
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as stream:
        while True:
            stream.write(b"x" * 4096)
    capsys.readouterr()
    assert main(["train", "--resume", str(run), "--epochs", "2"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("unvanish: No space left on device")
    (disk / "filler").unlink()
    assert_earlier_checkpoint_stands(run, before, text, tmp_path)
