"""A storm of kills: a small training is killed inside every operation on its files, then resumed to the same end.

`make storm` runs `python -m tests.train.storm`, which prints a table and ends with 1 where a run came to another
end. Everything is imported once, and every training is a fork of this process, which never trains itself.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.support.runs import events, load_state, numbers, silent, small, weights
from unvanish.record import CONFIG, RECORDS, RunRecord
from unvanish.record.files import LOCK
from unvanish.train import ending, resume, train

SETTINGS: dict[str, Any] = {
    "layers": 1,
    "recurrent_dropout": 0.3,
    "valid_every": 3,
    "probes": 2,
    "engine": "reference",
}
CHARACTERS = 360  # two epochs of 7 windows
MOST = 2  # resumptions that are killed before one is left alone
# Where the operations that make files safe, and those that must not be half done, are called from.
CALLS: dict[str, tuple[Any, str]] = {
    "fsync": (os, "fsync"),
    "replace": (os, "replace"),
    "mkdir": (os, "mkdir"),
    "chmod": (os, "chmod"),
    "unlink": (os, "unlink"),
    "rmtree": (shutil, "rmtree"),
    "mkstemp": (tempfile, "mkstemp"),
    "mkdtemp": (tempfile, "mkdtemp"),
    "append": (RunRecord, "append"),
}


@dataclass(frozen=True)
class Kill:
    """Kill in an operation: before it, after it, or (an append) with half of its line written."""

    place: int
    when: str


class Operations:
    """Counts the operations of this process, and kills it in one of them."""

    def __init__(self, folder: Path, kill: Kill | None) -> None:
        self.folder, self.kill, self.names = folder, kill, list[str]()
        self.inside = False

    def install(self) -> None:
        """Put our operations into the place of the real ones."""
        for name, (holder, attribute) in CALLS.items():
            setattr(holder, attribute, self._wrapped(name, getattr(holder, attribute)))

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            if self.inside and name != "append":  # mkdtemp makes a folder: one operation, not two
                return real(*args, **keywords)
            place, self.inside = len(self.names), True
            self.names.append(name)
            due = self.kill is not None and self.kill.place == place
            if due and self.kill is not None and self.kill.when == "before":
                end()
            try:
                return real(*args, **keywords)
            finally:
                if due:
                    if self.kill is not None and self.kill.when == "half":
                        self._halve()
                    end()
                self.inside = False

        return call

    def _halve(self) -> None:
        """Leave half of the last line, as a kill within a write does."""
        path = self.folder / RECORDS
        content = path.read_bytes()
        begin = content.rstrip(b"\n").rfind(b"\n") + 1
        os.truncate(path, begin + (len(content) - begin) // 2)


def end() -> None:
    """Die as from `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)


def advance(folder: Path, kill: Kill | None, log: Path | None = None) -> bool:
    """Begin a run or go on with it in a fork; return whether it came to its end."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            operations = Operations(folder / "run", kill)
            operations.install()
            if not (folder / "run" / CONFIG).exists():
                train(small(folder, CHARACTERS, **SETTINGS), folder / "run", say=silent)
            elif events(folder / "run")[-1:] != ["finished"]:  # else killed when all was done
                resume(folder / "run", say=silent)
            if log is not None:
                log.write_text("\n".join(operations.names), encoding="utf-8")
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0, f"a run in {folder} ended with a fault"
    return True


def kills(names: list[str], count: int, generator: random.Random) -> list[Kill]:
    """Choose places to kill in, spread over all operations, each in every way before any is chosen twice."""
    every = [Kill(place, when) for place, name in enumerate(names) for when in ways(name)]
    generator.shuffle(every)
    chosen = every[:count]
    seen = {(names[kill.place], kill.when) for kill in chosen}
    rare = {(names[kill.place], kill.when): kill for kill in every[count:]}
    spare = [kill for kind, kill in sorted(rare.items()) if kind not in seen]
    return [*spare[:count], *chosen][:count]


def ways(name: str) -> tuple[str, ...]:
    """Return in which ways an operation may be killed."""
    return ("before", "half", "after") if name == "append" else ("before", "after")


def same(one: Path, other: Path) -> Iterator[str]:
    """Yield what differs between the ends of two runs."""
    if weights(one) != weights(other):
        yield "weights"
    if numbers(one) != numbers(other):
        yield "records"
    if not equal(load_state(one), load_state(other)):
        yield "state"
    # The lock of a run that was killed when all was done is there until somebody takes it.
    if hidden := [path.name for path in other.rglob(".*") if path.name != LOCK]:
        yield f"left over: {hidden}"


def equal(one: Any, other: Any) -> bool:
    """Compare plain data with tensors, bit by bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def storm(folder: Path, count: int, seed: int) -> bool:
    """Kill so many runs, print the table, and return whether all of them came to the same end."""
    generator = random.Random(seed)
    whole = folder / "whole"
    whole.mkdir()
    assert advance(whole, None, folder / "log")
    names = (folder / "log").read_text(encoding="utf-8").split()
    table: dict[tuple[str, str], list[int]] = collections.defaultdict(lambda: [0, 0])
    killed, faults = 0, list[str]()
    for number, kill in enumerate(kills(names, count, generator)):
        place = folder / str(number)
        place.mkdir()
        differs = [f"not killed: {kill}"] if advance(place, kill) else []
        for _ in range(generator.randint(0, MOST)):
            again = Kill(generator.randrange(60), generator.choice(["before", "after"]))
            killed += 1
            if advance(place, again):
                killed -= 1
                break
        else:
            assert advance(place, None)
        differs += same(whole / "run", place / "run")
        row = table[names[kill.place], kill.when]
        row[0] += 1
        row[1] += not differs
        faults += [f"{names[kill.place]} {kill}: {what}" for what in differs]
        shutil.rmtree(place)
    say(f"{len(names)} operations in a run; killed inside   when     runs  same end")
    for (name, when), (runs, good) in sorted(table.items()):
        say(f"{name:>45}   {when:<7} {runs:>5} {good:>9}")
    total, good = (sum(row[part] for row in table.values()) for part in (0, 1))
    say(f"{total} runs killed, {killed} more kills while they were resumed: {good} of {total} came to the same end")
    for fault in faults:
        say(fault)
    return good == total


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    ending.SAMPLE_LENGTH = 5
    memory = "/dev/shm"  # a kill does not ask whether the disk has it: what a sync promises is not seen here
    with tempfile.TemporaryDirectory(dir=memory if Path(memory).is_dir() else None) as folder:
        return 0 if storm(Path(folder), given.kills, given.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
