"""Find modules that are called once a step: what one call returns goes into the next."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.errors import FlowError
from unvanish.flow.finding.between import Link, is_state, leaves_of
from unvanish.nn import Recurrent

LAYERS = (Recurrent, nn.RNNBase)
FEW = 3  # calls: fewer are not a recurrence


class _Chain:
    """Watches the calls of one module: does what it returns come back as what it takes?"""

    def __init__(self) -> None:
        self.before: list[Any] = []
        self.found: dict[tuple[int, int], int] = {}
        self.calls = 0

    def call(self, module: nn.Module, args: Any, keywords: Any, output: Any) -> None:
        for place, given in enumerate(leaves_of((args, keywords))):
            for position, returned in enumerate(self.before):
                if is_state(given) and is_state(returned) and _same_numbers(given, returned):
                    self.found[position, place] = self.found.get((position, place), 0) + 1
        self.before, self.calls = leaves_of(output), self.calls + 1

    def link(self) -> Link | None:
        """The links that nearly every call after the first has, each place used once."""
        steady = [pair for pair, count in self.found.items() if count >= max(1, self.calls // 2)]
        outputs, inputs = list[int](), list[int]()
        for position, place in sorted(steady):
            if position not in outputs and place not in inputs:
                outputs.append(position)
                inputs.append(place)
        return Link(tuple(outputs), tuple(inputs)) if outputs and self.calls >= FEW else None


def _same_numbers(one: Tensor, other: Tensor) -> bool:
    if one is other or one.shape != other.shape or not one.numel():
        return one is other
    try:
        return one.data_ptr() == other.data_ptr()
    except RuntimeError:  # inside vmap a tensor has no memory of its own
        return False


def links_of(model: nn.Module, loss: Callable[[], Tensor], cells: Iterable[str]) -> dict[str, Link]:
    """Run the model once, and find the modules that are called once a step."""
    named = dict(model.named_modules())
    inside = {m for module in named.values() if isinstance(module, LAYERS) for m in module.modules()}
    chains = {
        name: _Chain()
        for name, module in named.items()
        if name and module not in inside and not isinstance(module, torch.jit.ScriptModule)
    }
    with contextlib.ExitStack() as stack:
        for name, chain in chains.items():
            stack.callback(named[name].register_forward_hook(chain.call, with_kwargs=True).remove)
        loss()
    found = {name: link for name, chain in chains.items() if (link := chain.link()) is not None}
    # The innermost: a wrapper that hands the state through is not the recurrence.
    called = {n for n, chain in chains.items() if isinstance(named[n], nn.RNNCellBase) and chain.calls >= FEW}
    found |= {name: Link((), ()) for name in named if name in called and name not in found}
    inner = {name: link for name, link in found.items() if not any(o.startswith(f"{name}.") for o in found)}
    for name in cells:
        if name not in named:
            has = ", ".join(filter(None, named)) or "no modules in it"
            raise FlowError(f"the model has no module '{name}': it has {has}")
        inner.setdefault(name, Link((), ()))
    return inner
