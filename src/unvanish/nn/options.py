"""A layer's keywords for its cell: fixed numbers, delays, function slots, sizes of declared widths.

Shapes: H hidden.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unvanish.checks import is_number, is_whole, whole_number
from unvanish.equations import Cell, Drawn, Grouped
from unvanish.equations.cell import check_delay, check_number
from unvanish.errors import OptionError, nearest
from unvanish.layer_options import LAYER_OPTIONS
from unvanish.torch_internals import has_numbers

KEYWORDS = frozenset({"cell", "input_size", "hidden_size", *LAYER_OPTIONS})


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
            found.sizes[widths[name]] = whole_number(value, name)
        else:
            raise OptionError(
                f"{cell.name} takes no keyword '{name}': {nearest(name, [*cell.options, *LAYER_OPTIONS])}"
            )
    return found


def check_names(cell: Cell) -> None:
    """Refuse a cell that declares a keyword which every layer has, or the name of something in a layer."""
    for name in cell.options:
        if name in KEYWORDS:
            raise OptionError(f"{cell.name} declares '{name}', a keyword of every layer: rename it in the cell")


def check_dropout(dropout: object, num_layers: int) -> float:
    """Refuse a value that is not a probability; warn of one that does nothing."""
    if not is_number(dropout) or not 0 <= dropout <= 1:
        raise OptionError(f"dropout is {dropout!r}: give a probability between 0 and 1")
    if float(dropout) > 0 and num_layers == 1:
        warnings.warn(
            f"dropout={dropout} does nothing in a single layer: it acts between layers; use num_layers=2 or more, "
            "or recurrent_dropout",
            stacklevel=5,
        )
    return float(dropout)


def check_projection(proj_size: object, hidden_size: int) -> int:
    """Refuse a width that is not under the hidden size."""
    give = f"0 for none, or less than hidden_size={hidden_size}"
    return whole_number(proj_size, "proj_size", at_least=0, at_most=hidden_size - 1, give=give)


def check_steps(batch_norm: object) -> int:
    """Refuse what is not a number of steps that have statistics of their own."""
    give = "the number of steps that have statistics of their own, such as the length of a sequence; 0 for none"
    return whole_number(batch_norm, "batch_norm", at_least=0, give=give)


def check_skips(skips: object) -> tuple[int, ...]:
    """Refuse what is not a list of delays of two steps or more, each once."""
    given = tuple(skips) if isinstance(skips, Iterable) else (skips,)
    whole = all(is_whole(delay) and delay >= 2 for delay in given)
    if not whole or len(set(given)) < len(given):
        raise OptionError(f"skips is {skips!r}: give delays of 2 steps or more, each once, such as (5, 25)")
    found = tuple(int(delay) for delay in given)
    for delay in found:
        check_delay("of a skip", delay)
    return found


def fixed_number(cell: Cell, name: str, given: Any, hidden: int, device: Any, dtype: torch.dtype) -> Tensor:
    """Return a fixed number as an array: one for all units, or one per unit, drawn where its rule says so."""
    rule = cell.numbers[name] if given is None else given
    if isinstance(rule, Drawn | Grouped):
        check_number(name, rule)
    if isinstance(rule, Drawn):
        low, high = (math.log(v) if rule.spacing == "log" else v for v in (rule.low, rule.high))
        drawn_H = torch.empty(hidden, device=device, dtype=dtype).uniform_(low, high)
        return drawn_H.exp() if rule.spacing == "log" else drawn_H
    if isinstance(rule, list | tuple) and 1 <= len(rule) < hidden:
        if len(rule) == 2 and not isinstance(cell.numbers[name], Grouped):
            low, high = rule
            raise OptionError(
                f"{name}={given!r} may mean a range or two halves of the units: give Drawn({low}, {high}) to draw "
                f"one for each unit, or Grouped(({low}, {high})), or {[low, low, high, high]}, for two halves"
            )
        rule = Grouped(tuple(rule))
    if isinstance(rule, Grouped):
        groups = min(len(rule.values), hidden)
        index_H = torch.arange(hidden, device=device) * groups // hidden
        return torch.tensor(rule.values, device=device, dtype=dtype)[index_H]
    try:
        number = torch.as_tensor(rule, dtype=dtype, device="cpu").clone()
    except (TypeError, ValueError, RuntimeError) as fault:
        raise OptionError(f"{name}={given!r} is not a number: {fault}") from fault
    finite = not has_numbers(number) or bool(torch.isfinite(number).all())
    if number.shape not in ((), (hidden,)) or not finite:
        raise OptionError(
            f"{name} has shape {tuple(number.shape)}: give one finite number, or one for each of the {hidden} "
            "units, or a shorter list with one for each of so many equal groups"
        )
    return number.to(device)
