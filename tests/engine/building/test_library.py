"""A kernel is compiled once and found again, whoever else compiles it at the same time."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import unvanish
from tests.support.compilers import TEXT, break_compiler, compiler_script, compiles, kept, works
from unvanish.engine.native import build, toolchain
from unvanish.engine.native.build import compiler, library


def test_a_kernel_is_compiled_once_and_closed_to_others(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert [compiles(), compiles(), compiles(TEXT + "// other")] == [1, 0, 1]
    assert capfd.readouterr() == ("", ""), "nobody waits at a pipe"
    modes = {path.stat().st_mode & 0o777 for path in cache.iterdir()}
    assert (cache.parent.stat().st_mode & 0o777, cache.stat().st_mode & 0o777, modes) == (0o700, 0o700, {0o600})
    assert len(kept(cache)) == 2


def test_who_waits_at_a_terminal_is_told_what_is_compiled(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = os.openpty()
    with os.fdopen(follower, "w", encoding="utf-8") as terminal, os.fdopen(leader, "rb", buffering=0) as shown:
        monkeypatch.setattr(sys, "stderr", terminal)
        library(TEXT, "lstm")
        library(TEXT, "lstm")
        terminal.write("then\n")
        terminal.flush()
        told = b""
        while b"then" not in told:
            told += shown.read(1000)
    assert told.decode() == "unvanish: compiling lstm kernel, once …\r\nthen\r\n"


def test_another_processor_compiler_or_flag_means_another_kernel(cache: Path, monkeypatch: Any) -> None:
    library(TEXT)
    others = (toolchain, "FLAGS", (*toolchain.FLAGS, "-g")), (build, "_processor", lambda: "of next year")
    for where, name, value in others:
        with monkeypatch.context() as patch:
            patch.setattr(where, name, value)
            assert compiles() == 1
    monkeypatch.setenv("CXX", "c++ -g")
    compiler.cache_clear()
    assert compiles() == 1


def test_nothing_is_run_when_the_package_is_imported() -> None:
    hook = "lambda event, given: seen.append(given) if event == 'subprocess.Popen' else None"
    code = f"import sys, torch; seen = []; sys.addaudithook({hook}); import unvanish.public; assert not seen, seen"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_processes_that_race_all_get_a_kernel_and_leave_one_file(cache: Path) -> None:
    code = (
        "import ctypes, sys; from unvanish.engine.native import build; "
        "build.compiler(); print('ready', flush=True); sys.stdin.read(1); "
        "loaded, number = build.library(sys.argv[1]), ctypes.c_int(0); "
        "loaded.forward(ctypes.byref(number)); assert number.value == 41; print(len(build.COMPILED))"
    )
    command, pipe = [sys.executable, "-W", "error", "-c", code, TEXT], subprocess.PIPE
    racers = [subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe) for _ in range(3)]
    assert [racer.stdout.readline() for racer in racers if racer.stdout] == ["ready\n"] * 3
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("g")
        racer.stdin.flush()
    said = [racer.communicate(timeout=120) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 3, said
    assert len(kept(cache)) == 1
    assert sum(int(compiled) for compiled, _ in said) > 1, "there was no race"


def test_libraries_are_not_taken_for_one_another(cache: Path) -> None:
    """The loader knows what it has loaded by its name, and descriptors have the same numbers again and again."""
    texts = {number: TEXT.replace("41", str(number)) for number in range(42, 46)}
    for _ in ("compiled", "kept"):
        for number, text in texts.items():
            found = ctypes.c_int(0)
            library(text).forward(ctypes.byref(found))
            assert found.value == number


def test_kernels_run_on_the_threads_of_torch() -> None:
    text = 'extern "C" int omp_get_max_threads();\n' + TEXT.replace("41", "omp_get_max_threads()")
    number, before = ctypes.c_int(0), torch.get_num_threads()
    torch.set_num_threads(5)
    library(text).forward(ctypes.byref(number))
    torch.set_num_threads(before)
    assert number.value == 5
    maps = Path("/proc/self/maps").read_text()
    assert len(set(re.findall(r"\S*libgomp\S*", maps))) == 1, "there are two pools"


# -- the layer -----------------------------------------------------------------------------------------

FAULTY = {"a compiler that fails": "exit 1", "a compiler that hangs": "sleep 1000", "no place for kernels": ""}


@pytest.mark.parametrize("fault", FAULTY)
def test_every_fault_ends_in_a_working_layer_and_one_warning(
    fault: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if FAULTY[fault]:
        monkeypatch.setenv("CXX", script := compiler_script(tmp_path / "faulty", FAULTY[fault]))
        assert compiler()
        break_compiler(script)
    else:
        cache.parent.parent.mkdir(exist_ok=True)
        cache.parent.touch()
    monkeypatch.setattr(build, "TIME_LIMIT", 0.3 if "hangs" in fault else 100)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        for _ in range(2):
            layer = unvanish.RNN(2, 3, engine="native")
            assert layer(torch.ones(4, 1, 2))[0].shape == (4, 1, 3)
    assert len(said) == 1, [str(warning.message) for warning in said]


def test_works_after_the_compiler_broke_for_another_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = compiler_script(tmp_path / "script", "exit 1")
    monkeypatch.setenv("CXX", script)
    kernel = library(TEXT)
    break_compiler(script)
    with pytest.raises(build.BuildError, match="script failed"):
        library(TEXT + "// other")
    assert works(kernel)
    assert works(library(TEXT))
