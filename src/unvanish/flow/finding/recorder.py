"""Record the norm of the gradient at every time step of every recurrent part of a model.

The gradient at step t is taken at the boundary between steps: the states (h_t, c_t) that leave step t are
independent variables there, as for the full state of a dynamical system. What flows into c_t by way of h_t of
the same step belongs to the step, not to the boundary.

Shapes: T time, S states.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unvanish.engine.tap import Border, Needs, States, Tap
from unvanish.errors import FlowError, nearest
from unvanish.flow.finding.convert import as_ours
from unvanish.nn import Part, Recurrent
from unvanish.nn.convert import share_arrays
from unvanish.record.result import Result


class Track(Tap):
    """The gradient norms of one part in one pass; filled by the backward pass.

    Attributes:
        name: the part, e.g. `encoder.l0`.
        states: the names of its states.
    """

    def __init__(self, name: str, states: tuple[str, ...] = (), needs: Needs = "norms") -> None:
        self.name, self.states, self.needs = name, states, needs
        self._rows: list[list[Tensor | None]] = []
        self._told: Tensor | None = None

    @property
    def norms(self) -> Tensor:
        """‖∂L/∂s_t‖ over the whole batch, (T, S), in the order in which the steps were run.

        Zero where no gradient arrived. Raises `FlowError` before the backward pass.
        """
        if self._told is not None:
            return self._told
        found = next((norm for row in self._rows for norm in row if norm is not None), None)
        if found is None:
            raise FlowError(f"no gradient has reached {self.name}: call loss.backward() first, with its loss")
        zero = torch.zeros_like(found)
        return torch.stack([torch.stack([zero if norm is None else norm for norm in row]) for row in self._rows])

    @property
    def arrived(self) -> bool:
        """Whether any gradient has come."""
        return self._told is not None or any(norm is not None for row in self._rows for norm in row)

    def take_norms(self, norms_TS: Tensor) -> None:
        """Take the norms of all steps, from an engine that measures them in its own backward pass."""
        self._told = norms_TS

    def border(self, states: States, at: Border | None = None) -> States:
        """Take the states that leave a step; their gradients' norms are written down in the backward pass."""
        row: list[Tensor | None] = [None] * len(states)
        self._rows.append(row)
        return {name: self._watched(value, row, index) for index, (name, value) in enumerate(states.items())}

    def listen(self, states: Iterable[Tensor]) -> None:
        """Take the states of a step of somebody else's, as they are."""
        row: list[Tensor | None] = []
        self._rows.append(row)
        for index, value in enumerate(states):
            row.append(None)
            if value.requires_grad and hasattr(value, "edge"):  # what was changed in place since
                value.edge.node.register_prehook(_taker(_writer(row, index), value.edge.output_nr))
            elif value.requires_grad:
                value.register_hook(_writer(row, index))  # type: ignore[no-untyped-call]

    def clear(self) -> None:
        """Forget the norms, to measure another backward pass over the same steps."""
        self._told = None
        for row in self._rows:
            row[:] = [None] * len(row)

    def _watched(self, value: Tensor, row: list[Tensor | None], index: int) -> Tensor:
        if not value.requires_grad:
            return value
        value = value.view_as(value)  # a node of its own, apart from uses inside the step
        value.register_hook(_writer(row, index))  # type: ignore[no-untyped-call]
        return value


def _writer(row: list[Tensor | None], index: int) -> Callable[[Tensor], None]:
    def note(gradient: Tensor) -> None:
        row[index] = torch.linalg.vector_norm(gradient.detach())

    return note


def _taker(note: Callable[[Tensor], None], number: int) -> Callable[[Sequence[Tensor | None]], None]:
    def take(gradients: Sequence[Tensor | None]) -> None:
        gradient = gradients[number]
        if gradient is not None:
            note(gradient)

    return take


class Recording(Mapping[str, Track], Result):
    """The tracks of a recorded block, by part: `encoder.l0`, `encoder.l1_reverse`, `decoder_cell`.

    `recording["encoder"]` and `recording[module]` work where the module has a single part. A part that ran
    several times has its last pass here, and all of them in `passes`.
    """

    shown_as: ClassVar[str] = "recording"

    def __init__(self) -> None:
        self.passes: dict[str, list[Track]] = {}
        self.modules: dict[nn.Module, str] = {}

    def start(self, name: str, states: tuple[str, ...]) -> Track:
        """Begin the track of a part."""
        track = Track(name, states)
        self.passes.setdefault(name, []).append(track)
        return track

    def __getitem__(self, key: str | nn.Module) -> Track:
        name = self.modules.get(key, "") if isinstance(key, nn.Module) else key
        parts = [part for part in self.passes if part == name or part.rpartition(".")[0] == name]
        if name in self.passes:
            parts = [name]
        if len(parts) > 1:
            raise FlowError(f"'{name}' has several parts: name one of {', '.join(parts)}")
        if not parts:
            raise FlowError(f"'{name}' ran no step inside the block: {nearest(name, self.passes)}")
        return self.passes[parts[0]][-1]

    def __repr__(self) -> str:
        names = ", ".join([*self.passes][:4]) + (", …" if len(self.passes) > 4 else "")
        return f"Recording({names or 'nothing yet'})"

    def to_dict(self) -> dict[str, Any]:
        """Return the norms by part and state, one for each time step, of the parts that a gradient has reached."""
        arrived = {part: tracks[-1] for part, tracks in self.passes.items() if tracks[-1].arrived}
        columns = {part: track.norms.cpu().T.tolist() for part, track in arrived.items()}
        return {
            "norms": {part: dict(zip(arrived[part].states, found, strict=False)) for part, found in columns.items()}
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self.passes)

    def __len__(self) -> int:
        return len(self.passes)


