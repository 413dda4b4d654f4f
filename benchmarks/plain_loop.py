"""The peer of `unvanish train`: the same network and data in a plain PyTorch loop, nothing recorded.

    python benchmarks/plain_loop.py input.txt [epochs]

Prints one JSON object: validation losses, seconds of each epoch (with its validation).
Shapes: T time, B batch, V vocabulary.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN, LAYERS, LENGTH, BATCH, LEARNING_RATE, CLIP = 128, 2, 50, 50, 5e-3, 5.0


def streams(numbers: Tensor) -> Tensor:
    steps = len(numbers) // BATCH
    return numbers[: steps * BATCH].view(BATCH, steps).t().contiguous()


def main(path: str, epochs: int) -> None:
    torch.manual_seed(1)
    text = Path(path).read_text(encoding="utf-8")
    index = {character: number for number, character in enumerate(sorted(set(text)))}
    numbers = torch.tensor([index[character] for character in text])
    cut = len(numbers) - len(numbers) // 10
    train_NB, valid_NB = streams(numbers[:cut]), streams(numbers[cut:])
    embedding, lstm, head = (
        nn.Embedding(len(index), HIDDEN),
        nn.LSTM(HIDDEN, HIDDEN, LAYERS),
        nn.Linear(HIDDEN, len(index)),
    )
    parameters = [p for module in (embedding, lstm, head) for p in module.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    losses, seconds = [], []
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
        nats = count = 0
        with torch.no_grad():
            states = None
            for start in range(0, len(valid_NB) - 1, LENGTH):
                stop = min(start + LENGTH, len(valid_NB) - 1)
                output, states = lstm(embedding(valid_NB[start:stop]), states)
                target = valid_NB[start + 1 : stop + 1].flatten()
                nats += float(F.cross_entropy(head(output).flatten(0, 1), target, reduction="sum"))
                count += len(target)
        losses.append(nats / count)
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"losses": losses, "seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3)
