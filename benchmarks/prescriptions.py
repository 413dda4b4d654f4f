"""What a diagnosis prescribes, applied as printed: does the cell learn what it could not, or sooner?

The task is temporal order (Hochreiter, Schmidhuber 1997, experiment 6a) over 50 symbols, drawn as in remedies.py:
the first symbol that counts lies up to 45 steps before the end. Each cell is torch's as it comes. It is diagnosed
with need=50, the code of each of the first five remedies is executed, and both are trained alike. Learnt is where
under 1 % of 10,000 fresh sequences are wrong. Afterwards the trained model is diagnosed again: what is promised at
the start of training need not hold at its end.

    python benchmarks/prescriptions.py [--cells RNN,GRU,LSTM] [--seeds 2] [--updates 700] [--out FILE]
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import multiprocessing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from machine import machine
from torch import Tensor, nn

import unvanish
from remedies import SYMBOLS, draw

CELLS = ("RNN", "GRU", "LSTM")
STEPS, NEED, HIDDEN, BATCH, RATE = 50, 50, 40, 32, 3e-3
CHECK_EVERY, FRESH, LEARNT, REMEDIES = 25, 10_000, 0.99, 5
ROOT = Path(__file__).parents[1]


class Model(nn.Module):
    """A layer of torch as it comes, and a linear one that reads its last output."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        self.rnn, self.head = getattr(nn, cell)(SYMBOLS, HIDDEN), nn.Linear(HIDDEN, 4)

    def forward(self, x_TBS: Tensor) -> Tensor:
        """Return the logits of the four classes, (B, 4)."""
        logits: Tensor = self.head(self.rnn(x_TBS)[0][-1])
        return logits


def made(cell: str, seed: int) -> Model:
    """The model that is ill."""
    torch.manual_seed(seed)
    return Model(cell)


def diagnosed(model: nn.Module, prescriptions: bool = True) -> unvanish.Diagnosis:
    """Diagnose a model on a batch of the task."""
    batch = draw(BATCH, torch.Generator().manual_seed(0), STEPS)
    return unvanish.diagnose(model, batch, F.cross_entropy, need=NEED, prescriptions=prescriptions)


def train(job: tuple[str, int, str, str, int]) -> dict[str, Any]:
    """Train one cell from one seed, with the printed code of a remedy or untouched."""
    cell, seed, name, code, updates = job
    torch.set_num_threads(1)
    model = made(cell, seed)
    exec(code, {"model": model, "torch": torch, "unvanish": unvanish})
    start = diagnosed(model, prescriptions=False)
    optimizer, generator = torch.optim.Adam(model.parameters(), RATE), torch.Generator().manual_seed(seed)
    update, right = 0, 0.0
    while update < updates and right < LEARNT:
        for _ in range(CHECK_EVERY):
            x_TBS, y_B = draw(BATCH, generator, STEPS)
            optimizer.zero_grad()
            F.cross_entropy(model(x_TBS), y_B).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            update += 1
        right = share_right(model, 1_000)
        right = share_right(model, FRESH) if right >= LEARNT else right
    end = diagnosed(copy.deepcopy(model), prescriptions=False)
    found = {"cell": cell, "remedy": name, "seed": seed, "updates": update, "right": right, "code": code}
    for when, told in (("start", start), ("end", end)):
        found |= {f"verdict_{when}": told.verdict, f"reach_{when}": told.parts[0].profile.reach}
    return {**found, "learnt": right >= LEARNT}


@torch.no_grad()
def share_right(model: nn.Module, count: int) -> float:
    """The share of held-out sequences that are told rightly."""
    x_TBS, y_B = draw(count, torch.Generator().manual_seed(12_345), STEPS)
    return (model(x_TBS).argmax(-1) == y_B).float().mean().item()


def jobs(cells: Sequence[str], seeds: int, updates: int, remedies: int) -> Iterator[tuple[str, int, str, str, int]]:
    """Every cell from every seed: untouched, and with each remedy that its diagnosis prints."""
    for cell in cells:
        for seed in range(1, seeds + 1):
            yield cell, seed, "untouched", "", updates
            for remedy in diagnosed(made(cell, seed)).prescriptions[:remedies]:
                yield cell, seed, remedy.name, remedy.code, updates


def is_better(of_remedy: Sequence[dict[str, Any]], untouched: Sequence[dict[str, Any]]) -> bool:
    """Whether each seed learns with the remedy, and where it learns without one, sooner."""
    before = {found["seed"]: found["updates"] if found["learnt"] else math.inf for found in untouched}
    return all(found["learnt"] and found["updates"] < before[found["seed"]] for found in of_remedy)


def rows(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The table in Markdown: one row for each cell and remedy, the seeds side by side."""
    yield "| cell | remedy | updates until learnt (else: right at the end) | verdict before | after training |"
    yield "|---|---|---:|---|---|"
    for cell, remedy in dict.fromkeys((found["cell"], found["remedy"]) for found in results):
        here = [found for found in results if (found["cell"], found["remedy"]) == (cell, remedy)]
        learnt = [str(f["updates"]) if f["learnt"] else f"not ({f['right']:.0%})" for f in here]
        told = (", ".join(f[f"verdict_{when}"] for f in here) for when in ("start", "end"))
        yield f"| {cell} | {remedy} | {', '.join(learnt)} | {' | '.join(told)} |"


def main() -> None:
    """Run, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--updates", type=int, default=700)
    parser.add_argument("--remedies", type=int, default=REMEDIES, help="the first so many of each cell")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        cells = given.cells.split(",")
        results = list(pool.imap(train, jobs(cells, given.seeds, given.updates, given.remedies)))
    results.sort(key=lambda found: (found["cell"], found["remedy"] != "untouched", found["remedy"], found["seed"]))
    print("\n".join(rows(results)))
    untouched = {cell: [f for f in results if f["cell"] == cell and f["remedy"] == "untouched"] for cell in CELLS}
    pairs = dict.fromkeys((f["cell"], f["remedy"]) for f in results if f["remedy"] != "untouched")
    better = [
        pair
        for pair in pairs
        if is_better([f for f in results if (f["cell"], f["remedy"]) == pair], untouched[pair[0]])
    ]
    unkept = [f for f in results if f["verdict_start"] == "healthy" and f["verdict_end"] != "healthy"]
    print(f"{len(better)} of {len(pairs)} learn it where the untouched cell does not, or sooner, from every seed")
    print(f"{len(unkept)} of {len(results)} trainings did not keep the verdict that they began with")
    settings = {"steps": STEPS, "need": NEED, "hidden": HIDDEN, "batch": BATCH, "learning_rate": RATE}
    content = {"machine": machine(), "settings": settings | {"updates": given.updates}, "results": results}
    out = given.out or ROOT / "benchmarks" / "results" / f"{machine()['date']}-prescriptions.json"
    out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
