"""A source is taken for what it is, and for what it is said to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from unvanish.data.looking import KINDS, look
from unvanish.errors import DataError, OptionError

PROSE = "Call me Ishmael. Some years ago, never mind how long precisely,\nI had little money.\n" * 5
TABLE = "ds,y\n" + "".join(f"2024-01-{day:02d},{day / 2}\n" for day in range(1, 29))
CODE = "def f(x):\n    return [1, 2, 3, x]\n\n\nclass A:\n    pass\n" * 5


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.txt", PROSE, "text"),
        ("a.py", CODE, "text"),
        ("a", PROSE, "text"),
        ("a", "Roses are red,\nviolets are blue,\nsugar is sweet,\n" * 3, "text"),
        ("a.csv", PROSE, "table"),
        ("a.txt", TABLE, "table"),
        ("a.dat", TABLE.replace(",", "\t"), "table"),
        ("a.TSV", TABLE, "table"),
        ("a.jsonl", '{"y": 1}\n', "table"),
        ("a_TRAIN.ts", "@data\n", "archive"),
    ],
)
def test_files_of_text(tmp_path: Path, name: str, content: str, kind: str) -> None:
    (tmp_path / name).write_text(content)
    assert look(tmp_path / name).kind == kind


def test_files_by_their_first_bytes(tmp_path: Path) -> None:
    pl.DataFrame({"y": [1, 2]}).write_parquet(tmp_path / "a")
    with (tmp_path / "b").open("wb") as file:
        np.savez(file, x=np.zeros(3))
    (tmp_path / "c").write_bytes(TABLE.encode("utf-16"))
    assert [look(tmp_path / name).kind for name in "abc"] == ["table", "arrays", "table"]


def test_folders(tmp_path: Path) -> None:
    for folder, name, kind in (
        ("u", "P_TRAIN.ts", "archive"),
        ("m", "train-images-idx3-ubyte.gz", "images"),
        ("t", "train.txt", "text"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("x")
        assert look(tmp_path / folder).kind == kind
    with pytest.raises(DataError, match="holds nothing that is known"):
        look(tmp_path)


def test_what_is_asked_for_goes_first(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TABLE)
    for kind in KINDS:
        assert look(tmp_path / "a.csv", kind).kind == kind
    assert str(look(tmp_path / "a.csv")) == "table, by its name, .csv"
    with pytest.raises(OptionError, match="--as tabel is not known: did you mean 'table'"):
        look(tmp_path / "a.csv", "tabel")
    with pytest.raises(DataError, match="does not exist"):
        look(tmp_path / "none.csv")
