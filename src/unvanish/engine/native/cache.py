"""Libraries on disk: the user's cache folder, what is kept in it, and loading.

A library is code that is run. So nobody else may be able to write to it or to a folder on the way to it: it belongs
to this user, the folders to this user or root. All of this is checked on descriptors, each opened by way of the one
before, and what is loaded is the file that the last one has open, whatever its name stands for by then.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import itertools
import operator
import os
import secrets
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import torch

FUNCTIONS = ("forward", "backward", "outer")  # what a kernel's text defines, each with one argument, its structure
CHECKSUM = hashlib.sha256().digest_size
LARGEST = 1 << 26  # bytes: a kernel has less than a hundredth of it
DESCRIPTORS = Path("/proc/self/fd")

# O_PATH asks for no right to list a folder; with O_NONBLOCK opening a FIFO waits for nobody. Windows has none.
_FOLDER, _FILE = (
    functools.reduce(operator.or_, (getattr(os, name, 0) for name in names.split()))
    for names in ("O_DIRECTORY O_CLOEXEC O_PATH", "O_NOFOLLOW O_CLOEXEC O_NONBLOCK")
)
_names = itertools.count(1)


def cache_folder() -> Path:
    """Return the folder of compiled kernels: the user's own, closed to everybody else.

    Raises:
        OSError: there can be none, or others could put files into it, which would then be run.
    """
    folder = Path(platformdirs.user_cache_dir("unvanish")) / "kernels"
    if not folder.is_absolute():
        raise OSError(f"{folder} depends on the working folder; set HOME or XDG_CACHE_HOME to a whole path")
    try:
        for made in (*reversed(folder.parents), folder):
            made.mkdir(mode=0o700, exist_ok=True)
    except OSError as fault:
        raise OSError(f"{folder} cannot be made ({fault.strerror}); set XDG_CACHE_HOME to another") from fault
    with opened(folder, "XDG_CACHE_HOME"):
        if folder.stat().st_mode & 0o077:
            with contextlib.suppress(OSError):
                folder.chmod(0o700)
    return folder


@contextlib.contextmanager
def opened(folder: Path, variable: str) -> Iterator[int]:
    """Open a folder into which, and on the way to which, nobody else can put anything.

    Raises:
        OSError: others can, or it cannot be opened; `variable` is what to set to another folder.
    """
    place = Path("/")
    descriptor = os.open(place, _FOLDER)
    try:
        for name in Path(os.path.realpath(folder)).parts[1:]:
            _refuse_others(os.fstat(descriptor), place, variable)
            below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor, place = below, place / name
        _refuse_others(os.fstat(descriptor), place, variable, own=True)
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse_others(found: os.stat_result, place: Path, variable: str, own: bool = False) -> None:
    if found.st_uid != os.geteuid() and (own or found.st_uid not in _roots()):
        raise OSError(f"{place} belongs to another user; set {variable} to a folder of your own")
    if found.st_mode & 0o022 and own:
        raise OSError(f"others may write to {place}; empty it, then: chmod 700 {place}")
    if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:  # in /tmp nobody renames what is another's
        raise OSError(f"others may write to {place}; chmod go-w {place}, or set {variable} to a folder of your own")


@functools.lru_cache(maxsize=1)
def _roots() -> frozenset[int]:
    """The users that may own the folders above ours: root.

    A container that was started without root may know its own user only, and show all other owners, root among
    them, as one number that nobody in it can have.
    """
    with contextlib.suppress(OSError, ValueError):
        unknown = int(Path("/proc/sys/fs/overflowuid").read_text())
        known = [[int(n) for n in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
        if not any(first <= unknown < first + count for first, _, count in known):
            return frozenset({0, unknown})
    return frozenset({0})


# -- files ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened_library(name: str, folder: int) -> Iterator[int]:
    """Open a file of an opened folder. Raises `OSError` where it is not a file of this user's alone."""
    descriptor = os.open(name, os.O_RDONLY | _FILE, dir_fd=folder)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{name} is not a regular file")
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise OSError(f"others may write to {name}")
        if found.st_size > LARGEST:
            raise OSError(f"{name} is larger than a kernel can be")
        yield descriptor
    finally:
        os.close(descriptor)


