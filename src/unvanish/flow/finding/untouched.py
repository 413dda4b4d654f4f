"""Give a model back as it was before it was looked at."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def untouched(
    model: nn.Module, optimizer: torch.optim.Optimizer | None = None, *, weights: bool = False, random: bool = True
) -> Iterator[None]:
    """Give a model its gradients, buffers and modes back after the block, and torch its random numbers.

    The block begins without gradients. With `weights` it is a whole training step: it begins with the gradients
    that there are, and the parameters and the optimiser's state are given back too. Without `random` the random
    numbers go on.

    >>> model = nn.BatchNorm1d(1)
    >>> with untouched(model.eval()):
    ...     model.train()(torch.ones(2, 1)).sum().backward()
    >>> model.training, model.running_mean, model.weight.grad
    (False, tensor([0.]), None)
    """
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(module, *named) for module in model.modules() for named in module.named_buffers(recurse=False)]
    held = [buffer for _, _, buffer in buffers]
    if weights:
        held += [value.detach() for pair in gradients for value in pair if value is not None]
    values = [(value, value.clone()) for value in held]
    state = None if optimizer is None else copy.deepcopy(optimizer.state_dict())
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng([device.index or 0 for device in devices], enabled=random), torch.enable_grad():
        for parameter, _ in () if weights else gradients:
            parameter.grad = None
        try:
            yield
        finally:
            for parameter, gradient in gradients:
                parameter.grad = gradient
            for module, training in modes:
                module.training = training
            for module, name, buffer in buffers:
                setattr(module, name, buffer)
            with torch.no_grad():
                for value, before in values:
                    value.copy_(before)
            if optimizer is not None and state is not None:
                optimizer.load_state_dict(state)
