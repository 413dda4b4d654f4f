"""Kernels are compiled once, kept safely, and no fault of the machine ends in anything but a working layer."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from unvanish.engine.native import build
from unvanish.engine.native.build import BuildError, cache_folder, compiler, library

TEXT = "".join(f'extern "C" void {name}(int* a) {{ *a = 41; }}\n' for name in build.FUNCTIONS)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of the test's own, and a process that remembers nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forget()
    yield tmp_path / "cache" / "unvanish" / "kernels"
    monkeypatch.undo()
    forget()


def forget() -> None:
    build.compiler.cache_clear()
    build._warn.cache_clear()


def works(loaded: ctypes.CDLL) -> bool:
    number = ctypes.c_int(0)
    loaded.forward(ctypes.byref(number))
    return number.value == 41


def compiler_script(path: Path, *lines: str, version: str = "echo script 1.0") -> str:
    path.write_text("\n".join(["#!/bin/sh", f'case "$1" in --version) {version}; exit 0;; esac', *lines]))
    path.chmod(0o755)
    return str(path)


def ends(process: int) -> bool:
    """Whether a process is gone, or a corpse that nobody has buried, now or in a moment."""
    for _ in range(500):
        status = Path(f"/proc/{process}/stat")
        if not status.exists() or status.read_text().rsplit(")")[-1].split()[0] == "Z":
            return True
        time.sleep(0.01)
    return False


# -- once ----------------------------------------------------------------------------------------------


def test_a_kernel_is_compiled_once_and_says_whose_it_is(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = len(build.COMPILED)
    assert works(library(TEXT, "lstm"))
    assert capsys.readouterr().err == "unvanish: compiling lstm kernel, once …\n"
    assert works(library(TEXT, "lstm"))
    assert capsys.readouterr().err == ""
    assert len(build.COMPILED) == before + 1
    (kept,) = cache.iterdir()
    modes = [path.stat().st_mode & 0o777 for path in (cache.parent, cache, kept)]
    assert modes == [0o700, 0o700, 0o600]
    library(TEXT + "// other")
    assert capsys.readouterr().err == "unvanish: compiling a kernel, once …\n"


def test_another_processor_compiler_or_flag_means_another_kernel(cache: Path, monkeypatch: Any) -> None:
    library(TEXT)
    for name, value in (("FLAGS", (*build.FLAGS, "-g")), ("_processor", lambda: "a processor of next year")):
        with monkeypatch.context() as patch:
            patch.setattr(build, name, value)
            library(TEXT)
    monkeypatch.setenv("CXX", "c++ -g")
    compiler.cache_clear()
    library(TEXT)
    assert len(list(cache.iterdir())) == 4


def test_a_kept_kernel_is_there_at_once() -> None:
    library(TEXT)
    times = []
    for _ in range(5):
        compiler.cache_clear()
        build._processor.cache_clear()
        build._runtime.cache_clear()
        begin = time.perf_counter()
        library(TEXT)
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.05


def test_nothing_is_run_when_the_package_is_imported() -> None:
    hook = "lambda event, given: seen.append(given) if event == 'subprocess.Popen' else None"
    code = f"import sys, torch; seen = []; sys.addaudithook({hook}); import unvanish; assert not seen, seen"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_six_processes_that_race_all_get_a_kernel_and_leave_one_file(cache: Path) -> None:
    code = (
        "import ctypes, sys; from unvanish.engine.native import build; "
        "build.compiler(); print('ready', flush=True); sys.stdin.read(1); "
        "loaded, number = build.library(sys.argv[1]), ctypes.c_int(0); "
        "loaded.forward(ctypes.byref(number)); assert number.value == 41"
    )
    command, pipe = [sys.executable, "-W", "error", "-c", code, TEXT], subprocess.PIPE
    racers = [subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe) for _ in range(6)]
    assert [racer.stdout.readline() for racer in racers if racer.stdout] == ["ready\n"] * 6
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("g")
        racer.stdin.flush()
    said = [racer.communicate(timeout=120)[1] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 6, said
    assert len(list(cache.iterdir())) == 1
    assert sum("compiling" in text for text in said) > 1, "there was no race"


# -- broken files --------------------------------------------------------------------------------------


def with_checksum(content: bytes) -> bytes:
    return content + build.hashlib.sha256(content).digest()


def for_another_processor(content: bytes) -> bytes:
    return with_checksum(content[:18] + b"\xf3\x00" + content[20 : -build.CHECKSUM])  # the mark of RISC-V


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "garbage": lambda content: b"no library",
    "cut in half": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "one bit turned": lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
    "for another processor": for_another_processor,
    "whole, but no library": lambda content: with_checksum(b"no library"),
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_compiled_anew(
    cache: Path,
    damage: Callable[[bytes], bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    library(TEXT)
    (kept,) = cache.iterdir()
    # Elsewhere, as a process that has loaded a library under some name takes no other of that name.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    (cache_folder() / kept.name).write_bytes(damage(kept.read_bytes()))
    capsys.readouterr()
    assert works(library(TEXT))
    assert "compiling" in capsys.readouterr().err
    assert (cache_folder() / kept.name).read_bytes() == kept.read_bytes()
    assert works(library(TEXT))
    assert capsys.readouterr().err == ""


# -- no place to keep it -------------------------------------------------------------------------------


def a_file_in_the_way(cache: Path, patch: pytest.MonkeyPatch) -> None:
    cache.parent.parent.mkdir()
    cache.parent.touch()


def no_home(cache: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(build.platformdirs, "user_cache_dir", lambda name: f"~/.cache/{name}")


def open_to_others(cache: Path, patch: pytest.MonkeyPatch) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)


def of_another_user(cache: Path, patch: pytest.MonkeyPatch) -> None:
    cache.mkdir(parents=True, mode=0o700)
    patch.setattr(build.os, "geteuid", lambda: 4711)


def read_only(cache: Path, patch: pytest.MonkeyPatch) -> None:
    def refuse(**options: Any) -> None:
        raise OSError(30, "Read-only file system")

    patch.setattr(build.tempfile, "mkstemp", refuse)


def a_folder_in_the_way(cache: Path, patch: pytest.MonkeyPatch) -> None:
    library(TEXT)
    (kept,) = cache.iterdir()
    kept.unlink()
    kept.mkdir()
    (kept / "full").touch()


def full(cache: Path, patch: pytest.MonkeyPatch) -> None:
    """From the end of the compilation on no file may grow beyond 100 bytes."""
    compile_text, (soft, hard) = build._compile, resource.getrlimit(resource.RLIMIT_FSIZE)

    def and_fill(*given: Any) -> Path:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        made = compile_text(*given)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        return made

    patch.setattr(build, "_compile", and_fill)


def nothing_runs_there(cache: Path, patch: pytest.MonkeyPatch) -> None:
    load = ctypes.CDLL

    def refuse(path: str, **options: Any) -> ctypes.CDLL:
        if path.startswith(str(cache)):
            raise OSError(f"{path}: failed to map segment from shared object")
        return load(path, **options)

    patch.setattr(build.ctypes, "CDLL", refuse)


HINDRANCES = {
    a_file_in_the_way: "cannot be made",
    no_home: "set HOME or XDG_CACHE_HOME",
    open_to_others: "chmod 700",
    of_another_user: "belongs to another user",
    read_only: "Read-only file system",
    a_folder_in_the_way: "takes no library",
    full: "File too large",
    nothing_runs_there: "failed to map segment",
}


@pytest.mark.parametrize("hinder", HINDRANCES, ids=lambda hinder: hinder.__name__)
def test_a_kernel_that_cannot_be_kept_works_and_one_warning_says_why(
    cache: Path, hinder: Callable[[Path, pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(build.tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        hinder(cache, monkeypatch)
        try:
            assert works(library(TEXT))
            assert works(library(TEXT))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert HINDRANCES[hinder] in "".join(str(warning.message) for warning in said)
    assert len(said) == 1
    assert not list(temporary.iterdir()), "the temporary folder is gone"
    assert not Path("~").exists()
    if cache.is_dir():
        assert not [path for path in cache.iterdir() if path.name.startswith(".")], "temporary files are left"


def test_a_folder_that_others_may_read_is_closed(cache: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o755)
    assert cache_folder() == cache
    assert cache.stat().st_mode & 0o777 == 0o700


# -- compilers -----------------------------------------------------------------------------------------


def test_the_compiler_may_be_called_with_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, wrapper = tmp_path / "log", tmp_path / "my cache"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", f"'{wrapper}' c++ -DWRAPPED")
    found = compiler()
    assert found is not None
    assert found.command == (str(wrapper), "c++", "-DWRAPPED")
    assert works(library(TEXT))
    assert [line.split()[1] for line in log.read_text().splitlines()] == ["-DWRAPPED"] * 3
    monkeypatch.setenv("CXX", str(wrapper))
    assert build.command_of(str(wrapper)) == (str(wrapper),), "a space in a path is no argument"


@pytest.mark.parametrize("asked", ["", "no-such-compiler", "test", "false", "'c++", "slow"])
def test_what_is_no_compiler_is_passed_over(asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "VERSION_TIME_LIMIT", 0.3)
    asked = compiler_script(tmp_path / "slow", version="sleep 1000") if asked == "slow" else asked
    monkeypatch.setenv("CXX", asked)
    begin = time.monotonic()
    found = compiler()
    assert found is not None
    assert time.monotonic() - begin < 10
    assert Path(found.command[0]).name in build.COMPILERS
    assert works(library(TEXT))


FAULTS = {
    "exit 1": "it said nothing and returned 1",
    "echo hello; echo 'kernel.cpp:3: error: no room' >&2; exit 1": "failed: kernel.cpp:3: error: no room;",
    "echo 'ld: cannot find it' >&2; echo 'collect2: error: ld' >&2; exit 1": "failed: ld: cannot find it;",
    "printf '\\377 error \\377' >&2; exit 1": "error",
    "kill -9 $$": "returned -9",
    "exit 0": "no library can be written and loaded",
}


@pytest.mark.parametrize("script", FAULTS)
def test_a_compiler_that_fails_is_quoted(
    script: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler_script(tmp_path / "broken", script))
    with pytest.raises(BuildError) as fault:
        library(TEXT)
    assert FAULTS[script] in str(fault.value)
    assert not list(cache.iterdir())


@pytest.mark.parametrize("interrupt", [False, True])
def test_a_compiler_that_hangs_is_ended_with_all_that_it_started(
    interrupt: bool, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time limit or by Ctrl-C; it waits for a child, as the driver of a compiler for the compiler."""
    monkeypatch.setattr(build.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(build, "TIME_LIMIT", 1000 if interrupt else 0.5)
    hang = f"sleep 1000 & echo $! > {tmp_path / 'child'}; wait"
    monkeypatch.setenv("CXX", compiler_script(tmp_path / "hanging", hang))
    compiler()
    before, begin = signal.signal(signal.SIGALRM, signal.default_int_handler), time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.5 if interrupt else 0)
    try:
        with pytest.raises(KeyboardInterrupt if interrupt else BuildError):
            library(TEXT)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - begin < 10
    assert ends(int((tmp_path / "child").read_text()))
    assert not list(cache.iterdir())
    assert not list(tmp_path.glob("unvanish-*"))


