"""What makes no library is passed over, what fails later is quoted; no compiler outlives the process that asked."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.support.compilers import TEXT, break_compiler, compiler_script, compiles, ends, kept, works
from unvanish.engine.native import build, toolchain, workshop
from unvanish.engine.native.build import compiler, library
from unvanish.engine.native.workshop import BuildError


def test_the_compiler_may_be_called_with_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, wrapper = tmp_path / "log", tmp_path / "my cache"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", f"'{wrapper}' c++ -DWRAPPED")
    found = compiler()
    assert found is not None
    assert found.command == (str(wrapper), "c++", "-DWRAPPED")
    log.unlink()
    assert works(library(TEXT))
    assert [line.split()[1] for line in log.read_text().splitlines()] == ["-DWRAPPED"] * 2
    monkeypatch.setenv("CXX", str(wrapper))
    assert toolchain.command_of(str(wrapper)) == (str(wrapper),), "a space in a path is no argument"


# -- no compiler ---------------------------------------------------------------------------------------

PLAIN = ("", "no-such-compiler", "test", "false", "true", "echo", "cat", "'c++")
OTHER = TEXT.replace("outer", "another")
SCRIPTS = {
    "says nothing of itself": 'case "$1" in --version) ;; *) exec c++ "$@";; esac',
    "hangs when it is asked what it is": 'case "$1" in --version) sleep 1000;; *) exec c++ "$@";; esac',
    "is killed": "kill -9 $$",
    "writes nothing": "exit 0",
    "writes garbage": "for last; do :; done; echo garbage > $last",
    "writes a part": 'c++ "$@"; for last; do :; done; truncate -s -100 $last',
    "writes for another processor": 'c++ "$@"; for last; do :; done; printf "\\363" | '
    "dd of=$last bs=1 seek=18 conv=notrunc 2>/dev/null",
    "writes another library": f"for last; do :; done; echo '{OTHER}' | c++ -shared -x c++ - -o $last",
    "writes a FIFO": "for last; do :; done; rm -f $last; mkfifo $last",
    "writes a link to what never ends": "for last; do :; done; ln -sf /dev/zero $last",
    "makes the object only": 'case "$*" in *-shared*) ;; *) exec c++ "$@";; esac',
}


@pytest.mark.parametrize("asked", [*PLAIN, *SCRIPTS])
def test_what_makes_no_library_is_passed_over(
    asked: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "VERSION_TIME_LIMIT", 1.0 if "asked" in asked else 60.0)
    if asked in SCRIPTS:
        asked = f"'{script_of(tmp_path, SCRIPTS[asked])}'"
    monkeypatch.setenv("CXX", asked)
    found = compiler()
    assert found is not None
    assert Path(found.command[0]).name in toolchain.COMPILERS
    assert compiles() == 1
    assert sorted(path.suffix for path in cache.iterdir()) == [".so", ".trial"], "of the good compiler alone"


def script_of(tmp_path: Path, lines: str) -> Path:
    """Write a compiler that does what the lines say, after it has said its version unless they do."""
    version = "" if "--version" in lines else 'case "$1" in --version) echo 1; exit;; esac'
    script = tmp_path / "compiler with spaces"
    script.write_text(f"#!/bin/sh\n{version}\n{lines}\n")
    script.chmod(0o755)
    return script


def test_why_no_compiler_works_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "COMPILERS", ())
    monkeypatch.setitem(sys.modules, toolchain.WHEEL, None)
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert build.no_compiler() == (
        "no C++ compiler was found: pip install 'unvanish[compiler]', or install g++, or set CXX"
    )
    monkeypatch.setattr(build, "TRIAL_TIME_LIMIT", 0.5)
    faults = {"sleep 1000": "had not ended after 0.5 s", "echo no vector; exit 1": "failed: no vector"}
    for lines, why in faults.items():
        compiler.cache_clear()
        monkeypatch.setenv("CXX", f"'{script_of(tmp_path, lines)}'")
        with pytest.raises(BuildError, match=rf"works \(.*spaces {why}\): pip install "):
            library(TEXT)


# -- a compiler that fails -----------------------------------------------------------------------------

FAULTS = {
    "exit 1": "it said nothing and returned 1",
    "echo hello; echo 'kernel.cpp:3: error: no room' >&2; exit 1": "failed: kernel.cpp:3: error: no room;",
    "echo 'ld: cannot find it' >&2; echo 'collect2: error: ld' >&2; exit 1": "failed: ld: cannot find it;",
    "printf '\\377 error \\377' >&2; exit 1": "error",
    "kill -9 $$": "returned -9",
    "exit 0": "script wrote no library",
    SCRIPTS["writes garbage"]: "no library can be written and loaded",
    SCRIPTS["writes another library"]: "the library has no function outer",
}


@pytest.mark.parametrize("script", FAULTS)
def test_a_compiler_that_fails_is_quoted(
    script: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = compiler_script(tmp_path / "script", script)
    monkeypatch.setenv("CXX", given)
    compiler()
    break_compiler(given)
    with pytest.raises(BuildError) as fault:
        library(TEXT)
    assert FAULTS[script] in str(fault.value)
    assert not kept(cache)


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


# -- ends ----------------------------------------------------------------------------------------------


def hanging(tmp_path: Path) -> str:
    """A compiler that waits for a child, as a driver waits for the compiler, after it has left a file about."""
    return compiler_script(
        tmp_path / "hanging", f"touch $TMPDIR/left; sleep 1000 & echo $! > {tmp_path / 'child'}; wait"
    )


@pytest.mark.parametrize("interrupt", [False, True])
def test_a_compiler_that_hangs_is_ended_with_all_that_it_started(
    interrupt: bool, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time limit or by Ctrl-C."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(build, "TIME_LIMIT", 1000 if interrupt else 0.5)
    script = hanging(tmp_path)
    monkeypatch.setenv("CXX", script)
    compiler()
    break_compiler(script)
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
    assert not kept(cache)
    assert not list(tmp_path.glob("unvanish-*"))


@pytest.mark.parametrize(("number", "thread"), [(signal.SIGTERM, False), (signal.SIGKILL, True)])
def test_a_compiler_ends_with_its_process_and_leaves_no_folder(
    number: signal.Signals, thread: bool, tmp_path: Path
) -> None:
    """A signal that nothing handles gives Python no time to tidy up."""
    (place := tmp_path / "temporary").mkdir()
    script = hanging(tmp_path)
    work = "threading.Thread(target=build.library, args=(sys.argv[1],)).start()" if thread else ""
    code = (
        "import pathlib, sys, threading; from unvanish.engine.native import build; "
        f"build.compiler(); pathlib.Path('{script}.broken').touch(); {work or 'build.library(sys.argv[1])'}"
    )
    environment = {**os.environ, "CXX": script, "TMPDIR": str(place)}
    with subprocess.Popen([sys.executable, "-c", code, TEXT], env=environment) as process:
        child = tmp_path / "child"
        until = time.monotonic() + 600
        while not (child.exists() and child.read_text().endswith("\n")):
            assert time.monotonic() < until, "the compiler is not started"
            time.sleep(0.01)
        assert len(list(place.glob("unvanish-*/left"))) == 1
        process.send_signal(number)
    assert ends(int(child.read_text()))
    until = time.monotonic() + 60
    while list(place.iterdir()) and time.monotonic() < until:
        time.sleep(0.01)
    assert not list(place.iterdir())


def test_a_child_of_another_thread_does_not_hold_a_group_up() -> None:
    """A process that was forked meanwhile has all pipes open, too."""
    with workshop.group() as workers:
        child = os.fork()
        if child == 0:
            time.sleep(100)
            os._exit(0)
        workers.run(["true"], 10)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
