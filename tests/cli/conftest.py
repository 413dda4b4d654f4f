"""The commands start runs as well."""

from tests.train.conftest import interruptible

__all__ = ["interruptible"]
