"""The metrics of a run in words: what each is called, and how it is written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from unvanish.errors import printable


class Validated(Protocol):
    """What has a validation loss, or None."""

    @property
    def loss(self) -> float | None:
        """The loss."""


Found = TypeVar("Found", bound=Validated)


def kept(validations: Sequence[Found], settings: Mapping[str, object]) -> Found | None:
    """Return the validation of the network that a run keeps: the best where it has patience, else the last."""
    known = [one for one in validations if one.loss is not None]
    if settings.get("patience"):
        return min(known, key=lambda one: one.loss or 0.0, default=None)
    return known[-1] if known else None


def measures(metrics: Mapping[str, float | None], unit: str) -> Iterator[tuple[str, str]]:
    """Yield the names and values of metrics, the loss and what says most first.

    >>> list(measures({"loss": 1.0, "bits": 1.4427, "perplexity": 2.718}, "character"))
    [('loss', '1.000 nats = 1.443 bits per character'), ('perplexity', '2.72')]
    >>> list(measures({"loss": 0.25, "accuracy": 0.95, "f1": 0.9}, "sequence"))
    [('loss', '0.25 nats per sequence'), ('accuracy', '95.00%'), ('F1', '0.900')]
    """
    known = {name: value for name, value in metrics.items() if value is not None}
    loss = known.pop("loss", None)
    if loss is not None:
        yield "loss", _loss(loss, known, unit)
    for name, value in known.items():
        if name != "bits":
            yield NAMES.get(name, printable(name)), _written(name, value)


NAMES = {
    "perplexity": "perplexity",
    "accuracy": "accuracy",
    "f1": "F1",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "mase": "MASE",
    "coverage": "within the 80% band",
}
SHARES = ("accuracy", "coverage")


def _loss(loss: float, known: Mapping[str, float], unit: str) -> str:
    if "bits" in known:
        return f"{loss:.3f} nats = {known['bits']:.3f} bits per {unit}"
    return f"{loss:.4g} nats per {unit}" if "accuracy" in known else f"{loss:.4g}"


def _written(name: str, value: float) -> str:
    if name == "perplexity":
        return perplexity_text(value)
    if name in SHARES or name.startswith("accuracy"):
        return f"{value:.2%}"
    return f"{value:.3f}" if name in ("f1", "r2", "mase") else f"{value:.4g}"


def share_text(share: float) -> str:
    """Write a share in per cent; one that is small and not nothing as such.

    >>> share_text(0.1619), share_text(0.00005), share_text(0.0)
    ('16.19%', '0.005%', '0.00%')
    """
    return f"{share:.2%}" if share >= 1e-4 or not share else f"{share * 100:.1g}%"


def perplexity_text(value: float | None) -> str:
    """Write a perplexity; one past all sense, of a training that diverged, without its hundred digits.

    >>> perplexity_text(5.2), perplexity_text(1e90), perplexity_text(None)
    ('5.20', '1.0e+90 (diverged)', 'infinite (diverged)')
    """
    if value is None or math.isinf(value):
        return "infinite (diverged)"
    return f"{value:.2f}" if value < 1e6 else f"{value:.1e} (diverged)"
