"""What the laws on runs share: a small text, small settings, and the numbers that a run came to."""

from __future__ import annotations

import hashlib
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unvanish.record import RunRecord
from unvanish.train import TrainSettings, train
from unvanish.train.checkpoint import STATE, SUMS, WEIGHTS, Checkpoints

WORDS = ("sea", "moon", "of", "the", "storm", "calm", "and", "wind\n")
SMALL: dict[str, Any] = {
    "hidden": 8,
    "layers": 2,
    "length": 12,
    "batch_size": 4,
    "epochs": 2,
    "device": "cpu",
    "probes": 2,
}
CLOCKS = frozenset({"seconds", "tokens_per_second"})


def make_text(characters: int, seed: int = 1) -> str:
    """Return words in random order."""
    generator = random.Random(seed)
    return " ".join(generator.choice(WORDS) for _ in range(characters))[:characters]


def small(folder: Path, characters: int = 420, **changes: Any) -> TrainSettings:
    """Return small settings, with a text written into a folder: 8 windows an epoch unless changed."""
    path = folder / "text.txt"
    path.write_text(make_text(characters), encoding="utf-8")
    return TrainSettings(**{**SMALL, "source": str(path), **changes})


def silent(_: str) -> None:
    """Say nothing."""


def numbers(folder: Path, *kinds: str) -> list[dict[str, Any]]:
    """Return what a run recorded, without events, and without what a clock decides."""
    wanted = kinds or ("step", "valid", "flow", "remedy", "need", "sample")
    lines = [line for line in RunRecord(folder).read() if line["kind"] in wanted]
    return [{name: value for name, value in line.items() if name not in CLOCKS} for line in lines]


def events(folder: Path) -> list[str]:
    """Return what happened to a run, in order."""
    return [line["what"] for line in RunRecord(folder).read("event")]


def weights(folder: Path) -> bytes:
    """Return the trained weights, bit by bit."""
    return (latest_of(folder) / WEIGHTS).read_bytes()


def assert_same_run(one: Path, other: Path) -> None:
    """Both runs have the same numbers, and the same weights to the last bit."""
    assert numbers(one) == numbers(other)
    assert weights(one) == weights(other)


class KilledError(Exception):
    """Ends a run within this process as a kill would: nothing of ours saves on it."""


def at_step(step: int, act: Callable[[], None], patch: pytest.MonkeyPatch, at: str = "step") -> None:
    """Do something when a line of a kind has just been written at a step."""
    write = RunRecord.append

    def append(self: RunRecord, kind: str, now: int, seconds: float, **values: Any) -> None:
        write(self, kind, now, seconds, **values)
        if (kind, now) == (at, step):
            act()

    patch.setattr(RunRecord, "append", append)


def kill() -> None:
    """Raise what nobody catches."""
    raise KilledError


def interrupt() -> None:
    """Press Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


def stopped_run(folder: Path, step: int = 5, **changes: Any) -> Path:
    """Return a run that was stopped in the middle."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is inherited ignored
    try:
        with pytest.MonkeyPatch.context() as patch:
            at_step(step, interrupt, patch)
            assert train(small(folder, **changes), folder / "run", say=silent).interrupted
    finally:
        signal.signal(signal.SIGINT, before)
    return folder / "run"


def straight(settings: TrainSettings, folder: Path, **more: Any) -> Path:
    """Train without a break."""
    train(settings, folder, say=silent, **more)
    return folder


def latest_of(folder: Path) -> Path:
    """Return the latest checkpoint of a run."""
    return Checkpoints(folder).found()[0]


def state_of(folder: Path) -> Path:
    """Return the training state in the latest checkpoint of a run."""
    return latest_of(folder) / STATE


def load_state(folder: Path) -> dict[str, Any]:
    """Return what is in it."""
    state: dict[str, Any] = torch.load(state_of(folder), weights_only=True)
    return state


def sign(checkpoint: Path) -> None:
    """Write the checksums of a checkpoint whose files have been changed, as `sha256sum *` would."""
    names = STATE, WEIGHTS
    sums = [f"{hashlib.sha256((checkpoint / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (checkpoint / SUMS).write_text("".join(sums), encoding="utf-8")


def keep_state(folder: Path, state: Any) -> None:
    """Put another training state into the latest checkpoint of a run, with its checksum."""
    torch.save(state, state_of(folder))
    sign(latest_of(folder))


# -- data that are no text ---------------------------------------------------------------------------------------


def forecast(
    folder: Path, steps: int = 400, period: int = 30, noise: float = 0.05, **changes: Any
) -> TrainSettings:
    """Return settings for a forecast of a series of a random shape that comes again after so many steps."""
    generator = random.Random(3)
    shape = [generator.gauss(0, 1) for _ in range(period)]
    values = [shape[place % period] + generator.gauss(0, noise) for place in range(steps)]
    if changes.get("likelihood") == "negbin":
        values = [float(max(0, round(5 + 3 * value))) for value in values]
    rows = [f"{place},{value:.4f}\n" for place, value in enumerate(values)]
    path = folder / "series.csv"
    path.write_text("t,y\n" + "".join(rows), encoding="utf-8")
    usual = {"hidden": 8, "layers": 1, "horizon": 5, "device": "cpu", "probes": 2, "epochs": 2}
    return TrainSettings(**{**usual, "source": str(path), **changes})


def labelled(
    folder: Path, *, asked: str = "class", per: str = "sequence", rows: int = 60, **changes: Any
) -> TrainSettings:
    """Return settings for sequences of 8 to 12 steps, labelled by the sign, or the value, of their first number."""
    rng = np.random.default_rng(5)
    lengths = rng.integers(8, 13, rows)
    x = [rng.normal(size=(length, 2)).astype(np.float32) for length in lengths]
    first = np.array([one[0, 0] for one in x], np.float32)
    y: Any = (first > 0).astype(np.int64) if asked == "class" else first
    if per == "step":
        running = [np.cumsum(one[:, 0]) for one in x]
        y = np.concatenate([(one > 0).astype(np.int64) if asked == "class" else one for one in running])
        y = y if asked == "class" else y.astype(np.float32)
    path = folder / "arrays.npz"
    np.savez(path, x=np.concatenate(x), y=y, lengths=lengths)
    usual = {"hidden": 8, "layers": 1, "device": "cpu", "probes": 2, "epochs": 2, "batch_size": 8}
    return TrainSettings(**{**usual, "source": str(path), **changes})
