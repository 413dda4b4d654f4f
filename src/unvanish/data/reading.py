"""A text file -> its characters, in blocks. What is not a text is refused, with what to do about it."""

from __future__ import annotations

import codecs
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import wrap_file

from unvanish.errors import DataError

BLOCK = 1 << 20
SHOWN_FROM = 16 << 20  # bytes: less is read in a moment
SAMPLE = 1 << 16  # bytes to guess an encoding from, before what is not UTF-8 and after
# The longer ones first: the mark of UTF-32 begins with that of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    codecs.BOM_UTF8: "utf-8",
}
COMMON = ("cp1252", "cp1251")  # first among equals
# What iconv calls otherwise than charset-normalizer does, and what it does not know.
ICONV = {
    "utf_16_le": "UTF-16LE",
    "utf_16_be": "UTF-16BE",
    "utf_32_le": "UTF-32LE",
    "utf_32_be": "UTF-32BE",
    "latin_1": "ISO-8859-1",
    "mac_roman": "MACINTOSH",
    "euc_jis_2004": "EUC-JISX0213",
    "shift_jis_2004": "SHIFT_JISX0213",
    "shift_jisx0213": "SHIFT_JISX0213",
    "kz1048": "RK1048",
    "ptcp154": "PT154",
}
UNKNOWN_TO_ICONV = [
    *("cp1006", "cp720", "hz", "mac_greek", "mac_iceland", "mac_latin2", "mac_turkish", "iso2022_kr"),
    *("iso2022_jp", "iso2022_jp_1", "iso2022_jp_2", "iso2022_jp_2004", "iso2022_jp_3", "iso2022_jp_ext"),
]


