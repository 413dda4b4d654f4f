"""The torch module that runs any cell over a sequence, with the contract of torch.nn.LSTM.

Shapes: T time, B batch, I input, H hidden, W width of the output (projected or hidden), L layers, R directions,
D how many steps back a state is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from unvanish import engine as engines
from unvanish.engine import Observer, Pass, StepClip, Tape
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
from unvanish.nn.stack import CellStack
from unvanish.nn.stream import Stream
from unvanish.nn.torchlayer import as_leaf, autocast_dtype, autocasts, is_proxy
from unvanish.torch_internals import by_example

States = Tensor | tuple[Tensor, ...]


class Watch(Protocol):
    """What looks into a layer while it runs (`unvanish.flow`)."""

    isolates_parts: bool

    def part(self, name: str, steps: int, states: tuple[str, ...]) -> Observer:
        """Return the observer of one part: one layer of the stack, one direction."""
        ...


class Tapes(Protocol):
    """What wants the states and adjoints of all steps of a layer (`unvanish.penalty`)."""

    def start(self, layer: int, part: str) -> Tape | None:
        """Return a tape for a pass of one part, or None for one that nobody will ask about."""
        ...


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

    watch: Watch | None = None
    tapes: Tapes | None = None  # hear what comes to every state of every step (`unvanish.penalty.Omega`)
    step_clip: StepClip | None = None  # clips the adjoint between two steps (`unvanish.clip.PerStep`)

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

    def alone(self, part: str) -> Recurrent:
        """Return one part of the stack, named by the suffix of its parameters, as a layer of its own.

        It shares the parameters (where matrices are constrained it has copies), has one layer and one direction,
        takes time first, draws no dropout, and has of zoneout its expectation. A part that runs backwards takes its
        input turned round.

        >>> layer = Recurrent("gru_reset_before", 3, 4, num_layers=2)
        >>> layer.alone("l1")["U_z"].data_ptr() == layer["U_z_l1"].data_ptr()
        True
        """
        depth = {suffix: layer for layer, suffix in self._parts}[part]
        found = Recurrent(
            self.cell,
            self._connection.wide(depth),
            self.hidden_size,
            bias=self.bias,
            proj_size=self.proj_size,
            device="meta",  # its own parameters are never filled
            engine=self.engine,
            memory=self.memory,
            zoneout=self.zoneout,
            layer_norm=self.layer_norm,
            batch_norm=self.batch_norm,
            skips=self.skips,
            **self.options,
        )
        found.take_arrays(self, part)
        return found.eval()

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
            self._plan.system.masks or self.weight_drop or (self.dropout and self.num_layers > 1)
        ):
            raise OptionError("a stream draws no dropout: call .eval() first")
        steppers = []
        with torch.no_grad():
            initial = self._initial_states(hx, batch, batched=True)
            for index, (layer, suffix) in enumerate(self._parts):
                blank = self._weight.new_zeros(1, batch, self._connection.wide(layer))
                states = [state[index] for state in initial]
                job = self._job(layer, suffix, blank, Given(blank, True), states, False)
                steppers.append(engines.stepper(job, self.engine))

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
        given = tuple(hx) if isinstance(hx, tuple | list) else (hx,)
        if len(given) != len(self._state_widths) or not all(isinstance(state, Tensor) for state in given):
            raise OptionError(
                f"{self.cell.name} has {len(self._state_widths)} states {self.state_names}: give one tensor for "
                f"each, not {[type(state).__name__ for state in given]}"
            )
        rows = (len(self._parts), batch) if batched else (len(self._parts),)
        for (name, width), state in zip(self._state_widths.items(), given, strict=True):
            if state.shape != (*rows, width):
                raise OptionError(f"the initial state {name} has shape {tuple(state.shape)}, not {(*rows, width)}")
            if name != "t":
                self._check_kind(f"initial state {name}", state)
        return given if batched else tuple(state[:, None] for state in given)

    # -- running ---------------------------------------------------------------------------------------

    def _run_stack(
        self, sequence: Given, initial: tuple[Tensor, ...], wants_all: bool
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        x_TBI = sequence.x_TBI
        finals: list[list[Tensor]] = []
        every: list[Mapping[str, Tensor]] = []
        directions: list[Tensor] = []
        for index, (layer, suffix) in enumerate(self._parts):
            states = [state[index] for state in initial]
            output_TBW, final, seen = self._run_part(layer, suffix, x_TBI, sequence, states, wants_all)
            finals.append(final)
            every.append(seen)
            directions.append(output_TBW)
            if len(directions) == 1 + self.bidirectional:
                output_TBW = torch.cat(directions, -1) if self.bidirectional else output_TBW
                x_TBI, directions = self.handed_on(layer, x_TBI, output_TBW), []
                if layer < self.num_layers - 1:
                    x_TBI = F.dropout(x_TBI, self.dropout, self.training)
        final_states = [stacked(parts) for parts in zip(*finals, strict=True)]
        return x_TBI, final_states, {name: stacked([seen[name] for seen in every]) for name in every[0]}

    def _run_part(
        self,
        layer: int,
        suffix: str,
        x_TBI: Tensor,
        sequence: Given,
        states: list[Tensor],
        wants_all: bool,
    ) -> tuple[Tensor, list[Tensor], Mapping[str, Tensor]]:
        tape = None if self.tapes is None else self.tapes.start(layer, suffix)
        job = self._job(layer, suffix, x_TBI, sequence, states, wants_all or tape is not None, tape)
        result = engines.run(job, self.engine, self.memory, self._registered[self.training][layer])
        if tape is not None:
            tape.keep(job, result)
        output_TBW, seen = result.output_TBW, result.all_states or {}
        if suffix.endswith("_reverse"):
            output_TBW = turn_round(output_TBW, sequence.lengths_B)
            seen = {name: turn_round(value, sequence.lengths_B) for name, value in seen.items()}
        final = [result.states[name] for name in job.states]
        time_B1 = engines.final_time(job)
        return output_TBW, final if time_B1 is None else [*final, time_B1], seen

    def _job(
        self,
        layer: int,
        suffix: str,
        x_TBI: Tensor,
        sequence: Given,
        states: list[Tensor],
        wants_all: bool,
        tape: Tape | None = None,
    ) -> Pass:
        plan, lengths_B, reset_TB1 = self._plan, sequence.lengths_B, sequence.reset_TB1
        named = dict(zip(self._state_widths, states, strict=True))
        time_B1 = named.pop("t", None) if plan.system.uses_time else None
        steps, batch = x_TBI.shape[:2]
        if self.watch is not None and self.watch.isolates_parts:
            x_TBI = x_TBI.detach()
        if suffix.endswith("_reverse"):
            x_TBI = turn_round(x_TBI, lengths_B)
            reset_TB1 = None if reset_TB1 is None else turn_borders(reset_TB1, lengths_B)
        return Pass(
            plan=plan,
            weights=self._weights(layer, suffix),
            numbers={name: getattr(self, f"{name}_{suffix}") for name in plan.system.numbers},
            x_TBI=x_TBI,
            states=named,
            time_B1=time_B1,
            lengths_B=lengths_B,
            reset_TB=None if reset_TB1 is None else reset_TB1[:, :, 0],
            masks=self._noise.draw(steps, batch, self._sizes, self._weight) if plan.system.masks else {},
            observer=None if self.watch is None else self.watch.part(suffix, steps, tuple(named)),
            # What is measured at a fixed input is linear in the direction sent back: no clip may look at its size.
            step_clip=None if self.watch is not None and self.watch.isolates_parts else self.step_clip,
            tape=tape,
            normalisers=self._normalisers(suffix) if self.batch_norm else {},
            wants_all_states=wants_all,
            name=self.cell.name,
        )
