"""The torch module that runs any cell over a sequence, with the contract of torch.nn.LSTM.

Shapes: T time, B batch, I input, H hidden, W width of the output (projected or hidden), L layers, R directions,
D how many steps back a state is read.
"""

from __future__ import annotations

import contextlib
import fnmatch
import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unvanish import engine as engines
from unvanish.cells import find
from unvanish.engine import Observer, Run, Stack, Weights
from unvanish.equations import Cell
from unvanish.equations.transform import PROJECTION
from unvanish.equations.widths import INPUT
from unvanish.errors import OptionError
from unvanish.nn.initialise import Initialiser, apply, resolve
from unvanish.nn.options import check_size, fixed_number, sort_options
from unvanish.nn.packing import blank_padding, check_lengths, pack_like, turn_round, unpack

States = Tensor | tuple[Tensor, ...]


class Watch(Protocol):
    """What looks into a layer while it runs (`unvanish.flow`)."""

    isolates_parts: bool

    def part(self, name: str, steps: int, states: tuple[str, ...]) -> Observer:
        """Return the observer of one part: one layer of the stack, one direction."""
        ...


class Recurrent(nn.Module):
    """Run a cell over sequences: stacked, in one direction or two, with torch.nn.LSTM's contract.

    Args:
        cell: a `Cell`, or the name of one in the catalogue.
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype:
            as in torch.nn.LSTM. A projection works for every cell whose output is a state.
        engine: `auto`, `reference` or `builtin`.
        init: an initialiser (name, number or callable) for every matrix, or a mapping from parameter names or
            patterns to initialisers: `{"U_*": "orthogonal", "b_f": 1.0}`. Default: uniform in ±1/√hidden,
            as torch, then what the cell's `initial` says.
        options: what the cell declares: fixed numbers, delays, function slots, sizes.

    Parameters are stored stacked (`weight_ih_l0`, …) and reached by their equation names as views:
    `layer["U_f"]`, `layer["U_f_l1"]`, `layer["U_f_l0_reverse"]`.

    Returns from `forward`: `output, states` as torch: states is one tensor (L·R, B, W), or a tuple of them in
    the order output state first. A state that is read D steps back holds its last D values side by side,
    newest first, (L·R, B, D·W). A cell that reads t carries the time index as a last state.

    Raises:
        OptionError: an argument that cannot be meant so.

    >>> layer = Recurrent("gru", 3, 4)
    >>> output_TBW, h_LBW = layer(torch.zeros(7, 2, 3))
    >>> output_TBW.shape, h_LBW.shape
    (torch.Size([7, 2, 4]), torch.Size([1, 2, 4]))
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
        engine: str = "auto",
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
        self.engine = engines.check_engine(engine)
        self.init, self.options = init, options
        sorted_options = sort_options(self.cell, options)
        self._system = self.cell.system(
            bias=self.bias,
            projection=self.proj_size > 0,
            delays=sorted_options.delays,
            functions=sorted_options.functions,
        )
        self._plan = engines.make_plan(self._system)
        self._sizes = dict.fromkeys(self._system.widths, self.hidden_size) | sorted_options.sizes
        self._sizes |= {"one": 1, PROJECTION: self.proj_size, INPUT: self.input_size}
        self._check_input_wide_states()
        if self.cell.slower_to_faster and self.proj_size:
            raise OptionError(f"{self.cell.name} orders its units, a projection would mix them: use proj_size=0")
        self._layout = tuple(self._stacks_of(layer) for layer in range(self.num_layers))
        self.watch: Watch | None = None
        for layer, suffix in self.parts():
            self._make_part(layer, suffix, sorted_options.numbers, device, dtype or torch.get_default_dtype())
        if next(self.parameters(), None) is None:
            raise OptionError(f"{self.cell.name} has no parameters, so a layer of it holds nothing: add W @ x[t]")
        self.reset_parameters()

    # -- parameters ------------------------------------------------------------------------------------

    def parts(self) -> Iterator[tuple[int, str]]:
        """Yield each part of the stack: its layer, and the suffix of its parameters (`l0`, `l0_reverse`)."""
        for layer in range(self.num_layers):
            yield layer, f"l{layer}"
            if self.bidirectional:
                yield layer, f"l{layer}_reverse"

    def _stacks_of(self, layer: int) -> tuple[Stack, ...]:
        directions = 2 if self.bidirectional else 1
        width = self.input_size if layer == 0 else self.output_size * directions
        return engines.layout(self._system, {**self._sizes, INPUT: width})

    @property
    def output_size(self) -> int:
        """Width of the output in one direction: W."""
        return self._sizes[self._system.output_width]

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
        for _, suffix in self.parts():
            for name, initialiser in chosen.items():
                apply(initialiser, name, self[f"{name}_{suffix}"])

    def __getitem__(self, name: str) -> Tensor:
        """Return a parameter by its equation name, as a view into its stack; layer 0 where none is named."""
        for layer, suffix in self.parts():
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
        for matrix, number in self.cell.slower_to_faster.items():
            order_H = getattr(self, f"{number}_{suffix}").expand(self.hidden_size)
            stack = next(stack for stack in stacks if matrix in stack.rows)
            mask = torch.ones_like(arrays[stack.name])
            mask[stack.rows[matrix]] = (order_H[None, :] >= order_H[:, None]).to(mask.dtype)
            arrays[stack.name] = arrays[stack.name] * mask
        return Weights(stacks, arrays)

    def flatten_parameters(self) -> None:
        """Do nothing: torch.nn.LSTM has this method and code written for it calls it."""

    def extra_repr(self) -> str:
        """Say what the layer is, as torch's layers do."""
        shown: dict[str, Any] = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0}
        shown |= {"bidirectional": False, "proj_size": 0, "engine": "auto"}
        changed = [f"{name}={getattr(self, name)}" for name, usual in shown.items() if getattr(self, name) != usual]
        changed += [f"{name}={value!r}" for name, value in self.options.items() if not isinstance(value, Tensor)]
        return ", ".join([self.cell.name, str(self.input_size), str(self.hidden_size), *changed])

    # -- running ---------------------------------------------------------------------------------------

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the states that `forward` takes and returns, in that order."""
        return tuple(state.name for state in self._system.states) + (("t",) if self._system.uses_time else ())

    @contextlib.contextmanager
    def watched(self, watch: Watch) -> Iterator[None]:
        """Let `watch` see every step inside the block. Such passes run where steps can be seen."""
        before, self.watch = self.watch, watch
        try:
            yield
        finally:
            self.watch = before

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: States | None = None,
        *,
        lengths: Any = None,
        all_states: bool = False,
    ) -> Any:
        """Run the layer over a sequence.

        Args:
            input: (T, B, I), (B, T, I) with `batch_first`, (T, I) unbatched, or a PackedSequence.
            hx: initial states as `forward` returns them; zeros if None.
            lengths: for a padded input, the length of each row, (B,). After its end a row's output is zero
                and its states stand still.
            all_states: return also `{state: values at all steps}`, (L·R, T, B, width) or batch first.

        Returns:
            `(output, states)`, or `(output, states, all_states)`.
        """
        packed = input if isinstance(input, PackedSequence) else None
        if packed is not None:
            if lengths is not None:
                raise OptionError("a PackedSequence knows its lengths: leave lengths= out")
            x_TBI, lengths = unpack(packed)
            batched = True
        else:
            x_TBI, batched = self._as_time_first(input)
        self._check_input(x_TBI)
        if lengths is not None:
            lengths = check_lengths(lengths, x_TBI.shape[0], x_TBI.shape[1], x_TBI.device)
            x_TBI = blank_padding(x_TBI, lengths)
        initial = self._initial_states(hx, x_TBI.shape[1], batched)
        output_TBW, final, every = self._run_stack(x_TBI, initial, lengths, all_states)
        states: Any = tuple(final if batched else (state[:, 0] for state in final))
        states = states[0] if len(states) == 1 else states
        output: Any = (
            pack_like(output_TBW, packed) if packed is not None else self._as_given(output_TBW, batched, 0)
        )
        if not all_states:
            return output, states
        return output, states, {name: self._as_given(value, batched, 1) for name, value in every.items()}

    def _check_input_wide_states(self) -> None:
        wide = [state.name for state in self._system.states if state.width == INPUT]
        above = self.output_size * (2 if self.bidirectional else 1)
        if wide and self.num_layers > 1 and above != self.input_size:
            raise OptionError(
                f"the state {wide[0]} is as wide as the input, {self.input_size} in the first layer and {above} "
                "above: use num_layers=1, or make them equal"
            )

    def _as_time_first(self, x: object) -> tuple[Tensor, bool]:
        if not isinstance(x, Tensor) or x.dim() not in (2, 3):
            given = f"{x.dim()} dimensions" if isinstance(x, Tensor) else f"type {type(x).__name__}"
            raise OptionError(
                f"the input has {given}: give a tensor (T, B, {self.input_size}), or (T, {self.input_size})"
            )
        if x.dim() == 2:
            return x[:, None], False
        return (x.transpose(0, 1) if self.batch_first else x), True

    def _as_given(self, value: Tensor, batched: bool, time: int) -> Tensor:
        """Bring an array with time and batch at `time`, `time` + 1 into the order of the input."""
        if not batched:
            return value.select(time + 1, 0)
        return value.transpose(time, time + 1) if self.batch_first else value

    def _check_input(self, x_TBI: Tensor) -> None:
        if x_TBI.shape[-1] != self.input_size:
            raise OptionError(f"the input is {x_TBI.shape[-1]} wide, this layer was made for {self.input_size}")
        if x_TBI.shape[0] == 0:
            raise OptionError("the input has no time steps: give at least one")
        self._check_kind("input", x_TBI)

    def _check_kind(self, name: str, given: Tensor) -> None:
        weight = next(self.parameters())
        same_dtype = given.dtype == weight.dtype or torch.is_autocast_enabled(weight.device.type)
        if not same_dtype or given.device != weight.device:
            raise OptionError(
                f"the {name} is {given.dtype} on {given.device}, the layer {weight.dtype} on {weight.device}: "
                "bring them together with .to(…)"
            )

    def zero_states(self, batch: int) -> tuple[Tensor, ...]:
        """Return the states that a sequence starts from: zeros, (L·R, B, D·W) each."""
        weight, count = next(self.parameters()), sum(1 for _ in self.parts())
        widths = [self._sizes[state.width] * state.depth for state in self._system.states]
        states = [weight.new_zeros(count, batch, width) for width in widths]
        if self._system.uses_time:
            states.append(weight.new_zeros(count, batch, 1, dtype=torch.long))
        return tuple(states)

    def _initial_states(self, hx: States | None, batch: int, batched: bool) -> tuple[Tensor, ...]:
        zeros = self.zero_states(batch)
        if hx is None:
            return zeros
        given = tuple(hx) if isinstance(hx, tuple | list) else (hx,)
        if len(given) != len(zeros) or not all(isinstance(state, Tensor) for state in given):
            raise OptionError(
                f"{self.cell.name} has {len(zeros)} states {self.state_names}: give one tensor for each, not "
                f"{[type(state).__name__ for state in given]}"
            )
        for name, state, zero in zip(self.state_names, given, zeros, strict=True):
            wanted = zero.shape if batched else zero[:, 0].shape
            if state.shape != wanted:
                raise OptionError(f"the initial state {name} has shape {tuple(state.shape)}, not {tuple(wanted)}")
            if name != "t":
                self._check_kind(f"initial state {name}", state)
        return given if batched else tuple(state[:, None] for state in given)

    def _run_stack(
        self, x_TBI: Tensor, initial: tuple[Tensor, ...], lengths_B: Tensor | None, wants_all: bool
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        finals: list[tuple[Tensor, ...]] = []
        every: list[Mapping[str, Tensor]] = []
        directions: list[Tensor] = []
        for index, (layer, suffix) in enumerate(self.parts()):
            states = tuple(state[index] for state in initial)
            output_TBW, final, seen = self._run_part(layer, suffix, x_TBI, states, lengths_B, wants_all)
            finals.append(final)
            every.append(seen)
            directions.append(output_TBW)
            if len(directions) == 1 + self.bidirectional:
                x_TBI = torch.cat(directions, -1) if self.bidirectional else output_TBW
                directions = []
                if layer < self.num_layers - 1:
                    x_TBI = F.dropout(x_TBI, self.dropout, self.training)
        stacked = [torch.stack(parts) for parts in zip(*finals, strict=True)]
        return x_TBI, stacked, {name: torch.stack([seen[name] for seen in every]) for name in every[0]}

    def _run_part(
        self,
        layer: int,
        suffix: str,
        x_TBI: Tensor,
        states: tuple[Tensor, ...],
        lengths_B: Tensor | None,
        wants_all: bool,
    ) -> tuple[Tensor, tuple[Tensor, ...], Mapping[str, Tensor]]:
        backwards = suffix.endswith("_reverse")
        named = dict(zip(self.state_names, states, strict=True))
        time_B1 = named.pop("t", None) if self._system.uses_time else None
        if self.watch is not None and self.watch.isolates_parts:
            x_TBI = x_TBI.detach()
        job = Run(
            plan=self._plan,
            weights=self._weights(layer, suffix),
            numbers={name: getattr(self, f"{name}_{suffix}") for name in self._system.numbers},
            x_TBI=turn_round(x_TBI, lengths_B) if backwards else x_TBI,
            states=named,
            time_B1=time_B1,
            lengths_B=lengths_B,
            observer=self.watch.part(suffix, x_TBI.shape[0], tuple(named)) if self.watch is not None else None,
            wants_all_states=wants_all,
        )
        result = engines.run(job, self.engine)
        output_TBW = turn_round(result.output_TBW, lengths_B) if backwards else result.output_TBW
        seen = dict(result.all_states or {})
        if backwards:
            seen = {name: turn_round(value, lengths_B) for name, value in seen.items()}
        final = tuple(result.states[name] for name in named)
        time = engines.final_time(job)
        return output_TBW, (*final, time) if time is not None else final, seen


def _check_dropout(dropout: float) -> float:
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout <= 1:
        raise OptionError(f"dropout is {dropout!r}: give a probability between 0 and 1")
    return float(dropout)


def _check_projection(proj_size: int, hidden_size: int) -> int:
    if not isinstance(proj_size, int) or isinstance(proj_size, bool) or not 0 <= proj_size < hidden_size:
        raise OptionError(f"proj_size is {proj_size!r}: give 0 for none, or less than hidden_size={hidden_size}")
    return proj_size
