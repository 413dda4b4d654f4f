"""What a remedy costs: a step of the changed model beside one of the model as it is, round by round."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from unvanish.bench import Span, in_turns
from unvanish.flow.finding.untouched import copied

ROUNDS, FEWEST = 9, 3
ENOUGH = 1.5  # seconds, after which a few rounds have to do
SURE = 2.0  # times from the least to the most: what spreads further tells nothing
SAME = 1.1  # times dearer or cheaper, that is no difference


@dataclass(frozen=True)
class Cost:
    """The time of a step in units of the time without the remedy: the median of rounds, the least, the most."""

    median: float
    low: float
    high: float

    @property
    def is_known(self) -> bool:
        """Whether the rounds agree on what they say: that it is dearer, cheaper, or about the same.

        >>> Cost(1.3, 1.1, 1.6).is_known, Cost(1.3, 0.7, 1.6).is_known, Cost(1.0, 0.95, 1.05).is_known
        (True, False, True)
        """
        agree = self.low >= 1 / SAME or self.high <= SAME
        return self.high <= SURE * self.low and agree

    def __str__(self) -> str:
        """Write it with its range; nothing where that is too wide.

        >>> str(Cost(1.32, 1.1, 1.64)), str(Cost(1.3, 0.4, 1.6)), str(FREE)
        ('1.3 × (1.1–1.6)', '', '1 ×')
        """
        if not self.is_known:
            return ""
        if self.low == self.high:
            return f"{self.median:.2g} ×"
        return f"{self.median:.2g} × ({self.low:.2g}–{self.high:.2g})"


FREE = Cost(1.0, 1.0, 1.0)


def cost_of(changed: nn.Module, model: nn.Module, run: Callable[[nn.Module], Tensor]) -> Cost:
    """Time a loss with its gradients, with and without a change, in turns: what slows the machine slows both.

    On a CPU it is the processor time of one thread, since threads that wait for one another use it up, and the more
    so the busier the machine is.
    """
    on_cpu = all(one.device.type == "cpu" for one in model.parameters())
    twins = copied(model), copied(changed)
    with _threads(1 if on_cpu else torch.get_num_threads()):
        for twin in twins:
            _seconds(twin, run, on_cpu)  # the first time something is compiled, or allocated
        clocks = {place: partial(_seconds, twin, run, on_cpu) for place, twin in enumerate(twins)}
        seconds = in_turns(clocks, rounds=ROUNDS, fewest=FEWEST, enough=ENOUGH)
    found = Span.of([after / max(before, 1e-9) for before, after in zip(seconds[0], seconds[1], strict=True)])
    return Cost(found.median, found.low, found.high)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seconds(model: nn.Module, run: Callable[[nn.Module], Tensor], on_cpu: bool) -> float:
    clock = time.process_time if on_cpu else _after_the_gpu
    start = clock()
    run(model).backward()  # type: ignore[no-untyped-call]
    return clock() - start


def _after_the_gpu() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
