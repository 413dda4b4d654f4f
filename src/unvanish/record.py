"""The record of a run: a folder with `config.yaml` and `records.jsonl`, written as the run goes.

Plain data: whoever reads it (the report, a notebook, a shell script) needs neither torch nor this package.

`config.yaml`
    name, created, seed, versions, settings, cell (name, title, equations, latex, cite, parameters), data,
    parameters (their number).
`records.jsonl`, one object a line, each with `kind`, `step` (optimiser steps done) and `seconds` (since the
start, over all resumptions):
    step   loss (without penalties), gradient_norm (before clipping), parameter_norm, learning_rate, clipped, steps
           (of the `steps` steps since the last such record `clipped` were clipped); factor, what the gradient was
           multiplied with in these, in the mean; adjoints [seen, clipped] of a clip inside the backward pass;
           penalties {word: {value (before its weight), weight, spread {part}, acted (in so many of the steps)}}
    valid  epoch, loss, bits, perplexity, tokens_per_second, reach {part: {steps, censored, rate}}
    flow   epoch, profiles {part: {lags, norms {all, and each state}, rate, level, reach, censored}}, norms as
           shares of the full state's at lag 0, log norm ≈ level + rate · lag;
           loss_norms {part: {state: one number a time step of the window trained on at that step}}
    remedy name (of the setting), asked (what it says), profiles as in `flow`, without (the profiles of the same
           network without it; null for a clip and a penalty, which leave the network as it is); of `connect` also
           depth {with, without}, each with norms, the share of the gradient left so many layers below the last
    event  what, text     (started, resumed, stopped, non-finite, finished)
    sample prompt, text (what was written after the prompt)
A number that is not finite is written as null. A run that is resumed drops what was written after its
checkpoint, except events: what happened has happened.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unvanish.errors import RunError

CONFIG, RECORDS = "config.yaml", "records.jsonl"


def finite(value: Any) -> Any:
    """Replace every non-finite number in a JSON-like value by None.

    >>> finite({"a": [1.0, float("nan")]})
    {'a': [1.0, None]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a kill at any moment, sees the old content or the new."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)  # noqa: PTH101  (mkstemp made it 0600)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class RunRecord:
    """Reads and writes the record of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, config: Mapping[str, Any]) -> RunRecord:
        """Start a record in a new or empty folder."""
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RunError(f"{folder} is not empty: name another folder with --out, or resume it with --resume")
        record = cls(folder)
        record.configure(config)
        (folder / RECORDS).touch()
        return record

    def configure(self, config: Mapping[str, Any]) -> None:
        """Write `config.yaml`."""
        import yaml

        # Everything beyond ASCII is escaped: what PyYAML writes unescaped (NEL, for one) it may read as another.
        text = yaml.safe_dump(finite(config), sort_keys=False)
        write_atomically(self.folder / CONFIG, text.encode())

    @classmethod
    def open(cls, folder: Path) -> RunRecord:
        """Open the record of an existing run."""
        for needed in (CONFIG, RECORDS):
            if not (folder / needed).is_file():
                raise RunError(f"{folder} is not a run: it has no {needed}; name the folder that train made")
        return cls(folder)

    @property
    def config(self) -> dict[str, Any]:
        """What `config.yaml` holds."""
        import yaml

        path = self.folder / CONFIG
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as fault:
            raise RunError(f"{path} cannot be read: {fault}; restore it or start a new run") from fault
        if not isinstance(config, dict):
            raise RunError(f"{path} does not hold a run's configuration; restore it or start a new run")
        return config

    def append(self, kind: str, step: int, seconds: float, **values: Any) -> None:
        """Add one line."""
        line = {"kind": kind, "step": step, "seconds": round(seconds, 3), **values}
        # A file name that is no UTF-8 is written as the escape that JSON has for it.
        with (self.folder / RECORDS).open("a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(json.dumps(finite(line), allow_nan=False, ensure_ascii=False) + "\n")

    def read(self, kind: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the lines of one kind, or all, oldest first; a line cut short by a kill is passed over."""
        # A kill may cut a line within a character, too.
        with (self.folder / RECORDS).open(encoding="utf-8", errors="replace") as stream:
            for text in stream:
                try:
                    line = json.loads(text)
                except json.JSONDecodeError:
                    continue
                whole = isinstance(line, dict) and isinstance(line.get("step"), int)
                if whole and kind in (None, line.get("kind")):
                    yield line

    def truncate(self, step: int) -> None:
        """Drop what was written after a step, as a resumed run writes it again; events stay."""
        kept = [line for line in self.read() if line["step"] <= step or line.get("kind") == "event"]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
        write_atomically(self.folder / RECORDS, text.encode(errors="backslashreplace"))
