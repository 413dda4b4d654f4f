"""A text that is not UTF-8 is refused with a command that makes it UTF-8, and the command works."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from charset_normalizer.constant import IANA_SUPPORTED

from unvanish.data.reading import BLOCK, ICONV, UNKNOWN_TO_ICONV
from unvanish.data.text import read_text
from unvanish.errors import DataError

FRENCH = "Les élèves naïfs ont mangé à Noël, où ça coûte cher.\n" * 9
GERMAN = "Der Fluß ist über die Ufer getreten, größer als je, schön.\n" * 9
ENGLISH = "It was the best of times, a naïve café \N{EM DASH} \N{LEFT DOUBLE QUOTATION MARK}it.\n" * 9
POLISH = "Zażółć gęślą jaźń, proszę państwa, dzień dobry wszystkim.\n" * 9
TURKISH = "İstanbul'da güneşli bir gün, çocuklar oynuyor ve şarkı söylüyor.\n" * 9
HEBREW = "בראשית ברא אלהים את השמים ואת הארץ.\n" * 9
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастлива по-своему.\n" * 9
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n" * 9
CHINESE = "学而时习之，不亦说乎？有朋自远方来，不亦乐乎？\n" * 9
TRADITIONAL = "學而時習之，不亦說乎？有朋自遠方來，不亦樂乎？\n" * 9
KOREAN = "나는 생각한다 고로 존재한다. 오늘은 날씨가 좋다.\n" * 9

WRITTEN = [
    *((FRENCH, encoding) for encoding in ("latin-1", "cp1252", "mac-roman", "utf-16-le", "utf-16-be")),
    *((GERMAN, encoding) for encoding in ("latin-1", "cp1252")),
    *((ENGLISH, encoding) for encoding in ("cp1252", "utf-16-le")),
    *((RUSSIAN, encoding) for encoding in ("koi8-r", "cp1251", "cp866", "iso8859-5", "utf-16-le")),
    *((JAPANESE, encoding) for encoding in ("shift_jis", "euc_jp")),
    *((CHINESE, encoding) for encoding in ("gbk", "gb18030")),
    *((POLISH, "cp1250"), (TURKISH, "cp1254"), (TURKISH, "iso8859-9"), (HEBREW, "cp1255"), (TRADITIONAL, "big5")),
    *((KOREAN, encoding) for encoding in ("cp949", "euc-kr")),
]


def followed(path: Path) -> str:
    """Do as the refusal of a text says, and return what is read then."""
    with pytest.raises(DataError) as fault:
        read_text(path)
    assert "\n" not in str(fault.value)
    command = str(fault.value).partition("with  ")[2]
    subprocess.run(command, shell=True, check=command.startswith("iconv -f"))  # -c ends with 1 having left out
    return str(read_text(path.with_name(f"{path.stem}.utf-8{path.suffix}")))


@pytest.mark.parametrize(("text", "encoding"), WRITTEN, ids=[f"{text[:3]} {name}" for text, name in WRITTEN])
@pytest.mark.parametrize("after", [0, 2 * BLOCK], ids=["short", "long"])
def test_the_command_gives_the_text(tmp_path: Path, text: str, encoding: str, after: int) -> None:
    """Also where what tells the encoding comes after much that does not."""
    whole = "A plain line, that is the same in many encodings.\n" * (after // 50) + text
    (path := tmp_path / "a text's file.txt").write_bytes(whole.encode(encoding))
    assert followed(path) == whole


@pytest.mark.parametrize("content", [b"na\xefve", b"\xff" * 9, b"abc\x80", b"\xa4\xff\x81 \x8d\n"])
def test_a_guess_from_little_gives_a_text(tmp_path: Path, content: bytes) -> None:
    (path := tmp_path / "text").write_bytes(content)
    assert followed(path)


def test_where_there_is_no_guess_the_command_says_what_is_missing(tmp_path: Path) -> None:
    (path := tmp_path / "text").write_bytes(bytes(range(1, 256)))
    with pytest.raises(DataError, match=r"iconv -f ENCODING -t UTF-8 .* where ENCODING is what it was written in"):
        read_text(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_what_is_damaged_here_and_there_is_left_out(tmp_path: Path, encoding: str) -> None:
    text = RUSSIAN * 20
    content = bytearray(text.encode(encoding))
    bad = {"utf-8": b"\xff", "utf-16": b"\x00\xd8", "utf-32": b"\xff\xff\xff\xff"}[encoding]
    content[600 : 600 + len(bad)] = bad
    (path := tmp_path / "text.txt").write_bytes(content)
    found = followed(path)
    assert len(text) - 2 <= len(found) < len(text)
    assert found[:100] == text[:100]
    assert found[-100:] == text[-100:]


def test_iconv_knows_every_encoding_that_may_be_guessed() -> None:
    for name in set(IANA_SUPPORTED) - set(UNKNOWN_TO_ICONV):
        known = ICONV.get(name, name.upper().replace("_", "-"))
        assert subprocess.run(["iconv", "-f", known, "-t", "UTF-8"], input=b"", check=False).returncode == 0, name


def test_a_binary_file_is_not_taken_for_a_text(tmp_path: Path) -> None:
    (path := tmp_path / "program").write_bytes(Path("/bin/sh").read_bytes())
    with pytest.raises(DataError, match=r"is a binary file \(byte 0 at offset \d+\): name a text file"):
        read_text(path)
