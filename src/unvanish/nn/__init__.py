"""torch modules: `Recurrent`, and one thin class per cell."""

from unvanish.nn.named import CLASSES
from unvanish.nn.recurrent import Recurrent, States, Watch

__all__ = ["CLASSES", "Recurrent", "States", "Watch", *CLASSES]
globals().update(CLASSES)
