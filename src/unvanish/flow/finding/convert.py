"""A torch.nn recurrent layer as one of ours, with the very same parameters."""

from __future__ import annotations

from typing import Any

from torch import nn

from unvanish.errors import FlowError
from unvanish.nn import Recurrent
from unvanish.nn.convert import arguments, cell_of, share_arrays


def _equivalent_layer(module: nn.RNNBase) -> Recurrent:
    """Return a layer of ours that shares the parameters of a torch.nn.RNN, LSTM or GRU.

    >>> theirs = nn.GRU(3, 4)
    >>> _equivalent_layer(theirs).weight_hh_l0 is theirs.weight_hh_l0
    True
    """
    cell, options = cell_of(module)
    layer = Recurrent(cell, **arguments(module), device="meta", **options)  # its own parameters are never filled
    return share_arrays(layer, module, lambda name: name)


KNOWN = (Recurrent, nn.RNNBase, nn.RNNCellBase)


def as_ours(module: nn.Module) -> Recurrent:
    """Return any recurrent module that is known as a layer of ours with the same parameters, named by equation.

    >>> theirs = nn.LSTM(3, 4)
    >>> as_ours(theirs)["b_f"].data_ptr() == theirs.bias_ih_l0[4:8].data_ptr()
    True
    """
    if isinstance(module, Recurrent):
        return module
    if isinstance(module, nn.RNNCellBase):
        return _equivalent_cell(module)
    if isinstance(module, nn.RNNBase):
        return _equivalent_layer(module)
    raise FlowError(f"{type(module).__name__} is not a known recurrent module: give one of torch's, or ours")


def as_layer(module: nn.Module) -> Recurrent:
    """Return what runs over sequences as a layer of ours with the same parameters.

    Raises:
        FlowError: the module is not such a layer.
    """
    if not isinstance(module, Recurrent | nn.RNNBase):
        raise FlowError(
            f"{type(module).__name__} is not a recurrent layer: give unvanish.Recurrent or torch.nn.LSTM, or look "
            "at a model of another kind with flow.record"
        )
    return as_ours(module)


def _equivalent_cell(module: nn.RNNCellBase) -> Recurrent:
    """Return a layer of ours that shares the parameters of a torch.nn.RNNCell, LSTMCell or GRUCell.

    >>> theirs = nn.LSTMCell(3, 4)
    >>> _equivalent_cell(theirs).weight_hh_l0 is theirs.weight_hh
    True
    """
    kinds = {nn.LSTMCell: nn.LSTM, nn.GRUCell: nn.GRU, nn.RNNCell: nn.RNN}
    kind = next((kind for kind in kinds if isinstance(module, kind)), None)
    if kind is None:
        raise FlowError(f"{type(module).__name__} is not a cell of torch.nn: record it by its name instead")
    options: dict[str, Any] = {"nonlinearity": module.nonlinearity} if isinstance(module, nn.RNNCell) else {}
    cell = cell_of(kinds[kind](1, 1, device="meta"))[0]
    sizes = module.input_size, module.hidden_size
    layer = Recurrent(cell, *sizes, bias=module.bias, device="meta", engine="reference", **options)
    return share_arrays(layer, module, lambda name: name.removesuffix("_l0"))
