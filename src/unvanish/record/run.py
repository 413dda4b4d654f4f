"""The record of one run: written line by line, read back whatever ended the writing."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from unvanish.errors import MissingExtraError, RunError, printable
from unvanish.record.files import LOCK, finite, leftovers, remove_leftovers, sync_folder, write_atomically
from unvanish.record.result import Result

if TYPE_CHECKING:  # the models come with the app; a diagnosis needs neither them nor YAML
    from unvanish.record.config import Config

CONFIG, RECORDS = "config.yaml", "records.jsonl"
REPORT = "report.html"
VOCABULARY = "vocabulary.json"
SERIES = "series.json"  # the units that each series was trained in
BEST = "best.safetensors"  # the weights of the best validation, where validations decide
HERE = (CONFIG, RECORDS, REPORT, VOCABULARY, SERIES, BEST)


class Clock:
    """How many seconds a run has taken: before this sitting, and in it."""

    def __init__(self, before: float) -> None:
        self.before, self.began = before, time.monotonic()

    @property
    def sitting(self) -> float:
        """Seconds since this sitting began."""
        return time.monotonic() - self.began

    @property
    def seconds(self) -> float:
        """Seconds of all sittings."""
        return self.before + self.sitting


class RunRecord(Result):
    """Reads and writes the record of one run.

    Attributes:
        folder: the run's folder.
        count: how many lines, events aside, are known to be written.
    """

    shown_as: ClassVar[str] = "run"

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    # -- the folder --------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, folder: Path, config: Mapping[str, Any], files: Mapping[str, bytes] | None = None) -> RunRecord:
        """Start a record in a new or empty folder; what a run that never began left there is taken over.

        A folder is a run from the moment on when `config.yaml` is there, so that comes last.
        """
        folder.mkdir(parents=True, exist_ok=True)
        check_free(folder)
        remove_leftovers(folder, *HERE)
        record = cls(folder)
        write_atomically(folder / RECORDS, b"")
        for name, content in (files or {}).items():
            write_atomically(folder / name, content)
        record.configure(config)
        sync_folder(folder.absolute().parent)
        return record

    @classmethod
    def open(cls, folder: Path) -> RunRecord:
        """Open the record of an existing run."""
        for needed in (CONFIG, RECORDS):
            if not (folder / needed).is_file():
                raise RunError(f"{folder} is not a run: it has no {needed}; name the folder that train made")
        return cls(folder)

    # -- config.yaml -------------------------------------------------------------------------------------------

    def configure(self, config: Mapping[str, Any]) -> None:
        """Write `config.yaml`."""
        import yaml

        # Everything beyond ASCII is escaped: what PyYAML writes unescaped (NEL, for one) it may read as another.
        written = yaml.dump(finite(config), Dumper=_dumper(), sort_keys=False)
        write_atomically(self.folder / CONFIG, written.encode())

    @property
    def config(self) -> dict[str, Any]:
        """What `config.yaml` holds, as plain data: bounded and without aliases, but no field has been checked.

        Raises:
            RunError: it is not plain YAML.
        """
        from unvanish.record.plain import read_plain

        path = self.folder / CONFIG
        try:
            config = read_plain(path.read_bytes())
        except ValueError as fault:
            raise RunError(f"{path} cannot be read: {fault}; restore it or start a new run") from fault
        if not isinstance(config, dict):
            raise RunError(f"{path} does not hold a run's configuration; restore it or start a new run")
        return config

    def read_config(self) -> Config:
        """Return what `config.yaml` holds, every field checked.

        Raises:
            RunError: it is not plain YAML, or a field is wrong; the first of these is named.
        """
        try:
            from pydantic import ValidationError

            from unvanish.record.config import Config, explain
        except ImportError as fault:
            raise MissingExtraError(f"a run is read with {fault.name}: pip install 'unvanish[app]'") from fault
        try:
            return Config.model_validate(self.config)
        except ValidationError as fault:
            path = self.folder / CONFIG
            raise RunError(f"{path}: {explain(fault)}; restore it or start a new run") from fault

    # -- records.jsonl -----------------------------------------------------------------------------------------

    def append(self, kind: str, step: int, seconds: float, **values: Any) -> None:
        """Add one line, after whatever a kill has left of the last."""
        line = {"kind": kind, "step": step, "seconds": round(seconds, 3), **values}
        text = json.dumps(finite(line), allow_nan=False, ensure_ascii=False) + "\n"
        with (self.folder / RECORDS).open("ab+") as stream:
            if stream.seek(0, os.SEEK_END):
                stream.seek(-1, os.SEEK_END)
                text = text if stream.read(1) == b"\n" else "\n" + text
            # A file name that is not UTF-8 is written as the escape that JSON has for it.
            stream.write(text.encode(errors="backslashreplace"))
        self.count += kind != "event"

    def sync(self) -> None:
        """Wait until the disk has all lines."""
        with (self.folder / RECORDS).open("rb") as stream:
            os.fsync(stream.fileno())

    def read(self, kind: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the lines of one kind, or all, oldest first; a line cut short by a kill is passed over."""
        from unvanish.record.schema import parse_line

        # A kill may cut a line within a character, too.
        with (self.folder / RECORDS).open(encoding="utf-8", errors="replace") as stream:
            for content in stream:
                line = parse_line(content)
                if line is not None and kind in (None, line.get("kind")):
                    yield line

    @property
    def finished(self) -> bool:
        """Whether the last thing that happened is that it ended."""
        events = [line.get("what") for line in self.read("event")]
        return events[-1:] == ["finished"]

    def to_dict(self) -> dict[str, Any]:
        """The name, the window, and all lines by their kind, oldest first, every field of them checked."""
        from unvanish.record.schema import LINES, mapping, whole

        lines: dict[str, list[dict[str, Any]]] = {kind: [] for kind in LINES}
        for line in self.read():
            kind = str(line.get("kind"))
            if kind in LINES:
                lines[kind].append(LINES[kind].read(line).model_dump(exclude={"kind"}, by_alias=True))
        window = whole(mapping(self.config.get("settings")).get("length"))
        return {"name": self.folder.resolve().name, "window": window, "lines": lines}

    def __repr__(self) -> str:
        name = printable(self.folder.name)[:40]
        try:
            return f"RunRecord({name}{self._finding()})"
        except (OSError, ImportError):  # nothing is written yet; or what reads it is not installed
            return f"RunRecord({name})"

    def _finding(self) -> str:
        """The last validation in words; other lines are not parsed, as there may be a million."""
        from unvanish.record.schema import Valid, parse_line

        with (self.folder / RECORDS).open(encoding="utf-8", errors="replace") as stream:
            last = parse_line(next(iter(deque((one for one in stream if '"kind": "valid"' in one), 1)), ""))
        if last is None:
            return ""
        found = Valid.read(last)
        known = [(part, one) for part, one in found.reach.items() if one.steps is not None]
        reached = [f"{printable(part)[:12]} {'≥ ' if one.censored else ''}{one.steps}" for part, one in known[:2]]
        told = ", ".join(reached + ["…"] * (len(known) > 2)) or "unknown"
        loss = "" if found.loss is None else f", loss {found.loss:.4g}"
        return f": step {found.step:,}{loss}, reach {told}"

    @property
    def seconds(self) -> float:
        """The seconds of training so far."""
        from unvanish.record.schema import number

        return max((number(line.get("seconds")) or 0.0 for line in self.read()), default=0.0)

    def truncate(self, step: int) -> None:
        """Drop what was written after a step, as a resumed run writes it again; events stay."""
        kept = [line for line in self.read() if line["step"] <= step or line.get("kind") == "event"]
        content = "".join(json.dumps(finite(line), ensure_ascii=False) + "\n" for line in kept)
        write_atomically(self.folder / RECORDS, content.encode(errors="backslashreplace"))
        self.count = sum(line.get("kind") != "event" for line in kept)


def check_free(folder: Path) -> None:
    """Refuse a folder that holds more than what a run that never began left in it."""
    passing = {LOCK, *(path.name for path in leftovers(folder, *HERE))}
    records = folder / RECORDS
    if records.is_file() and not records.stat().st_size:  # a run that did not get as far as its configuration
        passing |= {RECORDS, VOCABULARY, SERIES}
    if {path.name for path in folder.iterdir()} - passing:
        raise RunError(f"{folder} is not empty: name another folder with --out, or resume it with --resume")


def _dumper() -> Any:
    """Return PyYAML's safe writer without aliases, which our reader refuses."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return Dumper
