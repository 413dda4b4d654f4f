"""Arrays, data sets, idx files and files of the UCR and UEA archive are read as what was kept; damage is named."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unvanish.data.archive import read_archive, read_ts
from unvanish.data.arrays import of_arrays, of_dataset, read_arrays, read_idx, read_mnist
from unvanish.data.sequences import Sequences
from unvanish.errors import DataError

R = np.random.default_rng(0)


def rows(found: Sequences) -> list[np.ndarray[Any, Any]]:
    return [found.numbers_NF[place] for place in found.places()]


def target(found: Sequences) -> Any:
    assert found.target is not None
    return found.target


@pytest.mark.parametrize("shape", [(4, 6, 3), (4, 6), (6,)])
def test_arrays_and_tensors(shape: tuple[int, ...]) -> None:
    x = R.normal(size=shape).astype(np.float32)
    for given in (x, torch.from_numpy(x), x.tolist()):
        found = of_arrays(given)
        np.testing.assert_array_equal(np.stack(rows(found)), x.reshape(*(shape[:2] if x.ndim > 1 else (1, 6)), -1))


def test_lengths_cut_rows_or_divide_steps() -> None:
    x, lengths = R.normal(size=(3, 5, 2)).astype(np.float32), [5, 2, 3]
    flat = np.concatenate([row[:steps] for row, steps in zip(x, lengths, strict=True)])
    for found in (of_arrays(x, lengths=lengths), of_arrays(flat, lengths=lengths)):
        assert found.lengths_B.tolist() == lengths
        for row, wanted, steps in zip(rows(found), x, lengths, strict=True):
            np.testing.assert_array_equal(row, wanted[:steps])


@pytest.mark.parametrize(
    ("y", "kind", "per", "levels"),
    [
        ([7, 3, 7], "class", "sequence", ("3", "7")),
        (["b", "a", "b"], "class", "sequence", ("a", "b")),
        ([True, False, True], "class", "sequence", ("False", "True")),
        ([0.5, 1.5, 2.0], "number", "sequence", ()),
        (R.normal(size=(3, 2)), "number", "sequence", ()),
        (R.integers(0, 2, (3, 5)), "class", "step", ("0", "1")),
        (R.normal(size=(3, 5, 2)), "number", "step", ()),
    ],
)
def test_kind_of_a_target_is_told_by_its_values(y: Any, kind: str, per: str, levels: tuple[str, ...]) -> None:
    found = target(of_arrays(np.zeros((3, 5, 1)), y, lengths=[5, 2, 3]))
    assert (found.kind, found.per, found.levels) == (kind, per, levels)
    assert len(found.values) == (3 if per == "sequence" else 10)
    if kind == "class":
        named = np.array(found.levels)[found.values[:, 0]]
        steps = np.asarray(y)[np.arange(5) < np.array([[5], [2], [3]])] if per == "step" else np.asarray(y)
        assert named.tolist() == [str(one) for one in steps.tolist()]


def test_data_sets_of_torch_and_of_anything() -> None:
    xs, ys = [torch.randn(steps, 2) for steps in (4, 1, 7)], [1, 0, 1]
    pairs = list(zip(xs, ys, strict=True))

    class Items(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(pairs)

        def __getitem__(self, place: int) -> Any:
            return pairs[place]

    for given in (pairs, Items(), iter(pairs)):
        found = of_dataset(given)
        assert found.lengths_B.tolist() == [4, 1, 7]
        np.testing.assert_array_equal(found.numbers_NF, torch.cat(xs).numpy())
        assert target(found).values[:, 0].tolist() == [1, 0, 1]
    per_step = of_dataset([(x, np.arange(len(x)) % 2) for x in xs])
    assert target(per_step).per == "step"
    assert len(target(per_step).values) == 12


def test_npz_and_npy(tmp_path: Path) -> None:
    x, y = R.normal(size=(4, 6, 3)), np.array(["u", "v", "u", "v"])
    np.savez(tmp_path / "a.npz", x=x, y=y, lengths=[6, 1, 2, 3])
    np.save(tmp_path / "a.npy", x)
    found = read_arrays(tmp_path / "a.npz")
    assert (found.lengths_B.tolist(), target(found).levels) == ([6, 1, 2, 3], ("u", "v"))
    assert read_arrays(tmp_path / "a.npy").lengths_B.tolist() == [6] * 4


@pytest.mark.parametrize(
    ("x", "y", "lengths", "message"),
    [
        (np.zeros((0, 3)), None, None, "is empty"),
        (["a", "b"], None, None, "no array of numbers"),
        ([[1, 2], [3]], None, None, "no array of numbers"),
        (np.zeros((3, 5)), [1, 2], None, "y of arrays has shape"),
        (np.zeros((3, 5)), None, [5, 6, 5], "the lengths of arrays do not fit"),
        (np.zeros((3, 5)), None, [5, 0, 5], "a length of arrays is 0"),
        (np.zeros((3, 5)), np.zeros((3, 2), int), None, "2 columns of classes"),
    ],
)
def test_what_does_not_go_together_is_refused(x: Any, y: Any, lengths: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        of_arrays(x, y, lengths)


@pytest.mark.parametrize("items", [[], [1, 2], [(np.zeros((2, 2)), 0), (np.zeros((2, 3)), 1)], [("a", 1)]])
def test_odd_data_sets_are_refused(items: list[Any]) -> None:
    with pytest.raises(DataError):
        of_dataset(items)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "whole.npz", x=np.zeros((2, 3)))
    whole = (tmp_path / "whole.npz").read_bytes()
    np.savez(tmp_path / "objects.npz", x=np.array([{}, {}]))
    np.savez(tmp_path / "other.npz", z=np.zeros(3))
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("objects", "other", "cut", "text", "empty", "missing"):
        with pytest.raises(DataError):
            read_arrays(tmp_path / f"{name}.npz")


def idx(values: np.ndarray[Any, Any]) -> bytes:
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return head + values.astype(np.uint8).tobytes()


def test_images_by_rows_and_by_pixels(tmp_path: Path) -> None:
    images, labels = R.integers(0, 256, (5, 4, 3)), np.array([1, 0, 1, 1, 0])
    for prefix in ("train", "t10k"):
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))
    found = read_mnist(tmp_path)
    np.testing.assert_allclose(np.stack(rows(found["train"])), images / 255, rtol=1e-6)
    pixels = read_mnist(tmp_path, "pixels")["test"]
    np.testing.assert_allclose(np.stack(rows(pixels))[:, :, 0], images.reshape(5, 12) / 255, rtol=1e-6)
    assert target(pixels).values[:, 0].tolist() == labels.tolist()
    with pytest.raises(DataError, match="by rows or by pixels"):
        read_mnist(tmp_path, "columns")
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="has no t10k-labels"):
        read_mnist(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"\0\0\x08", b"\1\0\x08\1", b"\0\0\x08\1\0\0\0\5abc", b"\x1f\x8b\0\0"])
def test_damaged_idx_files_are_refused(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "a").write_bytes(damage)
    with pytest.raises(DataError):
        read_idx(tmp_path / "a")


HEAD = "# a comment\n@problemName P\n@timeStamps false\n@classLabel true up down\n@data\n"


def test_file_of_the_archive(tmp_path: Path) -> None:
    (tmp_path / "P_TRAIN.ts").write_text(HEAD + "1,2,3:4,5,6:up\n7,?:8,9:down\n")
    (tmp_path / "P_TEST.ts").write_text(HEAD + "1:2:up\n")
    for path in (tmp_path, tmp_path / "P_TRAIN.ts", tmp_path / "P_TEST.ts"):
        found = read_archive(path)
        assert found["train"].lengths_B.tolist() == [3, 2]
        np.testing.assert_array_equal(rows(found["train"])[0], [[1, 4], [2, 5], [3, 6]])
        np.testing.assert_array_equal(rows(found["train"])[1], [[7, 8], [np.nan, 9]])
        assert target(found["train"]).values[:, 0].tolist() == [0, 1]
        assert target(found["test"]).levels == ("up", "down")
    number = "@targetlabel true\n@data\n1,2:0.5\n3,4:1.5\n"
    (tmp_path / "n.ts").write_text(number)
    assert target(read_ts(tmp_path / "n.ts")).values[:, 0].tolist() == [0.5, 1.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2:up\n", "has no line @data"),
        (HEAD, "has no sequences"),
        (HEAD + "1,x:up\n", "line 6, column 1: 'x' is not a number"),
        (HEAD + "1,2:left\n", "the label 'left' is not among"),
        (HEAD + "1,2:up\n1:2:up\n", "sequence 2: 2 columns, and the first has 1"),
        ("@timestamps true\n@classLabel true a\n@data\n(0,1):a\n", "time stamps"),
        ("@targetlabel true\n@data\n1,2:u\n", "'u' is not a number"),
    ],
)
def test_damaged_files_of_the_archive_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "P.ts").write_text(text)
    with pytest.raises(DataError, match=message):
        read_archive(tmp_path / "P.ts")


def test_half_of_a_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "P_TRAIN.ts").write_text(HEAD + "1,2,3:up\n")
    with pytest.raises(DataError, match=r"has no P_TEST\.ts beside it"):
        read_archive(tmp_path)
    with pytest.raises(DataError, match="has 0 files"):
        read_archive(tmp_path.parent / tmp_path.name / "..")
