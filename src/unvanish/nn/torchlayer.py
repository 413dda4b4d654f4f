"""What code that was written for torch.nn.LSTM finds in a layer: attributes, `repr`, copies, kept state."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.utils import parametrize

from unvanish.equations import Cell
from unvanish.layer_options import LAYER_OPTIONS

if TYPE_CHECKING:
    from unvanish.engine.layout import Stack
    from unvanish.nn.part import Place

FORMAT = 2  # of a layer's kept state: 1 is torch's, and ours from when `gru` was reset before the product


def is_proxy(given: object) -> bool:
    """Whether torch.fx.symbolic_trace is going through a model."""
    return isinstance(given, Proxy)


def as_leaf(layer: nn.Module, given: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Put a layer into a graph of torch.fx as one call, as torch's own layers are."""
    tracer = given[0].tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(layer), given, keywords)


def autocasts(weight: Tensor) -> bool:
    """Whether autocast is on for a layer on the CPU; elsewhere torch's own operations do what it asks."""
    return weight.device.type == "cpu" and torch.is_autocast_enabled("cpu")


def autocast_dtype(cell: str, given: torch.dtype) -> torch.dtype:
    """The type of the output that torch's layers have under autocast on the CPU: RNN and LSTM cast, GRU does not.

    The work itself is done in the type of the weights, which loses nothing and is as fast.
    """
    return torch.get_autocast_dtype("cpu") if cell in ("rnn", "lstm") else given


class TorchLayer(nn.Module):
    """The part of torch.nn.RNNBase that is not about running: abstract, `Recurrent` has the rest."""

    _version = FORMAT
    cell: Cell
    bias: bool
    options: dict[str, Any]
    _places: tuple[Place, ...]
    _layout: tuple[tuple[Stack, ...], ...]

    @property
    def mode(self) -> str:
        """What torch calls the cell: RNN_TANH, RNN_RELU, LSTM, GRU; the cell's name in capitals for the others."""
        name = self.cell.name.upper()
        return f"{name}_{self.nonlinearity.upper()}" if name == "RNN" else name

    @property
    def nonlinearity(self) -> str:
        """The function of a cell that leaves it open."""
        if "nonlinearity" not in self.cell.functions:
            raise AttributeError(f"{self.cell.name} has no nonlinearity to choose")
        return str(self.options.get("nonlinearity", self.cell.functions["nonlinearity"]))

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The stored arrays, a list for each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._stored()]

    def _stored(self) -> list[list[str]]:
        return [[place.stored(stack.name) for stack in self._layout[place.layer]] for place in self._places]

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._stored() for name in names]

    @property
    def _flat_weights(self) -> list[Tensor]:
        return [array for arrays in self.all_weights for array in arrays]

    def flatten_parameters(self) -> None:
        """Do nothing: torch.nn.LSTM has this method and code written for it calls it."""

    def _get_name(self) -> str:
        return type(self).__name__.removeprefix("Parametrized")

    def extra_repr(self) -> str:
        """Say what the layer is, as torch's layers do."""
        changed = [
            f"{name}={getattr(self, name)}"
            for name, option in LAYER_OPTIONS.items()
            if option.shown and getattr(self, name) != option.usual
        ]
        changed += [f"{name}={value!r}" for name, value in self.options.items() if not isinstance(value, Tensor)]
        cell = [self.cell.name] if self._get_name() == "Recurrent" else []
        return ", ".join([*cell, str(self.input_size), str(self.hidden_size), *changed])

    # -- copies and kept state -------------------------------------------------------------------------

    def _make_known(self) -> None:
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_registered"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._make_known()  # a copy may wake up in another process

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle a constrained layer by the class that it was made from: torch gives it one of its own."""
        if not parametrize.is_parametrized(self):
            return super().__reduce_ex__(protocol)
        state = TorchLayer.__getstate__(self)
        # torch's weight_norm leaves a function here that cannot be pickled: it reads state dicts of before torch 2.
        hooks = state["_load_state_dict_pre_hooks"].items()
        kept = {key: hook for key, hook in hooks if "<locals>" not in getattr(hook.hook, "__qualname__", "")}
        return _with_constraints, (type(self).__mro__[1], {**state, "_load_state_dict_pre_hooks": kept})

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *rest: Any) -> None:
        if self.cell.name == "gru" and not self.bias and local_metadata.get("version") != FORMAT:
            warnings.warn(
                "this state dict has no format number of unvanish: one of torch.nn.GRU is right here; one of "
                "unvanish.GRU before 0.2 (reset before the product) belongs in unvanish.GRUResetBefore",
                FutureWarning,
                stacklevel=4,
            )
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def _with_constraints(kind: type[TorchLayer], state: dict[str, Any]) -> TorchLayer:
    """Wake up a pickled layer whose matrices are parametrised."""
    layer = kind.__new__(kind)
    layer.__setstate__(state)
    parametrize._inject_new_class(layer)
    for array in state["_modules"]["parametrizations"]:
        parametrize._inject_property(layer, array)
    return layer
