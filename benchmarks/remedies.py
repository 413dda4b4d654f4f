"""Remedy by cell: how far the gradient reaches before and after training, whether it helps to learn, what it costs.

The task is temporal order (Hochreiter, Schmidhuber 1997, experiment 6a, in the lengths of Pascanu et al. 2013): in
a sequence of 100 symbols two of them, each X or Y, stand at a place between 10 and 20 and at one between 40 and 50;
which of the four orders it was is asked at the end. Solved is where under 1 % of 10,000 fresh sequences are wrong.

    python benchmarks/remedies.py [--cells rnn,lstm,gru_reset_before] [--seeds 2] [--updates 4000] [--write]

`--write` puts the table into docs/remedies.md, between its marks. Training runs on one thread, two
runs side by side; the cost of a step is measured apart, in turns with the plain layer.

Shapes: T time, B batch, H hidden.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from machine import machine
from torch import Tensor, nn

import unvanish
from unvanish import flow
from unvanish.errors import OptionError

STEPS, HIDDEN, BATCH, SYMBOLS, RATE = 100, 50, 32, 6, 3e-3
CHECK_EVERY, FRESH, SOLVED = 250, 10_000, 0.99
ROOT = Path(__file__).parents[1]
MARKS = "<!-- remedies: begin -->", "<!-- remedies: end -->"


@dataclass(frozen=True)
class Remedy:
    """What is tried: keywords of the layer, a clip and a penalty in the words of the command line."""

    name: str
    layer: dict[str, Any] = field(default_factory=dict)
    clip: str = "norm:1"
    penalty: str = "none"
    of_cell: dict[str, dict[str, Any]] = field(default_factory=dict)  # more keywords, for one cell
    most: int = 1_000_000  # updates: batch norm runs in plain torch, thirty times slower


# All but the first two are trained with the clip of the second, as they would be.
REMEDIES = (
    Remedy("nothing", clip="none"),
    Remedy("clip norm:1"),
    Remedy("clip zscore:2.5", clip="zscore:2.5"),
    Remedy("clip step:0.01", clip="step:0.01"),
    Remedy("penalty omega:2", penalty="omega:2"),
    Remedy("init orthogonal", {"init": "orthogonal"}),
    Remedy("init identity", {"init": "identity"}, of_cell={"rnn": {"nonlinearity": "relu"}}),
    Remedy("init chrono:100", {"init": "chrono:100"}),
    Remedy("orthogonal and omega:2", {"init": "orthogonal"}, penalty="omega:2"),
    Remedy("skips 10,50", {"skips": (10, 50)}),
    Remedy("layer norm", {"layer_norm": True}),
    Remedy("batch norm", {"batch_norm": STEPS}, most=500),
    Remedy("constrain orthogonal", {"constrain": "orthogonal"}),
    Remedy("recurrent dropout 0.25", {"recurrent_dropout": 0.25}),
    Remedy("zoneout 0.1", {"zoneout": 0.1}),
)


def draw(count: int, generator: torch.Generator, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """Draw sequences, one-hot (T, B, 6), and their classes (B,)."""
    symbols_TB = torch.randint(2, SYMBOLS, (steps, count), generator=generator)
    order_2B = torch.randint(0, 2, (2, count), generator=generator)
    rows = torch.arange(count)
    for number, (first, last) in enumerate(((1, 2), (4, 5))):
        places_B = torch.randint(first * steps // 10, last * steps // 10, (count,), generator=generator)
        symbols_TB[places_B, rows] = order_2B[number]
    return F.one_hot(symbols_TB, SYMBOLS).float(), 2 * order_2B[0] + order_2B[1]


class Model(nn.Module):
    """A layer, and a linear one that reads its last output."""

    def __init__(self, cell: str, remedy: Remedy) -> None:
        super().__init__()
        self.layer = unvanish.Recurrent(cell, SYMBOLS, HIDDEN, **remedy.layer, **remedy.of_cell.get(cell, {}))
        self.head = nn.Linear(HIDDEN, 4)

    def forward(self, x_TBS: Tensor) -> Tensor:
        """Return the logits of the four classes, (B, 4)."""
        logits: Tensor = self.head(self.layer(x_TBS)[0][-1])
        return logits


class Training:
    """One model with its optimiser and its remedies."""

    def __init__(self, cell: str, remedy: Remedy, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = Model(cell, remedy)
        self.optimizer = torch.optim.Adam(self.model.parameters(), RATE)
        self.clip = unvanish.clip.parse(remedy.clip)
        if isinstance(self.clip, unvanish.clip.PerStep):
            self.clip.attach(self.model)
        self.omega: unvanish.penalty.Omega | None = None
        if remedy.penalty != "none":
            self.omega = unvanish.penalty.Omega(float(remedy.penalty.partition(":")[2])).attach(self.model)
        self.generator = torch.Generator().manual_seed(seed)

    def step(self, x_TBS: Tensor, y_B: Tensor) -> None:
        """Make one step of training."""
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(x_TBS), y_B).backward()  # type: ignore[no-untyped-call]
        if self.omega is not None:
            self.omega()
        if self.clip is not None:
            self.clip(self.model)
        self.optimizer.step()

    @torch.no_grad()
    def right(self, count: int) -> float:
        """The share of fresh sequences that are told rightly."""
        self.model.eval()
        x_TBS, y_B = draw(count, self.generator)
        found = (self.model(x_TBS).argmax(-1) == y_B).float().mean().item()
        self.model.train()
        return found

    def reach(self) -> tuple[int, float]:
        """The reach and the rate of the layer on fresh sequences."""
        self.model.eval()
        x_TBS, _ = draw(BATCH, torch.Generator().manual_seed(0))
        profile = flow.profile(self.model.layer, x_TBS, generator=torch.Generator().manual_seed(0))
        self.model.train()
        return profile.reach, profile.rate


def train(job: tuple[str, int, int, int]) -> dict[str, Any]:
    """Train one cell with one remedy from one seed."""
    cell, number, seed, updates = job
    remedy = REMEDIES[number]
    torch.set_num_threads(1)
    found: dict[str, Any] = {"cell": cell, "remedy": remedy.name, "seed": seed}
    try:
        training = Training(cell, remedy, seed)
    except OptionError as fault:
        return {**found, "refused": str(fault)}
    start = training.reach()
    right, update, updates = 0.0, 0, min(updates, remedy.most)
    while update < updates and right < SOLVED:
        for _ in range(min(CHECK_EVERY, updates - update)):
            training.step(*draw(BATCH, training.generator))
            update += 1
        # A look at a few first: most looks are at what is far from solved.
        right = training.right(1_000)
        right = training.right(FRESH) if right >= SOLVED else right
    end = training.reach()
    found |= {"reach_start": start[0], "rate_start": start[1], "reach_end": end[0], "rate_end": end[1]}
    return {**found, "right": right, "solved": right >= SOLVED, "updates": update}


def cost(cell: str, remedy: Remedy, rounds: int) -> float | None:
    """The time of a step, as a multiple of that of the layer without any remedy; None where it does not apply."""
    try:
        sides = [Training(cell, REMEDIES[0], 1), Training(cell, remedy, 1)]
    except OptionError:
        return None
    x_TBS, y_B = draw(BATCH, torch.Generator().manual_seed(1))
    times: list[list[float]] = [[], []]
    for number in range(rounds + 3):
        for side, training in enumerate(sides):
            begin = time.perf_counter()
            training.step(x_TBS, y_B)
            if number >= 3:
                times[side].append(time.perf_counter() - begin)
    return statistics.median(times[1]) / statistics.median(times[0])


def rows(results: Sequence[dict[str, Any]], cells: Sequence[str]) -> Iterator[str]:
    """The table in Markdown: one row for each remedy, three columns for each cell."""
    yield "| remedy | " + " | ".join(f"{cell}: reach | solved after | cost" for cell in cells) + " |"
    yield "|---|" + "---:|---:|---:|" * len(cells)
    for remedy in REMEDIES:
        parts = [remedy.name]
        for cell in cells:
            here = [r for r in results if r["remedy"] == remedy.name and r["cell"] == cell]
            parts += _columns(here)
        yield "| " + " | ".join(parts) + " |"


def _columns(here: Sequence[dict[str, Any]]) -> list[str]:
    if not here or "refused" in here[0]:
        return ["–", "refused" if here else "–", "–"]
    solved = [r["updates"] for r in here if r["solved"]]
    text = f"{statistics.median(solved):,.0f}" if solved else "not"
    if solved and len(solved) < len(here):
        text += f" ({len(solved)} of {len(here)})"
    start, end = (statistics.median(r[which] for r in here) for which in ("reach_start", "reach_end"))
    return [f"{start:.0f} → {end:.0f}", text, f"{here[0]['cost']:.1f}"]


def write(table: str) -> None:
    """Put the table between the marks of the page."""
    name = "docs/remedies.md"
    path = ROOT / name
    text = path.read_text(encoding="utf-8")
    head, _, rest = text.partition(MARKS[0])
    _, _, tail = rest.partition(MARKS[1])
    if not tail:
        raise SystemExit(f"{name} has no marks {MARKS[0]} … {MARKS[1]}: nothing was written")
    path.write_text(f"{head}{MARKS[0]}\n{table}\n{MARKS[1]}{tail}", encoding="utf-8")


def main() -> None:
    """Run, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", default="rnn,lstm,gru_reset_before")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--updates", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=40, help="steps timed for the cost")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--lines", type=Path, default=None, help="a file of results to go on with")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    cells = given.cells.split(",")
    results = [] if given.lines is None else [json.loads(line) for line in given.lines.read_text().splitlines()]
    done = {(found["cell"], found["remedy"], found["seed"]) for found in results}
    jobs = [
        (cell, number, seed, given.updates)
        for seed in range(1, given.seeds + 1)
        for number, remedy in enumerate(REMEDIES)
        for cell in cells
        if (cell, remedy.name, seed) not in done
    ]
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        for found in pool.imap_unordered(train, jobs):
            results.append(found)
            print(json.dumps(found), flush=True)
            if given.lines is not None:
                with given.lines.open("a") as lines:
                    print(json.dumps(found), file=lines)
    torch.set_num_threads(1)
    for found in results:
        remedy = next(remedy for remedy in REMEDIES if remedy.name == found["remedy"])
        if "refused" not in found and found["seed"] == 1:
            found["cost"] = cost(found["cell"], remedy, given.rounds)
    costs = {(r["cell"], r["remedy"]): r.get("cost") for r in results if r["seed"] == 1}
    results = [{**r, "cost": costs[r["cell"], r["remedy"]]} for r in results]
    results.sort(key=lambda r: (r["cell"], [remedy.name for remedy in REMEDIES].index(r["remedy"]), r["seed"]))
    table = "\n".join(rows(results, cells))
    print(table)
    settings = {"steps": STEPS, "hidden": HIDDEN, "batch": BATCH, "learning_rate": RATE, "updates": given.updates}
    settings |= {"remedies": [dataclasses.asdict(remedy) for remedy in REMEDIES]}
    content = {"machine": machine(), "settings": settings, "results": results}
    out = given.out or ROOT / "benchmarks" / "results" / f"{machine()['date']}-remedies.json"
    out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if given.write:
        write(table)


if __name__ == "__main__":
    main()
