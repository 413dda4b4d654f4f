"""For the Trainer of Hugging Face's transformers: a callback that watches the gradient along time."""

from unvanish.errors import MissingExtraError

try:
    from unvanish.hugging_face.watching import WatchGradient
except ImportError as fault:
    raise MissingExtraError(f"the callback is one of transformers: pip install {fault.name}") from fault

__all__ = ["WatchGradient"]
