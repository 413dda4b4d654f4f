"""What is kept is what was compiled, and where nothing can be kept a kernel works all the same."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import socket
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.compilers import TEXT, compiles, forget, kept, with_checksum, works
from unvanish.engine.native import build
from unvanish.engine.native import cache as kept_by
from unvanish.engine.native.build import library
from unvanish.engine.native.cache import CHECKSUM, cache_folder

# -- broken files --------------------------------------------------------------------------------------


def for_another_processor(content: bytes) -> bytes:
    return with_checksum(content[:18] + b"\xf3\x00" + content[20:-CHECKSUM])  # the mark of RISC-V


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "garbage": lambda content: b"no library",
    "cut in half": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "one bit turned": lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
    "for another processor": for_another_processor,
    "whole, but no library": lambda content: with_checksum(b"no library"),
    "whole, but not this library": lambda content: with_checksum(content[:-CHECKSUM].replace(b"outer", b"other")),
    **{
        f"with a checksum, but {part:.0%} of it": lambda content, part=part: with_checksum(
            content[: int(len(content) * part)]
        )
        for part in (0.001, 0.01, 0.3, 0.9, 0.99)
    },
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_compiled_again(cache: Path, damage: Callable[[bytes], bytes]) -> None:
    library(TEXT)
    (file,) = kept(cache)
    whole = file.read_bytes()
    file.unlink()  # another file, as a library whose file is open is not to be written to
    file.write_bytes(damage(whole))
    assert [compiles(), compiles()] == [1, 0]
    assert file.read_bytes() == whole


def a_device(place: Path, whole: Path) -> None:
    try:
        os.mknod(place, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
    except OSError:
        pytest.skip("this process may not make a device")


def a_socket(place: Path, whole: Path) -> None:
    os.chdir(place.parent)  # its name may not be long
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(place.name)


def a_file_of_a_terabyte(place: Path, whole: Path) -> None:
    with place.open("wb") as stream:
        stream.truncate(1 << 40)


def a_link_to_a_fifo(place: Path, whole: Path) -> None:
    os.mkfifo(place.with_suffix(".fifo"))
    place.symlink_to(place.with_suffix(".fifo"))


def one_that_others_may_write(place: Path, whole: Path) -> None:
    place.write_bytes(whole.read_bytes())
    place.chmod(0o620)


IN_PLACE: dict[str, Callable[[Path, Path], object]] = {
    "a FIFO": lambda place, whole: os.mkfifo(place),
    "a link to a FIFO": a_link_to_a_fifo,
    "a link to a kernel elsewhere": lambda place, whole: place.symlink_to(whole),
    "a link to what never ends": lambda place, whole: place.symlink_to("/dev/zero"),
    "a link to itself": lambda place, whole: place.symlink_to(place),
    "a device": a_device,
    "a socket": a_socket,
    "a file of a terabyte": a_file_of_a_terabyte,
    "a file that others may write": one_that_others_may_write,
}


@pytest.mark.parametrize("put", IN_PLACE.values(), ids=IN_PLACE)
def test_what_lies_in_the_place_of_a_kernel_is_replaced(
    cache: Path, put: Callable[[Path, Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    library(TEXT)
    (file,) = kept(cache)
    whole = file.rename(tmp_path / "whole.so")
    put(file, whole)
    assert [compiles(), compiles()] == [1, 0]
    assert file.is_file()
    assert not file.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o600


# -- no place to keep it -------------------------------------------------------------------------------


def a_file_in_the_way(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.parent.parent.mkdir()
    folder.parent.touch()


def a_fifo_in_the_way(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.parent.mkdir(parents=True, mode=0o700)
    os.mkfifo(folder)


def links_in_a_circle(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.parent.parent.mkdir()
    folder.parent.symlink_to(folder.parent)


def no_home(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kept_by.platformdirs, "user_cache_dir", lambda name: f"~/.cache/{name}")


def open_to_others(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)


def below_a_folder_open_to_all(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True, mode=0o700)
    folder.parent.parent.chmod(0o777)


def below_a_folder_open_to_a_group(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True, mode=0o700)
    folder.parent.chmod(0o770)


def linked_to_a_folder_open_to_all(folder: Path, patch: pytest.MonkeyPatch) -> None:
    open_folder = folder.parents[2] / "open"
    (open_folder / "kernels").mkdir(parents=True, mode=0o700)
    open_folder.chmod(0o777)
    folder.parent.parent.mkdir()
    folder.parent.symlink_to(open_folder)


def read_only(folder: Path, patch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def refuse(*given: Any, **options: Any) -> None:
        if "dst_dir_fd" in options:
            raise OSError(30, "Read-only file system")
        replace(*given, **options)

    patch.setattr(os, "replace", refuse)


def a_folder_in_the_way(folder: Path, patch: pytest.MonkeyPatch) -> None:
    library(TEXT)
    (file,) = kept(folder)
    file.unlink()
    (file / "full").mkdir(parents=True)


def full(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """From the end of the compilation on no file may grow beyond 100 bytes."""
    compile_text, (soft, hard) = build._compile, resource.getrlimit(resource.RLIMIT_FSIZE)

    def and_fill(*given: Any) -> Path:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        made = compile_text(*given)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        return made

    patch.setattr(build, "_compile", and_fill)


def nothing_runs_there(folder: Path, patch: pytest.MonkeyPatch) -> None:
    load = ctypes.CDLL

    def refuse(path: str, **options: Any) -> ctypes.CDLL:
        if Path(path).resolve().is_relative_to(folder):
            raise OSError(f"{path}: failed to map segment from shared object")
        return load(path, **options)

    patch.setattr(kept_by.ctypes, "CDLL", refuse)


HINDRANCES = {
    a_file_in_the_way: "cannot be made",
    a_fifo_in_the_way: "cannot be made",
    links_in_a_circle: "cannot be made",
    no_home: "set HOME or XDG_CACHE_HOME",
    open_to_others: "chmod 700",
    below_a_folder_open_to_all: "others may write to .*/cache; chmod go-w .*/cache, or set XDG_CACHE_HOME",
    below_a_folder_open_to_a_group: "others may write to .*/unvanish; chmod go-w",
    linked_to_a_folder_open_to_all: "others may write to .*/open; chmod go-w",
    read_only: "Read-only file system",
    a_folder_in_the_way: "takes no library",
    full: "File too large",
    nothing_runs_there: "failed to map segment",
}


@pytest.mark.parametrize("hinder", HINDRANCES, ids=lambda hinder: hinder.__name__)
def test_a_kernel_that_cannot_be_kept_works_and_one_warning_says_why(
    cache: Path, hinder: Callable[[Path, pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
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
    (told,) = [str(warning.message) for warning in said]
    assert re.search(HINDRANCES[hinder], told), told
    assert not list(temporary.iterdir()), "the temporary folder is gone"
    assert not Path("~").exists()
    if cache.is_dir():
        assert not [path for path in cache.iterdir() if path.name.startswith(".")], "temporary files are left"


@pytest.mark.filterwarnings("ignore:compiled kernels cannot be kept")  # an older platformdirs hands it on
def test_a_folder_that_depends_on_the_working_folder_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert compiles() == 1
    assert not Path("relative").exists()


def test_folders_are_made_closed_to_others_whatever_the_mask_of_the_process(cache: Path) -> None:
    before = os.umask(0)
    try:
        assert [compiles(), compiles()] == [1, 0]
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (cache, cache.parent, cache.parent.parent)] == [0o700] * 3
    assert {path.stat().st_mode & 0o777 for path in cache.iterdir()} == {0o600}


def test_a_folder_that_others_may_read_is_closed(cache: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o755)
    assert cache_folder() == cache
    assert cache.stat().st_mode & 0o777 == 0o700


def test_a_folder_may_lie_behind_a_link_or_in_one_where_only_owners_may_rename(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    (tmp_path / "link").symlink_to(tmp_path / "shared")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "link" / "own"))
    assert [compiles(), compiles()] == [1, 0]


def test_nothing_is_compiled_where_others_could_change_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (temporary := tmp_path / "temporary").mkdir()
    temporary.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with pytest.raises(build.BuildError, match=r"others may write to .*/temporary; chmod .* or set TMPDIR"):
        library(TEXT)
    temporary.chmod(0o1777)
    forget()
    assert compiles() == 1
