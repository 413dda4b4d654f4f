"""What a layer holds, and how it is made: one cell for each layer of the stack and direction, with its parameters.

Shapes: B batch, H hidden, W width of the output (projected or hidden), L layers, R directions, D how many steps
back a state is read.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unvanish import engine as engines
from unvanish.cells import find
from unvanish.engine import Plan, Weights
from unvanish.equations import Cell
from unvanish.equations.system import System
from unvanish.equations.transform import PROJECTION
from unvanish.equations.widths import INPUT
from unvanish.errors import OptionError
from unvanish.nn.initialise import Initialiser, apply, resolve
from unvanish.nn.masks import Zoneout, make_noise
from unvanish.nn.options import check_size, fixed_number, sort_options

# What a layer's `repr` shows where it is not as usual.
_USUAL: dict[str, Any] = {
    "num_layers": 1,
    "bias": True,
    "batch_first": False,
    "dropout": 0.0,
    "bidirectional": False,
    "proj_size": 0,
    "engine": "auto",
    "memory": "fast",
    "recurrent_dropout": 0.0,
    "zoneout": 0.0,
    "weight_drop": 0.0,
}


class CellStack(nn.Module):
    """The cells of a layer, one above the other, in one direction or two, with their parameters.

    Abstract: `Recurrent` says what the arguments mean, and runs it.
    """

    def __init__(
        self,
        cell: Cell | str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        recurrent_dropout: float = 0.0,
        zoneout: Zoneout = 0.0,
        weight_drop: float = 0.0,
        engine: str = "auto",
        memory: str | int = "fast",
        init: Initialiser | Mapping[str, Initialiser] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.cell = find(cell) if isinstance(cell, str) else cell
        if not isinstance(self.cell, Cell):
            raise OptionError(f"{cell!r} is no cell: give a Cell, or the name of one in the catalogue")
        self.input_size = check_size("input_size", input_size)
        self.hidden_size = check_size("hidden_size", hidden_size)
        self.num_layers = check_size("num_layers", num_layers)
        self.bias, self.batch_first, self.bidirectional = bool(bias), bool(batch_first), bool(bidirectional)
        self.dropout, self.proj_size = _check_dropout(dropout), _check_projection(proj_size, hidden_size)
        self.engine, self.memory = engines.check_engine(engine), engines.check_memory(memory)
        self.init, self.options = init, options
        sorted_options = sort_options(self.cell, options)
        self._system = self.cell.system(
            bias=self.bias,
            projection=self.proj_size > 0,
            delays=sorted_options.delays,
            functions=sorted_options.functions,
        )
        self._noise = make_noise(self.cell.name, self._system, recurrent_dropout, zoneout, weight_drop)
        self._plans = {
            True: engines.make_plan(self._noise.training),
            False: engines.make_plan(self._noise.evaluation),
        }
        self._sizes = dict.fromkeys(self._system.widths, self.hidden_size) | sorted_options.sizes
        self._sizes |= {"one": 1, PROJECTION: self.proj_size, INPUT: self.input_size}
        self._check_units()
        self._lay_out()
        for layer, suffix in self._parts:
            self._make_part(layer, suffix, sorted_options.numbers, device, dtype or torch.get_default_dtype())
        if next(self.parameters(), None) is None:
            raise OptionError(f"{self.cell.name} has no parameters, so a layer of it holds nothing: add W @ x[t]")
        self.reset_parameters()

    def _check_units(self) -> None:
        wide = [state.name for state in self._system.states if state.width == INPUT]
        above = self.output_size * (2 if self.bidirectional else 1)
        if wide and self.num_layers > 1 and above != self.input_size:
            raise OptionError(
                f"the state {wide[0]} is as wide as the input, {self.input_size} in the first layer and {above} "
                "above: use num_layers=1, or make them equal"
            )
        if self.cell.slower_to_faster and self.proj_size:
            raise OptionError(f"{self.cell.name} orders its units, a projection would mix them: use proj_size=0")

    def _lay_out(self) -> None:
        """Work out, once for all passes, which arrays there are and how wide the states."""
        directions = ("", "_reverse") if self.bidirectional else ("",)
        self._parts = tuple((layer, f"l{layer}{way}") for layer in range(self.num_layers) for way in directions)
        above = self.output_size * len(directions)
        self._layout = tuple(
            engines.layout(self._system, {**self._sizes, INPUT: above if layer else self.input_size})
            for layer in range(self.num_layers)
        )
        self._state_widths = {s.name: self._sizes[s.width] * s.depth for s in self._system.states}
        if self._system.uses_time:
            self._state_widths["t"] = 1
        self._make_known()

    def _make_known(self) -> None:
        """Tell the engine of each layer's plans, in training and not, for graphs that will hold it."""
        self._words = {
            mode: [engines.register(plan, s, self.engine, self.memory, self.cell.name) for s in self._layout]
            for mode, plan in self._plans.items()
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._make_known()  # a copy may wake up in another process

    def parts(self) -> Iterator[tuple[int, str]]:
        """Yield each part of the stack: its layer, and the suffix of its parameters (`l0`, `l0_reverse`)."""
        yield from self._parts

    @property
    def system(self) -> System:
        """The equations that a part runs, checked, without what training draws."""
        return self._system

    @property
    def output_size(self) -> int:
        """Width of the output in one direction: W."""
        return self._sizes[self._system.output_width]

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the states that `forward` takes and returns, in that order."""
        return tuple(self._state_widths)

    @property
    def recurrent_dropout(self) -> float:
        """The share of a state that the recurrent products do not see in training."""
        return self._noise.recurrent_dropout

    @property
    def zoneout(self) -> Zoneout:
        """The probability with which a unit of a state keeps its old value."""
        return self._noise.zoneout

    @property
    def weight_drop(self) -> float:
        """The share of the recurrent matrices that is dropped in training."""
        return self._noise.weight_drop

    @property
    def _plan(self) -> Plan:
        return self._plans[self.training]

    # -- parameters ------------------------------------------------------------------------------------

    def _make_part(
        self, layer: int, suffix: str, numbers: Mapping[str, Any], device: Any, dtype: torch.dtype
    ) -> None:
        for stack in self._layout[layer]:
            empty = torch.empty(stack.shape, device=device, dtype=dtype)
            self.register_parameter(f"{stack.name}_{suffix}", nn.Parameter(empty))
        for name in self._system.numbers:
            value = fixed_number(self.cell, name, numbers.get(name), self.hidden_size, device, dtype)
            self.register_buffer(f"{name}_{suffix}", value)

    def reset_parameters(self) -> None:
        """Fill all parameters anew: torch's uniform, then the cell's initial values, then `init`."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        names = [parameter.name for parameter in self._system.parameters]
        matrices = [parameter.name for parameter in self._system.parameters if parameter.columns is not None]
        of_cell = {p: value for p, value in self.cell.initial.items() if self.bias or fnmatch.filter(names, p)}
        chosen = resolve(of_cell, names, matrices) | resolve(self.init, names, matrices)
        for _, suffix in self._parts:
            for name, initialiser in chosen.items():
                apply(initialiser, name, self[f"{name}_{suffix}"])

    def __getitem__(self, name: str) -> Tensor:
        """Return a parameter by its equation name, as a view into its stack; layer 0 where none is named."""
        for layer, suffix in self._parts:
            stem = name.removesuffix(f"_{suffix}") if name.endswith(f"_{suffix}") else name
            if stem == name and suffix != "l0":
                continue
            for stack in self._layout[layer]:
                if stem in stack.rows:
                    array: Tensor = getattr(self, f"{stack.name}_{suffix}")
                    return array[stack.rows[stem]]
        known = ", ".join(parameter.name for parameter in self._system.parameters)
        raise KeyError(f"no parameter '{name}' in {self.cell.name}: it has {known} (with _l1, _l0_reverse, …)")

    def _weights(self, layer: int, suffix: str) -> Weights:
        stacks = self._layout[layer]
        arrays: dict[str, Tensor] = {stack.name: getattr(self, f"{stack.name}_{suffix}") for stack in stacks}
        if self.weight_drop and self.training:
            for stack in stacks:
                if self._noise.matrices.issuperset(stack.rows):
                    arrays[stack.name] = self._noise.thinned(arrays[stack.name])
        for matrix, number in self.cell.slower_to_faster.items():
            order_H = getattr(self, f"{number}_{suffix}").expand(self.hidden_size)
            stack = next(stack for stack in stacks if matrix in stack.rows)
            mask = torch.ones_like(arrays[stack.name])
            mask[stack.rows[matrix]] = (order_H[None, :] >= order_H[:, None]).to(mask.dtype)
            arrays[stack.name] = arrays[stack.name] * mask
        return Weights(stacks, arrays)

    @property
    def _weight(self) -> Tensor:
        """Any of the parameters: all are of one type, on one device."""
        for parameter in self._parameters.values():  # parameters() would walk through all modules
            if parameter is not None:
                return parameter
        return next(self.parameters())

    def zero_states(self, batch: int) -> tuple[Tensor, ...]:
        """Return the states that a sequence starts from: zeros, (L·R, B, D·W) each."""
        weight, count = self._weight, len(self._parts)
        return tuple(
            weight.new_zeros(count, batch, width, dtype=torch.long if name == "t" else None)
            for name, width in self._state_widths.items()
        )

    def flatten_parameters(self) -> None:
        """Do nothing: torch.nn.LSTM has this method and code written for it calls it."""

    def extra_repr(self) -> str:
        """Say what the layer is, as torch's layers do."""
        changed = [
            f"{name}={getattr(self, name)}" for name, usual in _USUAL.items() if getattr(self, name) != usual
        ]
        changed += [f"{name}={value!r}" for name, value in self.options.items() if not isinstance(value, Tensor)]
        return ", ".join([self.cell.name, str(self.input_size), str(self.hidden_size), *changed])


def _check_dropout(dropout: float) -> float:
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout <= 1:
        raise OptionError(f"dropout is {dropout!r}: give a probability between 0 and 1")
    return float(dropout)


def _check_projection(proj_size: int, hidden_size: int) -> int:
    if not isinstance(proj_size, int) or isinstance(proj_size, bool) or not 0 <= proj_size < hidden_size:
        raise OptionError(f"proj_size is {proj_size!r}: give 0 for none, or less than hidden_size={hidden_size}")
    return proj_size
