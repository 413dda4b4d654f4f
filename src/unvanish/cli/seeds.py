"""`unvanish train --seeds 5`: the same training from several seeds in turn, and their mean and range."""

from __future__ import annotations

import dataclasses
import datetime
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from unvanish.cli.show import console, note, plain
from unvanish.errors import NonFiniteError, OptionError, RunError
from unvanish.record import CONFIG, RunRecord
from unvanish.record.measures import NAMES, kept

if TYPE_CHECKING:
    from unvanish.train import Training, TrainSettings

PREFIX, PAGE = "seed-", "compare.html"


def runs_in(folder: Path) -> list[Path]:
    """The runs of a folder of seeds, in their order; none where it is not one."""
    if (folder / CONFIG).exists():
        return []
    found = [path.parent for path in folder.glob(f"{PREFIX}*/{CONFIG}")]
    return sorted(found, key=lambda path: (len(path.name), path.name))


def train_seeds(
    settings: TrainSettings, count: int, out: Path | None, prepare: Callable[..., Training], lr_find: bool
) -> None:
    """Prepare all of them, so that a folder that is broken off says what is missing; then train them."""
    if count < 1:
        raise OptionError(f"--seeds {count}: give how many networks are to be trained, 1 or more")
    first = settings.seed
    dataclasses.replace(settings, seed=first + count - 1)  # refuses a seed that is too large
    named = f"{Path(settings.cell).stem}-{datetime.datetime.now():%Y%m%d-%H%M%S}-seeds"  # the cell may be in a file
    base = out or Path("runs") / named
    if base.is_dir() and any(base.iterdir()):
        raise RunError(f"{base} is not empty: name another folder with --out, or resume it with --resume")
    for seed in range(first, first + count):
        training = prepare(
            dataclasses.replace(settings, seed=seed),
            base / f"{PREFIX}{seed}",
            lr_find=lr_find and seed == first,
            say=plain if seed == first else lambda _: None,
        )
        settings = dataclasses.replace(settings, lr=training.session.settings.lr)
        training.claim.release()
    go_on(base, {})


def go_on(base: Path, changes: dict[str, Any]) -> None:
    """Train what is not finished, and show mean and range of all."""
    from unvanish import report
    from unvanish.train import prepare_resume

    folders, lost = runs_in(base), 0
    again = " ".join([f"unvanish train --resume {base}", *(f"--{name} {value}" for name, value in changes.items())])
    for number, folder in enumerate(folders, 1):
        record = RunRecord.open(folder)
        if record.finished and _as_asked(record, changes):
            continue
        plain(f"\n{folder.name.replace('-', ' ')}, {number} of {len(folders)}")
        try:
            outcome = prepare_resume(folder, **changes, say=note).run(plain)
        except NonFiniteError as fault:  # the other seeds may do better
            plain(f"{folder}: {fault}")
            report.write_report(folder)
            lost += 1
            continue
        report.write_report(folder)
        if outcome.interrupted:
            plain(f"stopped and saved; go on with  {again}")
            raise typer.Exit(128 + outcome.interrupted)
        if outcome.stopped:
            plain(f"stopped and saved: {outcome.stopped}; go on with  {again}")
    validated = {folder: shown for folder in folders if (shown := _kept(folder))}
    console.print(_table(validated))
    if len(validated) > 1:
        found = report.compare(list(validated))
        plain(report.finding(found))
        plain(f"page    {report.write_comparison(found, base / PAGE)}")
    if lost:
        raise NonFiniteError(
            f"{lost} of {len(folders)} trainings ended with numbers that are not finite: see above"
        )


def _as_asked(record: RunRecord, changes: dict[str, Any]) -> bool:
    settings = record.config["settings"]
    return all(settings.get(name) == value for name, value in changes.items())


def _table(validated: dict[Path, dict[str, float]]) -> Table:
    """Mean and range, over the seeds that were validated, of what their networks came to."""
    if not validated:
        raise RunError("none of these trainings was validated: give them more time, or a lower --lr")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("", *(folder.name.removeprefix(PREFIX) for folder in validated), "mean", "least", "greatest"):
        table.add_column(head, justify="right" if head else "left")
    found = list(validated.values())
    for name in found[0]:
        values = [one[name] for one in found if name in one]
        summed = statistics.fmean(values), min(values), max(values)
        table.add_row(NAMES.get(name, name), *(_text(one.get(name)) for one in found), *map(_text, summed))
    return table


def _kept(folder: Path) -> dict[str, float]:
    """What the validation found of the network that a run keeps, and when that was."""
    from unvanish.record.schema import Valid, mapping  # pydantic takes longer than all of --help

    record = RunRecord.open(folder)
    settings = mapping(record.config.get("settings"))
    found = kept([Valid.read(line) for line in record.read("valid")], settings)
    if found is None:
        return {}
    shown = {name: value for name, value in found.metrics.items() if value is not None}
    shown |= {f"reach of {part}": one.steps for part, one in found.reach.items() if one.steps is not None}
    return shown | ({"best at step": found.step} if settings.get("patience") and found.step is not None else {})


def _text(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if 1e4 <= value < 1e9 else f"{value:.4g}"
