"""Time `unvanish train` beside a plain PyTorch loop: LSTM 2 x 128, batch 50, length 50, Adam 5e-3, clip 5.

    python benchmarks/train_text.py input.txt [--runs 3] [--epochs 3]

The two run in turn, whole processes, so that a machine whose speed drifts hurts both alike; ratios are taken
pair by pair and their median is the figure. The result is written to benchmarks/results/.
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


def timed(command: list[str]) -> tuple[str, float]:
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout, time.perf_counter() - began


def run_plain(text: str, epochs: int) -> dict[str, Any]:
    output, wall = timed([sys.executable, str(HERE / "plain_loop.py"), text, str(epochs)])
    found = json.loads(output)
    return {"losses": found["losses"], "training": sum(found["seconds"]), "process": wall}


def run_unvanish(text: str, epochs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "unvanish", "train", text, "--epochs", str(epochs), "--out", str(out)]
        _, wall = timed([*command, "--engine", "builtin"])
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
    pairs = [
        (run_plain(asked.text, asked.epochs), run_unvanish(asked.text, asked.epochs)) for _ in range(asked.runs)
    ]
    result: dict[str, Any] = {"benchmark": "train_text", **machine()}
    result |= {"text": Path(asked.text).name, "epochs": asked.epochs, "pairs": pairs}
    for kind in ("training", "process"):
        result[f"ratio_{kind}"] = statistics.median(ours[kind] / plain[kind] for plain, ours in pairs)
        for name, side in (("plain", 0), ("unvanish", 1)):
            result[f"{name}_{kind}_seconds"] = statistics.median(pair[side][kind] for pair in pairs)
    path = HERE / "results" / f"{result['date']}-train_text.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{'':24}plain loop   unvanish train   ratio")
    for kind in ("training", "process"):
        plain, ours = result[f"plain_{kind}_seconds"], result[f"unvanish_{kind}_seconds"]
        print(f"{kind + ', seconds':24}{plain:10.1f}{ours:17.1f}{result[f'ratio_{kind}']:8.2f}")
    for epoch, (plain, ours) in enumerate(zip(pairs[0][0]["losses"], pairs[0][1]["losses"], strict=True), 1):
        print(f"{f'epoch {epoch}, nats':24}{plain:10.3f}{ours:17.3f}")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
