"""What plain autograd says of a recurrence: written without unvanish, and slow.

The states are taken at the border between two steps, by hooks in the model's own graph or by stepping a layer of
torch by hand. Shapes: T time, B batch, H hidden.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

DRAWS = 32
States = list[tuple[Tensor, ...]]  # of every step, in the order in which they are run
Taken = dict[str, States]  # by the name of the part


def shares_left(states: States) -> list[float]:
    """g(k) = sqrt(E‖(∂s_T/∂s_{T-k})ᵀ v‖² / E‖v‖²), every state in its own size, for k = 0, 1, ..."""
    places = range(len(states[-1]))
    sizes = [float(torch.stack([step[at].detach() for step in states]).square().mean().sqrt()) for at in places]
    sizes = [size or 1.0 for size in sizes]
    earlier = [(k, at, step[at]) for k, step in enumerate(reversed(states)) for at in places]
    earlier = [one for one in earlier if one[2].requires_grad]
    generator, sent = torch.Generator().manual_seed(5), 0.0
    squares = [0.0] * len(states)
    for _ in range(DRAWS):
        directions = [torch.randn(state.shape, generator=generator) for state in states[-1]]
        sent += sum(float(v.square().sum()) for v in directions)
        found = torch.autograd.grad(
            states[-1],
            [state for _, _, state in earlier],
            [v / size for v, size in zip(directions, sizes, strict=True)],
            retain_graph=True,
            allow_unused=True,
        )
        for (k, at, _), gradient in zip(earlier, found, strict=True):
            squares[k] += 0.0 if gradient is None else float(gradient.square().sum()) * sizes[at] ** 2
    return [(square / sent) ** 0.5 for square in squares]


def shares_of_input(loss: Tensor, x: Tensor, axis: int) -> list[float]:
    """The gradient of the loss by the steps of the input, relative to its median over the lags from 1 on."""
    (gradient,) = torch.autograd.grad(loss, x)
    norms = gradient.movedim(axis, 0).flatten(1).norm(dim=1).flip(0)
    return [1.0, *(norms[1:] / norms[1:].quantile(0.5)).tolist()]


@contextlib.contextmanager
def after_calls(model: nn.Module, taken: dict[str, tuple[str, Callable[[Any], Any]]]) -> Iterator[Taken]:
    """Record what modules return, in the block: name of a part -> (name of a module, its states in its output).

    What is returned is replaced by a view, so that a state that is made of another of the same step is not counted
    twice.
    """
    found: Taken = {name: [] for name in taken}
    hooks = []
    for name, (module, states_in) in taken.items():

        def hook(_: nn.Module, __: Any, output: Any, name: str = name, states_in: Any = states_in) -> Any:
            views: dict[int, Tensor] = {}
            output = _viewed(output, views)
            found[name].append(tuple(states_in(output)))
            return output

        hooks.append(model.get_submodule(module).register_forward_hook(hook))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _viewed(value: Any, views: dict[int, Tensor]) -> Any:
    if isinstance(value, Tensor):
        return views.setdefault(id(value), value.view_as(value))
    return type(value)(_viewed(inner, views) for inner in value) if isinstance(value, tuple | list) else value


@contextlib.contextmanager
def layer_by_calls(model: nn.Module, name: str) -> Iterator[Taken]:
    """Record the states of an LSTM that is called once a step, by its layers: parts as `name.l1`."""
    lstm: Any = model.get_submodule(name)
    found: Taken = {f"{name}.l{row}": [] for row in range(lstm.num_layers)}

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        h, c = output[1][0].unbind(0), output[1][1].unbind(0)
        for states, row in zip(found.values(), zip(h, c, strict=True), strict=True):
            states.append(row)
        return output[0], (torch.stack(h), torch.stack(c))

    handle = lstm.register_forward_hook(hook)
    try:
        yield found
    finally:
        handle.remove()


@contextlib.contextmanager
def layers_by_hand(model: nn.Module, names: Sequence[str]) -> Iterator[Taken]:
    """Step layers of torch by hand over what they are given in the block, at its end: `name.l0_reverse`."""
    given: dict[str, Any] = {}
    hooks = []
    for name in names:

        def hook(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
            weights = {key: getattr(module, key).detach() for key in module._flat_weights_names}  # type: ignore
            given[name] = (module, args, weights)

        hooks.append(model.get_submodule(name).register_forward_hook(hook))
    found: Taken = {}
    try:
        yield found
        for name, (module, args, weights) in given.items():
            found |= {f"{name}.{part}": states for part, states in _stepped(module, *args, weights=weights).items()}
    finally:
        for one in hooks:
            one.remove()


def _stepped(module: Any, x: Any, hx: Any = None, weights: Any = None) -> Taken:
    """The states of every layer and direction, each from its input as it is; the longest rows of a packed one."""
    if isinstance(x, PackedSequence):
        x, lengths = pad_packed_sequence(x, batch_first=module.batch_first)
        rows = lengths == lengths.max()
        x = x[rows] if module.batch_first else x[:, rows]
    x = x.transpose(0, 1) if module.batch_first else x
    x, found = x.detach(), Taken()
    starts = [] if hx is None else [hx] if isinstance(hx, Tensor) else list(hx)
    for layer in range(module.num_layers):
        outputs = []
        for reverse in range(1 + module.bidirectional):
            name = f"l{layer}" + "_reverse" * reverse
            row = layer * (1 + module.bidirectional) + reverse
            start = [state[row].detach() for state in starts]
            found[name] = _of_direction(module, x.flip(0) if reverse else x, start, name, weights)
            h = torch.stack([step[0].detach() for step in found[name]])
            outputs.append(h.flip(0) if reverse else h)
        x = torch.cat(outputs, -1)
    return found


def _of_direction(module: Any, x: Tensor, start: list[Tensor], name: str, weights: Any) -> States:
    w, u = weights[f"weight_ih_{name}"], weights[f"weight_hh_{name}"]
    b, d = weights[f"bias_ih_{name}"], weights[f"bias_hh_{name}"]
    count = 2 if isinstance(module, nn.LSTM) else 1
    state = start or [x.new_zeros(x.shape[1], module.hidden_size)] * count
    states = []
    for x_t in x:
        state = [s.detach().requires_grad_() if not states else s for s in state]
        step = _lstm if count == 2 else _gru
        state = [s.view_as(s) for s in step(x_t @ w.T + b, state, u, d)]
        states.append(tuple(state))
    return states


def _lstm(a: Tensor, state: list[Tensor], u: Tensor, d: Tensor) -> list[Tensor]:
    i, f, g, o = (a + state[0] @ u.T + d).chunk(4, -1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return [o.sigmoid() * c.tanh(), c]


def _gru(a: Tensor, state: list[Tensor], u: Tensor, d: Tensor) -> list[Tensor]:
    (ar, az, an), (ur, uz, un) = a.chunk(3, -1), (state[0] @ u.T + d).chunk(3, -1)
    z, n = (az + uz).sigmoid(), (an + (ar + ur).sigmoid() * un).tanh()
    return [(1 - z) * n + z * state[0]]
