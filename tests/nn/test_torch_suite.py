"""The inputs that PyTorch tests its recurrent layers with, as its wheel ships them, run over ours.

For each of them: the output is torch's, in both modes of training; a copy and a pickled copy give the same;
gradients pass gradcheck and gradgradcheck; memory that is not contiguous, a loaded state dict, factory arguments,
`to`, `share_memory` and `zero_grad` do what they do to torch's.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unvanish

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_modules import module_db

KINDS = {nn.RNN: unvanish.RNN, nn.LSTM: unvanish.LSTM, nn.GRU: unvanish.GRU}


def inputs(training: bool, dtype: torch.dtype = torch.float64) -> Iterator[tuple[str, type, Any]]:
    for info in module_db:
        if info.module_cls in KINDS:
            kwargs = {"device": "cpu", "dtype": dtype, "requires_grad": True, "training": training}
            for number, given in enumerate(info.module_inputs_func(info, **kwargs)):
                yield f"{info.name}-{number}-{'train' if training else 'eval'}", info.module_cls, given


ALL = [(name, kind, given) for training in (True, False) for name, kind, given in inputs(training)]
each = pytest.mark.parametrize(("kind", "given"), [one[1:] for one in ALL], ids=[one[0] for one in ALL])


def made(kind: type, given: Any, **more: Any) -> tuple[nn.Module, nn.Module]:
    """Torch's layer and ours with the same weights."""
    args, keywords = given.constructor_input.args, given.constructor_input.kwargs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, ours = (one(*args, **{**keywords, "dtype": torch.float64, **more}) for one in (kind, KINDS[kind]))
    ours.load_state_dict(theirs.state_dict())
    return theirs.eval(), ours.eval()


def run(layer: nn.Module, given: Any) -> list[Tensor]:
    output = layer(*given.forward_input.args, **given.forward_input.kwargs)
    flat, _ = torch.utils._pytree.tree_flatten(output)
    return [value for value in flat if isinstance(value, Tensor)]


def close(found: list[Tensor], wanted: list[Tensor]) -> None:
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_torch_has_inputs_for_all_three() -> None:
    assert {kind for _, kind, _ in ALL} == set(KINDS)
    assert len(ALL) >= 60


@each
def test_output_and_gradients_are_those_of_torch(kind: type, given: Any) -> None:
    theirs, ours = made(kind, given)
    wanted, found = run(theirs, given), run(ours, given)
    close(found, wanted)
    leaves = [list(layer.parameters()) for layer in (theirs, ours)]
    gradients = [
        torch.autograd.grad(sum(value.sin().sum() for value in values), some)
        for values, some in zip((wanted, found), leaves, strict=True)
    ]
    close(list(gradients[1]), list(gradients[0]))


@each
def test_copies_and_kept_states_give_the_same(kind: type, given: Any) -> None:
    _, ours = made(kind, given)
    wanted = run(ours, given)
    close(run(copy.deepcopy(ours), given), wanted)
    buffer = io.BytesIO()
    torch.save(ours, buffer)
    buffer.seek(0)
    close(run(torch.load(buffer, weights_only=False), given), wanted)
    other = made(kind, given)[1]
    other.load_state_dict(ours.state_dict())
    close(run(other, given), wanted)
    assert list(ours.state_dict()) == list(made(kind, given)[0].state_dict())
    assert KINDS[kind].__name__ in repr(ours)


@each
def test_memory_that_is_not_contiguous_gives_the_same(kind: type, given: Any) -> None:
    _, ours = made(kind, given)
    wanted = run(ours, given)

    def spread(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.detach().repeat_interleave(2, -1)[..., ::2].requires_grad_(value.requires_grad)

    spaced = copy.copy(given)
    spaced.forward_input = copy.copy(given.forward_input)
    spaced.forward_input.args = torch.utils._pytree.tree_map(spread, given.forward_input.args)
    close(run(ours, spaced), wanted)


@each
def test_gradients_pass_gradcheck_twice(kind: type, given: Any) -> None:
    _, ours = made(kind, given)
    flat_args, spec = torch.utils._pytree.tree_flatten(given.forward_input.args)
    if not all(isinstance(value, Tensor) for value in flat_args):
        pytest.skip("a packed sequence is checked by its data in the other tests")
    leaves = [value.detach().clone().requires_grad_() for value in flat_args]

    def function(*values: Tensor) -> Any:
        args = torch.utils._pytree.tree_unflatten(list(values), spec)
        flat, _ = torch.utils._pytree.tree_flatten(ours(*args, **given.forward_input.kwargs))
        return tuple(flat)

    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


@each
def test_factory_arguments_moves_and_zeroing_are_those_of_torch(kind: type, given: Any) -> None:
    for layer in made(kind, given):
        assert {p.dtype for p in layer.parameters()} == {torch.float64}
        assert {p.dtype for p in layer.float().parameters()} == {torch.float32}
        assert not any(p.requires_grad for p in layer.requires_grad_(False).parameters())
        layer.requires_grad_(True).double().share_memory()
        sum(value.sum() for value in run(layer, given)).backward()
        layer.zero_grad()
        assert all(p.grad is None for p in layer.parameters())
    theirs, ours = made(kind, given, device="meta")
    assert {p.device.type for p in ours.parameters()} == {p.device.type for p in theirs.parameters()} == {"meta"}
