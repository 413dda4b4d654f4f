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
from typing import Any, Generic, ParamSpec, TypeVar

import torch

from unvanish.torch_internals import without_modes

P = ParamSpec("P")
R = TypeVar("R")


@contextlib.contextmanager
def neutral_mode() -> Iterator[None]:
    """Make ordinary tensors on the CPU inside the block, whatever mode the caller is in."""
    with torch.inference_mode(False), torch.no_grad(), without_modes(), torch.device("cpu"):
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


class Shared(Generic[P, R]):
    """A function whose results are kept for its last arguments."""

    def __init__(self, function: Callable[P, R], most: int) -> None:
        self.function, self.shelf = function, Shelf(most)
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **keywords: P.kwargs) -> R:
        """Return what the function returns."""
        key = (args, *keywords.items())
        return self.shelf.get(key, functools.partial(self.function, *args, **keywords))

    def clear(self) -> None:
        """Forget all results."""
        self.shelf.found.clear()


def shared(most: int) -> Callable[[Callable[P, R]], Shared[P, R]]:
    """Keep the results of a function for its last `most` arguments, given by position or by name.

    >>> calls = []
    >>> double = shared(2)(lambda number: calls.append(number) or 2 * number)
    >>> double(3), double(3), calls
    (6, 6, [3])
    """
    return lambda function: Shared(function, most)
