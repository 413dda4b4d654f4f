"""Text as numbers: what is cut goes together again, what is unknown is counted, parts are read as they stand."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unvanish.data import storage
from unvanish.data.tokens import Bytes, Words, read_tokens, symbols_of
from unvanish.data.tokens.read import _agreed, _numbered
from unvanish.data.tokens.symbols import SPACED, WORD, Characters, Pieces
from unvanish.errors import DataError, OptionError, RunError

TEXT = "The cat, which was full, didn't eat 10.5 mice.\nIt's a “cat”!\n" * 40


def written(folder: Path, text: str, name: str = "text.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("cut", ["chars", "bytes", "bpe"])
def test_what_is_cut_without_loss_goes_together_again(tmp_path: Path, cut: str) -> None:
    tokens = read_tokens(written(tmp_path, TEXT), cut, most=300 if cut == "bpe" else None)
    numbers = [*tokens.parts["train"].tolist(), *tokens.parts["valid"].tolist()]
    assert tokens.symbols.decode(numbers) == TEXT
    assert 0 not in numbers
    assert len(tokens.parts["valid"]) == len(numbers) // 10


def test_words_are_numbered_by_how_often_they_come(tmp_path: Path) -> None:
    tokens = read_tokens(written(tmp_path, "b a b c b a\n" * 30), "words", most=2)
    assert isinstance(tokens.symbols, Words)
    assert tokens.symbols.words == ("b", "a") or tokens.symbols.words[0] == "b"
    assert tokens.unknown["train"] > 0
    assert "2 words are told apart; unknown: " in tokens.told[0]
    again = read_tokens(tmp_path / "text.txt", "words", symbols=tokens.symbols)
    assert (again.parts["train"] == tokens.parts["train"]).all()
    assert again.digest == tokens.digest


def test_words_marks_and_clitics_are_cut_as_one_reads_them() -> None:
    assert Words(()).cut("Don't, it's 3.5 <unk> e-mail!\n") == [
        *("Don't", ",", "it's", "3.5", "<unk>", "e-mail", "!", "\n"),
    ]
    spaced = Words(["n't"], spaced=True)
    assert spaced.cut("do n't <unk> N .\n") == ["do", "n't", "<unk>", "N", ".", "\n"]


def test_a_text_that_has_been_cut_is_cut_at_its_spaces(tmp_path: Path) -> None:
    tokens = read_tokens(written(tmp_path, "he did n't see <unk> N times .\n" * 30), "words")
    assert isinstance(tokens.symbols, Words)
    assert "n't" in tokens.symbols.words
    assert "<unk>" not in tokens.symbols.words
    assert tokens.unknown["train"] == pytest.approx(1 / 9, abs=0.01)


@given(st.text(st.characters(codec="utf-8"), max_size=60))
@settings(max_examples=60, deadline=None)
def test_symbols_that_are_kept_are_the_same_afterwards(text: str) -> None:
    for symbols in (Bytes(), Words(["a", "b", text or "c"]), Characters("".join(sorted(set("ab" + text))))):
        again = symbols_of(symbols.to_dict())
        assert again.encode(text).tolist() == symbols.encode(text).tolist()
        assert len(again) == len(symbols)
    assert Bytes().decode(Bytes().encode(text).tolist()) == text


def test_pieces_that_are_kept_are_the_same_afterwards(tmp_path: Path) -> None:
    pieces = read_tokens(written(tmp_path, TEXT), "bpe", most=280).symbols
    again = symbols_of(pieces.to_dict())
    assert isinstance(again, Pieces)
    assert again.encode(TEXT[:200]).tolist() == pieces.encode(TEXT[:200]).tolist()
    assert len(again) == 281


def test_a_folder_gives_its_parts(tmp_path: Path) -> None:
    for name, text in (("train", "a b a b\n" * 40), ("valid", "a c\n" * 9), ("test", "b b\n" * 5)):
        written(tmp_path, text, f"{name}.txt")
    for cut in ("chars", "words"):
        tokens = read_tokens(tmp_path, cut)
        assert list(tokens.parts) == ["train", "valid", "test"]
        assert tokens.unknown["valid"] > 0
        assert tokens.unknown["test"] == 0
    (tmp_path / "test.txt").unlink()
    assert read_tokens(tmp_path, "words").digest != tokens.digest


@pytest.mark.parametrize("cut", ["chars", "bytes", "words"])
def test_a_long_text_lies_in_a_file_and_reads_the_same(
    tmp_path: Path, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, TEXT)
    expected = read_tokens(path, cut)
    monkeypatch.setattr(storage, "MAPPED_FROM", 64)
    monkeypatch.setattr(storage, "user_cache_dir", lambda _: str(tmp_path / "cache"))
    found = read_tokens(path, cut)
    for name, part in expected.parts.items():
        assert (found.parts[name] == part).all()
    assert not list((tmp_path / "cache").iterdir()), "the file has no name"


def test_a_store_gives_back_what_it_took(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(storage, "MAPPED_FROM", 40)
    monkeypatch.setattr(storage, "user_cache_dir", lambda _: str(tmp_path))
    store, parts = storage.Store(np.int32), [np.arange(size) for size in (3, 0, 7, 30, 1, 90)]
    for part in parts:
        store.append(part)
    assert store.whole().tolist() == np.concatenate(parts).tolist()


@pytest.mark.parametrize(
    ("cut", "most", "words"),
    [
        ("word", None, "did you mean 'words'"),
        ("chars", 5, "are as many as there are"),
        ("bpe", 9, "begin with 256"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, cut: str, most: int | None, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        read_tokens(written(tmp_path, TEXT), cut, most=most)


@pytest.mark.parametrize(
    "plain", [None, 3, {}, {"kind": "words"}, {"kind": "words", "words": ["a", "a"]}, {"kind": "bpe"}]
)
def test_a_vocabulary_that_is_none_is_refused(plain: object) -> None:
    with pytest.raises(RunError, match="vocabulary of the run"):
        symbols_of(plain)


def test_a_text_without_a_word_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the source holds no text"):
        read_tokens(written(tmp_path, "   "), "words")


def test_polars_takes_every_sign_as_python_does_or_is_not_asked() -> None:
    signs = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000 and _agreed(chr(code))]
    assert len(signs) > 100_000
    text = " ".join(signs)
    for pattern in (r"\w", r"\d", r"\s", r"[^\w\s]"):
        assert pl.Series([text]).str.extract_all(pattern)[0].to_list() == re.findall(pattern, text)


@settings(max_examples=200)
@given(
    block=st.text(st.characters(max_codepoint=127), max_size=60)
    | st.text("ab'’-.<>1_ \n\x1c\x85é²Ⓐ中\u0301\u200d😀", max_size=30),
    pattern=st.sampled_from([WORD, SPACED]),
)
@pytest.mark.parametrize("repeated", [1, 9000])
def test_words_of_a_block_are_those_that_the_pattern_finds(
    repeated: int, block: str, pattern: re.Pattern[str]
) -> None:
    block = block * repeated
    places: defaultdict[str, int] = defaultdict()
    places.default_factory = places.__len__
    assert places["kept"] == 0
    numbers = _numbered(block, pattern, places)
    words = list(places)
    assert [words[number] for number in numbers] == pattern.findall(block)
    assert numbers.dtype == np.int32