def content_of(descriptor: int) -> bytes:
    """Return what an opened file holds."""
    with open(descriptor, "rb", closefd=False) as stream:
        return stream.read()


def with_checksum(content: bytes) -> bytes:
    """Return a library as it is kept."""
    return content + hashlib.sha256(content).digest()


def keep(content: bytes, target: Path) -> ctypes.CDLL:
    """Load a library and put it and its checksum into the cache in one step, under its name only once it loads.

    Raises:
        OSError: it cannot be kept, or not be loaded.
    """
    temporary = f".{secrets.token_hex(8)}.so"
    with opened(target.parent, "XDG_CACHE_HOME") as folder:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE, 0o600, dir_fd=folder)
        try:
            with open(descriptor, "wb", closefd=False) as stream:
                stream.write(with_checksum(content))
            loaded = load(descriptor, str(target.parent / temporary))
            os.replace(temporary, target.name, src_dir_fd=folder, dst_dir_fd=folder)
            return loaded
        finally:
            os.close(descriptor)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)


def load_kept(path: Path) -> ctypes.CDLL | None:
    """Load a library of the cache if it is there, nobody else could have changed it, and it is what was written."""
    with (
        contextlib.suppress(OSError),
        opened(path.parent, "XDG_CACHE_HOME") as folder,
        opened_library(path.name, folder) as descriptor,
    ):
        return _load_checked(descriptor, path)
    return None


def load_whole(path: Path) -> ctypes.CDLL | None:
    """Load a library that lies beside our own code, which whoever can change it can change too, if it is whole."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | _FILE)
        try:
            return _load_checked(descriptor, path)
        finally:
            os.close(descriptor)
    return None


def _load_checked(descriptor: int, path: Path) -> ctypes.CDLL | None:
    content = content_of(descriptor)
    if hashlib.sha256(content[:-CHECKSUM]).digest() != content[-CHECKSUM:] or not is_whole(content[:-CHECKSUM]):
        return None
    return load(descriptor, str(path))


def is_whole(content: bytes) -> bool:
    """Whether a library reaches as far as its table of sections, which a linker writes last.

    One that does not would end the process where what is missing is touched. What is not an ELF file of 64 bits is
    left to the loader, which refuses it.
    """
    if content[:5] != b"\x7fELF\x02":
        return True
    order = "<" if content[5:6] == b"\x01" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}Q", content, 0x28)
        size, count = struct.unpack_from(f"{order}HH", content, 0x3A)
    except struct.error:
        return False
    return bool(start + size * count <= len(content))


def load(descriptor: int, path: str) -> ctypes.CDLL:
    """Load the library that a descriptor has open, and say how its functions are called.

    `path` is where it lies, for systems that do not let a descriptor be opened by a name.

    Raises:
        OSError: it does not load, or it is not a kernel.
    """
    _share_openmp()
    if DESCRIPTORS.is_dir():
        # The loader does not open a file whose name it has seen, and numbers of descriptors are used again: so
        # the name is written in another way every time, with a counter's bits as /./ and /.
        bits = f"{next(_names):b}".replace("0", "/").replace("1", "/./")
        path = f"{DESCRIPTORS}{bits}{descriptor}"
    try:
        loaded = ctypes.CDLL(path)
    except OSError as fault:
        raise OSError(str(fault).removeprefix(f"{path}: ")) from fault
    for name in FUNCTIONS:
        try:
            function = getattr(loaded, name)
        except AttributeError:
            raise OSError(f"the library has no function {name}") from None
        function.argtypes, function.restype = [ctypes.c_void_p], None
    return loaded


@functools.lru_cache(maxsize=1)
def _share_openmp() -> None:
    """Make torch's own OpenMP runtime the one that our kernels find: one pool of threads, not two."""
    with contextlib.suppress(OSError):  # who has given up rights since torch was imported may not look there
        folder = Path(torch.__file__).parent / "lib"
        for path in sorted([*folder.glob("libgomp*"), *folder.glob("libomp.*")]):  # the second is macOS's
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