def size_of(path: Path) -> int:
    """Return how many bytes a text file has, which is at least one.

    Raises:
        DataError: it is not a file, or an empty one.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise DataError(
            f"the file {path} does not exist: name a text file, or a folder with train.txt and valid.txt"
        ) from None
    except ValueError:
        raise DataError(f"{str(path)!r} is not a path: name a text file") from None
    except OSError as fault:
        raise DataError(f"{path} cannot be read: {fault.strerror}; name a text file") from fault
    if not stat.S_ISREG(found.st_mode):  # a device may never end, and a pipe cannot be read again to resume a run
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a device, a pipe or a socket"
        raise DataError(f"{path} cannot be read: it is {kind}; name a text file")
    if found.st_size == 0:
        raise DataError(f"{path} is empty: name a file with text in it")
    return found.st_size


def read_blocks(path: Path, size: int) -> Iterator[str]:
    """Read the first bytes of a text file block by block: UTF-8, or UTF-16 and UTF-32 with a byte order mark.

    The mark is not part of the text, and \\r\\n is read as \\n. A long file shows on a terminal how far it is read.

    Raises:
        DataError: it cannot be read, or is not such a text.
    """
    console = Console(stderr=True)
    try:
        with (
            path.open("rb") as file,
            wrap_file(
                file,
                total=size,
                description="reading the text",
                console=console,
                transient=True,
                disable=size < SHOWN_FROM or not console.is_terminal,
            ) as stream,
        ):
            yield from _lines_joined(_decoded(path, stream, size))
    except OSError as fault:
        raise DataError(f"{path} cannot be read: {fault.strerror}; name a text file") from fault


def encoding_of(head: bytes) -> tuple[bytes, str]:
    """Return the byte order mark that a text begins with, empty if it has none, and the encoding of the rest."""
    mark = next((mark for mark in MARKS if head.startswith(mark)), b"")
    return mark, MARKS.get(mark, "utf-8")


def _decoded(path: Path, stream: BinaryIO, size: int) -> Iterator[str]:
    head = stream.read(min(BLOCK, size))
    mark, encoding = encoding_of(head)
    decoder = codecs.getincrementaldecoder(encoding)()
    block, done = head[len(mark) :], len(head)
    while True:
        start = done - len(block) - len(decoder.getstate()[0])  # where what is decoded now begins
        if encoding == "utf-8" and b"\0" in block:
            raise DataError(_binary(path, done - len(block) + block.index(0)))
        try:
            yield decoder.decode(block, final=done >= size)
        except UnicodeDecodeError as fault:
            raise DataError(_not_text(path, encoding, start + fault.start)) from fault
        if done >= size:
            return
        block = stream.read(min(BLOCK, size - done))
        done = done + len(block) if block else size  # the file has become shorter


def _lines_joined(blocks: Iterator[str]) -> Iterator[str]:
    """The blocks with \\n for \\r\\n, also where a block ends between the two."""
    held = ""
    for block in blocks:
        text = held + block
        held = "\r" if text.endswith("\r") else ""
        yield text[: len(text) - len(held)].replace("\r\n", "\n")
    yield held


# -- what to do about it -------------------------------------------------------------------------------


def _binary(path: Path, offset: int) -> str:
    found = f"{path} is a binary file (byte 0 at offset {offset})"
    guess = _guess(path, offset)
    if guess is None or not guess.startswith(("utf_16", "utf_32")):
        return f"{found}: name a text file"
    return f"{found}, or text without a byte order mark: convert it with  {_iconv(path, ICONV[guess])}"


def _not_text(path: Path, encoding: str, offset: int) -> str:
    with path.open("rb") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
    found = f"{path} is not {encoding.upper()} text (byte {byte:#04x} at offset {offset})"
    if encoding != "utf-8" or _is_damaged(path, offset):
        name = ICONV.get(encoding.replace("-", "_"), "UTF-8")
        return f"{found}, but most of it is: leave out what is damaged with  {_iconv(path, name, '-c ')}"
    guess = _guess(path, offset)
    if guess is None:
        return f"{found}: convert it with  {_iconv(path, 'ENCODING')}  where ENCODING is what it was written in"
    return f"{found}: convert it with  {_iconv(path, ICONV.get(guess, guess.upper().replace('_', '-')))}"


def _iconv(path: Path, encoding: str, options: str = "") -> str:
    target = path.with_name(f"{path.stem}.utf-8{path.suffix}")
    return f"iconv {options}-f {encoding} -t UTF-8 {shlex.quote(str(path))} > {shlex.quote(str(target))}"


def _sample(path: Path, offset: int) -> bytes:
    """The lines around an offset that tell something: those that are not plain ASCII, if there are lines."""
    with path.open("rb") as stream:
        start = max(0, offset - SAMPLE)
        stream.seek(start)
        sample = stream.read(2 * SAMPLE)
    if b"\0" in sample:  # its characters are not bytes
        return sample
    if start:
        sample = sample[1 + sample.find(b"\n", 0, offset - start) :]
    return b"\n".join(line for line in sample.split(b"\n") if not line.isascii()) or sample


def _is_damaged(path: Path, offset: int) -> bool:
    """Whether a file is UTF-8 but for a few bytes: letters of another encoding seldom look like it by chance."""
    found = _sample(path, offset).decode("utf-8", errors="replace")
    broken = found.count("\N{REPLACEMENT CHARACTER}")
    return sum(character > "\x7f" for character in found) - broken > broken


def _guess(path: Path, offset: int) -> str | None:
    """Guess what a file is written in: an encoding that iconv knows, and in which all of the file can be read."""
    from charset_normalizer import from_bytes

    found = list(from_bytes(_sample(path, offset), cp_exclusion=UNKNOWN_TO_ICONV))
    if not found:
        return None
    best = found[0]
    # Of what fits as well as the best, the most common: a few words of a European language fit several.
    near = [one for one in found if one.chaos <= best.chaos + 0.02 and one.coherence >= best.coherence - 0.05]
    near.sort(key=lambda one: COMMON.index(one.encoding) if one.encoding in COMMON else len(COMMON))
    return next((one.encoding for one in [*near, *found] if _reads(path, one.encoding)), None)


def _reads(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with path.open("rb") as stream:
            while block := stream.read(BLOCK):
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
