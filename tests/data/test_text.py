"""Laws on reading a text, numbering its characters and cutting it into windows."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unvanish.data.reading import BLOCK
from unvanish.data.text import (
    STANDARD_LIBRARY_CHARACTERS,
    Corpus,
    Text,
    Vocabulary,
    Windows,
    check_corpus,
    load_corpus,
    read_text,
    standard_library_text,
)
from unvanish.errors import DataError

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)  # all planes; no file holds a surrogate


@given(texts, texts)
def test_vocabulary_gives_every_character_back(text: str, other: str) -> None:
    vocabulary = Vocabulary.of(text)
    assert len(vocabulary) == len(set(text)) + 1
    assert vocabulary.decode(vocabulary.encode(text).tolist()) == text
    for character, number in zip(other, vocabulary.encode(other).tolist(), strict=True):
        assert (number == 0) == (character not in text)
        assert vocabulary.decode([number]) == (character if number else Vocabulary.UNKNOWN)


def test_vocabulary_counts_an_astral_character_as_one() -> None:
    vocabulary = Vocabulary.of("a\N{EARTH GLOBE EUROPE-AFRICA}\U0010ffff\x00")
    assert vocabulary.encode("\U0010ffff\N{EARTH GLOBE EUROPE-AFRICA}b\x00").tolist() == [4, 3, 0, 1]


def test_vocabulary_does_not_depend_on_the_order_of_the_text() -> None:
    assert Vocabulary.of("wind and sea").characters == Vocabulary.of("and sea wind").characters == " adeinsw"


windows_of = st.tuples(st.integers(0, 90), st.integers(1, 12), st.integers(1, 7))


@given(windows_of)
def test_windows_predict_every_character_but_the_first_of_each_stream_once(shape: tuple[int, int, int]) -> None:
    count, length, batch = shape
    windows = Windows(torch.arange(count), length, batch)
    found = list(windows)
    assert len(found) == len(windows)
    steps = count // batch
    for x_TB, y_TB in found:
        assert x_TB.shape == y_TB.shape
        assert 1 <= len(x_TB) <= length
    for row in range(batch):
        read = [number for x_TB, _ in found for number in x_TB[:, row].tolist()]
        predicted = [number for _, y_TB in found for number in y_TB[:, row].tolist()]
        stream = list(range(row * steps, (row + 1) * steps))
        assert read == stream[:-1], "a stream is contiguous, and each window carries on where the last ended"
        assert predicted == stream[1:], "what is predicted is the character that follows"


@given(windows_of, st.integers(0, 20))
def test_windows_begin_once_at_the_first_one_asked_for(shape: tuple[int, int, int], first: int) -> None:
    windows = Windows(torch.arange(shape[0]), *shape[1:])
    every = [x_TB.tolist() for x_TB, _ in windows]
    windows.first = first
    assert [x_TB.tolist() for x_TB, _ in windows] == every[first:]
    assert [x_TB.tolist() for x_TB, _ in windows] == every, "the epoch after it begins at the head again"


def write(content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "text.txt").write_bytes(content)
        return folder / "text.txt"

    return make


def folder_with(*names: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for name in names:
            (folder / name).write_text("some text", encoding="utf-8")
        return folder

    return make


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "fifo")
    return folder / "fifo"


def link_to_fifo(folder: Path) -> Path:
    (folder / "link").symlink_to(fifo(folder))
    return folder / "link"


def unix_socket(folder: Path) -> Path:
    with contextlib.chdir(folder), socket.socket(socket.AF_UNIX) as one:  # its name may not be long
        one.bind("socket")
    return folder / "socket"


FAULTS = {
    "missing": (
        lambda folder: folder / "no.txt",
        "the file .*no.txt does not exist: name a text file, or a folder with",
    ),
    "name too long": (lambda folder: folder / ("x" * 300), "cannot be read: File name too long"),
    "empty": (write(b""), "text.txt is empty: name a file"),
    "binary": (write(b"ab\0cd"), r"is a binary file \(byte 0 at offset 2\)"),
    "latin": (write(b"na\xefve"), r"not UTF-8 text \(byte 0xef at offset 2\): convert it with  iconv -f"),
    "latin after a mark": (write(b"\xef\xbb\xbfna\xefve"), r"\(byte 0xef at offset 5\)"),
    "latin after a block": (write(b"x" * BLOCK + b"\xef"), rf"\(byte 0xef at offset {BLOCK}\)"),
    "cut short": (write("naï".encode()[:-1]), r"\(byte 0xc3 at offset 2\)"),
    "binary after a block": (write(b"x" * BLOCK + b"ab\0"), rf"is a binary file \(byte 0 at offset {BLOCK + 2}\)"),
    "only a mark": (write(b"\xef\xbb\xbf"), "text.txt is empty: name a file"),
    "a device without end": (lambda folder: Path("/dev/zero"), "/dev/zero cannot be read: it is a device, a pipe"),
    "a FIFO": (fifo, "fifo cannot be read: it is a device, a pipe or a socket; name a text file"),
    "a link to a FIFO": (link_to_fifo, "link cannot be read: it is a device, a pipe or a socket"),
    "a socket": (unix_socket, "socket cannot be read: it is a device, a pipe or a socket"),
    "a folder with a FIFO": (
        lambda folder: fifo(folder).rename(folder / "train.txt").parent,
        "it is a device, a pipe",
    ),
    "folder without both": (folder_with("valid.txt"), "the file .*train.txt does not exist"),
    "folder without valid": (folder_with("train.txt"), "the file .*valid.txt does not exist"),
    "folder for a file": (lambda folder: (folder / "train.txt").mkdir() or folder, "train.txt cannot be read"),
}


@pytest.mark.parametrize(("make", "says"), FAULTS.values(), ids=FAULTS)
def test_what_is_no_text_is_refused(tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    with pytest.raises(DataError, match=says):
        load_corpus(make(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = write(b"text")(tmp_path)
    path.chmod(0)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        load_corpus(path)


def test_byte_order_mark_and_line_ends_are_not_part_of_the_text(tmp_path: Path) -> None:
    path = write(b"\xef\xbb\xbfone\r\ntwo\n\rthree")(tmp_path)
    assert str(read_text(path)) == "one\ntwo\n\rthree"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-be", "utf-32-be"])
@pytest.mark.parametrize("before", [*range(BLOCK - 9, BLOCK + 1), 0])
def test_a_text_is_the_same_wherever_its_blocks_end(tmp_path: Path, encoding: str, before: int) -> None:
    """Between the bytes of a character, between \\r and \\n, at the end; by its mark in UTF-16 and UTF-32."""
    text = "ï\r\n東\N{GRINNING FACE}\r\r\n\rx\r"
    mark = {"utf-16-be": codecs.BOM_UTF16_BE, "utf-32-be": codecs.BOM_UTF32_BE}.get(encoding, b"")
    width = {"6": 2, "2": 4}.get(encoding[5:6], 1)
    content = mark + ("y" * (before // width) + text).encode(encoding)
    found = read_text(write(content)(tmp_path))
    assert str(found) == "y" * (before // width) + "ï\n東\N{GRINNING FACE}\r\n\rx\r"


def test_a_terminal_shows_how_far_a_long_text_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("unvanish.data.reading.SHOWN_FROM", 2 * BLOCK)
    short, long = (write(b"x" * (count * BLOCK)) for count in (1, 3))
    read_text(long(tmp_path))
    assert capfd.readouterr() == ("", ""), "there is no terminal"
    monkeypatch.setenv("TERM", "xterm")
    leader, follower = os.openpty()
    with os.fdopen(follower, "w", encoding="utf-8") as terminal, os.fdopen(leader, "rb", buffering=0) as shown:
        monkeypatch.setattr(sys, "stderr", terminal)
        read_text(short(tmp_path))
        terminal.write("then\n")
        read_text(long(tmp_path))
        terminal.flush()
        told = shown.read(100_000).decode().partition("then")
    assert told[0] == ""
    assert "reading the text" in told[2]


@given(texts, texts)
def test_a_text_is_a_string_in_less_memory(text: str, more: str) -> None:
    found = Text.collect(iter([text, more, ""]), len(text + more) + 7)
    whole = text + more
    assert str(found) == whole == "".join(found.blocks()) == "".join(found)
    assert len(found) == len(whole)
    assert found.characters == "".join(sorted(set(whole)))
    cut = len(text)
    assert (found[:cut], found[cut:], found[-3:], found[2:5]) == (text, more, whole[-3:], whole[2:5])
    assert (str(found.part(slice(cut))), found.part(slice(cut, None)).characters) == (
        text,
        "".join(sorted(set(more))),
    )
    vocabulary = Vocabulary.of(text)
    compact = vocabulary.encode_compactly(found)
    assert compact.dtype == torch.uint8
    assert compact.tolist() == vocabulary.encode(whole).tolist()


@pytest.mark.parametrize(
    ("characters", "place", "number"),
    [
        (255, np.uint8, torch.uint8),
        (256, np.uint8, torch.int16),  # the numbers begin at 1
        (257, np.uint16, torch.int16),
        (40_000, np.uint16, torch.int32),
        (70_000, np.uint32, torch.int32),
    ],
)
def test_a_text_takes_the_least_memory_that_its_characters_allow(characters: int, place: Any, number: Any) -> None:
    text = "".join(chr(code) for code in range(0x10000, 0x10000 + characters)) * 2
    found = Text.collect(iter([text[:200], text[200:]]), len(text))
    vocabulary = Vocabulary.of(found)
    assert str(found) == text
    assert (found.places_N.dtype, vocabulary.encode_compactly(found).dtype) == (place, number)
    assert vocabulary.encode_compactly(found).tolist() == list(range(1, characters + 1)) * 2


def test_windows_of_small_numbers_are_those_of_large_ones() -> None:
    numbers = torch.randint(0, 200, (500,))
    for (x_TB, y_TB), (small_x_TB, small_y_TB) in zip(
        Windows(numbers, 7, 3), Windows(numbers.to(torch.uint8), 7, 3), strict=True
    ):
        assert small_x_TB.dtype == small_y_TB.dtype == torch.int64
        assert (x_TB.tolist(), y_TB.tolist()) == (small_x_TB.tolist(), small_y_TB.tolist())


def test_a_digest_is_of_both_texts_and_of_where_they_meet() -> None:
    corpora = [Corpus(Text.of(train), Text.of(valid), "x") for train, valid in (("ab", "c"), ("a", "bc"))]
    assert corpora[0].digest() == hashlib.sha256(b"ab\0c").hexdigest()[:16]
    assert corpora[0].digest() != corpora[1].digest()


def test_one_file_leaves_its_last_tenth_to_validate_on(tmp_path: Path) -> None:
    text = "".join(chr(0x4E00 + n) for n in range(1009))
    corpus = load_corpus(write(text.encode())(tmp_path))
    assert str(corpus.train) + str(corpus.valid) == text
    assert len(corpus.valid) == 100


def test_a_folder_has_one_file_for_each(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("to train on", encoding="utf-8")
    (tmp_path / "valid.txt").write_text("to validate on", encoding="utf-8")
    corpus = load_corpus(tmp_path)
    assert (str(corpus.train), str(corpus.valid)) == ("to train on", "to validate on")


def refusal(characters: int, length: int, batch: int) -> str | None:
    try:
        check_corpus(Corpus(Text.of("x" * characters), Text.of("valid"), "text.txt"), length, batch)
    except DataError as fault:
        return str(fault)
    return None


@given(st.integers(0, 400), st.integers(1, 30), st.integers(1, 40))
def test_a_refused_batch_size_comes_with_the_largest_that_works(characters: int, length: int, batch: int) -> None:
    said = refusal(characters, length, batch)
    whole_window = characters // batch >= length + 1
    assert (said is None) == whole_window, "every stream has a window and the character after it"
    if said is not None and "--batch-size" in said:
        suggested = int(said.partition("--batch-size ")[2].partition(",")[0])
        assert refusal(characters, length, suggested) is None
        assert refusal(characters, length, suggested + 1) is not None
    elif said is not None:
        assert characters < length + 1, "no batch size works: the text is shorter than one window"
        assert "smaller --length" in said


def test_a_text_too_short_to_validate_on_is_refused() -> None:
    with pytest.raises(DataError, match="no text to validate on"):
        check_corpus(Corpus(Text.of("x" * 100), Text.of("v"), "text.txt"), 10, 2)


def test_the_standard_library_is_a_text_like_any_other() -> None:
    corpus = load_corpus(None)
    assert len(corpus.train) + len(corpus.valid) == STANDARD_LIBRARY_CHARACTERS
    assert "def " in str(corpus.train)
    assert "\0" not in corpus.train.characters
    check_corpus(corpus, 50, 50)
    assert standard_library_text(1000) == corpus.train[:1000], "it begins with the same module every time"
