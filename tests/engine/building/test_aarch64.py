"""The kernels for Arm give the numbers of those for x86: the same memory, run through both, Arm emulated.

What a call of a kernel points to is written down; a small program in C, compiled for each processor, reads it,
calls the kernel that was built for its processor, and writes down what has become of the memory.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import struct
import subprocess
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from release import kernels

import unvanish
from tests.support.whole import usual
from unvanish.engine.native import build, kernel, ready, toolchain

REPLAY = Path(__file__).with_name("replay.c")
AROUND = 1 << 17  # bytes from a pointer on: more than any array here has
ARM_ROOT = "/usr/aarch64-linux-gnu"
EMULATOR, ARM_COMPILER = "qemu-aarch64", "aarch64-linux-gnu-gcc"

pytest.importorskip(toolchain.WHEEL)
pytestmark = pytest.mark.skipif(
    not (shutil.which(EMULATOR) and shutil.which(ARM_COMPILER) and shutil.which("gcc")),
    reason=f"needs {EMULATOR}, {ARM_COMPILER} and gcc",
)


class Kept(NamedTuple):
    """A call of a kernel's function, and the memory around all that it points to."""

    function: str
    text: str
    before: bytes
    sizes: list[int]


def mapped() -> list[tuple[int, int]]:
    """The memory of this process that can be read and written, from where to where."""
    found: list[tuple[int, int]] = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        place = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
        if place:
            begin, end = (int(text, 16) for text in place.groups())
            if found and found[-1][1] == begin:
                begin = found.pop()[0]
            found.append((begin, end))
    return found


def regions(pointers: set[int]) -> list[tuple[int, int]]:
    """What lies behind the pointers, joined where it overlaps."""
    readable, found = mapped(), list[tuple[int, int]]()
    for pointer in sorted(pointers):
        end = next((end for begin, end in readable if begin <= pointer < end), pointer)
        end = min(end, pointer + AROUND)
        if found and pointer < found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        elif end > pointer:
            found.append((pointer, end))
    return found


def written_down(loaded: kernel.Loaded, function: str, call: array[int]) -> Kept:
    """Keep a call with its memory."""
    pointers = len(loaded.emitted.pointers) + len(loaded.emitted.tables)
    places = regions({*call[:pointers]} - {0})
    content = struct.pack(f"<3q{len(call)}q", len(call), pointers, len(places), *call)
    for begin, end in places:
        content += struct.pack("<2q", begin, end - begin) + ctypes.string_at(begin, end - begin)
    return Kept(function, loaded.emitted.text, content, [end - begin for begin, end in places])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Kept]]:
    """Every call of a kernel, on one thread, as it begins; kernels are those for vectors of 32 bytes."""
    found: list[Kept] = []
    run = kernel.Loaded.run

    def kept(loaded: kernel.Loaded, function: Any, call: array[int]) -> None:
        name = "forward" if function is loaded.forward else "backward"
        found.append(written_down(loaded, name, call))
        run(loaded, function, call)

    monkeypatch.setattr(kernel, "vector_bytes", lambda: 32)
    monkeypatch.setattr(kernel.Loaded, "run", kept)
    kernel.load.clear()
    yield found
    kernel.load.clear()


@pytest.fixture(scope="module")
def replays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """How the program is started on each processor."""
    folder = tmp_path_factory.mktemp("replay")
    for name, compiler in (("x86", "gcc"), ("arm", ARM_COMPILER)):
        libraries = ["-ldl", "-Wl,--no-as-needed", "-lm"]  # which Python and torch have loaded, too
        subprocess.run([compiler, "-O1", "-rdynamic", REPLAY, "-o", folder / name, *libraries], check=True)
    return {"x86": [str(folder / "x86")], "arm": [EMULATOR, "-L", ARM_ROOT, str(folder / "arm")]}


def after(kept: Kept, start: list[str], library: Path, folder: Path) -> np.ndarray[Any, Any]:
    """What a kernel makes of the memory, as the numbers of its kind; the processor's own bytes elsewhere."""
    (folder / "before").write_bytes(kept.before)
    given = [str(library), kept.function, str(folder / "before"), str(folder / "after")]
    subprocess.run([*start, *given], check=True, timeout=600)
    kind = np.float32 if kept.text.startswith("typedef float") else np.float64
    content, found, place = (folder / "after").read_bytes(), [], 0
    for size in kept.sizes:
        found.append(np.frombuffer(content[place : place + size // 8 * 8], kind))
        place += size
    return np.concatenate(found)


def libraries(text: str, folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The library of a text for each processor, as a release builds it."""
    levels = {"x86": kernels.LEVELS["x86_64"][1], "arm": kernels.LEVELS["aarch64"][0]}
    patch.setattr(ready, "FOLDER", folder)
    return {name: kernels.build(text, level, build.runtime()) for name, level in levels.items()}


CELLS = usual(("lstm",), ("lstm", "gru", "peephole_lstm", "clockwork_rnn", "lem", "skip_rnn"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", CELLS)
def test_arm_gives_the_numbers_of_x86(
    name: str,
    dtype: torch.dtype,
    calls: list[Kept],
    replays: dict[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = unvanish.Recurrent(unvanish.cells[name], 5, 19, dtype=dtype, engine="native")
    x_TBI = torch.randn(6, 7, 5, dtype=dtype, requires_grad=True)
    layer(x_TBI)[0].square().sum().backward()
    assert {kept.function for kept in calls} == {"forward", "backward"}
    made = libraries(calls[0].text, tmp_path, monkeypatch)
    for kept in calls:
        before = np.concatenate([np.frombuffer(part, np.uint8) for part in parts(kept)])
        x86, arm = (after(kept, replays[one], made[one], tmp_path) for one in ("x86", "arm"))
        width = dtype.itemsize
        changed = x86 != np.frombuffer(before[: x86.size * width].tobytes(), x86.dtype)[: x86.size]
        changed |= arm != np.frombuffer(before[: x86.size * width].tobytes(), x86.dtype)[: x86.size]
        changed &= np.isfinite(x86) | np.isfinite(arm)
        assert changed.sum() > 100, "nothing was written"
        close = 2e-5 if dtype == torch.float32 else 1e-12
        np.testing.assert_allclose(arm[changed], x86[changed], rtol=close, atol=close)


def parts(kept: Kept) -> Iterator[bytes]:
    """The bytes of the regions as they were, in whole numbers of eight bytes."""
    fields, _, count = struct.unpack_from("<3q", kept.before)
    place = 24 + 8 * fields
    for size in kept.sizes[:count]:
        place += 16
        yield kept.before[place : place + size // 8 * 8]
        place += size
