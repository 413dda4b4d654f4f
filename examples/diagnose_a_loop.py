"""Diagnose a hand-written loop over torch.nn.LSTMCell that has a fault: the state loses its gradient at every step.

The command line finds the same: unvanish diagnose diagnose_a_loop:subject --need 50
"""

import torch
from torch import nn

import unvanish


class Reader(nn.Module):
    """Reads a sequence, says one number."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.LSTMCell(4, 32), nn.Linear(32, 1)

    def forward(self, x):
        h, c = x.new_zeros(x.shape[1], 32), x.new_zeros(x.shape[1], 32)
        for x_t in x:
            h, c = self.cell(x_t, (h, c.detach()))  # "to save memory"
            h = h.detach()
        return self.out(c)


def subject():
    """A model, a batch, a loss: all that a diagnosis needs."""
    torch.manual_seed(0)
    return Reader(), torch.randn(80, 8, 4), lambda y: (y - 1).square().mean()


if __name__ == "__main__":
    found = unvanish.diagnose(*subject(), need=50)
    print(found)
    assert found.verdict == "vanishing", found.verdict
    assert found.causes[0].kind == "detached state", found.causes[0]
