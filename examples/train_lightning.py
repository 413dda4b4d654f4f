"""A LightningModule with a layer of this package, watched by a callback.

A tanh RNN whose loss reads the last step alone loses its gradient on the way, and the callback says where; the same
module with an LSTM whose gates begin open does not.
"""

import logging
import warnings

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import unvanish
from unvanish.train import WatchGradient

LENGTH = 60
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module=r"lightning\..*")
warnings.filterwarnings("ignore", message=".*LeafSpec.*")


class Reader(pl.LightningModule):
    """Tells from the last output which sign the first number had."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn, self.out = rnn, nn.Linear(32, 1)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        """Return the loss."""
        x, y = batch
        answer = self.out(self.rnn(x)[0][:, -1]).squeeze(-1)
        return nn.functional.binary_cross_entropy_with_logits(answer, y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return what trains it."""
        return torch.optim.Adam(self.parameters(), 1e-3)


def told(rnn: nn.Module) -> list[tuple[str, str]]:
    """Train for two epochs, and return the kind and the place of what the callback told."""
    x = torch.randn(960, LENGTH, 1)
    data = DataLoader(TensorDataset(x, (x[:, 0, 0] > 0).float()), batch_size=32, shuffle=True)
    callback = WatchGradient(need=LENGTH - 1)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(max_epochs=2, accelerator="cpu", callbacks=[callback], gradient_clip_val=1.0, **quiet)
    with warnings.catch_warnings(record=True):  # the callback warns of each alert, once
        trainer.fit(Reader(rnn), data)
    return [(alert.kind, alert.where) for alert in callback.alerts]


torch.manual_seed(0)
plain = told(unvanish.RNN(1, 32, batch_first=True))
gated = told(unvanish.LSTM(1, 32, batch_first=True, init="forget:5"))
print(f"tanh RNN: {plain}; LSTM whose gates begin open: {gated}")
assert plain == [("vanishing", "rnn.l0")]
assert gated == []
