"""The Lightning data module: the batches of a run, from where a resumed one goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl

from unvanish.train.questions import Material
from unvanish.train.sharing import Share


class MaterialData(pl.LightningDataModule):
    """The batches of a run; `first` says from which one on, `epoch` in which epoch, `share` which rows."""

    def __init__(
        self, material: Material, share: Share, first: Callable[[], int], epoch: Callable[[], int]
    ) -> None:
        super().__init__()
        self.material, self.first, self.share = material, first, (share.rank, share.world)
        material.epoch = epoch

    def train_dataloader(self) -> Any:
        """Return the batches to train on, from the one where a resumed run goes on."""
        batches = self.material.train()
        batches.first, batches.share = self.first(), self.share
        return batches

    def val_dataloader(self) -> Any:
        """Return the batches to validate on."""
        batches = self.material.valid()
        batches.share = self.share
        return batches

    def probe(self) -> Any:
        """Return what to measure the reach on."""
        return self.material.probe()
