"""Whether a model's code reads the state that a layer returns beside its output, so that another layer breaks it.

torch's GRU returns h_n, a tensor; an LSTM returns (h_n, c_n), and a layer with skips one that holds several steps.
Code such as `h_n[-1]` or `_, (h, c) = …` is written for one of these forms: in another it fails, or reads something
else without a word, as `h_n[-1]` then is c. Both are found by running a copy whose layer returns made-up states.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.diagnosis.remedying.remedy import read
from unvanish.flow.finding.untouched import copied
from unvanish.torch_internals import pytree


@dataclass
class StateWatch:
    """Sees the states that a layer returns, in the block, and puts others in their place.

    Attributes:
        put: makes what stands in place of the states; None lets them pass. The layer then begins each call without
            a state, for what it is handed back is made up.
        seen: the states of the last call; None before it, or where the layer returns nothing beside its output.
    """

    layer: nn.Module
    put: Callable[[Any], Any] | None = None
    seen: Any = None
    _hooks: list[Any] = field(default_factory=list, repr=False)

    def __enter__(self) -> StateWatch:
        if self.put is not None:
            self._hooks.append(self.layer.register_forward_pre_hook(self._before, with_kwargs=True))
        self._hooks.append(self.layer.register_forward_hook(self._after))
        return self

    def __exit__(self, *fault: object) -> None:
        for hook in self._hooks:
            hook.remove()

    @staticmethod
    def _before(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return given[:1], {name: value for name, value in named.items() if name != "hx"}

    def _after(self, _: nn.Module, given: Any, returned: Any) -> Any:
        if type(returned) is not tuple or len(returned) != 2:
            return None
        self.seen = returned[1]
        return None if self.put is None else (returned[0], self.put(returned[1]))


def form_of(states: Any) -> str:
    """Write of what form states are.

    >>> form_of(torch.zeros(2, 4, 8)), form_of((torch.zeros(2, 4, 8), torch.zeros(2, 4, 8)))
    ('one tensor (2, 4, 8)', 'a tuple of 2 tensors (2, 4, 8)')
    """
    leaves = pytree.tree_leaves(states)
    shapes = list(dict.fromkeys(str(tuple(leaf.shape)) for leaf in leaves))
    if isinstance(states, Tensor):
        return f"one tensor {shapes[0]}"
    return f"a {type(states).__name__} of {len(leaves)} tensors {', '.join(shapes)}"


def filled(states: Any, value: float) -> Any:
    """Make states of the same form that hold one number."""
    return pytree.tree_map(lambda leaf: torch.full_like(leaf, value, requires_grad=False), states)


def why_not_exchanged(
    model: nn.Module, changed: nn.Module, name: str, run: Callable[[nn.Module], Tensor], *, failed: bool
) -> str | None:
    """Say that the model's code wants the state of the layer `name` in the old form, None where it does not.

    `changed` is the model with another layer in that place, and `failed` whether it could be run.
    """
    twin = copied(model)
    with StateWatch(twin.get_submodule(name)) as old, torch.no_grad():
        _runs(twin, run)
    with StateWatch(changed.get_submodule(name)) as new, torch.no_grad():
        _runs(changed, run)
    if old.seen is None or (not failed and form_of(old.seen) == form_of(new.seen)):
        return None
    if not (_heals(changed, name, run, old.seen) if failed else _reads(model, name, run)):
        return None
    path, was = read(name), form_of(old.seen)
    if new.seen is None:
        return (
            f"the model's own code gives {path} its first state in the form of the layer that is there ({was}), "
            "and this layer takes another: leave that state out, or change the code with the layer"
        )
    return (
        f"the model's own code uses the state that {path} returns beside its output ({was}), and this layer "
        f"returns {form_of(new.seen)}: change that code with the layer, or let it read the output instead"
    )


def _runs(model: nn.Module, run: Callable[[nn.Module], Tensor]) -> Tensor | None:
    """The loss; None where the code of the model or of its loss raises anything."""
    try:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            return run(model).detach()
    except Exception:
        return None


def _heals(changed: nn.Module, name: str, run: Callable[[nn.Module], Tensor], old: Any) -> bool:
    """Whether the changed model runs where its layer returns a state of the old form."""
    with StateWatch(changed.get_submodule(name), lambda _: filled(old, 0.0)), torch.no_grad():
        return _runs(changed, run) is not None


def _reads(model: nn.Module, name: str, run: Callable[[nn.Module], Tensor]) -> bool:
    """Whether the loss is another where the state that is returned is."""
    losses = []
    for value in (0.25, 0.75):
        twin = copied(model)

        def put(states: Any, value: float = value) -> Any:
            return filled(states, value)

        with StateWatch(twin.get_submodule(name), put), torch.no_grad():
            losses.append(_runs(twin, run))
    one, other = losses
    return one is not None and other is not None and bool(one != other)
