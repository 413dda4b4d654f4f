"""What the data need: how far back a sequence depends on itself, measured without any model."""

from unvanish.data.dependency.measure import dependency
from unvanish.data.dependency.result import Dependency

__all__ = ["Dependency", "dependency"]
