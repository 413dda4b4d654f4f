"""How a run was set up: what was chosen first, group by group, and what was left as usual folded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from unvanish.layer_options import TRAINED
from unvanish.record.schema import mapping
from unvanish.report.page.blocks import Section, absent, folded, lead, section
from unvanish.report.page.markup import Html, element
from unvanish.report.page.wording import MISSING, count, decimal, duration, plain
from unvanish.report.run.read import Run

NETWORK = frozenset({"cell", "hidden", "layers", "tied", "softmax", "cell_options", "pool", *TRAINED})
TRAINING = frozenset(
    {
        *("length", "random_windows", "batch_size", "epochs", "lr", "optimizer", "weight_decay", "schedule"),
        *("warm_up", "patience", "time_limit", "clip", "penalty", "pace", "pace_scaled", "accumulate", "seed"),
    }
)
MACHINE = frozenset({"engine", "device", "precision", "strategy", "devices", "logger", "valid_every", "probes"})
GROUPS = ("Data", "Network", "Training", "Measuring and machine")
CALLED = {"lr": "learning rate", "optimizer": "optimiser", "clip": "clipping", "length": "window, in time steps"}
# of the question, what no reader wants: how values become numbers
_CODED = frozenset({"encoding", "scales", "marks", "own"})
_CELL = ("name", "title", "parameters")
_RUN = ("name", "created", "seed", "parameters")


def configuration_section(run: Run) -> Section:
    """Show how the run was set up and how long it took."""
    config = run.config
    settings = mapping(config.get("settings"))
    chosen = _chosen(config, settings)
    told = [_table(group, {name: settings[name] for name in chosen if _group(name) == group}) for group in GROUPS]
    usual = [
        _table(
            group, {name: value for name, value in settings.items() if name not in chosen and _group(name) == group}
        )
        for group in GROUPS
    ]
    beside = [
        _table("Run", {key: config[key] for key in _RUN if key in config}),
        _table("Cell", {key: value for key, value in mapping(config.get("cell")).items() if key in _CELL}),
        _table("What was read", _data(mapping(config.get("data")))),
        _table("Timing", _timing(run)),
        _table("Versions", mapping(config.get("versions"))),
    ]
    if not any([*told, *usual, *beside]):
        return section("Configuration", absent("The configuration is empty."))
    words = "What was chosen, or fitted to the data; all other settings are as usual."
    return section(
        "Configuration",
        lead(words) if any(told) else None,
        _tables([*told, *beside]),
        folded(f"Settings as usual ({count(len(settings) - len(chosen))})", _tables(usual)) if any(usual) else None,
    )


def _chosen(config: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Name what differs from the usual; of a record that does not say so, what is not empty."""
    named = config.get("chosen")
    if isinstance(named, list):
        return [name for name in settings if name in named]
    return [name for name, value in settings.items() if value not in (None, False, 0, "", "auto", [], {})]


def _group(name: str) -> str:
    if name in NETWORK:
        return GROUPS[1]
    if name in TRAINING:
        return GROUPS[2]
    return GROUPS[3] if name in MACHINE else GROUPS[0]


def _data(data: Mapping[str, Any]) -> dict[str, Any]:
    """What there is of the data, without how they are encoded."""
    question = mapping(data.get("question"))
    shown = {name: value for name, value in data.items() if name not in ("question", "sizes") and value is not None}
    return shown | mapping(data.get("sizes")) | {k: value for k, value in question.items() if k not in _CODED}


def _timing(run: Run) -> dict[str, Any]:
    speeds = [valid.tokens_per_second for valid in run.valids if valid.tokens_per_second is not None]
    epochs = [valid.epoch for valid in run.valids if valid.epoch is not None]
    rates = [step.learning_rate for step in run.steps if step.learning_rate is not None]
    timing = {
        "time": duration(run.seconds) if run.seconds is not None else "",
        "training steps": count(run.last_step) if run.last_step is not None else "",
        "last epoch": f"{epochs[-1]:g}" if epochs else "",
        f"{'time steps' if run.asked.steps == 'steps' else run.asked.steps} per second": (
            count(speeds[-1]) if speeds else ""
        ),
        "last learning rate": decimal(rates[-1]) if rates else "",
    }
    return {name: value for name, value in timing.items() if value}


def _tables(tables: Iterable[Html | None]) -> Html:
    return element("div", *(table for table in tables if table), class_="tables")


def _table(title: str, entries: Mapping[str, Any]) -> Html | None:
    if not entries:
        return None
    rows = [
        element(
            "tr",
            element("th", CALLED.get(name, name.replace("_", " ")), scope="row"),
            element("td", plain(value) or MISSING),
        )
        for name, value in entries.items()
    ]
    return element("table", element("caption", title), element("tbody", *rows))
