"""Write down every call of torch in a forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode

from unvanish.torch_internals import pytree

# What only asks a tensor about itself: no part of a computation.
_SILENT = frozenset(
    {"size", "dim", "shape", "stride", "is_contiguous", "requires_grad", "numel", "__len__", "device"}
    | {"dtype", "ndim", "is_floating_point", "data_ptr", "element_size", "item", "__bool__", "__int__", "__float__"}
    | {"__index__", "__repr__", "__format__", "__hash__"}
)
IN_PLACE = frozenset(f"__i{word}__" for word in ("add", "sub", "mul", "truediv", "pow", "matmul"))
CUTS = frozenset(["detach", "detach_", "data"])
MODULE = "module "  # before the name of a module whose call is one call


def _place(memory: Tensor, key: Any) -> str:
    """A place in a tensor in words: the last of ten steps is the tenth. Empty where numbers in a tensor say it."""
    keys, said = key if isinstance(key, tuple) else (key,), []
    for axis, one in enumerate(keys):
        if isinstance(one, Tensor):
            return ""
        said.append(one + memory.shape[axis] if isinstance(one, int) and one < 0 and axis < memory.dim() else one)
    return str(said)


@dataclass(frozen=True)
class Made:
    """One call of torch: its name, the module that it was made in, what went in and the tensors that came out.

    `cuts` are the modules in which something was detached since the call before; `inside` says whether it is the
    model's, not the loss's.
    """

    name: str
    module: str
    function: Any
    arguments: tuple[Any, Any]
    taken: tuple[Tensor, ...]
    given: tuple[Tensor, ...]
    cuts: tuple[str, ...] = ()
    inside: bool = True

    @property
    def token(self) -> Hashable:
        """What is the same whenever the same line of code runs, whatever the number of rows."""
        return (self.name, self.module, *(tuple(one.shape[one.dim() > 1 :]) for one in self.given))


def tensors_in(value: Any) -> tuple[Tensor, ...]:
    """Return the tensors in nested arguments."""
    return tuple(leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor))


class Calls(TorchFunctionMode):
    """Writes down every call of torch in the block; a call of a module in `whole` is one call."""

    def __init__(self, model: nn.Module, whole: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.made: list[Made] = []
        self._uncut: dict[int, Tensor] = {}  # what a detached tensor was before, by its id
        self._written: dict[int, dict[str, Tensor]] = {}  # what was put into a tensor, by its id and the place
        self._cuts: list[str] = []  # the modules that have detached something since the last call
        self._alive: list[Tensor] = []  # so that no id is used twice
        self._whole, self._names = set(whole), {module: name for name, module in model.named_modules()}
        self._inside: list[str] = [""]
        self._hidden = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Calls:
        for module in self._names:
            with contextlib.suppress(RuntimeError):  # what is scripted takes no hooks
                before = module.register_forward_pre_hook(self._enter, with_kwargs=True)
                self._stack.callback(before.remove)
                after = module.register_forward_hook(self._leave, with_kwargs=True, always_call=True)
                self._stack.callback(after.remove)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *fault: Any) -> None:
        self._stack.close()
        super().__exit__(*fault)  # type: ignore[no-untyped-call]

    def _enter(self, module: nn.Module, args: Any, keywords: Any) -> None:
        self._inside.append(self._names[module])
        self._hidden += module in self._whole

    def _leave(self, module: nn.Module, args: Any, keywords: Any, output: Any) -> None:
        self._inside.pop()
        if module in self._whole:
            self._hidden -= 1
            self._note(f"{MODULE}{self._names[module]}", module, (args, keywords), output)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", str(func))
        if name == "__get__":  # a property: `data`, `T`
            name = getattr(getattr(func, "__self__", None), "__name__", name)
        if name not in _SILENT and not self._hidden:
            self._note(name, func, (args, kwargs or {}), found)
        return found

    def _note(self, name: str, function: Any, taken: tuple[Any, Any], given: Any) -> None:
        out = () if self._hidden else tensors_in(given)
        before = tuple(self._uncut.get(id(one), one) for one in tensors_in(taken)) if out else ()
        if name in ("__setitem__", "__getitem__") and isinstance(taken[0][0], Tensor):
            before = self._through_memory(*taken[0]) or before
        if out and before and name in CUTS:
            # A cut is no call of its own: a loop that cuts now and then does the same at every step.
            self._cuts.append(self._inside[-1])
            self._alive.append(out[0])
            self._uncut[id(out[0])] = before[0]
        elif out:
            if name in IN_PLACE or (name.endswith("_") and not name.endswith("__")):
                given_in = {id(one) for one in tensors_in(taken)}
                out = tuple(self._kept(one) if id(one) in given_in else one for one in out)
            cuts, inside = tuple(self._cuts), len(self._inside) > 1
            self.made.append(Made(name, self._inside[-1], function, taken, before, out, cuts, inside))
            self._cuts.clear()

    def _kept(self, changed: Tensor) -> Tensor:
        """What a tensor holds now, since it may be changed once more, with the edge that its gradient comes by."""
        kept = changed.detach().clone()
        if changed.requires_grad:
            kept.requires_grad_().edge = get_gradient_edge(changed)  # type: ignore[attr-defined]
        self._alive += [changed, kept]
        self._uncut[id(changed)] = kept
        return kept

    def _through_memory(self, memory: Tensor, key: Any, value: Any = None) -> tuple[Tensor, ...]:
        """What was put into this place of a tensor, where it is read; where it is put there, keep it in mind."""
        place = _place(memory, key)
        of_memory = self._written.get(id(memory), {})
        if isinstance(value, Tensor):
            self._alive.append(memory)
            self._written[id(memory)] = of_memory | {place: value} if place else {}
            return ()
        return (of_memory[place],) if place in of_memory else ()
