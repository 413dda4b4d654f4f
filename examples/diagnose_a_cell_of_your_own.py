"""Diagnose a recurrence that nobody knows, with its training step: a clip that is called too early to act."""

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

import unvanish


class Cell(nn.Module):
    """h' = (1 - a) h + a tanh(W x + U h), the share a being learnt for each unit."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.turn = nn.Linear(4, 32), nn.Linear(32, 32, bias=False)
        self.share = nn.Parameter(torch.full((32,), -5.0))

    def forward(self, x, h):
        a = torch.sigmoid(self.share)
        return (1 - a) * h + a * torch.tanh(self.read(x) + self.turn(h))


class Reader(nn.Module):
    """Runs it over a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = Cell(), nn.Linear(32, 1)

    def forward(self, x):
        h = x.new_zeros(x.shape[1], 32)
        for x_t in x:
            h = self.cell(x_t, h)
        return self.out(h)


torch.manual_seed(0)
model, x = Reader(), torch.randn(80, 8, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)


def loss(y):
    return (y - 1).square().mean()


def step():
    optimizer.zero_grad()
    value = loss(model(x))
    clip_grad_norm_(model.parameters(), 1.0)  # there is no gradient yet
    value.backward()
    optimizer.step()


found = unvanish.diagnose(model, x, loss, need=60, optimizer=optimizer, step=step)
print(found)
assert found.verdict == "healthy", found.verdict
assert [cause.kind for cause in found.causes] == ["idle clip"], found.causes
