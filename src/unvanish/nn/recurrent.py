"""The torch module that runs any cell over a sequence, with the contract of torch.nn.LSTM.

Shapes: T time, B batch, I input, H hidden, W width of the output (projected or hidden), L layers, R directions,
D how many steps back a state is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from unvanish.engine import Tap, chain
from unvanish.errors import OptionError
from unvanish.nn.given import Given, in_dtype, stacked
from unvanish.nn.packing import (
    blank_padding,
    check_lengths,
    check_reset,
    pack_like,
    turn_borders,
    turn_round,
    unpack,
)
from unvanish.nn.part import Part, Ran
from unvanish.nn.stack import CellStack
from unvanish.nn.stream import Stream
from unvanish.nn.torchlayer import as_leaf, autocast_dtype, autocasts, is_proxy
from unvanish.torch_internals import by_example

States = Tensor | tuple[Tensor, ...]


class Layer(NamedTuple):
    """One pass of one layer of a stack: of its part, or of its two.

    Attributes:
        ran: what each part read and gave, in its own order of time.
        x_TBI: the layer's input.
        output_TBW: the outputs of the parts side by side, in the order of the input.
        handed_TBW: what the layer above reads (before dropout), and the stack gives in the end.
    """

    ran: tuple[Ran, ...]
    x_TBI: Tensor
    output_TBW: Tensor
    handed_TBW: Tensor


class Recurrent(CellStack):
    """Run a cell over sequences: stacked, in one direction or two, with torch.nn.LSTM's contract.

    Args:
        cell: a `Cell`, or the name of one in the catalogue.
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype:
            as in torch.nn.LSTM. A projection works for every cell whose output is a state.
        recurrent_dropout: in training, the share of each state that is hidden from the recurrent matrices: one
            mask for each row of each sequence, the same at all steps (Gal, Ghahramani 2016).
        zoneout: the probability with which a unit of a state keeps its old value, drawn anew at each step in
            training, its expectation otherwise (Krueger et al. 2017): a number for all states, or a mapping from
            their names, `{"c": 0.5, "h": 0.05}`. The output and later steps see what it leaves; what the cell
            reads of the state within the step is the value before.
        weight_drop: in training, the share of the recurrent matrices' entries that is dropped, once for each
            call (Merity et al. 2018).
        layer_norm: normalise what each matrix gives, and what a function reads of a state, over the units of a row
            (Ba et al. 2016); each with a gain of its own, `gain_U_f`.
        batch_norm: normalise these over the batch instead, with statistics of their own at so many steps (Cooijmans
            et al. 2017), counted from the start of each call. Runs in plain torch, and takes whole sequences.
        skips: delays in steps: every matrix that meets a state of the last step meets those of so many steps back
            too, with a matrix of its own, `U_f_skip5` (Lin et al. 1996).
        connect: what a layer hands on to the one above: `plain`, `residual`, `dense` or `highway`.
        constrain: what holds recurrent matrices, all of them or by pattern: `orthogonal`, `antisymmetric`,
            `antisymmetric:0.01`, `radius:0.95` (spectral radius at most that), `weight_norm`.
        engine: `auto`, `reference`, `builtin` or `native`.
        memory: `fast` keeps what the backward pass reads; `lean` keeps the states between segments of ⌈√T⌉ steps
            and recomputes the rest, for long sequences; a number is the length of such a segment.
        init: an initialiser for every matrix, or for what it is about (`identity`, `sparse`, `radius`: the
            recurrent matrices; `forget`, `chrono`, `leaks`: what keeps a state): a word such as `orthogonal`,
            `radius:0.95`, `chrono:784`, a number, a callable, an object of `unvanish.init`; or a mapping from names
            or patterns of parameters, or of fixed numbers, to these, `{"U_*": "orthogonal", "b_f": 1.0}`; or a list
            of several, the later over the earlier. Default: uniform in ±1/√hidden, as torch, then what the cell's
            `initial` says.
        options: what the cell declares: fixed numbers, delays, function slots, sizes.

    Parameters are stored stacked (`weight_ih_l0`, …) and reached by their equation names as views:
    `layer["U_f"]`, `layer["U_f_l1"]`, `layer["U_f_l0_reverse"]`.

    Returns from `forward`: `output, states` as torch: states is one tensor (L·R, B, W), or a tuple of them in
    the order output state first. A state that is read D steps back holds its last D values side by side,
    newest first, (L·R, B, D·W). A cell that reads t carries the time index as a last state.

    Raises:
        OptionError: an invalid argument.

    >>> layer = Recurrent("gru_reset_before", 3, 4)
    >>> output_TBW, h_LBW = layer(torch.zeros(7, 2, 3))
    >>> output_TBW.shape, h_LBW.shape
    (torch.Size([7, 2, 4]), torch.Size([1, 2, 4]))
    """

    taps: tuple[Tap, ...] = ()  # listen at the border between two steps of every pass, or clip there

    @contextlib.contextmanager
    def tapped(self, tap: Tap) -> Iterator[None]:
        """Let a tap into every pass inside the block."""
        self.taps = (*self.taps, tap)
        try:
            yield
        finally:
            self.taps = tuple(other for other in self.taps if other is not tap)

    @contextlib.contextmanager
    def counted_from(self, step: int | Tensor) -> Iterator[None]:
        """Let batch normalisation count from this step, a number or (B,), in every pass inside the block."""
        self.first_step = step
        try:
            yield
        finally:
            self.first_step = 0

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: States | None = None,
        *,
        lengths: Any = None,
        reset: Any = None,
        all_states: bool = False,
    ) -> Any:
        """Run the layer over a sequence.

        Args:
            input: (T, B, I), (B, T, I) with `batch_first`, (T, I) unbatched, or a PackedSequence.
            hx: initial states as `forward` returns them; zeros if None.
            lengths: for a padded input, the length of each row, (B,). After its end a row's output is zero
                and its states stand still.
            reset: a boolean mask, (T, B), (B, T) with `batch_first`, (T,) unbatched: where it is true, the row's
                states are zero, and t is 0, before that step is run. So a row is cut into pieces that know
                nothing of one another, in both directions; on the way back the last piece begins with `hx`.
            all_states: return also `{state: values at all steps}`, (L·R, T, B, width) or batch first.

        Returns:
            `(output, states)`, or `(output, states, all_states)`.
        """
        if is_proxy(input):
            keywords = {"lengths": lengths, "reset": reset, "all_states": all_states}
            return as_leaf(self, (input, hx), keywords)
        packed = input if isinstance(input, PackedSequence) else None
        sequence = self._read(input, lengths, reset)
        batched = sequence.batched
        initial = self._initial_states(hx, sequence.x_TBI.shape[1], batched)
        kind = sequence.x_TBI.dtype
        if autocasts(self._weight):
            kind = autocast_dtype(self.cell.name, kind)
            sequence, initial = in_dtype(sequence, initial, self._weight.dtype)
        output_TBW, final, every = self._run_stack(sequence, initial, all_states)
        if output_TBW.dtype != kind:
            output_TBW = output_TBW.to(kind)
            final = [state.to(kind) if state.is_floating_point() else state for state in final]
            every = {name: value.to(kind) for name, value in every.items()}
        states: Any = final if batched else [state[:, 0] for state in final]
        states = states[0] if len(states) == 1 else tuple(states)
        output: Any = (
            pack_like(output_TBW, packed) if packed is not None else self._as_given(output_TBW, batched, 0)
        )
        if not all_states:
            return output, states
        return output, states, {name: self._as_given(value, batched, 1) for name, value in every.items()}

    def walk(self, x_TBI: Tensor, states: Sequence[Tensor], training: bool = False) -> Iterator[Layer]:
        """Run the stack layer by layer, and yield what each read and gave; time comes first.

        Nothing is drawn unless in `training`, and no tap of the layer's own listens.
        """
        for layer in range(self.num_layers):
            parts = [self._part(place, training) for place in self._places if place.layer == layer]
            found = self._run_layer(parts, Given(x_TBI, True), x_TBI, states)
            yield found
            x_TBI = F.dropout(found.handed_TBW, self.dropout, training)

    def stream(self, batch: int = 1, hx: States | None = None) -> Stream:
        """Return a `Stream` that runs this layer one step per call, from `hx` (zeros if None) on.

        Raises:
            OptionError: the layer has two directions, or would draw dropout because it is in training.
        """
        if self.bidirectional:
            raise OptionError("a stream has no end to come back from: it needs a layer with bidirectional=False")
        if self.batch_norm:
            raise OptionError("batch_norm counts steps from the start of a call, and a stream has none")
        if self.training and (
            self._noise.training.masks or self.weight_drop or (self.dropout and self.num_layers > 1)
        ):
            raise OptionError("a stream draws no dropout: call .eval() first")
        steppers = []
        with torch.no_grad():
            initial = self._initial_states(hx, batch, batched=True)
            for part in self.parts():
                blank_1BI = self._weight.new_zeros(1, batch, self._connection.wide(part.place.layer))
                steppers.append(part.stepper([state[part.place.index] for state in initial], blank_1BI))

        def check(x_BI: Tensor) -> None:
            wanted = (batch, self.input_size)
            raise OptionError(f"a step of this stream takes an input {wanted}, not {tuple(x_BI.shape)}")

        hand_on = None if self.connect == "plain" else self.handed_on
        return Stream(steppers, self.state_names, (batch, self.input_size), check, hand_on)

    # -- what comes in and goes out --------------------------------------------------------------------

    def _read(self, given: object, lengths: Any, reset: Any) -> Given:
        if isinstance(given, PackedSequence):
            if lengths is not None:
                raise OptionError("a PackedSequence knows its lengths: leave lengths= out")
            if reset is not None:
                raise OptionError("reset= goes with a padded input: give that, and lengths=, not a PackedSequence")
            x_TBI, lengths = unpack(given)
            batched = True
        else:
            x_TBI, batched = self._as_time_first(given)
        self._check_input(x_TBI)
        if lengths is None and reset is None:
            return Given(x_TBI, batched)
        if self.batch_norm:
            raise OptionError(
                "batch_norm has statistics for each step of a whole batch: leave lengths= and reset= out"
            )
        steps, batch, device = *x_TBI.shape[:2], x_TBI.device
        lengths_B = reset_TB1 = None
        if lengths is not None:
            lengths_B = check_lengths(lengths, steps, batch, device)
            x_TBI = blank_padding(x_TBI, lengths_B)
        if reset is not None:
            shape = ((batch, steps) if self.batch_first else (steps, batch)) if batched else (steps,)
            reset_TB = check_reset(reset, shape, device).view(shape if batched else (steps, 1))
            reset_TB1 = (reset_TB.t() if batched and self.batch_first else reset_TB)[:, :, None]
            reset_TB1 = reset_TB1 if lengths_B is None else blank_padding(reset_TB1, lengths_B)
        return Given(x_TBI, batched, lengths_B, reset_TB1)

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
        if by_example():  # sizes are tensors then
            return
        if x_TBI.shape[-1] != self.input_size:
            raise OptionError(f"the input is {x_TBI.shape[-1]} wide, this layer was made for {self.input_size}")
        if x_TBI.shape[0] == 0:
            raise OptionError("the input has no time steps: give at least one")
        self._check_kind("input", x_TBI)

    def _check_kind(self, name: str, given: Tensor) -> None:
        weight = self._weight
        same_dtype = given.dtype == weight.dtype or torch.is_autocast_enabled(weight.device.type)
        if not same_dtype or given.device != weight.device:
            raise OptionError(
                f"the {name} is {given.dtype} on {given.device}, the layer {weight.dtype} on {weight.device}: "
                "bring them together with .to(…)"
            )

    def _initial_states(self, hx: States | None, batch: int, batched: bool) -> tuple[Tensor, ...]:
        if hx is None:
            return self.zero_states(batch)
        given = tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)
        if len(given) != len(self._state_widths) or not all(isinstance(state, Tensor) for state in given):
            raise OptionError(
                f"{self.cell.name} has {len(self._state_widths)} states {self.state_names}: give one tensor for "
                f"each, not {[type(state).__name__ for state in given]}"
            )
        rows = (len(self._places), batch) if batched else (len(self._places),)
        for (name, width), state in zip(self._state_widths.items(), given, strict=True):
            if state.shape != (*rows, width):
                raise OptionError(f"the initial state {name} has shape {tuple(state.shape)}, not {(*rows, width)}")
            if name != "t":
                self._check_kind(f"initial state {name}", state)
        return given if batched else tuple(state[:, None] for state in given)

    # -- running ---------------------------------------------------------------------------------------

    def _run_stack(
        self, sequence: Given, initial: tuple[Tensor, ...], every: bool
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        x_TBI = sequence.x_TBI
        finals: list[list[Tensor]] = []  # torch.compile does not know list[list[Tensor]]()
        seen: list[dict[str, Tensor]] = []
        for layer in range(self.num_layers):
            parts = [self._part(place) for place in self._places if place.layer == layer]
            found = self._run_layer(parts, sequence, x_TBI, initial, every=every, listeners=self.taps)
            for one in found.ran:
                finals.append(one.final)
                seen.append({name: self._in_order(one, values, sequence) for name, values in one.every.items()})
            x_TBI = found.handed_TBW
            if layer < self.num_layers - 1:
                x_TBI = F.dropout(x_TBI, self.dropout, self.training)
        final = [stacked(parts) for parts in zip(*finals, strict=True)]
        return x_TBI, final, {name: stacked([of_part[name] for of_part in seen]) for name in seen[0]}

    def _run_layer(
        self,
        parts: Sequence[Part],
        sequence: Given,
        x_TBI: Tensor,
        initial: Sequence[Tensor],
        *,
        every: bool = False,
        listeners: tuple[Tap, ...] = (),
    ) -> Layer:
        """Run one layer over its input, with the lengths and resets of a sequence."""
        ran = []
        for part in parts:
            x_own_TBI, reset_TB1 = x_TBI, sequence.reset_TB1
            if part.place.backwards:
                x_own_TBI = turn_round(x_TBI, sequence.lengths_B)
                reset_TB1 = None if reset_TB1 is None else turn_borders(reset_TB1, sequence.lengths_B)
            states = [state[part.place.index] for state in initial]
            taps = chain(listeners, part) if listeners else ()
            lengths_B = sequence.lengths_B
            ran.append(part.run(x_own_TBI, states, lengths_B, reset_TB1, every=every, taps=taps))
        outputs = [self._in_order(one, one.output_TBW, sequence) for one in ran]
        output_TBW = torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0]
        handed_TBW = self.handed_on(parts[0].place.layer, x_TBI, output_TBW)
        return Layer(tuple(ran), x_TBI, output_TBW, handed_TBW)

    @staticmethod
    def _in_order(ran: Ran, values_TBW: Tensor, sequence: Given) -> Tensor:
        """Bring what a part gave at all steps into the order of the input."""
        return turn_round(values_TBW, sequence.lengths_B) if ran.part.place.backwards else values_TBW
