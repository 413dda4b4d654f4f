"""`unvanish env`: where kernels are kept, and with --compile what each costs and gives."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import unvanish
from tests.support.compilers import break_compiler, compiler_script, forget
from unvanish.cli import machine, main
from unvanish.engine.native import build

Capture = pytest.CaptureFixture[str]
ROW = re.compile(r"(\w+) +(cached, \d+ ms|compiled, \d+\.\d s) +(\d+\.\d) ms +(\d+\.\d) ms +(\d+\.\d) × *")


@pytest.fixture
def forgetful() -> Iterator[None]:
    """What is known of the compiler is of this test alone."""
    build.compiler.cache_clear()
    yield
    build.compiler.cache_clear()


def test_env_tells_where_kernels_are_kept_how_many_and_how_large(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "unvanish" / "kernels"
    assert main(["env"]) == 0
    assert f"kernels       0 in {folder}, 0.0 MB" in capsys.readouterr().out
    for name, size in (("a.so", 1_200_000), ("b.so", 300_000), (".half-written.so", 9_000_000)):
        (folder / name).write_bytes(bytes(size))
    assert main(["env"]) == 0
    assert f"kernels       2 in {folder}, 1.5 MB" in capsys.readouterr().out
    folder.chmod(0o777)
    assert main(["env"]) == 0
    assert re.search(
        r"kernels +not kept: others may write to .*; empty it, then: chmod 700", capsys.readouterr().out
    )


def test_env_tells_that_the_compiler_asked_for_is_not_used(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, forgetful: None
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -O9")
    assert main(["env"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"compiler +/\S+ \(.*\); \$CXX \(no-such-compiler -O9\) is not a compiler that works", out)


def test_env_compiles_and_times_every_cell(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "REPEATS", 1)
    assert main(["env", "--compile"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("cell "))
    rows = [ROW.fullmatch(line) for line in lines[start + 1 : start + 1 + len(unvanish.cells)]]
    assert [row and row[1] for row in rows] == list(unvanish.cells), "\n".join(lines)
    for row in rows:
        assert row is not None
        own, reference, ratio = (float(number) for number in row.groups()[2:])
        assert ratio == pytest.approx(reference / own, rel=0.3, abs=0.1), "of numbers that are not rounded"


def test_env_tells_why_a_cell_has_no_kernel(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CATALOGUE", {"rnn": unvanish.cells["rnn"]})
    monkeypatch.setattr(machine, "unsupported_by_native", lambda system: "its equations are too beautiful")
    assert main(["env", "--compile"]) == 0
    assert re.search(r"rnn +none +\d+\.\d ms +its equations are too beautiful", capsys.readouterr().out)


def test_env_as_json_has_the_timings(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "REPEATS", 1)
    monkeypatch.setattr(machine, "CATALOGUE", {"rnn": unvanish.cells["rnn"]})
    assert main(["env", "--compile", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    found = json.loads(out)["cells"]["rnn"]
    assert re.fullmatch(r"cached, \d+ ms|compiled, \d+\.\d s", found["kernel"])
    assert 0 < found["native_ms"] < 1000
    assert 0 < found["reference_ms"] < 1000


def test_env_without_a_compiler_says_what_it_means(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, forgetful: None
) -> None:
    monkeypatch.setenv("CXX", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ziglang", None)
    assert main(["env", "--compile"]) == 0
    out = capsys.readouterr().out
    assert "none found: pip install 'unvanish[compiler]', or install g++" in out
    assert out.endswith("no kernels: without a C++ compiler all cells run in plain torch\n")


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One cell, in an empty cache, in a process that knows of no kernels."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "REPEATS", 1)
    monkeypatch.setattr(machine, "CATALOGUE", {"rnn": unvanish.cells["rnn"]})
    forget()
    yield
    forget()


def test_env_tells_what_was_compiled_and_what_was_there(capsys: Capture, fresh: None) -> None:
    assert main(["env", "--compile"]) == 0
    assert re.search(r"rnn +compiled, \d+\.\d s", capsys.readouterr().out)
    forget()
    assert main(["env", "--compile"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"rnn +cached, \d+ ms", out)
    assert err == ""


def test_env_shows_the_fault_of_a_compiler_below_the_table(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    monkeypatch.setenv("CXX", script := compiler_script(tmp_path / "script", "echo error 42; exit 1"))
    assert build.compiler()
    break_compiler(script)
    assert main(["env", "--compile"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"rnn +none +\d+\.\d ms +no library, see below", out)
    assert out.count("error 42") == 1
