"""Swap the recurrent layers of a model: torch.nn's for ours, and back, with the very same parameters."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from unvanish.cells import CATALOGUE
from unvanish.equations import Cell
from unvanish.errors import OptionError
from unvanish.layer_options import LAYER_OPTIONS
from unvanish.nn.named import CLASSES, class_name
from unvanish.nn.recurrent import Recurrent

_THEIRS: dict[type[nn.RNNBase], str] = {nn.RNN: "rnn", nn.LSTM: "lstm", nn.GRU: "gru"}


def convert(model: nn.Module, to: str = "unvanish") -> nn.Module:
    """Return a model with every RNN, LSTM and GRU of torch.nn swapped for ours, or, with `to="torch"`, back.

    The layers inside a model are swapped in place; a layer that is given alone comes back as the other. Parameters,
    buffers, hooks and parametrisations are the same objects as before, so that optimisers and ties go on; a layer
    that stands in two places is one layer afterwards. A warning lists what cannot be swapped, and why.

    Raises:
        OptionError: `to` is neither "unvanish" nor "torch".

    >>> import torch
    >>> model = nn.Sequential(nn.LSTM(3, 4))
    >>> before, x = model(torch.ones(5, 2, 3))[0], torch.ones(5, 2, 3)
    >>> convert(model)
    Sequential(
      (0): LSTM(3, 4)
    )
    >>> torch.allclose(model(x)[0], before, atol=1e-6)
    True
    """
    swaps: dict[str, Callable[[nn.Module], nn.Module | str | None]] = {"unvanish": _as_ours, "torch": _as_torchs}
    if to not in swaps:
        raise OptionError(f"to={to!r}: give 'unvanish' or 'torch'")
    done: dict[nn.Module, nn.Module] = {}
    left: list[str] = []

    def swapped(module: nn.Module, path: str) -> nn.Module:
        if module not in done:
            found = swaps[to](module)
            if isinstance(found, str):
                left.append(f"{path or 'the model'} ({found})")
            done[module] = found if isinstance(found, nn.Module) else module
            if done[module] is module:
                for name, child in list(module._modules.items()):  # named_children() leaves out what comes twice
                    if child is not None:
                        module._modules[name] = swapped(child, f"{path}.{name}" if path else name)
        return done[module]

    found = swapped(model, "")
    if left:
        warnings.warn(f"not converted: {'; '.join(left)}", stacklevel=2)
    return found


def cell_of(module: nn.RNNBase) -> tuple[Cell, dict[str, Any]]:
    """Return the cell of a layer of torch.nn, and what its layer takes beside the sizes."""
    name = next(name for kind, name in _THEIRS.items() if isinstance(module, kind))
    return CATALOGUE[name], {"nonlinearity": module.nonlinearity} if name == "rnn" else {}


def arguments(module: nn.RNNBase | Recurrent) -> dict[str, Any]:
    """Return the arguments that a layer of torch.nn and ours have in common, without dropout between layers."""
    names = "input_size hidden_size num_layers bias batch_first bidirectional proj_size"
    return {name: getattr(module, name) for name in names.split()}


def _as_ours(module: nn.Module) -> nn.Module | str | None:
    """Return a layer of ours, the reason why it cannot be one, or None for a module of another kind."""
    if isinstance(module, nn.RNNCellBase):
        return f"a {type(module).__name__} is called once a step, which no layer is"
    if not isinstance(module, nn.RNNBase):
        return None
    kind = _plain_type(module)
    if kind not in _THEIRS:
        return f"{kind.__name__} is a class of its own"
    cell, options = cell_of(module)
    layer = Recurrent(cell, **arguments(module), device="meta", **options)
    layer.__class__ = CLASSES[class_name(cell)]
    fresh = next(known for known in _THEIRS if known is kind)(1, 1, device="meta")  # type: ignore[arg-type, call-arg]
    return _with_contents(layer, module, fresh)


def _as_torchs(module: nn.Module) -> nn.Module | str | None:
    if not isinstance(module, Recurrent):
        return None
    kind = next((kind for kind, name in _THEIRS.items() if CATALOGUE[name] is module.cell), None)
    if kind is None:
        return f"torch.nn has no {module.cell.name}"
    changed = [n for n, option in LAYER_OPTIONS.items() if option.ours and getattr(module, n) != option.usual]
    if changed or module.taps:
        return f"torch.nn has no {', '.join(changed) or 'clip or penalty inside the recurrence'}"
    function = module.options.get("nonlinearity", "tanh")
    if function not in ("tanh", "relu"):
        return f"torch.nn.RNN has no {function}"
    if module.proj_size and kind is not nn.LSTM:
        return f"torch.nn.{kind.__name__} has no projection"
    given = arguments(module)
    if kind is not nn.LSTM:
        del given["proj_size"]
    layer = kind(**given, device="meta", **({"nonlinearity": function} if kind is nn.RNN else {}))
    return _with_contents(layer, module, Recurrent(module.cell, 1, 1, device="meta"))


def _plain_type(module: nn.Module) -> type[nn.Module]:
    """The class of a module before torch gave it one of its own for its parametrisations."""
    return type(module).__mro__[1] if parametrize.is_parametrized(module) else type(module)


def _with_contents(layer: nn.Module, other: nn.Module, fresh: nn.Module) -> nn.Module:
    """Give a layer all that another one of the same equations holds; `fresh` is one of the other's kind, untouched.

    Hooks stay in the same dictionaries, so that the handles which remove them go on working.
    """
    layer.dropout = other.dropout  # as an argument it would be warned of once more where there is one layer
    for name in vars(nn.Module()):
        value = getattr(other, name)
        layer.__dict__[name] = copy.copy(value) if name in ("_parameters", "_buffers", "_modules") else value
    for name in vars(other).keys() - vars(fresh).keys():  # what a user, or a hook, has put there
        layer.__dict__[name] = vars(other)[name]
    if parametrize.is_parametrized(other):
        parametrize._inject_new_class(layer)
        for name in other._modules["parametrizations"]:  # type: ignore[union-attr]
            parametrize._inject_property(layer, name)
    if isinstance(layer, nn.RNNBase):
        layer._init_flat_weights()
    return layer


def share_arrays(layer: Recurrent, other: nn.Module, names: Callable[[str], str]) -> Recurrent:
    """Let a layer of ours have the arrays of another module, found by their names there, and its dropout."""
    layer.dropout = getattr(other, "dropout", 0.0)
    for name in layer._flat_weights_names:
        array: Tensor | None = getattr(other, names(name), None)
        if array is None:  # it is made in the forward pass, which is yet to come
            continue
        if not isinstance(array, nn.Parameter):  # parametrised, or recomputed in each forward pass
            layer._parameters.pop(name, None)
        setattr(layer, name, array)
    return layer
