"""Training on Lightning: the module, truncated backpropagation through time, the run's record."""

from unvanish.train.configured import Configured, read_settings
from unvanish.train.evaluating import Evaluation, evaluate, per_token
from unvanish.train.fitting import fit
from unvanish.train.load import Loaded, load_model, load_run
from unvanish.train.model import Network, TextModel
from unvanish.train.owncell import own_cell
from unvanish.train.predicting import predict
from unvanish.train.run import Outcome, Training, prepare, prepare_resume, resume, train
from unvanish.train.settings import TrainSettings
from unvanish.train.watching import WatchGradient
from unvanish.train.writing import generate, stream, written

__all__ = [
    "Configured",
    "Evaluation",
    "Loaded",
    "Network",
    "Outcome",
    "TextModel",
    "TrainSettings",
    "Training",
    "WatchGradient",
    "evaluate",
    "fit",
    "generate",
    "load_model",
    "load_run",
    "own_cell",
    "per_token",
    "predict",
    "prepare",
    "prepare_resume",
    "read_settings",
    "resume",
    "stream",
    "train",
    "written",
]
