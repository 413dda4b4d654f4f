"""The Lightning data module: the batches of a run, from where a resumed one goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl

from unvanish.train.questions import Material


class MaterialData(pl.LightningDataModule):
    """The batches of a run; `first` says from which one on, and `epoch` in which epoch."""

    def __init__(self, material: Material, first: Callable[[], int], epoch: Callable[[], int]) -> None:
        super().__init__()
        self.material, self.first = material, first
        material.epoch = epoch

    def train_dataloader(self) -> Any:
        """Return the batches to train on, from the one where a resumed run goes on."""
        batches = self.material.train()
        batches.first = self.first()
        return batches

    def val_dataloader(self) -> Any:
        """Return the batches to validate on."""
        return self.material.valid()

    def probe(self) -> Any:
        """Return what to measure the reach on."""
        return self.material.probe()
