"""Give a model back as it was before it was looked at."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def unwrapped(model: nn.Module) -> nn.Module:
    """Return what torch.compile or DataParallel was given: the module that the parameters are named by."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


@contextlib.contextmanager
def eagerly(model: nn.Module) -> Iterator[None]:
    """Run what is compiled inside a model as it is written, in the block: what is compiled calls no hooks."""
    if not any(hasattr(module, "_orig_mod") for module in model.modules()):
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def copied(model: nn.Module) -> nn.Module:
    """Return a copy of a model; tensors that its modules hold beside parameters are copied without a graph."""
    return copy.deepcopy(model, _memo(model))


def copied_with(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a copy of a model and of what trains it."""
    memo = _memo(model)
    twin, its = copy.deepcopy((model, optimizer), memo)
    for name in (
        vars(optimizer).keys() - vars(its).keys()
    ):  # what an optimiser leaves out of its pickle, as LBFGS does
        setattr(its, name, copy.deepcopy(vars(optimizer)[name], memo))
    return twin, its


def _memo(model: nn.Module) -> dict[int, Any]:
    return {id(one): one.detach().clone() for one in _held(model) if one.grad_fn is not None}


@contextlib.contextmanager
def same_start(model: nn.Module) -> Iterator[None]:
    """Let what a run leaves in attributes, such as `self.hidden`, not be what the next run begins with."""
    before = [
        (module, _plain(module), dict(module._parameters), dict(module._buffers))
        for module in model.modules()
        if not isinstance(module, torch.jit.ScriptModule)  # its attributes are C++'s, and its run changes none
    ]
    try:
        yield
    finally:
        for module, plain, parameters, buffers in before:
            for name in vars(module).keys() - plain.keys() - _OWN:
                del module.__dict__[name]
            module.__dict__.update(plain)
            for name in module._parameters.keys() - parameters.keys():  # such as a weight that is recomputed
                del module._parameters[name]
            module._parameters.update(parameters)
            module._buffers.update(buffers)


def _held(model: nn.Module) -> list[Tensor]:
    """The tensors that modules hold beside parameters and buffers, such as a state in `self.hidden`."""
    plain = [value for module in model.modules() for name, value in vars(module).items() if name not in _OWN]
    own = {id(one) for one in (*model.parameters(), *model.buffers())}
    return [leaf for value in plain for leaf in _leaves(value) if id(leaf) not in own]


def _leaves(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from (leaf for inner in value.values() for leaf in _leaves(inner))
    elif isinstance(value, list | tuple):
        yield from (leaf for inner in value for leaf in _leaves(inner))


_OWN = frozenset(vars(nn.Module()))  # what every module has


@contextlib.contextmanager
def same_random(model: nn.Module) -> Iterator[None]:
    """Give torch, Python and NumPy their random numbers back after the block, those of the model's devices too."""
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device.index or 0 for device in devices]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextlib.contextmanager
def untouched(
    model: nn.Module, optimizer: torch.optim.Optimizer | None = None, *, weights: bool = False, random: bool = True
) -> Iterator[None]:
    """Give a model its gradients, buffers, modes and all that its modules hold back after the block.

    Torch, Python and NumPy get their random numbers back.

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
    held = [*model.buffers(), *(one.detach() for one in _held(model))]
    if weights:
        held += [value.detach() for pair in gradients for value in pair if value is not None]
    values = [(value, value.clone()) for value in held]
    state = None if optimizer is None else copy.deepcopy(optimizer.state_dict())
    with same_random(model) if random else contextlib.nullcontext(), torch.enable_grad():
        for parameter, _ in () if weights else gradients:
            parameter.grad = None
        try:
            with same_start(model):
                yield
        finally:
            for parameter, gradient in gradients:
                parameter.grad = gradient
            for module, training in modes:
                module.training = training
            with torch.no_grad():
                for value, before in values:
                    value.copy_(before)
            if optimizer is not None and state is not None:
                optimizer.load_state_dict(state)


def _plain(module: nn.Module) -> dict[str, Any]:
    """What a module holds beside parameters, buffers, modules and hooks; lists and mappings as they are now."""
    held = {name: value for name, value in vars(module).items() if name not in _OWN}
    return {n: copy.copy(value) if type(value) in (list, dict) else value for n, value in held.items()}
