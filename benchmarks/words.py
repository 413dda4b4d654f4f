"""A word model by `unvanish train` beside the same model in plain PyTorch: perplexities, from several seeds.

    python benchmarks/words.py [--text FILE] [--seeds 3] [--epochs 3] [--device cpu]

Without a text, the documentation strings of Python's own library. LSTM 2 x 128, batch 50, length 50, Adam 5e-3,
clip 5, the 10,000 most frequent words; both read the same numbers. The result is written to benchmarks/results/.
Shapes: T time, B batch, N words, V vocabulary.
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

import torch
import torch.nn.functional as F
from machine import machine
from torch import Tensor, nn

from unvanish.data.tokens import read_tokens
from unvanish.record import RunRecord
from unvanish.train import TrainSettings, train

HERE = Path(__file__).parent
HIDDEN, LAYERS, LENGTH, BATCH, RATE, CLIP, WORDS = 128, 2, 50, 50, 5e-3, 5.0, 10_000


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


def streams(numbers_N: Tensor, device: str) -> Tensor:
    steps = len(numbers_N) // BATCH
    return numbers_N[: steps * BATCH].view(BATCH, steps).t().contiguous().long().to(device)


def plain(parts: dict[str, Tensor], words: int, seed: int, epochs: int, device: str) -> float:
    """Train the model in a plain loop; return its perplexity on the part to validate on."""
    torch.manual_seed(seed)
    train_NB, valid_NB = (streams(parts[name], device) for name in ("train", "valid"))
    embedding, lstm, head = nn.Embedding(words, HIDDEN), nn.LSTM(HIDDEN, HIDDEN, LAYERS), nn.Linear(HIDDEN, words)
    model = nn.ModuleList([embedding, lstm, head]).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for _ in range(epochs):
        states = None
        for start in range(0, len(train_NB) - 1, LENGTH):
            stop = min(start + LENGTH, len(train_NB) - 1)
            output, states = lstm(embedding(train_NB[start:stop]), states)
            states = tuple(state.detach() for state in states)
            loss = F.cross_entropy(head(output).flatten(0, 1), train_NB[start + 1 : stop + 1].flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
    nats = count = 0.0
    with torch.no_grad():
        states = None
        for start in range(0, len(valid_NB) - 1, LENGTH):
            stop = min(start + LENGTH, len(valid_NB) - 1)
            output, states = lstm(embedding(valid_NB[start:stop]), states)
            target = valid_NB[start + 1 : stop + 1].flatten()
            nats += float(F.cross_entropy(head(output).flatten(0, 1), target, reduction="sum"))
            count += len(target)
    return math.exp(nats / count)


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
            theirs = plain(tokens.parts, len(tokens.symbols), seed, asked.epochs, asked.device)
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