def test_a_full_disk_fails_the_compiler_with_one_reason() -> None:
    compiler()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(BuildError, match=r"c\+\+ failed"):
            library(TEXT + "char large[200000] = {1};")
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        with pytest.raises(BuildError, match="make room, or set TMPDIR"):
            library(TEXT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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

LAYER = "import torch, unvanish; print(unvanish.RNN(2, 3, engine='native')(torch.ones(4, 1, 2))[0].shape)"
FAULTY = {"a compiler that fails": "exit 1", "a compiler that hangs": "sleep 1000", "no place for kernels": ""}


@pytest.mark.parametrize("fault", FAULTY)
def test_every_fault_ends_in_a_working_layer_and_one_warning(fault: str, tmp_path: Path) -> None:
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONWARNINGS="default")
    if FAULTY[fault]:
        environment["CXX"] = compiler_script(tmp_path / "faulty", FAULTY[fault])
    else:
        (tmp_path / "cache").touch()
    limit = 0.3 if "hangs" in fault else 100
    code = f"from unvanish.engine.native import build; build.TIME_LIMIT = {limit}; {LAYER}; {LAYER}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.count("[4, 1, 3]") == 2, done.stderr
    assert done.stderr.count("compiling") == 1
    assert done.stderr.count("Warning") == 1
