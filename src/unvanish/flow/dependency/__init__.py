"""What the data need: how far back a sequence depends on itself, measured without any model."""

from unvanish.flow.dependency.measure import dependency
from unvanish.flow.dependency.result import Dependency

__all__ = ["Dependency", "dependency"]
