"""The page of the benchmarks' history: every dated result that is kept, by benchmark, the latest first."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cellcards import NAMES, RESULTS

UNBROKEN = "&#8209;"  # a hyphen at which no line ends
Result = dict[str, Any]
# By the beginning of a result's name: a title, the command that measures it again, what its numbers say.
ABOUT = {
    "engine-training": ("A training step", "make bench-engine", "Mean of eight shapes, and the slowest of them."),
    "engine-inference": ("A forward pass without gradients", "make bench-engine", "Mean of eight shapes."),
    "engine-streaming": ("One step at a time", "make bench-engine", "One row, 64 units."),
    "engine-telemetry": ("Recording the gradient", "make bench-engine", "Beside the same layer, not recorded."),
    "engine-memory": ("Memory of a long sequence", "make bench-engine", "100,000 steps, beyond the input."),
    "engine-rate": ("Share of the best matrix rate", "make bench-engine", "Of an LSTM's whole training step."),
    "engine-compile": ("Compilation of an LSTM's kernel", "make bench-engine", "Once per machine and cell."),
    "train_text": ("`unvanish train` on a text", "make bench-train TEXT=input.txt", "Beside a plain PyTorch loop."),
    "words": ("A word model's perplexity", "python benchmarks/words.py", "Beside the same in plain PyTorch."),
    "clip": ("Clipping", "make bench-clip", "Beside torch's own, without its screening for NaN."),
    "omega": ("A step with Ω", "make bench-omega", "Beside the same step without."),
    "remedies": ("Remedies", "make bench-remedies", "Temporal order over 100 steps, every remedy and cell."),
    "prescriptions": ("Prescriptions", "make bench-prescriptions", "Temporal order over 50 steps, as printed."),
}


def history_page() -> str:
    """Return the page."""
    by_kind: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for path in sorted(RESULTS.glob("*.json"), reverse=True):
        date, name = path.stem[:10], path.stem[11:]
        kind = next((kind for kind in ABOUT if name.startswith(kind)), None)
        if kind is None:
            raise ValueError(f"docs/site/history.py does not say what {path.name} is: add it to ABOUT and SAID")
        by_kind[kind].append((date, path))
    parts = [
        "# Benchmarks and their history",
        "",
        "Every result that is kept in `benchmarks/results`, the latest first, with its date, its machine and what",
        "it came to; what follows from them is on [the page of claims](measured.md). The machines are shared, so",
        "only ratios count. The command measures again, and writes a new dated file beside the old ones.",
    ]
    for kind, (title, command, about) in ABOUT.items():
        parts += ["", f"## {title}", "", f"`{command}`. {about}", "", "| date | on | result |"]
        parts += ["|---|---|---|", *(_row(kind, date, path) for date, path in by_kind[kind])]
    return "\n".join(parts)


def _row(kind: str, date: str, path: Path) -> str:
    result: Result = json.loads(path.read_text(encoding="utf-8"))
    machine = result.get("machine", result)
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    processor = re.sub(r"\(R\)| Processor", "", machine["processor"])
    where = "a GPU" if machine.get("device") == "cuda" else f"{processor}, {machine['capability']}, {threads}"
    version = machine.get("versions", {}).get("unvanish", "0.1.0")
    where += f"; unvanish {version}, torch {machine['torch'].partition('+')[0]}"
    return f"| {date.replace('-', UNBROKEN)} | {where} | {'<br>'.join(SAID[kind](result))} |"


def _comparisons(result: Result) -> Iterator[str]:
    for one in result["comparisons"]:
        slowest = "" if len(one["rows"]) == 1 else f" ({one['worst']:.2f} × the slowest)"
        yield f"{NAMES.get(one['cell'], one['cell'])}: {one['mean']:.2f} × as fast as {one['peer']}{slowest}"


def _training(result: Result) -> Iterator[str]:
    ratio = result.get("auto_ratio_training", result.get("ratio_training"))
    whole = result.get("auto_ratio_process", result.get("ratio_process"))
    yield f"{ratio:.2f} × the time of the plain loop, {whole:.2f} × with start, probes and report"


def _clips(result: Result) -> Iterator[str]:
    for name in dict.fromkeys(row["clip"] for row in result["rows"]):
        ratios = [row["ratio"] for row in result["rows"] if row["clip"] == name]
        yield f"{name}: {min(ratios):.2f} to {max(ratios):.2f} × as fast"


def _omega(result: Result) -> Iterator[str]:
    for cell in dict.fromkeys(row["cell"] for row in result["results"]):
        more = [1 + row["more"] for row in result["results"] if row["cell"] == cell]
        yield f"{NAMES.get(cell, cell)}: {min(more):.2f} to {max(more):.2f} × the time"


def _solved(word: str) -> Callable[[Result], Iterator[str]]:
    def said(result: Result) -> Iterator[str]:
        for cell in dict.fromkeys(row["cell"] for row in result["results"]):
            rows = [row for row in result["results"] if row["cell"] == cell and word in row]
            yield f"{cell}: {sum(row[word] for row in rows)} of {len(rows)} trainings solved it"

    return said


SAID: dict[str, Callable[[Result], Iterator[str]]] = {
    **dict.fromkeys(("engine-training", "engine-inference", "engine-streaming", "engine-telemetry"), _comparisons),
    "engine-memory": lambda result: (f"{row['title']}: {row['extra_megabytes']:,.0f} MB" for row in result["rows"]),
    "engine-rate": lambda result: (f"{name}: {share:.0%}" for name, share in result["share_of_best_rate"].items()),
    "engine-compile": lambda result: iter(
        [f"{result['compile_seconds']:.1f} s; loading a kept one {result['load_cached_ms']:.1f} ms"]
    ),
    "train_text": _training,
    "words": lambda result: iter(
        [f"{result['text']}: {result['perplexity_unvanish']:.2f}, plain PyTorch {result['perplexity_plain']:.2f}"]
    ),
    "clip": _clips,
    "omega": _omega,
    "remedies": _solved("solved"),
    "prescriptions": _solved("learnt"),
}
