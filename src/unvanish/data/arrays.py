"""Arrays as sequences: NPY, NPZ, tensors, data sets of torch, and the idx files of MNIST.

Shapes: B sequences, T steps, F numbers of a step, N steps of all.
"""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unvanish.data.precision import to_single
from unvanish.data.sequences import Sequences, Target
from unvanish.errors import DataError, printable

INPUTS = ("x", "X", "inputs", "data", "arr_0")
TARGETS = ("y", "Y", "targets", "labels", "label", "arr_1")
LENGTHS = ("lengths", "length", "n")
IDX_KINDS = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
MOST_BYTES = 1 << 33  # of an idx file that is unpacked


def read_arrays(path: Path) -> Sequences:
    """Read `.npz` (an array x of (B, T, F), or x and lengths of all steps one after the other; y), or `.npy`.

    Raises:
        DataError: the file is damaged, holds Python objects, or no array that is understood.
    """
    try:
        with path.open("rb") as file:
            read = np.load(file, allow_pickle=False)
            arrays = {"x": read} if isinstance(read, np.ndarray) else {name: read[name] for name in read.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as fault:
        raise DataError(
            f"{path} cannot be read as arrays: {printable(str(fault))}; save it with numpy.savez"
        ) from fault
    x = _first(arrays, INPUTS)
    if x is None:
        names = ", ".join(map(printable, arrays)) or "none"
        raise DataError(f"{path} has no array called x: it has {names}; save it with numpy.savez(path, x=…, y=…)")
    return of_arrays(x, _first(arrays, TARGETS), _first(arrays, LENGTHS), source=str(path))


def _first(arrays: dict[str, NDArray[Any]], names: Iterable[str]) -> NDArray[Any] | None:
    return next((arrays[name] for name in names if name in arrays), None)


def of_arrays(x: Any, y: Any = None, lengths: Any = None, *, source: str = "arrays") -> Sequences:
    """Make sequences of arrays or tensors.

    Args:
        x: (B, T) or (B, T, F); with `lengths` (B,) beside them rows are cut there, or, where all steps of all
            sequences stand one after the other, (N, F) is cut into them. (T,) is one sequence.
        y: per sequence (B,) or (B, G), or per step (B, T) or (B, T, G). Whole numbers, words and truth values are
            classes, other numbers are numbers.
        source: what they are called.

    Raises:
        DataError: shapes that do not go together, or values that are not numbers.

    >>> found = of_arrays(np.zeros((3, 5, 2)), [0, 1, 1])
    >>> found.lengths_B.tolist(), found.target.kind, found.target.levels
    ([5, 5, 5], 'class', ('0', '1'))
    """
    values = _numbers(x, "x", source)
    lengths_B = None if lengths is None else whole_lengths(_plain(lengths), source)
    rows = _rows(values, lengths_B, source)
    target = None if y is None else _target(np.asarray(_plain(y)), rows, source)
    return Sequences.of_rows(source, rows, target)


def of_dataset(items: Iterable[Any], *, source: str = "a data set") -> Sequences:
    """Make sequences of pairs (x, y) one by one: a torch data set, or anything that can be gone through.

    Raises:
        DataError: it is empty, or an item is not a pair of a sequence and its label.
    """
    xs: list[NDArray[Any]] = []
    ys: list[Any] = []
    for number, item in enumerate(_items(items)):
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DataError(f"item {number} of {source} is not a pair (x, y): give the sequence and its label")
        x = _numbers(item[0], f"item {number}", source)
        xs.append(x.reshape(len(x), -1) if x.ndim else x.reshape(1, 1))
        ys.append(_plain(item[1]))
    if not xs:
        raise DataError(f"{source} is empty: give it sequences")
    widths = sorted({x.shape[1] for x in xs})
    if len(widths) > 1:
        raise DataError(f"{source}: its items have different numbers of columns, {widths}")
    lengths = [len(x) for x in xs]
    y = np.asarray(ys) if np.ndim(ys[0]) == 0 or len({np.shape(one) for one in ys}) == 1 else np.concatenate(ys)
    return of_arrays(np.concatenate(xs), y, lengths, source=source)


def _items(items: Any) -> Iterator[Any]:
    """The items of what has a length and a place for each, which `for` would run past its end, or of anything."""
    if hasattr(items, "__len__") and hasattr(items, "__getitem__"):
        return (items[place] for place in range(len(items)))
    return iter(items)


def _plain(value: Any) -> Any:
    return array_of(value) if isinstance(value, torch.Tensor | np.ma.MaskedArray) else value


def array_of(value: Any) -> NDArray[Any]:
    """Take an array as NumPy has it: of a tensor its values, and NaN where one is masked."""
    if isinstance(value, torch.Tensor):
        plain = value.detach().cpu()
        found: NDArray[Any] = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
        return found
    if isinstance(value, np.ma.MaskedArray) and value.dtype.kind in "biuf":
        gaps = np.ma.getmaskarray(value)
        return np.where(gaps, np.nan, value.data) if gaps.any() else np.asarray(value.data)
    return np.asarray(value)


def whole_lengths(lengths: Any, source: str) -> NDArray[np.int64]:
    """Return how many steps each sequence has, (B,).

    Raises:
        DataError: they are not whole numbers.
    """
    found = np.asarray(lengths)
    if found.dtype.kind == "f" and np.isfinite(found).all() and (found == np.round(found)).all():
        found = found.astype(np.int64)
    if found.dtype.kind not in "iu" or found.ndim != 1:
        raise DataError(f"lengths of {source} are not whole numbers: give one for each sequence, (B,)")
    return found.astype(np.int64)


def _numbers(value: Any, name: str, source: str) -> NDArray[Any]:
    try:
        found = np.asarray(_plain(value))
        if found.dtype.kind not in "biuf":
            raise ValueError(f"of {found.dtype}")
    except (ValueError, TypeError) as fault:
        raise DataError(f"{name} of {source} is no array of numbers: {printable(str(fault))}") from fault
    return found


def _rows(values: NDArray[Any], lengths_B: Any, source: str) -> list[NDArray[Any]]:
    """The sequences, (T, F) each."""
    shape = values.shape
    if values.ndim == 0 or values.size == 0:
        raise DataError(f"x of {source} is empty: give sequences of one step or more")
    if lengths_B is not None and lengths_B.min(initial=1) < 1:
        raise DataError(f"a length of {source} is {lengths_B.min()}: sequences have one step or more")
    if lengths_B is not None and values.ndim <= 2 and lengths_B.sum() == shape[0]:
        return np.split(values.reshape(shape[0], -1), np.cumsum(lengths_B)[:-1])
    if values.ndim == 1:
        values = values[None]
    rows = list(values.reshape(values.shape[0], values.shape[1], -1))
    if lengths_B is None:
        return rows
    if len(lengths_B) != len(rows) or lengths_B.max() > values.shape[1]:
        raise DataError(
            f"the lengths of {source} do not fit x of shape {shape}: give one for each sequence, or such that they "
            "add up to its steps"
        )
    return [row[:steps] for row, steps in zip(rows, lengths_B.tolist(), strict=True)]


def _target(y: NDArray[Any], rows: list[NDArray[Any]], source: str) -> Target:
    lengths_B = np.array([len(row) for row in rows])
    longest, count, steps = int(lengths_B.max()), len(rows), int(lengths_B.sum())
    if y.ndim >= 2 and y.shape[:2] == (count, longest) and y.ndim <= 3:
        values = np.concatenate([one[:length] for one, length in zip(y, lengths_B, strict=True)])
        per: Any = "step"
    elif y.ndim <= 2 and y.shape[:1] == (count,):
        values, per = y, "sequence"
    elif y.ndim <= 2 and y.shape[:1] == (steps,):
        values, per = y, "step"
    else:
        raise DataError(
            f"y of {source} has shape {y.shape}: give one label for each of {count} sequences, or for each step"
        )
    values = values.reshape(len(values), -1)
    names = tuple(f"target {number}" for number in range(1, values.shape[1] + 1))
    if values.dtype.kind == "f":
        return Target("number", per, names, to_single(values, f"y of {source}"))
    if values.shape[1] > 1:
        raise DataError(f"y of {source} has {values.shape[1]} columns of classes: give one")
    levels, codes = np.unique(values, return_inverse=True)
    return Target("class", per, names, codes.reshape(-1, 1).astype(np.int32), tuple(map(str, levels.tolist())))


# -- MNIST -------------------------------------------------------------------------------------------------------


def read_idx(path: Path) -> NDArray[Any]:
    """Read an idx file, packed or not (LeCun: two zero bytes, the kind, the number of axes, their sizes, values).

    Raises:
        DataError: it is damaged.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                content = file.read(MOST_BYTES)
    except (OSError, EOFError, zlib.error) as fault:
        raise DataError(f"{path} cannot be read: {printable(str(fault))}; download it again") from fault
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in IDX_KINDS:
        raise DataError(f"{path} is not an idx file: it does not begin with two zero bytes and a known kind")
    axes = content[3]
    if len(content) < 4 + 4 * axes:
        raise DataError(f"{path} is cut off: its sizes are missing; download it again")
    shape = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
    kind = np.dtype(IDX_KINDS[content[2]])
    wanted = kind.itemsize
    for size in shape:
        wanted *= size
    if len(content) - 4 - 4 * axes != wanted:
        raise DataError(f"{path} is cut off: {wanted:,} bytes of values are announced; download it again")
    return np.frombuffer(content, kind, offset=4 + 4 * axes).reshape(shape)


def read_mnist(folder: Path, steps: str = "rows") -> dict[str, Sequences]:
    """Read images and labels as sequences: each row a step of 28 numbers, or each pixel a step (`pixels`).

    Raises:
        DataError: a file is missing or damaged, or `steps` is another word.
    """
    if steps not in ("rows", "pixels"):
        raise DataError(f"an image is read by rows or by pixels, not by {printable(steps)}")
    return {part: _images(folder, prefix, steps) for part, prefix in (("train", "train"), ("test", "t10k"))}


def _images(folder: Path, prefix: str, steps: str) -> Sequences:
    images_BHW, labels_B = (
        read_idx(_one_of(folder, f"{prefix}-{kind}")) for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    if images_BHW.ndim != 3 or labels_B.shape != images_BHW.shape[:1]:
        raise DataError(f"{folder}: {images_BHW.shape} images and {labels_B.shape} labels do not belong together")
    x = images_BHW.astype(np.float32) / 255
    x = x if steps == "rows" else x.reshape(len(x), -1, 1)
    return of_arrays(x, labels_B, source=f"{folder}, {prefix}, by {steps}")


def _one_of(folder: Path, name: str) -> Path:
    for other in (name, f"{name}.gz", name.replace("-idx", ".idx")):
        if (folder / other).is_file():
            return folder / other
    raise DataError(f"{folder} has no {name}, packed or not: fetch the four files of MNIST")
