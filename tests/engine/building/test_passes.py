"""The passes of a kernel are compiled side by side where there is more than one thread, and make one library."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

import unvanish
from tests.support.compilers import TEXT, break_compiler, compiler_script, ends, forget
from unvanish.engine.native import build, toolchain
from unvanish.engine.native.build import compiler, library
from unvanish.engine.native.workshop import BuildError


def trained(engine: str = "native") -> list[Tensor]:
    """Both passes, and the gradient of a matrix, which has a function of its own."""
    forget()
    layer = unvanish.Recurrent(unvanish.cells["peephole_lstm"], 3, 5, dtype=torch.float64, engine=engine)
    for number, parameter in enumerate(layer.parameters()):
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(number))
    x_TBI = torch.linspace(-1, 1, 7 * 2 * 3, dtype=torch.float64).view(7, 2, 3).requires_grad_()
    output = layer(x_TBI)[0]
    output.square().sum().backward()
    return [output.detach(), *(p.grad for p in [x_TBI, *layer.parameters()] if p.grad is not None)]


@pytest.mark.parametrize("threads", [1, 2])
def test_each_pass_has_a_compiler_of_its_own_where_there_are_threads(
    threads: int, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, script = tmp_path / "log", tmp_path / "logged"
    script.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec c++ "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = trained()
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, trained("reference"), rtol=1e-9, atol=1e-9)
    alone = re.findall(r"-D(\w+_ALONE)", log.read_text())
    assert sorted(alone) == ([] if threads == 1 else sorted(toolchain.PASSES))


def test_the_fault_of_one_pass_is_told_and_ends_the_other(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "child"
    script = compiler_script(
        tmp_path / "half",
        'case "$*" in *BACKWARD_ALONE*) ;;',
        f"*) while [ ! -s {child} ]; do sleep 0.01; done; echo 'error: no room'; exit 1;; esac",
        f"sleep 1000 & echo $! > {child}; wait",
    )
    monkeypatch.setenv("CXX", script)
    compiler()
    break_compiler(script)
    begin = time.monotonic()
    with pytest.raises(BuildError, match="error: no room"):
        library(TEXT, in_two=True)
    assert time.monotonic() - begin < 60
    assert ends(int(child.read_text()))


def test_both_passes_have_one_limit_of_time(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "TIME_LIMIT", 0.5)
    script = compiler_script(tmp_path / "hanging", f"sleep 1000 & echo $! >> {tmp_path / 'children'}; wait")
    monkeypatch.setenv("CXX", script)
    compiler()
    break_compiler(script)
    with pytest.raises(BuildError, match=r"had not ended after 0\.5 s"):
        library(TEXT, in_two=True)
    assert all(ends(int(line)) for line in (tmp_path / "children").read_text().split())


def test_ctrl_c_ends_both(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = compiler_script(tmp_path / "hanging", f"sleep 1000 & echo $! >> {tmp_path / 'children'}; wait")
    monkeypatch.setenv("CXX", script)
    compiler()
    break_compiler(script)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            library(TEXT, in_two=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert all(ends(int(line)) for line in (tmp_path / "children").read_text().split())
