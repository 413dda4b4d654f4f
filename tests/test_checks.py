"""Numbers of NumPy are taken as numbers, True and False never are, and a refusal names the argument."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import unvanish
from unvanish import checks
from unvanish.errors import OptionError

SOURCE = Path(unvanish.__file__).parent


@pytest.mark.parametrize(
    ("check", "value", "wanted"),
    [
        (checks.flag, True, True),
        (checks.whole_number, np.int64(3), 3),
        (checks.whole_number, np.uint8(1), 1),
        (checks.finite, np.float32(0.5), 0.5),
        (checks.finite, -2, -2.0),
        (checks.positive, np.int32(2), 2.0),
        (checks.share, 0, 0.0),
    ],
)
def test_value_is_returned_as_a_plain_one(check: Callable[..., object], value: object, wanted: object) -> None:
    found = check(value, "size")
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("check", "values", "give"),
    [
        (checks.flag, [0, 1, None, "yes", np.bool_(True)], "True or False"),
        (
            checks.whole_number,
            [True, 0, -1, 1.0, "1", None, np.bool_(True), np.float64(2)],
            "a whole number from 1",
        ),
        (checks.finite, [False, math.nan, math.inf, "1", None, 1j], "a finite number"),
        (checks.positive, [True, 0, -1.0, math.nan, math.inf, "1"], "a positive number"),
        (checks.share, [True, False, 1, 1.5, -0.1, math.nan, "0"], "a probability"),
    ],
)
def test_wrong_value_is_refused_with_its_name(
    check: Callable[..., object], values: list[object], give: str
) -> None:
    for value in values:
        with pytest.raises(OptionError) as caught:
            check(value, "size")
        assert str(caught.value).startswith(f"size is {value!r}: give {give}")


def test_integers_of_numpy_are_taken_everywhere() -> None:
    layer = unvanish.LSTM(np.int64(3), np.int64(4), skips=(np.int64(2),))  # type: ignore[arg-type]
    assert layer.skips == (2,)
    assert unvanish.LSTM(3, 4, memory=np.int64(5)).memory == 5  # type: ignore[arg-type]
    assert unvanish.clip.ZScore(warmup=np.int64(3)).warmup == 3  # type: ignore[arg-type]


@pytest.mark.parametrize("room", ["engine", "nn", "flow", "remedies", "data", "diagnosis", "train", "record"])
def test_no_room_tells_numbers_from_flags_by_itself(room: str) -> None:
    for path in (SOURCE / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(ast.Name("isinstance"), [_, ast.Name("bool")]):
                    pytest.fail(f"{path}:{node.lineno} asks isinstance(…, bool): use unvanish.checks")
