"""Laws on the record of a run: what is written is read back, whatever ends the writing."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from unvanish.errors import RunError
from unvanish.record import CONFIG, RECORDS, RunRecord, write_atomically


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return RunRecord.create(tmp_path / "run", {"name": "run"})


def test_what_is_appended_is_read_back_in_order(record: RunRecord) -> None:
    record.append("step", 1, 0.12345, loss=2.5, steps=1)
    record.append("event", 1, 0.2, what="stopped", text="NEL \x85 LS \u2028 \N{GRINNING FACE} \n \r end")
    record.append("step", 2, 0.3, nested={"a": [1, 2.5]})
    lines = list(RunRecord.open(record.folder).read())
    assert lines[0] == {"kind": "step", "step": 1, "seconds": 0.123, "loss": 2.5, "steps": 1}
    assert lines[1]["text"] == "NEL \x85 LS \u2028 \N{GRINNING FACE} \n \r end"
    assert [line["step"] for line in record.read("step")] == [1, 2]
    assert lines[2]["nested"] == {"a": [1, 2.5]}


def test_what_is_not_finite_is_null(record: RunRecord) -> None:
    record.append("step", 1, 0.0, loss=math.nan, norms=[1.0, math.inf, (-math.inf, 2)], inner={"x": math.nan})
    text = (record.folder / RECORDS).read_text(encoding="utf-8")
    json.loads(text, parse_constant=pytest.fail)  # no NaN, no Infinity: plain JSON
    (line,) = record.read()
    assert (line["loss"], line["norms"], line["inner"]) == (None, [1.0, None, [None, 2]], {"x": None})


@given(st.integers(min_value=1), st.booleans())
def test_a_line_cut_short_costs_that_line_alone(
    tmp_path_factory: pytest.TempPathFactory, cut: int, truncates: bool
) -> None:
    record = RunRecord.create(tmp_path_factory.mktemp("cut") / "run", {})
    record.append("step", 1, 0.0)
    whole = (record.folder / RECORDS).read_bytes()
    record.append("sample", 2, 0.0, text="größer \N{GRINNING FACE} 東京")
    content = (record.folder / RECORDS).read_bytes()
    kept = len(whole) + cut % (len(content) - len(whole) - 1)
    (record.folder / RECORDS).write_bytes(content[:kept])
    assert [line["step"] for line in record.read()] == [1]
    if truncates:  # a run that is resumed before it began does not
        record.truncate(5)
    record.append("step", 3, 0.0)
    assert [line["step"] for line in record.read()] == [1, 3], "what is written after it is whole again"


@pytest.mark.parametrize("line", ["7", "null", "[1]", '"step"', "{}", '{"step": "one"}', "\x00", "{'step': 1}"])
def test_a_line_that_is_no_record_is_passed_over(record: RunRecord, line: str) -> None:
    record.append("step", 1, 0.0)
    with (record.folder / RECORDS).open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
    record.append("step", 2, 0.0)
    assert [found["step"] for found in record.read()] == [1, 2]
    record.truncate(1)
    assert [found["step"] for found in record.read()] == [1]


def test_truncating_drops_later_numbers_and_keeps_what_happened(record: RunRecord) -> None:
    for step in range(1, 6):
        record.append("step", step, 0.0)
    record.append("event", 5, 0.0, what="non-finite", text="")
    record.append("valid", 2, 0.0)
    record.truncate(3)
    assert [(line["kind"], line["step"]) for line in record.read()] == [
        ("step", 1),
        ("step", 2),
        ("step", 3),
        ("event", 5),
        ("valid", 2),
    ]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 0x10FFFF))
def test_configuration_comes_back_with_any_character(
    tmp_path_factory: pytest.TempPathFactory, text: str, code: int
) -> None:
    odd = "\"'\\ #:-\t\r\n\x00\x07\x7f\x85\xa0\u2028\u2029\ufeff\ufffe\N{GRINNING FACE}"
    odd += "" if 0xD800 <= code < 0xE000 else chr(code)
    breaks = "a\x85b\u2028c\u2029d"  # nothing here that a writer must escape, but a reader may change
    config: dict[str, Any] = {"characters": text + odd, "odd": odd, "breaks": breaks, "list": [1, 2.5, None, text]}
    record = RunRecord.create(tmp_path_factory.mktemp("config") / "run", config)
    assert RunRecord.open(record.folder).config == config
    assert yaml.safe_load((record.folder / CONFIG).read_bytes()) == config, "any reader of YAML finds the same"


def test_a_folder_with_something_in_it_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(RunError, match="is not empty: name another folder with --out"):
        RunRecord.create(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("missing", [CONFIG, RECORDS])
def test_what_is_no_run_is_not_opened(record: RunRecord, missing: str) -> None:
    (record.folder / missing).unlink()
    with pytest.raises(RunError, match=f"is not a run: it has no {missing}"):
        RunRecord.open(record.folder)


@pytest.mark.parametrize(
    "content", [b"a: [1", b"7", b"", b"\xff\xfe", b"a: !!python/object/apply:os.system ['touch ran']"]
)
def test_a_damaged_configuration_is_refused(
    record: RunRecord, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(record.folder)
    (record.folder / CONFIG).write_bytes(content)
    with pytest.raises(RunError, match="restore it or start a new run"):
        assert RunRecord.open(record.folder).config
    assert not Path("ran").exists(), "nothing in a configuration is executed"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    write_atomically(path, b"old")
    sync = os.fsync

    def fail(descriptor: int) -> None:
        sync(descriptor)  # by now the new content is on the disk
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path], "nothing is left lying about"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644, "others may read it, as any file that one writes"
