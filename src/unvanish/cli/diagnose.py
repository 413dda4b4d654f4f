"""`unvanish diagnose`: does the gradient reach as far as the data need, why not, and what helps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from unvanish.cli.completion import runs
from unvanish.cli.places import check_file
from unvanish.cli.show import console, document, doing, is_narrow, plain
from unvanish.cli.starting import at_once
from unvanish.cli.subject import subject
from unvanish.errors import DataError, OptionError, UnvanishError, printable
from unvanish.record.alike import tried_together, untried_together

if TYPE_CHECKING:
    from unvanish.diagnosis import Diagnosis, Prescription

COLOURS = {
    "healthy": "green",
    "borderline": "yellow",
    "vanishing": "yellow",
    "exploding": "red",
    "dead": "red",
    "non-finite": "red",
}


def diagnose(
    target: Annotated[
        str,
        typer.Argument(
            help="Folder of a run, or FILE.py:CALLABLE or MODULE:CALLABLE that makes a model, a batch, a loss.",
            autocompletion=runs,
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="A text file: the context that predicts it as well as any is what is needed."),
    ] = None,
    need: Annotated[
        int | None, typer.Option(min=1, help="The needed lag in steps, instead of what the data say.")
    ] = None,
    cells: Annotated[
        str, typer.Option(help="Modules that are called once a step, where they are not found: a,b.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the report, one HTML file, to this path.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON, for machines.")] = False,
    prescriptions: Annotated[bool, typer.Option(help="Try remedies on copies of the model.")] = True,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the random directions.")] = 0,
) -> int:
    """Judge how far back a model's gradient reaches, say why, and try what helps.

    The exit status is 0 where the verdict is healthy, 1 where it is not, 2 where there is no verdict.

    Example: unvanish diagnose my_model.py:make --need 100 --out verdict.html
    """
    if out is not None:
        check_file(out, "diagnosis.html")
    with at_once():
        from unvanish.diagnosis import diagnose as ask
        from unvanish.report import write_diagnosis

    asked = subject(target)
    given: dict[str, Any] = {"need": need, "data": data, "cells": [c for c in cells.split(",") if c]}
    if data is not None and not data.is_file():
        raise DataError(f"{data} is not a file: name a text file with --data")
    if need is not None:
        asked.pop("data", None)
    asked |= {key: value for key, value in given.items() if value not in (None, [])}
    model, batch, loss = (asked.pop(key) for key in ("model", "batch", "loss"))
    try:
        with doing(as_json) as say:
            found = ask(model, batch, loss, prescriptions=prescriptions, seed=seed, say=say, **asked)
    except UnvanishError:
        raise
    except Exception as fault:  # the target's own code
        raise OptionError(f"{target} raised {type(fault).__name__}: {fault}") from fault
    if out is not None:
        write_diagnosis({"target": target, **found.to_dict()}, out)
    if as_json:
        document({"target": target, **found.to_dict()})
    else:
        _show(found, out)
    return 0 if found.verdict == "healthy" else 1


# -- on a terminal -----------------------------------------------------------------------------------------------


def _show(found: Diagnosis, out: Path | None) -> None:
    console.print(_parts(found))
    if found.dependency is not None:
        data = found.dependency
        needed = f"{'≥ ' if data.censored else ''}{data.needed}"
        visible = f"{'≥ ' if data.visible_censored else ''}{data.visible}"
        plain(f"data: needed {needed} steps, visible {visible} steps")
    for number, cause in enumerate(found.causes):
        plain(f"{'because' if number == 0 else '    and'}  {cause.text}")
        plain(f"         → {cause.advice}")
    _show_remedies(found)
    if found.unknown:
        plain("\nnot known: " + ";\n           ".join(found.unknown))
    if out is not None:
        plain(f"\nreport: {out}")
    console.print()
    console.print(Text(_in_words(found), style=f"bold {COLOURS[found.verdict]}"))


def _show_remedies(found: Diagnosis) -> None:
    if found.first:
        plain(f"\nfirst: {found.first}")
        if found.prescriptions:
            plain("until then no change to the model brings a gradient from as far back as is needed")
    for title, heals in (("helps, at the start of training", True), ("lengthens, does not heal", False)):
        those = [remedy for remedy in found.prescriptions if remedy.heals == heals]
        if those:
            plain("")
            console.print(_remedies(title, those))
            told = {one.name: one.text for one in those} if is_narrow() else {}
            for name, text in told.items():
                plain(f"{name}: {text}")
    if found.prescriptions:
        best = found.prescriptions[0]
        all_of_them = "" if len(tried_together(found.prescriptions)) == 1 else " (--out writes a page with all)"
        code = "\n".join(f"    {line}" for line in best.code.splitlines())
        first = "then the first of these" if found.first else "the first of them"
        plain(f"\n{first}{all_of_them}:\n\n{code}")
    for refused in untried_together(found.untried):
        where = ", ".join(printable(remedy.part) for remedy in refused)
        plain(f"not tried: {where}: {refused[0].text} ({refused[0].reason})")


def _in_words(found: Diagnosis) -> str:
    from unvanish.diagnosis.findings import steps_text

    best = max(found.parts, key=lambda part: min(part.profile.reach, part.window))
    reach = min(best.profile.reach, best.window)
    reached = f"{'at least ' if best.profile.censored and reach == best.profile.reach else ''}{steps_text(reach)}"
    needed = f"{'at least ' if found.need_is_least else ''}{steps_text(found.need)} (from {found.need_from})"
    return f"{found.verdict}: needed {needed}, reached {reached}"


def _parts(found: Diagnosis) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("part", "kind", "verdict", "reach", "rate", ""):
        table.add_column(column, justify="right" if column in ("reach", "rate") else "left")
    for part in found.parts:
        profile = part.profile
        reach = f"{'≥ ' if profile.censored else ''}{profile.reach}"
        verdict = Text(part.verdict, style=COLOURS[part.verdict])
        row = printable(part.name), part.kind, verdict, reach, f"{profile.rate:+.3f}", printable(part.because)
        table.add_row(*row)
    return table


def _remedies(title: str, those: Sequence[Prescription]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    if is_narrow():
        table.title, table.title_justify = title, "left"
    for column in ("" if is_narrow() else title, "part", "reach", "verdict", "cost"):
        table.add_column(column, justify="right" if column in ("reach", "cost") else "left")
    if not is_narrow():
        table.add_column("")
    for same in tried_together(those):
        for number, remedy in enumerate(same):
            verdict = Text(remedy.verdict, style=COLOURS[remedy.verdict])
            row = (printable(remedy.part), remedy.span, verdict)
            told = (remedy.name, remedy.cost_text, printable(remedy.text)) if number == 0 else ("", "", "")
            table.add_row(told[0], *row, told[1], *(() if is_narrow() else told[2:]))
    return table
