"""Time `unvanish train` beside a plain PyTorch loop: LSTM 2 x 128, batch 50, length 50, Adam 5e-3, clip 5.

    python benchmarks/train_text.py input.txt [--runs 3] [--epochs 3]

They run in turn, whole processes, so that a machine whose speed drifts hurts all alike; ratios are taken turn
by turn and their median is the figure. The result is written to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import machine

HERE = Path(__file__).parent
ENGINES = ("auto", "builtin")  # what users get, and the kernels of the plain loop


def timed(command: list[str]) -> tuple[str, float]:
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout, time.perf_counter() - began


def run_plain(text: str, epochs: int) -> dict[str, Any]:
    output, wall = timed([sys.executable, str(HERE / "plain_loop.py"), text, str(epochs)])
    found = json.loads(output)
    return {"losses": found["losses"], "training": sum(found["seconds"]), "process": wall}


def run_unvanish(text: str, epochs: int, engine: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "unvanish", "train", text, "--epochs", str(epochs), "--out", str(out)]
        _, wall = timed([*command, "--engine", engine])
        lines = [json.loads(line) for line in (out / "records.jsonl").read_text(encoding="utf-8").splitlines()]
    valid = [line for line in lines if line["kind"] == "valid"]
    reach = {part: found["steps"] for part, found in valid[-1]["reach"].items()}
    losses = [line["loss"] for line in valid]
    return {"losses": losses, "training": valid[-1]["seconds"], "process": wall, "reach": reach}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("text")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    asked = parser.parse_args()
    turns = [
        {"plain": run_plain(asked.text, asked.epochs)}
        | {engine: run_unvanish(asked.text, asked.epochs, engine) for engine in ENGINES}
        for _ in range(asked.runs)
    ]
    result: dict[str, Any] = {"benchmark": "train_text", **machine()}
    result |= {"text": Path(asked.text).name, "epochs": asked.epochs, "turns": turns}
    for kind in ("training", "process"):
        for name in ("plain", *ENGINES):
            result[f"{name}_{kind}_seconds"] = statistics.median(turn[name][kind] for turn in turns)
        for name in ENGINES:
            result[f"{name}_ratio_{kind}"] = statistics.median(
                turn[name][kind] / turn["plain"][kind] for turn in turns
            )
    path = HERE / "results" / f"{result['date']}-train_text.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{'':24}{'plain loop':>12}" + "".join(f"{name:>10}{'ratio':>8}" for name in ENGINES))
    for kind in ("training", "process"):
        print(f"{kind + ', seconds':24}{result[f'plain_{kind}_seconds']:12.1f}", end="")
        for name in ENGINES:
            print(f"{result[f'{name}_{kind}_seconds']:10.1f}{result[f'{name}_ratio_{kind}']:8.2f}", end="")
        print()
    for epoch in range(asked.epochs):
        losses = [turns[0][name]["losses"][epoch] for name in ("plain", *ENGINES)]
        print(
            f"{f'epoch {epoch + 1}, nats':24}{losses[0]:12.3f}"
            + "".join(f"{one:10.3f}{'':8}" for one in losses[1:])
        )
    print(f"written to {path}")


if __name__ == "__main__":
    main()
