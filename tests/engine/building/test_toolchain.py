"""gcc, clang and zig's clang make the same kernels; the lines for systems that are not here are right as lines."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import unvanish
from tests.support.compilers import forget, kept
from unvanish.engine import dispatch
from unvanish.engine.native import build, toolchain
from unvanish.engine.native.toolchain import Compiler, System, compile_line, link_line

GCC, CLANG = Compiler(("g++",), "g++ 14"), Compiler(("clang++",), "clang 18")
ZIG = Compiler((sys.executable, "-m", "ziglang", "c++"), "clang version 21")


def zig() -> str:
    return f"{sys.executable} -m {toolchain.WHEEL} c++"


KINDS: dict[str, Callable[[], str]] = {"g++": lambda: "g++", "clang++": lambda: "clang++", "zig": zig}


def found(name: str) -> Tensor:
    """The gradients of a small layer, one after the other."""
    torch.manual_seed(3)
    layer = unvanish.Recurrent(unvanish.cells[name], 5, 19, engine="native")
    x_TBI = torch.randn(7, 9, 5, requires_grad=True)
    output, _ = layer(x_TBI)
    output.square().sum().backward()
    gradients = [x_TBI.grad, *(parameter.grad for parameter in layer.parameters())]
    return torch.cat([output.detach().flatten(), *(g.flatten() for g in gradients if g is not None)])


@pytest.mark.parametrize("kind", ["clang++", "zig"])
def test_other_compilers_make_the_kernels_that_gcc_makes(
    kind: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "clang++" and shutil.which("clang++") is None:
        pytest.skip("there is no clang++ here")
    if kind == "zig":
        pytest.importorskip(toolchain.WHEEL)
    results = []
    for one in ("g++", kind):
        monkeypatch.setenv("CXX", KINDS[one]())
        forget()
        results.append(torch.cat([found(name) for name in ("lstm", "clockwork_rnn")]))
        used = build.compiler()
        assert used is not None
        assert used.command[-1].endswith("c++" if one == "zig" else one)
    torch.testing.assert_close(*results, rtol=2e-5, atol=2e-5)
    assert len(kept(cache)) == 4


def test_the_compiler_of_a_wheel_is_the_last_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    pytest.importorskip(toolchain.WHEEL)
    assert toolchain.commands("")[-1] == (sys.executable, "-m", "ziglang", "c++")
    assert len(toolchain.commands("")) > 1
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    forget()
    used = build.compiler()
    assert used is not None
    assert used.command == (sys.executable, "-m", "ziglang", "c++")
    assert found("rnn").isfinite().all()
    assert not (tmp_path / "home").exists(), "zig keeps what it made in the folder that is removed"


LINES = {
    ("Linux", "x86_64", GCC): ("-march=native -fPIC", "-shared -nostdlib"),
    ("Linux", "aarch64", GCC): ("-mcpu=native -fPIC", "-shared -nostdlib"),
    ("Darwin", "arm64", CLANG): ("-mcpu=native -fPIC", "-shared -undefined dynamic_lookup"),
    ("Darwin", "x86_64", CLANG): ("-march=native -fPIC", "-shared -undefined dynamic_lookup"),
    ("Windows", "amd64", CLANG): ("-march=native", "-shared"),
    ("Windows", "amd64", ZIG): ("-fno-sanitize=undefined -g0 -march=native", "-shared"),
}


@pytest.mark.parametrize("where", LINES, ids=lambda where: f"{where[0]}-{where[1]}-{where[2].version.split()[0]}")
def test_each_system_has_its_lines(where: tuple[str, str, Compiler]) -> None:
    """Those of macOS and of Windows have been run nowhere yet."""
    name, machine, using = where
    half = " ".join(compile_line(using, System(name, machine), "k.cpp", "k.o"))
    whole = " ".join(link_line(using, System(name, machine), ["k.o"], "k.so"))
    compiled, linked = LINES[where]
    assert half == f"{' '.join([*using.command, *toolchain.FLAGS])} {compiled} -c k.cpp -o k.o"
    assert whole == f"{' '.join(using.command)} {linked} k.o -o k.so"


def test_on_windows_it_is_said_that_no_kernel_is_compiled_yet(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(toolchain.platform, "system", lambda: "Windows")
    forget()
    assert build.no_compiler() == "kernels are compiled on Linux and macOS only yet: run it in WSL"
    assert found_by_auto().isfinite().all()


def found_by_auto() -> Tensor:
    dispatch._tell_what_is_missing.cache_clear()
    with pytest.warns(UserWarning, match="WSL"):
        return unvanish.Recurrent(unvanish.cells["mgu"], 3, 4)(torch.ones(2, 1, 3))[0]
