"""What passes share: worked out once, also where threads ask for it at once, and never in the mode of one caller.

A cache that is filled by whoever comes first must not take on what holds for that caller alone: its inference mode,
its default device, the mode that watches or fakes its tensors.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, ParamSpec, TypeVar

import torch
from torch.utils._python_dispatch import _disable_current_modes

P = ParamSpec("P")
R = TypeVar("R")


@contextlib.contextmanager
def neutral_mode() -> Iterator[None]:
    """Make ordinary tensors on the CPU inside the block, whatever mode the caller is in."""
    with torch.inference_mode(False), torch.no_grad(), _disable_current_modes(), torch.device("cpu"):
        yield


class Shelf:
    """Keeps what was worked out for the last `most` keys; threads that ask for one at once get the same object."""

    def __init__(self, most: int) -> None:
        self.most, self.lock = most, threading.RLock()
        self.found: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], R]) -> R:
        """Return what is kept for a key, or make it."""
        with self.lock:
            if key in self.found:
                self.found.move_to_end(key)
            else:
                with neutral_mode():
                    self.found[key] = make()
                if len(self.found) > self.most:
                    self.found.popitem(last=False)
            found: R = self.found[key]
            return found


def shared(most: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keep the results of a function for its last `most` arguments, which are given by position or by name.

    >>> calls = []
    >>> double = shared(2)(lambda number: calls.append(number) or 2 * number)
    >>> double(3), double(3), calls
    (6, 6, [3])
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        shelf = Shelf(most)

        @functools.wraps(function)
        def call(*args: P.args, **keywords: P.kwargs) -> R:
            key = (args, *keywords.items())
            return shelf.get(key, functools.partial(function, *args, **keywords))

        return call

    return decorate
