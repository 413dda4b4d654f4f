"""What a run came to, as a short table: loss and baseline, need, window and reach."""

from __future__ import annotations

from rich.table import Table

from unvanish.errors import printable
from unvanish.record import RunRecord
from unvanish.record.measures import kept, measures
from unvanish.record.reaching import held_back
from unvanish.record.schema import Baseline, Need, Test, Valid


def summary(record: RunRecord) -> Table:
    """Make the table."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    config = record.read_config()
    table.add_row("cell", f"{printable(config.cell.name)}, {config.parameters:,} parameters")
    valid = [line for line in map(Valid.read, record.read("valid")) if line.loss is not None]
    unit = config.unit
    if valid:
        shown, best = kept(valid, config.settings) or valid[-1], min(valid, key=lambda line: line.loss or 0.0)
        for name, value in measures(shown.metrics, unit):
            table.add_row("validation loss" if name == "loss" else name, value)
        nats = " nats" if {"bits", "accuracy"} & set(shown.metrics) else ""
        later = (
            "" if best.step == shown.step else f"; kept is that of step {shown.step:,}: --patience keeps the best"
        )
        table.add_row("best", f"{best.loss:.3f}{nats} at step {best.step:,}{later}")
    for tested in map(Test.read, record.read("test")):
        for name, value in measures(tested.metrics, unit):
            table.add_row(f"test: {name}", value)
    for line in map(Baseline.read, record.read("baseline")):
        told = ", ".join(f"{name} {value}" for name, value in measures(line.metrics, unit))
        where = " (test)" if line.on == "test" else ""
        table.add_row(f"baseline{where}", f"{printable(line.name)}: {told}")
    _reach(table, record, valid)
    if valid:
        last = valid[-1]
        table.add_row(
            "time", f"{last.seconds or 0.0:.0f} s, {last.tokens_per_second or 0.0:,.0f} {config.steps} a second"
        )
    return table


def _reach(table: Table, record: RunRecord, valid: list[Valid]) -> None:
    need = next((line for line in map(Need.read, record.read("need")) if line.lag is not None), None)
    settings = record.read_config().settings
    window, shown = settings.get("length"), kept(valid, settings)
    if need is not None:
        lag, least = need.lag or 0, "≥ " if need.censored else ""
        found_of = f"{least}{lag:,} {'step' if lag == 1 else 'steps'} of context"
        table.add_row("needed", found_of if lag else "nothing further back than the step at hand")
    table.add_row("window", f"{window:,} steps")
    for part, found in (shown.reach if shown else {}).items():
        rate = "no rate" if found.rate is None else f"{found.rate:+.4f} nats per step"
        reach = f"{'≥ ' if found.censored else ''}{found.steps} steps ({rate})"
        told = "" if need is None else held_back(found.steps, window, need.lag, censored=found.censored)
        table.add_row(f"reach of {printable(part)}", f"{reach}{', ' if told else ''}{told}")
