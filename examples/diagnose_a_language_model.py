"""Diagnose a character model on torch.nn.LSTM: how far do its data look back, and does its gradient come as far?

The text is Python's own: the module argparse.
"""

import argparse
from pathlib import Path

import torch
from torch import nn

import unvanish

text = Path(argparse.__file__).read_text(encoding="utf-8")
letters = sorted(set(text))
numbers = torch.tensor([letters.index(letter) for letter in text])


class LanguageModel(nn.Module):
    """Predicts the next character."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(letters), 32)
        self.rnn, self.head = nn.LSTM(32, 64), nn.Linear(64, len(letters))

    def forward(self, x):
        return self.head(self.rnn(self.embedding(x))[0])


torch.manual_seed(0)
windows = numbers[: 8 * 101].view(8, 101).t()
x, y = windows[:-1], windows[1:]
found = unvanish.diagnose(
    LanguageModel(), x, lambda logits: nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten()), data=text
)
print(found)
assert found.need_from == "the data", found.need_from
assert found.verdict == "vanishing", found.verdict
assert {cause.kind for cause in found.causes} & {"forgetting", "short window"}, found.causes