class _Recorder(Tap):
    """Lets the parts of a layer report into a recording."""

    def __init__(self, recording: Recording, name: str) -> None:
        self.recording, self.name = recording, name

    def start(self, part: Part) -> Track:
        return self.recording.start(f"{self.name}.{part.name}" if self.name else part.name, part.states)


def is_recorded(model: nn.Module) -> bool:
    """Whether a block of `record` is open for a model just now."""
    return any(
        (isinstance(module, Recurrent) and any(isinstance(tap, _Recorder) for tap in module.taps))
        or getattr(vars(module).get("forward"), "__module__", "") == __name__
        for module in model.modules()
    )


@contextlib.contextmanager
def record(model: nn.Module, cells: Iterable[str | nn.Module] = ()) -> Iterator[Recording]:
    """Record the gradient's norm at every time step of a model's recurrent parts.

    Our layers, and torch.nn.RNN, LSTM and GRU (which are run step by step with their own weights inside the
    block), are found by themselves; so are torch's cells that are called once a step. Name further modules
    that are called once a step in `cells`. Run forward and backward inside the block:

    >>> model = torch.nn.LSTM(3, 4)
    >>> with record(model) as recording:
    ...     model(torch.randn(7, 2, 3))[0][-1].sum().backward()
    >>> recording["l0"].states, recording["l0"].norms.shape
    (('h', 'c'), torch.Size([7, 2]))

    Raises:
        FlowError: the model has no recurrent part that is known, or `cells` names no module of it.
    """
    recording, stack = Recording(), contextlib.ExitStack()
    named = dict(model.named_modules())
    stepped = {_module(cell, named) for cell in cells}
    with stack:
        for name, module in named.items():
            if isinstance(module, Recurrent):
                stack.enter_context(module.tapped(_Recorder(recording, name)))
            elif isinstance(module, nn.RNNBase):
                stack.enter_context(_run_on_engine(module, _Recorder(recording, name)))
            elif isinstance(module, nn.RNNCellBase) or module in stepped:
                stack.callback(module.register_forward_hook(_step_hook(recording, name or "cell")).remove)
            else:
                continue
            recording.modules[module] = name
        if not recording.modules:
            raise FlowError(
                "the model has no recurrent layer; name the modules that are called once a step: "
                "record(model, cells=['decoder.cell'])"
            )
        yield recording


def _module(cell: str | nn.Module, named: Mapping[str, nn.Module]) -> nn.Module:
    if isinstance(cell, nn.Module):
        return cell
    if cell not in named:
        raise FlowError(f"the model has no module '{cell}': {nearest(cell, named)}")
    return named[cell]


@contextlib.contextmanager
def _run_on_engine(module: nn.RNNBase, recorder: _Recorder) -> Iterator[None]:
    """Let a torch layer run on our engine, with its own weights, while its steps are watched."""
    layer = as_ours(module)

    def forward(input: Any, hx: Any = None) -> Any:
        layer.train(module.training)
        share_arrays(layer, module, lambda name: name)  # a forward pass may compute its weights
        return layer(input, hx)

    before = vars(module).get("forward")
    with layer.tapped(recorder):
        module.forward = forward
        try:
            yield
        finally:
            del module.forward
            if before is not None:
                module.forward = before


def _step_hook(recording: Recording, name: str) -> Callable[[nn.Module, Any, Any], Any]:
    """Return a forward hook that takes each call of a module for one time step."""
    tracks: list[Track] = []

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        tensors = _tensors(output)
        names = ("h", "c") if isinstance(module, nn.LSTMCell) else tuple(str(i) for i in range(len(tensors)))
        names = ("h",) if len(tensors) == 1 else names
        if not tracks:
            tracks.append(recording.start(name, names))
        watched = tracks[0].border(dict(zip(names, tensors, strict=True)))
        return _replaced(output, iter(watched.values()))

    return hook


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    if isinstance(output, Mapping):
        output = output.values()
    return [t for inner in output for t in _tensors(inner)] if isinstance(output, Iterable) else []


def _replaced(output: Any, tensors: Iterator[Tensor]) -> Any:
    """Return the output of a module with its tensors exchanged in order."""
    if isinstance(output, Tensor):
        return next(tensors) if output.is_floating_point() else output
    if isinstance(output, Mapping):
        return type(output)((key, _replaced(value, tensors)) for key, value in output.items())  # type: ignore[call-arg]
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*(_replaced(inner, tensors) for inner in output))
    if isinstance(output, list | tuple):
        return type(output)(_replaced(inner, tensors) for inner in output)
    return output
