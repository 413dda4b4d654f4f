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


@pytest.mark.parametrize(
    ("model", "batch", "loss", "more", "message"),
    [
        (Model(), 5, None, {}, "the batch is 5: give what the model is called with"),
        (Model(), None, None, {}, "the batch is None"),
        (torch.randn(B, T, I), Model(), None, {}, "the model is a Tensor: give a torch Module, then the batch"),
        (Model, torch.randn(B, T, I), None, {}, r"the model is a class: give one that was made, Model\(…\)"),
        (
            Model(),
            torch.randn(B, T, I),
            nn.MSELoss,
            {},
            r"the loss is a class: give one that was made, MSELoss\(\)",
        ),
        (Model(), torch.randn(B, T, I), None, {"optimizer": torch.optim.Adam}, "the optimizer is a class"),
        (
            Model(),
            (torch.randn(B, T, I), 1.0, 2.0),
            None,
            {},
            "the model cannot be called with the batch",
        ),
        (Model(), {"y": torch.randn(B, T, I)}, None, {}, "missing a required argument: 'x'"),
        (Model(), torch.randn(B, T, I), None, {"cells": ["foo"]}, "the model has no module 'foo': it has rnn, out"),
    ],
)
def test_what_is_confused_is_said(model: Any, batch: Any, loss: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(FlowError, match=message):
        unvanish.diagnose(model, batch, loss or (lambda y: y.square().mean()), need=20, **more)


def test_target_that_the_model_needs_too_is_told_of() -> None:
    class Both(Model):
        def forward(self, x: Tensor, given: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x) + 0 * given.sum()

    x, y = torch.randn(B, T, I), torch.randn(B, 2)
    with pytest.raises(FlowError, match="'given'; the loss takes two, so that the batch's last is its target"):
        unvanish.diagnose(Both(), (x, y), nn.functional.mse_loss, need=20)
    assert unvanish.diagnose(Both(), (x, y, y), nn.functional.mse_loss, need=20, prescriptions=False).parts


def test_data_of_a_pair_are_what_the_target_needs_of_the_input() -> None:
    x = np.random.default_rng(0).integers(0, 2, (400, T))
    y = x[:, T - 21]
    model, batch = Model(), (torch.randn(B, T, I), torch.randint(0, 2, (B,)))
    found = unvanish.diagnose(model, batch, nn.functional.cross_entropy, data=(x, y), prescriptions=False)
    assert (found.need, found.verdict) == (20, "vanishing")
    alone = unvanish.diagnose(model, batch, nn.functional.cross_entropy, data=x, prescriptions=False)
    assert alone.need_from.endswith("for their own next step")
    assert alone.unknown[0] == "what the target needs of the input: give data=(inputs, targets)"


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
