"""Training on Lightning: the module, truncated backpropagation through time, the run's record."""

from unvanish.train.model import TextModel, generate, load_model
from unvanish.train.run import Outcome, default_folder, resume, train
from unvanish.train.settings import TrainSettings
from unvanish.train.watching import WatchGradient

__all__ = [
    "Outcome",
    "TextModel",
    "TrainSettings",
    "WatchGradient",
    "default_folder",
    "generate",
    "load_model",
    "resume",
    "train",
]
