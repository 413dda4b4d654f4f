"""A layer's keywords for its cell: fixed numbers, delays, function slots, sizes of declared widths.

Shapes: H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unvanish.equations import Cell, Drawn, Grouped
from unvanish.equations.cell import check_delay, check_number
from unvanish.errors import OptionError, nearest

# What every layer takes: a mistyped one arrives among the keywords of the cell.
COMMON = (
    "num_layers",
    "bias",
    "batch_first",
    "dropout",
    "bidirectional",
    "proj_size",
    "device",
    "dtype",
    "recurrent_dropout",
    "zoneout",
    "weight_drop",
    "layer_norm",
    "batch_norm",
    "skips",
    "connect",
    "constrain",
    "engine",
    "memory",
    "init",
)


@dataclass(slots=True)
class CellOptions:
    """The keywords of a layer, sorted by what they mean to its cell."""

    numbers: dict[str, Any] = field(default_factory=dict)
    delays: dict[str, int] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)


def sort_options(cell: Cell, options: Mapping[str, Any]) -> CellOptions:
    """Sort keywords by what the cell declares, refusing what it does not."""
    found = CellOptions()
    widths = {f"{width}_size": width for width in cell.widths.values()}
    for name, value in options.items():
        if name in cell.numbers:
            found.numbers[name] = value
        elif name in cell.delays:
            found.delays[name] = value
        elif name in cell.functions:
            found.functions[name] = value
        elif name in widths:
            found.sizes[widths[name]] = check_size(name, value)
        else:
            raise OptionError(f"{cell.name} takes no keyword '{name}': {nearest(name, [*cell.options, *COMMON])}")
    return found


def check_size(name: str, value: object) -> int:
    """Refuse what is not a whole number from 1 on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise OptionError(f"{name} is {value!r}: give a whole number from 1 on")
    return value


def check_steps(batch_norm: object) -> int:
    """Refuse what is no number of steps that have statistics of their own."""
    if isinstance(batch_norm, bool) or not isinstance(batch_norm, int) or batch_norm < 0:
        raise OptionError(
            f"batch_norm is {batch_norm!r}: give the number of steps that have statistics of their own, such as "
            "the length of a sequence; 0 for none"
        )
    return batch_norm


def check_skips(skips: object) -> tuple[int, ...]:
    """Refuse what is no list of delays of two steps or more, each once."""
    given = tuple(skips) if isinstance(skips, Iterable) else (skips,)
    whole = all(isinstance(delay, int) and not isinstance(delay, bool) and delay >= 2 for delay in given)
    if not whole or len(set(given)) < len(given):
        raise OptionError(f"skips is {skips!r}: give delays of 2 steps or more, each once, such as (5, 25)")
    for delay in given:
        check_delay("of a skip", delay)
    return given


def fixed_number(cell: Cell, name: str, given: Any, hidden: int, device: Any, dtype: torch.dtype) -> Tensor:
    """Return a fixed number as an array: one for all units, or one a unit, drawn where its rule says so."""
    rule = cell.numbers[name] if given is None else given
    if isinstance(rule, Drawn | Grouped):
        check_number(name, rule)
    if isinstance(rule, Drawn):
        low, high = (math.log(v) if rule.spacing == "log" else v for v in (rule.low, rule.high))
        drawn_H = torch.empty(hidden, device=device, dtype=dtype).uniform_(low, high)
        return drawn_H.exp() if rule.spacing == "log" else drawn_H
    if isinstance(rule, list | tuple) and 1 <= len(rule) < hidden:
        rule = Grouped(tuple(rule))
    if isinstance(rule, Grouped):
        groups = min(len(rule.values), hidden)
        index_H = torch.arange(hidden, device=device) * groups // hidden
        return torch.tensor(rule.values, device=device, dtype=dtype)[index_H]
    try:
        number = torch.as_tensor(rule, dtype=dtype).clone()
    except (TypeError, ValueError, RuntimeError) as fault:
        raise OptionError(f"{name}={given!r} is no number: {fault}") from fault
    if number.shape not in ((), (hidden,)) or not bool(torch.isfinite(number).all()):
        raise OptionError(
            f"{name} has shape {tuple(number.shape)}: give one finite number, or one for each of the {hidden} "
            "units, or a shorter list with one for each of so many equal groups"
        )
    return number.to(device)
