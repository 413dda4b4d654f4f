"""A word model by `unvanish train` beside the same model in plain PyTorch: perplexities, from several seeds.

    python benchmarks/words.py [--text FILE] [--seeds 3] [--epochs 3] [--device cpu]

Without a text, the documentation strings of Python's own library. LSTM 2 x 128, batch 50, length 50, Adam 5e-3,
clip 5, the 10,000 most frequent words; both read the same numbers. The result is written to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import statistics
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import machine
from plain_loop import trained

from unvanish.data.tokens import read_tokens
from unvanish.record import RunRecord
from unvanish.train import TrainSettings, train

HERE = Path(__file__).parent
WORDS = 10_000


def documentation() -> str:
    """The documentation strings of the modules, classes and functions of the standard library."""
    found = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        places = (ast.Module, ast.ClassDef, ast.FunctionDef)
        found += [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, places)]
    return "\n".join(text for text in found if text)


def ours(text: Path, seed: int, epochs: int, device: str, folder: Path) -> float:
    """Train the model with `unvanish train`; return its perplexity on the part to validate on."""
    settings = TrainSettings(
        source=str(text), kind="words", vocabulary=WORDS, seed=seed, epochs=epochs, device=device, probes=0
    )
    train(settings, folder, say=lambda _: None)
    return float(list(RunRecord.open(folder).read("valid"))[-1]["perplexity"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--text", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = asked.text or Path(folder) / "documentation.txt"
        if asked.text is None:
            text.write_text(documentation(), encoding="utf-8")
        tokens = read_tokens(text, "words", most=WORDS)
        rows: list[dict[str, Any]] = []
        for seed in range(1, asked.seeds + 1):
            began = time.perf_counter()
            parts = tokens.parts["train"], tokens.parts["valid"]
            epochs = list(trained(*parts, len(tokens.symbols), asked.epochs, seed, asked.device))
            theirs = math.exp(epochs[-1][0])
            between = time.perf_counter()
            mine = ours(text, seed, asked.epochs, asked.device, Path(folder) / f"run{seed}")
            rows.append(
                {
                    "seed": seed,
                    "plain": theirs,
                    "unvanish": mine,
                    "plain_seconds": between - began,
                    "unvanish_seconds": time.perf_counter() - between,
                }
            )
            print(rows[-1], flush=True)
    result: dict[str, Any] = {"benchmark": "words", **machine(), "device": asked.device, "epochs": asked.epochs}
    result |= {"text": asked.text.name if asked.text else "documentation strings of the standard library"}
    result |= {"words": {name: len(part) for name, part in tokens.parts.items()}, "vocabulary": len(tokens.symbols)}
    result |= {f"perplexity_{side}": statistics.median(row[side] for row in rows) for side in ("plain", "unvanish")}
    result |= {"ratio": result["perplexity_unvanish"] / result["perplexity_plain"], "runs": rows}
    path = HERE / "results" / f"{result['date']}-words-{'text' if asked.text else 'documentation'}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(
        f"median perplexity {result['perplexity_unvanish']:.2f} beside {result['perplexity_plain']:.2f}: ", end=""
    )
    print(f"{result['ratio']:.3f}; written to {path}")


if __name__ == "__main__":
    main()
