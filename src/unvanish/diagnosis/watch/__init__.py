"""Watching a training loop, one step of it or all: alerts, the watcher, the trace of a step."""

from unvanish.diagnosis.watch.alerts import Alert
from unvanish.diagnosis.watch.watcher import Watcher, watch

__all__ = ["Alert", "Watcher", "watch"]
