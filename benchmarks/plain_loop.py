"""The peer of `unvanish train`: the same network and data in a plain PyTorch loop, nothing recorded.

    python benchmarks/plain_loop.py input.txt [epochs]

Prints one JSON object: validation losses, seconds of each epoch (with its validation).
Shapes: T time, B batch, V vocabulary.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN, LAYERS, LENGTH, BATCH, LEARNING_RATE, CLIP = 128, 2, 50, 50, 5e-3, 5.0


def streams(numbers: Tensor, device: str) -> Tensor:
    steps = len(numbers) // BATCH
    return numbers[: steps * BATCH].view(BATCH, steps).t().contiguous().long().to(device)


def trained(
    train_N: Tensor, valid_N: Tensor, symbols: int, epochs: int, seed: int = 1, device: str = "cpu"
) -> Iterator[tuple[float, float]]:
    """Train on one part, and yield after each epoch the loss on the other, and the seconds that both took."""
    torch.manual_seed(seed)
    train_NB, valid_NB = streams(train_N, device), streams(valid_N, device)
    embedding, lstm, head = (
        nn.Embedding(symbols, HIDDEN),
        nn.LSTM(HIDDEN, HIDDEN, LAYERS),
        nn.Linear(HIDDEN, symbols),
    )
    parameters = list(nn.ModuleList([embedding, lstm, head]).to(device).parameters())
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    for _ in range(epochs):
        began = time.perf_counter()
        states = None
        for start in range(0, len(train_NB) - 1, LENGTH):
            stop = min(start + LENGTH, len(train_NB) - 1)
            output, states = lstm(embedding(train_NB[start:stop]), states)
            states = tuple(state.detach() for state in states)
            loss = F.cross_entropy(head(output).flatten(0, 1), train_NB[start + 1 : stop + 1].flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
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
        yield nats / count, time.perf_counter() - began


def main(path: str, epochs: int) -> None:
    text = Path(path).read_text(encoding="utf-8")
    index = {character: number for number, character in enumerate(sorted(set(text)))}
    numbers = torch.tensor([index[character] for character in text])
    cut = len(numbers) - len(numbers) // 10
    losses, seconds = zip(*trained(numbers[:cut], numbers[cut:], len(index), epochs), strict=True)
    print(json.dumps({"losses": losses, "seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3)
