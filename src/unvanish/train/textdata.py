"""The Lightning data module for text."""

from __future__ import annotations

from collections.abc import Callable

import lightning.pytorch as pl
from torch import Tensor

from unvanish.data.text import Corpus, Vocabulary, Windows
from unvanish.train.settings import TrainSettings

PROBE_STEPS, PROBE_ROWS = 200, 8


class TextData(pl.LightningDataModule):
    """Windows of a corpus for training and validation, and a stretch of it to probe the gradient on."""

    def __init__(
        self, corpus: Corpus, vocabulary: Vocabulary, settings: TrainSettings, first: Callable[[], int]
    ) -> None:
        super().__init__()
        self.train_numbers = vocabulary.encode_compactly(corpus.train)
        self.valid_numbers = vocabulary.encode_compactly(corpus.valid)
        self.settings, self.first = settings, first

    def train_dataloader(self) -> Windows:
        """Return the windows of the training text, from the one where a resumed run goes on."""
        windows = Windows(self.train_numbers, self.settings.length, self.settings.batch_size)
        windows.first = self.first()
        return windows

    def val_dataloader(self) -> Windows:
        """Return the windows of the validation text."""
        streams = min(self.settings.batch_size, max(1, len(self.valid_numbers) // (self.settings.length + 1)))
        return Windows(self.valid_numbers, self.settings.length, streams)

    def probe(self) -> Tensor:
        """Return characters to measure the reach on, (T, B): longer than a window, so that it can be seen."""
        steps = min(PROBE_STEPS, len(self.valid_numbers) - 1)
        rows = min(PROBE_ROWS, len(self.valid_numbers) // (steps + 1))
        x_TB, _ = next(iter(Windows(self.valid_numbers, steps, rows)))
        return x_TB
