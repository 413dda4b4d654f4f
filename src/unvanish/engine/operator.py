"""The whole pass as one operator of torch, for graphs: torch.compile and torch.export take it as it is.

In eager mode nothing comes here. The operator runs a plan on whichever back end is best; its backward operator runs
the pass once more with a graph and sends the adjoints through it, so that nothing but the inputs is kept between
the two.

Shapes: T time, B batch, I input, W width, D depth in time.
"""

from __future__ import annotations

import hashlib
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from unvanish.engine.hoist import Timeless
from unvanish.engine.ir.plan import Plan
from unvanish.engine.layout import Stack, Weights
from unvanish.engine.sequence import Pass, Result
from unvanish.equations.system import Product
from unvanish.errors import OptionError
from unvanish.torch_internals import graph_recorded

Engine = Callable[[Pass], Result]


@dataclass(frozen=True, eq=False)
class Registered:
    """What a graph knows by a word, the same in every process; it is known as long as a layer holds it."""

    word: str
    plan: Plan
    stacks: tuple[Stack, ...]
    engine: Engine


_known: weakref.WeakValueDictionary[str, Registered] = weakref.WeakValueDictionary()
_recent: deque[Registered] = deque(maxlen=256)  # a graph may outlive the layer that it was made from


def register(plan: Plan, stacks: tuple[Stack, ...], engine: Engine, name: str) -> Registered:
    """Make a layer known to the operator."""
    text = f"{plan.system}{[(stack.name, stack.shape) for stack in stacks]}{name}"
    word = f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    found = _known.get(word)
    if found is None:
        found = _known[word] = Registered(word, plan, stacks, engine)
        _recent.append(found)
    return found


def _registered(word: str) -> Registered:
    found = _known.get(word)
    if found is None:
        raise OptionError(f"the graph holds a layer '{word}' that does not exist: make the same layer first")
    return found


def _run(word: str, groups: Sequence[Sequence[Tensor]], optional: Sequence[Tensor | None], every: bool) -> Result:
    known = _registered(word)
    plan, stacks, engine = known.plan, known.stacks, known.engine
    (x_TBI, *arrays), numbers, states, masks = groups
    system = plan.system
    names = [*system.numbers, *(statement.target.name for statement in plan.once)]
    return engine(
        Pass(
            plan=plan,
            weights=Weights(stacks, dict(zip((stack.name for stack in stacks), arrays, strict=True))),
            numbers=dict(zip(names, numbers, strict=True)),
            x_TBI=x_TBI,
            states={state.name: value for state, value in zip(system.states, states, strict=True)},
            time_B1=optional[0],
            lengths_B=optional[1],
            reset_TB=optional[2],
            masks={mask.name: value for mask, value in zip(system.masks, masks, strict=True)},
            wants_all_states=every,
            name=word.partition("-")[0],
        )
    )


def _listed(word: str, result: Result) -> list[Tensor]:
    names = [state.name for state in _registered(word).plan.system.states]
    found = [result.output_TBW, *(result.states[name] for name in names)]
    return found + [result.all_states[name] for name in names] if result.all_states is not None else found


@torch.library.custom_op("unvanish::sequence", mutates_args=())
def sequence(
    word: str,
    arrays: Sequence[Tensor],
    numbers: Sequence[Tensor],
    states: Sequence[Tensor],
    masks: Sequence[Tensor],
    time_B1: Tensor | None,
    lengths_B: Tensor | None,
    reset_TB: Tensor | None,
    every: bool,
) -> list[Tensor]:
    """Run a registered layer; `arrays` begins with the input. Returns output, final states, all states if asked."""
    with torch.no_grad():
        result = _run(word, (arrays, numbers, states, masks), (time_B1, lengths_B, reset_TB), every)
    return [value.clone(memory_format=torch.contiguous_format) for value in _listed(word, result)]


@sequence.register_fake
def _(
    word: str,
    arrays: Sequence[Tensor],
    numbers: Sequence[Tensor],
    states: Sequence[Tensor],
    masks: Sequence[Tensor],
    time_B1: Tensor | None,
    lengths_B: Tensor | None,
    reset_TB: Tensor | None,
    every: bool,
) -> list[Tensor]:
    known = _registered(word)
    system, stacks, x_TBI = known.plan.system, known.stacks, arrays[0]
    widths = {parameter.rows: _rows(stacks, parameter.name) for parameter in system.parameters}
    widths["input"] = x_TBI.shape[-1]
    widths |= {
        state.width: value.shape[-1] // state.depth for state, value in zip(system.states, states, strict=True)
    }
    over_time = [system.output_width, *([state.width for state in system.states] if every else ())]
    found = [x_TBI.new_empty(x_TBI.shape[0], x_TBI.shape[1], widths[width]) for width in over_time]
    return [
        found[0],
        *(torch.empty_like(value, memory_format=torch.contiguous_format) for value in states),
        *found[1:],
    ]


