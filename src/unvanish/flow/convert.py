"""A torch.nn recurrent layer as one of ours, with the very same parameters."""

from __future__ import annotations

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
