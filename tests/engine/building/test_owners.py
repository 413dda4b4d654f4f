"""Libraries of other users are not loaded, nor those that lie where other users could have put them.

Root passes every check of the system, so a process of another user tries: it starts as root, where it may set the
places up, and goes on as the other. Each place is a folder of a cache, kernels and all; where a kernel is not this
user's own it is a false one, which works otherwise.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.compilers import TEXT, kept, with_checksum
from unvanish.engine.native.build import library
from unvanish.engine.native.cache import CHECKSUM

ROOT, US, OTHER = 0, 4711, 4712

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as other users")

# In the process: load the kernel from every place, and tell whether it works, was compiled, and what was warned of.
TRY = """
import ctypes, json, os, sys, warnings
from unvanish.engine.native import build, cache
build.runtime()  # what lies where only root may look
cache._share_openmp()
user, text, places = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
told = {}
for place in places:
    os.environ["XDG_CACHE_HOME"] = os.path.join(place, "cache")
    before, number = len(build.COMPILED), ctypes.c_int(0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        build.library(text).forward(ctypes.byref(number))
    told[os.path.basename(place)] = [number.value, len(build.COMPILED) - before, [str(one.message) for one in said]]
print(json.dumps(told))
"""


class Place:
    """A cache with one kernel, which belongs to us and is a good one until something is done to it."""

    def __init__(self, top: Path, good: bytes, name: str) -> None:
        self.top, self.cache = top, top / "cache"
        self.middle, self.kernels = self.cache / "unvanish", self.cache / "unvanish" / "kernels"
        self.kernel, self.good = self.kernels / name, good
        self.false = with_checksum(good[:-CHECKSUM].replace(b"\x29\x00\x00\x00", b"\x2a\x00\x00\x00"))
        assert self.false != good
        self.kernels.mkdir(parents=True)
        self.kernel.write_bytes(good)
        self.kernel.chmod(0o600)
        for path in (self.top, self.cache, self.middle, self.kernels, self.kernel):
            own(path, US, 0o600 if path.is_file() else 0o700)


def own(path: Path, user: int, mode: int) -> None:
    os.chown(path, user, user, follow_symlinks=False)
    path.chmod(mode)


def put_false(place: Place) -> None:
    place.kernel.write_bytes(place.false)


def of_another(which: str, mode: int = 0o755) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        put_false(place)
        own(getattr(place, which), OTHER, mode)

    return change


def of_root(which: str, mode: int) -> Callable[[Place], None]:
    return lambda place: own(getattr(place, which), ROOT, mode)


def open_to_all(which: str, mode: int) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        put_false(place)
        getattr(place, which).chmod(mode)

    return change


def linked(which: str) -> Callable[[Place], None]:
    """Put the real thing aside, to where it is another's, and a link into its place."""

    def change(place: Place) -> None:
        put_false(place)
        path = getattr(place, which)
        (aside := place.top / "aside").mkdir()
        own(path.rename(aside / "it"), OTHER, 0o755)
        own(aside, OTHER, 0o755)
        path.symlink_to(aside / "it")
        os.chown(path, US, US, follow_symlinks=False)

    return change


KEPT: dict[str, Callable[[Place], object]] = {
    "all is our own": lambda place: None,
    "a folder on the way is root's": of_root("cache", 0o755),
    "a folder on the way is root's, open to all but sticky": of_root("cache", 0o1777),
}
FALSE = "a kernel of our own that is a false one"
REFUSED: dict[str, tuple[Callable[[Place], object], str]] = {
    "the kernel is another's": (of_another("kernel", 0o644), ""),
    "the kernel is root's": (of_root("kernel", 0o644), ""),
    "others may write to the kernel": (open_to_all("kernel", 0o602), ""),
    "a group may write to the kernel": (open_to_all("kernel", 0o620), ""),
    "the kernel is a link to another's": (linked("kernel"), ""),
    "the folder of kernels is another's": (of_another("kernels"), "kernels belongs to another user"),
    "the folder of kernels is root's": (of_root("kernels", 0o755), "kernels belongs to another user"),
    "the folder of kernels is a link to another's": (linked("kernels"), "aside belongs to another user"),
    "others may write to the folder of kernels": (open_to_all("kernels", 0o703), "others may write to"),
    "the folder of kernels is sticky": (open_to_all("kernels", 0o1777), "others may write to"),
    "a folder on the way is another's": (of_another("middle"), "unvanish belongs to another user"),
    "a folder on the way is a link to another's": (linked("middle"), "aside belongs to another user"),
    "others may write to a folder on the way": (open_to_all("cache", 0o703), "chmod go-w"),
    "a group may write to a folder on the way": (open_to_all("cache", 0o770), "chmod go-w"),
    "a folder on the way is root's and open to all": (of_root("top", 0o777), "chmod go-w"),
}


@pytest.fixture(scope="module")
def told(as_shipped: None) -> Iterator[dict[str, Any]]:
    """What came of every place. The compiler is the system's: where these tests lie the other user may not look."""
    top = Path(tempfile.mkdtemp())
    top.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(top / "first"))
        library(TEXT)
        (file,) = kept(top / "first" / "unvanish" / "kernels")
    for name, change in {
        **KEPT,
        FALSE: put_false,
        **{name: change for name, (change, _) in REFUSED.items()},
    }.items():
        change(Place(top / name, file.read_bytes(), file.name))
    places = [str(top / name) for name in (*KEPT, FALSE, *REFUSED)]
    command = [sys.executable, "-c", TRY, str(US), TEXT, *places]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TMPDIR": "/tmp"})
    assert done.returncode == 0, done.stderr
    yield json.loads(done.stdout)
    shutil.rmtree(top)


@pytest.mark.parametrize("name", KEPT)
def test_our_own_kernels_are_loaded(told: dict[str, Any], name: str) -> None:
    assert told[name] == [41, 0, []]
    assert told[FALSE] == [42, 0, []], "what is false can be told from what is right"


@pytest.mark.parametrize("name", REFUSED)
def test_what_others_could_have_put_there_is_not_loaded(told: dict[str, Any], name: str) -> None:
    number, compiled, said = told[name]
    assert (number, compiled) == (41, 1), "it was compiled instead"
    words = REFUSED[name][1]
    assert [words in warning for warning in said] == ([True] if words else []), said
