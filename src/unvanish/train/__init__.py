"""Training on Lightning: the module, truncated backpropagation through time, the run's record."""

from unvanish.train.load import load_model
from unvanish.train.model import TextModel, generate
from unvanish.train.run import Outcome, Training, prepare, prepare_resume, resume, train
from unvanish.train.settings import TrainSettings
from unvanish.train.watching import WatchGradient

__all__ = [
    "Outcome",
    "TextModel",
    "TrainSettings",
    "Training",
    "WatchGradient",
    "generate",
    "load_model",
    "prepare",
    "prepare_resume",
    "resume",
    "train",
]
