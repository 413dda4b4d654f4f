"""Kernels that come with the package are taken where they are whole and of this processor, and need no compiler."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import pytest
import torch
from release import kernels

import unvanish
from tests.engine.building.test_toolchain import found
from tests.support.compilers import forget
from unvanish.engine.native import build, ready, toolchain
from unvanish.errors import OptionError

pytest.importorskip(toolchain.WHEEL)
pytestmark = pytest.mark.skipif(not ready.levels(os.uname().machine, build._processor()), reason="no level fits")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels of a plain RNN for this processor, built as a release builds them."""
    folder = tmp_path_factory.mktemp("ready")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ready, "FOLDER", folder)
        level = ready.levels(os.uname().machine, build._processor())[0]
        kernels.build_all(os.uname().machine, ["rnn"], [level], jobs=2)
    return folder


@pytest.fixture
def alone(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """A package that brings these, on a machine with no compiler; a copy, which may be damaged."""
    folder = tmp_path / "ready"
    for path in made.rglob("*.so"):
        copy = folder / path.relative_to(made)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    monkeypatch.setattr(ready, "FOLDER", folder)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, toolchain.WHEEL, None)
    forget()
    return folder


def test_they_run_without_a_compiler_and_equal_those_that_are_compiled_here(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(build.COMPILED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = found("rnn")
        layer = unvanish.RNN(3, 4, nonlinearity="relu")
        layer(torch.ones(2, 1, 3))[0].sum().backward()
    assert len(build.COMPILED) == before
    monkeypatch.setattr(ready, "FOLDER", alone / "nowhere")
    monkeypatch.setenv("PATH", os.defpath)
    forget()
    theirs = found("rnn")
    assert len(build.COMPILED) == before + 1
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("damage", ["cut", "a bit", "empty", "gone"])
def test_one_that_is_damaged_is_not_loaded(damage: str, alone: Path) -> None:
    for path in alone.rglob("*.so"):
        whole = path.read_bytes()
        changed = {"cut": whole[:-9], "a bit": whole[:900] + bytes([whole[900] ^ 1]) + whole[901:], "empty": b""}
        path.unlink() if damage == "gone" else path.write_bytes(changed[damage])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if damage == "gone":
            with pytest.raises(OptionError, match="no C\\+\\+ compiler was found"):
                found("rnn")
        else:
            assert found("rnn").isfinite().all()
            assert "no native kernel, running in plain torch instead: no C++ compiler" in str(told[0].message)


def test_a_cell_of_ones_own_says_what_it_needs(alone: Path) -> None:
    own = unvanish.Cell("own", "h[t] = tanh(W @ x[t] + 0.5 * (U @ h[t-1]))")
    with pytest.raises(OptionError, match="unvanish\\[compiler\\]"):
        unvanish.Recurrent(own, 3, 4, engine="native")(torch.ones(2, 1, 3))


def test_who_names_a_compiler_gets_its_kernels(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setenv("CXX", "c++")
    forget()
    before = len(build.COMPILED)
    found("rnn")
    assert len(build.COMPILED) == before + 1


V3 = "flags : fpu cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3 avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
V4 = f"{V3} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("machine", "processor", "levels"),
    [
        ("x86_64", V4, ["x86-64-v4", "x86-64-v3", "x86-64-v2"]),
        ("x86_64", V3, ["x86-64-v3", "x86-64-v2"]),
        ("x86_64", V3.replace(" fma", ""), ["x86-64-v2"]),
        ("x86_64", V4.replace(" movbe", ""), ["x86-64-v2"]),  # a level has all that lies under it
        ("x86_64", "flags : fpu sse2", []),
        ("x86_64", "", []),
        ("aarch64", "Features : fp asimd", ["aarch64"]),
    ],
)
def test_a_processor_takes_the_levels_that_it_can_run(machine: str, processor: str, levels: list[str]) -> None:
    assert ready.levels(machine, processor) == levels


def test_a_shorter_text_or_another_runtime_has_another_name() -> None:
    assert len({ready.key("a", "b"), ready.key("ab", ""), ready.key("a", "c")}) == 3
