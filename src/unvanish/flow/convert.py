"""A torch.nn recurrent layer as one of ours, with the very same parameters."""

from __future__ import annotations

from typing import Any

from torch import nn

from unvanish.errors import FlowError
from unvanish.nn import Recurrent


def equivalent_layer(module: nn.RNNBase) -> Recurrent:
    """Return a layer of ours that shares the parameters of a torch.nn.RNN, LSTM or GRU.

    >>> theirs = nn.GRU(3, 4)
    >>> equivalent_layer(theirs).weight_hh_l0 is theirs.weight_hh_l0
    True
    """
    options = {}
    if isinstance(module, nn.LSTM):
        name = "lstm"
    elif isinstance(module, nn.GRU):
        name = "gru_reset_after"
    elif isinstance(module, nn.RNN):
        name, options = "rnn", {"nonlinearity": module.nonlinearity}
    else:
        raise FlowError(f"{type(module).__name__} is no layer of torch.nn that is known: record its cell instead")
    layer = Recurrent(
        name,
        module.input_size,
        module.hidden_size,
        module.num_layers,
        module.bias,
        module.batch_first,
        module.dropout,
        module.bidirectional,
        module.proj_size,
        device="meta",  # its own parameters are never filled
        **options,
    )
    for parameter, _ in list(layer.named_parameters()):
        setattr(layer, parameter, getattr(module, parameter))
    return layer


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
        return equivalent_cell(module)
    if isinstance(module, nn.RNNBase):
        return equivalent_layer(module)
    raise FlowError(f"{type(module).__name__} is no recurrent module that is known: give one of torch's, or ours")


def equivalent_cell(module: nn.RNNCellBase) -> Recurrent:
    """Return a layer of ours that shares the parameters of a torch.nn.RNNCell, LSTMCell or GRUCell.

    >>> theirs = nn.LSTMCell(3, 4)
    >>> equivalent_cell(theirs).weight_hh_l0 is theirs.weight_hh
    True
    """
    names = {nn.LSTMCell: "lstm", nn.GRUCell: "gru_reset_after", nn.RNNCell: "rnn"}
    kind = next((kind for kind in names if isinstance(module, kind)), None)
    if kind is None:
        raise FlowError(
            f"{type(module).__name__} is no cell of torch.nn that is known: record it by its name instead"
        )
    options: dict[str, Any] = {"nonlinearity": module.nonlinearity} if isinstance(module, nn.RNNCell) else {}
    layer = Recurrent(
        names[kind],
        module.input_size,
        module.hidden_size,
        bias=module.bias,
        device="meta",
        engine="reference",
        **options,
    )
    for parameter, _ in list(layer.named_parameters()):
        setattr(layer, parameter, getattr(module, parameter.removesuffix("_l0")))
    return layer
