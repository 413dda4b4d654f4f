"""A batch is taken as people have it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.data import DataLoader, TensorDataset

import unvanish
from unvanish.errors import FlowError

T, B, I, H = 30, 6, 3, 8


class Model(nn.Module):
    """An LSTM that takes a batch in any of the forms."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.LSTM(I, H, batch_first=True), nn.Linear(H, 2)

    def forward(self, x: Tensor | PackedSequence, scale: Any = 1.0) -> Tensor:
        return self.out(self.rnn(x)[1][0][-1]) * scale


def diagnosed(batch: Any, loss: Any = None) -> str:
    torch.manual_seed(0)
    loss = loss or (lambda y: y.square().mean())
    return unvanish.diagnose(Model(), batch, loss, need=20, prescriptions=False).verdict


def test_arrays_loaders_and_targets_are_taken_as_they_are() -> None:
    x, labels = torch.randn(B, T, I), torch.randint(0, 2, (B,))
    entropy = nn.CrossEntropyLoss()
    loader = DataLoader(TensorDataset(x, labels), batch_size=B)
    forms: list[tuple[Any, Any]] = [
        (x, None),
        (x.double().numpy(), None),
        ({"x": x.numpy(), "scale": 2.0}, None),
        ((x, 2.0), None),
        ([x, 2.0], None),
        (pack_sequence(list(x)), None),
        ((x, labels), entropy),
        ((x.numpy(), labels.numpy()), nn.functional.cross_entropy),
        ((x, 2.0, labels), entropy),
        (loader, entropy),
        (loader, lambda y, target: nn.functional.cross_entropy(y, target)),
    ]
    for batch, loss in forms:
        assert diagnosed(batch, loss) == "vanishing"


@pytest.mark.parametrize(
    ("batch", "loss", "message"),
    [
        ("data.csv", None, "holds, a str: give a tensor"),
        (np.array(["a", "b"]), None, "an array of <U1: give numbers"),
        (torch.randn(B, T, I), nn.MSELoss(), "give the batch as"),
        (torch.randn(B, T, I), 3.0, "the loss is a float"),
        ({1, 2}, None, "holds, a set"),
    ],
)
def test_what_no_model_takes_is_refused_in_a_line(batch: Any, loss: Any, message: str) -> None:
    with pytest.raises(FlowError, match=message):
        diagnosed(batch, loss)
