"""Of models as people write them, the share of gradient and the verdict are those of plain autograd."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unvanish
from tests.outside.cases import CASES, Case
from tests.outside.truth import shares_left, shares_of_input
from tests.support.whole import WHOLE, usual

FACTOR, BORDER = 3.0, 0.01
NEAR = 2.0  # times the border: as near, either side of it is right


# Each as it is made, and some after some training too.
RUNS = [(name, 0) for name in CASES] + [(name, 200) for name in usual(list(CASES)[::4], list(CASES))]


@pytest.mark.parametrize(("name", "updates"), RUNS)
def test_share_and_verdict_are_those_of_plain_autograd(name: str, updates: int) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    random.seed(0)
    model = case.make()
    train(model, case, updates if WHOLE else min(updates, case.updates))
    batch, loss = case.batch()
    before = state_of(model)
    found = unvanish.diagnose(model, batch, loss, need=case.need, prescriptions=usual(False, True))
    assert_same(state_of(model), before)
    assert {part.name: found_by(part.kind) for part in found.parts} == case.found
    truth = {part: shares[case.need] for part, shares in shares_by_hand(model, case, batch, loss).items()}
    for part in found.parts:
        told, share = part.profile.norms[case.need], truth[part.name]
        assert share / FACTOR < told < share * FACTOR, (part.name, told, share)
        assert part.verdict in right_verdicts(share), (part.name, part.verdict, share)
    one_is_healthy = any(part.verdict == "healthy" for part in found.parts)
    assert found.verdict == ("healthy" if one_is_healthy else max(part.verdict for part in found.parts))


def right_verdicts(share: float) -> set[str]:
    if BORDER / NEAR < share < BORDER * NEAR:
        return {"healthy", "borderline", "vanishing"}
    return {"healthy"} if share > BORDER else {"vanishing"}


def found_by(kind: str) -> str:
    """What `PartFinding.kind` says of how a part was found."""
    if kind.startswith("a loop of"):
        return "loop"
    if kind.startswith("the steps of the input"):
        return "input"
    return "layer" if kind in ("torch.nn.LSTM", "torch.nn.GRU") else "cell"


def train(model: nn.Module, case: Case, updates: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), case.rate)
    for _ in range(updates):
        batch, loss = case.batch()
        optimizer.zero_grad()
        loss(called(model, batch)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    optimizer.zero_grad()


def called(model: nn.Module, batch: Any) -> Any:
    return model(*batch) if isinstance(batch, tuple) else model(batch)


def shares_by_hand(model: nn.Module, case: Case, batch: Any, loss: Any) -> dict[str, list[float]]:
    """The profile of every part from a run under watch: the second, whose masks are what a diagnosis sees."""
    called(model, batch)
    if case.embedding is not None:
        given: list[Tensor] = []
        model.get_submodule(case.embedding).register_forward_hook(lambda _, __, output: given.append(output))
        value = loss(called(model, batch))
        return {"the input": shares_of_input(value, given[0], 1)}
    with contextlib.ExitStack() as stack:
        watched = [stack.enter_context(watch(model)) for watch in case.watch]
        called(model, batch)
    return {name: shares_left(states) for taken in watched for name, states in taken.items()}


def state_of(model: nn.Module) -> list[Any]:
    """All that a model is, with the random numbers to come."""
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = [
        (key, id(value) if isinstance(value, Tensor) else str(value))
        for module in model.modules()
        for key, value in vars(module).items()
        if key[0] != "_"
    ]
    gradients = [parameter.grad is None for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    return [tensors, attributes, gradients, modes, torch.get_rng_state().tolist(), random.getstate()]


def assert_same(after: list[Any], before: list[Any]) -> None:
    assert after[0].keys() == before[0].keys()
    for name, value in before[0].items():
        assert torch.equal(after[0][name], value), name
    assert after[1:] == before[1:]
