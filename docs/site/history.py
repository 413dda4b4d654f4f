"""The page of the benchmarks' history: every dated result that is kept, by benchmark, the latest first."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from cellcards import RESULTS, present_name

UNBROKEN = "&#8209;"  # a hyphen at which no line ends
Result = dict[str, Any]


class Benchmark(NamedTuple):
    """A title, the command that measures again, what the numbers are, and how those of a result are said."""

    title: str
    command: str
    about: str
    said: Callable[[Result], Iterable[str]]


def history_page() -> str:
    """Return the page."""
    by_kind: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for path in sorted(RESULTS.glob("*.json"), reverse=True):
        date, name = path.stem[:10], path.stem[11:]
        kind = next((kind for kind in BENCHMARKS if name.startswith(kind)), None)
        if kind is None:
            raise ValueError(f"docs/site/history.py does not say what {path.name} is: add it to BENCHMARKS")
        by_kind[kind].append((date, path))
    parts = [
        "# Benchmarks and their history",
        "",
        "Every result that is kept in `benchmarks/results`, the latest first, with its date, its machine and what",
        "it came to; what follows from them is on [the page of claims](measured.md). The machines are shared, so",
        "only ratios count. The command measures again, and writes a new dated file beside the old ones.",
    ]
    for kind, one in BENCHMARKS.items():
        parts += ["", f"## {one.title}", "", f"`{one.command}`. {one.about}", "", "| date | on | result |"]
        parts += ["|---|---|---|", *(_row(one, date, path) for date, path in by_kind[kind])]
    return "\n".join(parts)


def _row(benchmark: Benchmark, date: str, path: Path) -> str:
    result: Result = json.loads(path.read_text(encoding="utf-8"))
    machine = result.get("machine", result)
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    processor = re.sub(r"\(R\)| Processor", "", machine["processor"])
    where = "a GPU" if machine.get("device") == "cuda" else f"{processor}, {machine['capability']}, {threads}"
    version = machine.get("versions", {}).get("unvanish", "0.1.0")
    where += f"; unvanish {version}, torch {machine['torch'].partition('+')[0]}"
    return f"| {date.replace('-', UNBROKEN)} | {where} | {'<br>'.join(benchmark.said(result))} |"


def _ratios(result: Result) -> Iterator[str]:
    for one in result["comparisons"]:
        slowest = "" if len(one["rows"]) == 1 else f" ({one['worst']:.2f} × the slowest)"
        yield f"{present_name(one['cell'], result)}: {one['mean']:.2f} × as fast as {one['peer']}{slowest}"


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
        yield f"{present_name(cell, result)}: {min(more):.2f} to {max(more):.2f} × the time"


def _solved(word: str, result: Result) -> Iterator[str]:
    for cell in dict.fromkeys(row["cell"] for row in result["results"]):
        rows = [row for row in result["results"] if row["cell"] == cell and word in row]
        yield f"{cell}: {sum(row[word] for row in rows)} of {len(rows)} trainings solved it"


def _memory(result: Result) -> Iterator[str]:
    return (f"{row['title']}: {row['extra_megabytes']:,.0f} MB" for row in result["rows"])


def _rate(result: Result) -> Iterator[str]:
    return (f"{name}: {share:.0%}" for name, share in result["share_of_best_rate"].items())


def _compiled(result: Result) -> Iterator[str]:
    yield f"{result['compile_seconds']:.1f} s; loading a kept one {result['load_cached_ms']:.1f} ms"


def _words(result: Result) -> Iterator[str]:
    ours, plain = result["perplexity_unvanish"], result["perplexity_plain"]
    yield f"{result['text']}: {ours:.2f}, plain PyTorch {plain:.2f}"


ENGINE = "make bench-engine"
# By the beginning of a result's name.
BENCHMARKS = {
    "engine-training": Benchmark(
        "A training step", ENGINE, "Mean of eight shapes, and the slowest of them.", _ratios
    ),
    "engine-inference": Benchmark("A forward pass without gradients", ENGINE, "Mean of eight shapes.", _ratios),
    "engine-streaming": Benchmark("One step at a time", ENGINE, "One row, 64 units.", _ratios),
    "engine-telemetry": Benchmark(
        "Recording the gradient", ENGINE, "Beside the same layer, not recorded.", _ratios
    ),
    "engine-memory": Benchmark("Memory of a long sequence", ENGINE, "100,000 steps, beyond the input.", _memory),
    "engine-rate": Benchmark("Share of the best matrix rate", ENGINE, "Of an LSTM's whole training step.", _rate),
    "engine-compile": Benchmark("Compilation of an LSTM's kernel", ENGINE, "Once per machine and cell.", _compiled),
    "train_text": Benchmark(
        "`unvanish train` on a text", "make bench-train TEXT=input.txt", "Beside a plain PyTorch loop.", _training
    ),
    "words": Benchmark(
        "A word model's perplexity", "python benchmarks/words.py", "Beside the same in plain PyTorch.", _words
    ),
    "clip": Benchmark("Clipping", "make bench-clip", "Beside torch's own, without its screening for NaN.", _clips),
    "omega": Benchmark("A step with Ω", "make bench-omega", "Beside the same step without.", _omega),
    "remedies": Benchmark(
        "Remedies",
        "make bench-remedies",
        "Temporal order over 100 steps, every remedy and cell.",
        partial(_solved, "solved"),
    ),
    "prescriptions": Benchmark(
        "Prescriptions",
        "make bench-prescriptions",
        "Temporal order over 50 steps, as printed.",
        partial(_solved, "learnt"),
    ),
}