def _rows(stacks: tuple[Stack, ...], name: str) -> int:
    place = next(stack.rows[name] for stack in stacks if name in stack.rows)
    return int(place.stop - place.start)


@torch.library.custom_op("unvanish::sequence_backward", mutates_args=())
def sequence_backward(
    gradients: Sequence[Tensor],
    word: str,
    arrays: Sequence[Tensor],
    numbers: Sequence[Tensor],
    states: Sequence[Tensor],
    masks: Sequence[Tensor],
    time_B1: Tensor | None,
    lengths_B: Tensor | None,
    reset_TB: Tensor | None,
    every: bool,
) -> list[Tensor]:
    """Give the gradients of `arrays`, `numbers` and `states`, one after the other."""
    groups = [[value.detach().requires_grad_() for value in group] for group in (arrays, numbers, states)]
    leaves = [leaf for group in groups for leaf in group]
    with graph_recorded():
        result = _run(word, (*groups, masks), (time_B1, lengths_B, reset_TB), every)
        pairs = [(o, g) for o, g in zip(_listed(word, result), gradients, strict=True) if o.requires_grad]
        found = torch.autograd.grad([o for o, _ in pairs], leaves, [g for _, g in pairs], allow_unused=True)
    return [
        torch.zeros_like(leaf) if gradient is None else gradient.clone(memory_format=torch.contiguous_format)
        for leaf, gradient in zip(leaves, found, strict=True)
    ]


@sequence_backward.register_fake
def _(
    gradients: Sequence[Tensor],
    word: str,
    arrays: Sequence[Tensor],
    numbers: Sequence[Tensor],
    states: Sequence[Tensor],
    *rest: Any,
) -> list[Tensor]:
    return [
        torch.empty_like(value, memory_format=torch.contiguous_format) for value in (*arrays, *numbers, *states)
    ]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    word, arrays, numbers, states, masks, time_B1, lengths_B, reset_TB, every = inputs
    ctx.word, ctx.every = word, every
    ctx.counts = [len(group) for group in (arrays, numbers, states, masks)]
    ctx.save_for_backward(*arrays, *numbers, *states, *masks, time_B1, lengths_B, reset_TB)


def _backward(ctx: Any, gradients: list[Tensor]) -> tuple[Any, ...]:
    saved, groups, start = ctx.saved_tensors, [], 0
    for count in ctx.counts:
        groups.append(list(saved[start : start + count]))
        start += count
    found = torch.ops.unvanish.sequence_backward(gradients, ctx.word, *groups, *saved[start:], ctx.every)
    arrays, numbers, _, masks = ctx.counts
    ends = arrays + numbers
    return (None, found[:arrays], found[arrays:ends], found[ends:], [None] * masks, None, None, None, None)


sequence.register_autograd(_backward, setup_context=_keep)


def run_as_operator(job: Pass, registered: Registered) -> Result:
    """Put a pass into a graph as one operator."""
    system, timeless = job.plan.system, Timeless(job)
    names = [*system.numbers, *(statement.target.name for statement in job.plan.once)]
    found = torch.ops.unvanish.sequence(
        registered.word,
        [job.x_TBI, *(job.weights.arrays[stack.name] for stack in job.weights.stacks)],
        [timeless[name] for name in names],
        [job.states[state.name] for state in system.states],
        [job.masks[mask.name] for mask in system.masks],
        job.time_B1,
        job.lengths_B,
        job.reset_TB,
        job.wants_all_states,
    )
    count = len(system.states)
    names = [state.name for state in system.states]
    every = dict(zip(names, found[1 + count :], strict=True)) if job.wants_all_states else None
    return Result(found[0], dict(zip(names, found[1 : 1 + count], strict=True)), every)


def _multiplications(word: str, arrays: Sequence[tuple[int, ...]]) -> int:
    """How many numbers the matrices of a layer hold, times the steps of all rows."""
    known = _registered(word)
    steps, batch, _ = arrays[0]
    products = [s for s in known.plan.system.statements if isinstance(s, Product)]
    shapes = {name: (rows, stack.shape) for stack in known.stacks for name, rows in stack.rows.items()}
    met = [shapes[product.matrix] for product in products]
    return steps * batch * sum(int(rows.stop - rows.start) * shape[-1] for rows, shape in met)


@register_flop_formula(torch.ops.unvanish.sequence)
def _flops(word: str, arrays: Sequence[tuple[int, ...]], *_: Any, **__: Any) -> int:
    return 2 * _multiplications(word, arrays)


@register_flop_formula(torch.ops.unvanish.sequence_backward)
def _backward_flops(_: Any, word: str, arrays: Sequence[tuple[int, ...]], *__: Any, **___: Any) -> int:
    """One product for the adjoint of what was multiplied, one for that of the matrix."""
    return 4 * _multiplications(word, arrays)
