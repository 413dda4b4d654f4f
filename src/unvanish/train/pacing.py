"""Update rates of their own in a training: `--pace "U_*=1,2,4,8"`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from unvanish.errors import OptionError
from unvanish.remedies.pace import Pace
from unvanish.train.model import Network
from unvanish.train.settings import TrainSettings

MOST_RATE = 2**31 - 1
MOST_STEPS = 4096  # that are run to see what a state is made of


def parse_rates(words: Sequence[str]) -> dict[str, list[int]]:
    """Read `NAME=RATES` as names or patterns of parameters and their rates.

    Raises:
        OptionError: one of them is not understood.

    >>> parse_rates(["U_*=1,2,4,8", "b_f=2"])
    {'U_*': [1, 2, 4, 8], 'b_f': [2]}
    """
    found = {}
    for word in words:
        name, equals, rates = word.partition("=")
        try:
            found[name] = [int(rate) for rate in rates.split(",")]
        except ValueError:
            found[name] = []
        if not equals or not name or not found[name] or not 1 <= min(found[name]) <= max(found[name]) <= MOST_RATE:
            raise OptionError(f"--pace {word} is not understood: write NAME=RATES, for instance U_*=1,2,4,8")
    return found


def paced(network: Network, optimizer: torch.optim.Optimizer, settings: TrainSettings) -> Pace | None:
    """Give parameters their rates; None where none are asked for."""
    rates = parse_rates(settings.pace)
    return Pace(network.recurrent, optimizer, rates, scaled=settings.pace_scaled) if rates else None


def steps_alike(settings: TrainSettings, step: int) -> int | None:
    """So many steps leave a state of the same shape as `step` do; None where that takes too many."""
    period = math.lcm(*(rate for rates in parse_rates(settings.pace).values() for rate in rates), 1)
    found = step if step <= period else period + step % period
    return found if found <= MOST_STEPS else None


def plain_pace(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a pace with mappings for its lists, and without the settings of its optimiser."""
    lists = {name: dict(enumerate(state[name])) for name in ("rates", "updates", "gathered")}
    return {**lists, "step": state["step"], "state": state["optimizer"]["state"]}
