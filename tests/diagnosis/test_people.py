"""The verdict and the first cause are right on models as people write them, which are afterwards as they were."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import unvanish
from tests.diagnosis import uneven  # noqa: F401  its kinds are among them
from tests.diagnosis.people import KINDS
from unvanish.flow.finding.calling import called
from unvanish.flow.finding.calls import tensors_in
from unvanish.flow.finding.observe import observe
from unvanish.flow.finding.untouched import unwrapped


@pytest.mark.parametrize("name", KINDS)
def test_verdict_and_first_cause(name: str) -> None:
    kind, given = KINDS[name], _made(name)
    patient = given.pop("model"), given.pop("batch"), given.pop("loss")
    found = unvanish.diagnose(*patient, **given, prescriptions=False)
    first = found.causes[0] if found.causes else None
    told = "none" if first is None else f"{first.kind} {first.text}".lower()
    assert not kind.verdicts or found.verdict in kind.verdicts, str(found)
    assert kind.cause is None or kind.cause in told, str(found)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.found])
def test_recurrence_is_found_as_it_should_be(name: str) -> None:
    given = _made(name)
    model, batch = unwrapped(given["model"]), given["batch"]
    found = observe(
        model,
        lambda: given["loss"](called(model, batch)),
        cells=given.get("cells", ()),
        inputs=tensors_in(batch),
        need=given["need"],
    )
    kinds = {found.module_of(part).kind for part in found.parts}
    assert kinds == {KINDS[name].found}


@pytest.mark.parametrize("name", KINDS)
def test_model_is_afterwards_as_it_was(name: str) -> None:
    given = _made(name)
    model, batch = given.pop("model"), given.pop("batch")
    if isinstance(model, torch.jit.ScriptModule):
        pytest.skip("what is scripted holds no Python attributes")
    before, attributes = copy.deepcopy(model.state_dict()), _attributes(model)
    modes, random = [module.training for module in model.modules()], torch.get_rng_state()
    unvanish.diagnose(model, batch, given.pop("loss"), **given)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    after = model.state_dict()
    assert after.keys() == before.keys()
    for key, value in before.items():
        assert torch.equal(after[key], value) or value.isinf().any(), key
    assert _attributes(model) == attributes
    assert all(not leaf.requires_grad for leaf in tensors_in(batch))


def _attributes(model: nn.Module) -> list[tuple[str, Any]]:
    """What modules hold beside parameters, tensors by identity."""
    held = [(key, value) for module in model.modules() for key, value in vars(module).items() if key[0] != "_"]
    return [(key, [id(one) for one in tensors_in(value)] or str(value)) for key, value in held]


def _made(name: str) -> dict[str, Any]:
    torch.manual_seed(0)
    return KINDS[name].make()
