"""Laws on reading a text, numbering its characters and cutting it into windows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unvanish.data.text import (
    STANDARD_LIBRARY_CHARACTERS,
    Corpus,
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


FAULTS = {
    "missing": (lambda folder: folder / "no.txt", "there is no file .*no.txt: name a text file, or a folder with"),
    "name too long": (lambda folder: folder / ("x" * 300), "cannot be read: File name too long"),
    "empty": (write(b""), "text.txt is empty: name a file"),
    "binary": (write(b"ab\0cd"), r"is a binary file \(byte 0 at offset 2\)"),
    "latin": (write("na\xefve".encode("latin-1")), "not UTF-8 text .byte 0xef at offset 2.: convert it with iconv"),
    "latin after a mark": (write(b"\xef\xbb\xbfna\xefve"), r"\(byte 0xef at offset 5\)"),
    "cut short": (write("naï".encode()[:-1]), r"\(byte 0xc3 at offset 2\)"),
    "folder without both": (folder_with("valid.txt"), "there is no file .*train.txt"),
    "folder without valid": (folder_with("train.txt"), "there is no file .*valid.txt"),
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
    assert read_text(path) == "one\ntwo\n\rthree"


def test_one_file_leaves_its_last_tenth_to_validate_on(tmp_path: Path) -> None:
    text = "".join(chr(0x4E00 + n) for n in range(1009))
    corpus = load_corpus(write(text.encode())(tmp_path))
    assert corpus.train + corpus.valid == text
    assert len(corpus.valid) == 100


def test_a_folder_has_one_file_for_each(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("to train on", encoding="utf-8")
    (tmp_path / "valid.txt").write_text("to validate on", encoding="utf-8")
    corpus = load_corpus(tmp_path)
    assert (corpus.train, corpus.valid) == ("to train on", "to validate on")


def refusal(characters: int, length: int, batch: int) -> str | None:
    try:
        check_corpus(Corpus("x" * characters, "valid", "text.txt"), length, batch)
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
        check_corpus(Corpus("x" * 100, "v", "text.txt"), 10, 2)


def test_the_standard_library_is_a_text_like_any_other() -> None:
    corpus = load_corpus(None)
    assert len(corpus.train) + len(corpus.valid) == STANDARD_LIBRARY_CHARACTERS
    assert "def " in corpus.train
    assert "\0" not in corpus.train
    check_corpus(corpus, 50, 50)
    assert standard_library_text(1000) == corpus.train[:1000], "it begins with the same module every time"
