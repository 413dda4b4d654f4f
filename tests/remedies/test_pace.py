"""Paced parameters change at their own steps only, by the sum of their gradients, and in every optimiser alike.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unvanish
from unvanish.errors import OptionError
from unvanish.remedies.pace import Pace

T, B, I, H, STEPS = 4, 2, 3, 8, 12
Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def _makes() -> Iterator[tuple[str, Make]]:
    """Every optimiser of torch, with momentum where it has it; but for those of other gradients, and LBFGS."""
    for name, kind in inspect.getmembers(torch.optim, inspect.isclass):
        if issubclass(kind, torch.optim.Optimizer) and name not in ("Optimizer", "LBFGS", "SparseAdam"):
            options: dict[str, Any] = {"lr": 0.01}
            if "momentum" in inspect.signature(kind).parameters:
                options["momentum"] = 0.9
            yield name, lambda parameters, kind=kind, options=options: kind(parameters, **options)
    yield "AMSGrad", lambda parameters: torch.optim.Adam(parameters, 0.01, amsgrad=True, weight_decay=0.1)
    yield "Adam, one by one", lambda parameters: torch.optim.Adam(parameters, 0.01, foreach=False)


MAKES = dict(_makes())
every_optimizer = pytest.mark.parametrize("name", MAKES)


def made(name: str, layer: nn.Module) -> torch.optim.Optimizer:
    """Of all parameters, or of the matrices where it takes no others."""
    matrices = name == "Muon"
    return MAKES[name]([p for p in layer.parameters() if p.dim() == 2 or not matrices])


def rates(name: str, given: Any) -> dict[str, Any]:
    return {"U_*": given, "W_*": given} if name == "Muon" else {"*": given}


def layer_of(kind: Any = unvanish.MGU) -> Any:
    torch.manual_seed(0)
    return kind(I, H)


def gradients(layer: nn.Module, step: int) -> None:
    """Put random gradients in their place."""
    generator = torch.Generator().manual_seed(step)
    for parameter in layer.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def rows_of(layer: Any, names: str, unit: int) -> list[tuple[nn.Parameter, int]]:
    """The stored rows of one unit in the parameters whose names begin so."""
    (part,) = unvanish.flow.as_ours(layer).parts()
    return [
        (part.arrays[stack.name], rows.start + unit)
        for stack in part.stacks
        for name, rows in stack.rows.items()
        if name.startswith(names)
    ]


@every_optimizer
@pytest.mark.parametrize("kind", [unvanish.MGU, nn.GRU])
def test_slices_change_at_their_steps_only(name: str, kind: Any) -> None:
    layer = layer_of(kind)
    optimizer = made(name, layer)
    pace = Pace(layer, optimizer, rates(name, (1, 2, 4)))
    of_unit = torch.arange(H) * 3 // H
    for step in range(1, STEPS + 1):
        before = [p.detach().clone() for p in layer.parameters()]
        own = copy.deepcopy(pace.state_dict()["optimizer"]["state"])
        gradients(layer, step)
        optimizer.step()
        for stored, was in zip(layer.parameters(), before, strict=True):
            if name == "Muon" and stored.dim() < 2:
                continue
            changed = (stored != was).flatten(1).any(1) if stored.dim() > 1 else stored != was
            rate = torch.tensor([1, 2, 4])[of_unit].repeat(len(stored) // H)
            assert not changed[step % rate != 0].any(), (step, changed)
            assert changed[step % rate == 0].any() or step == 1
        for number, one in enumerate(pace.state_dict()["rates"]):
            if step % one:
                assert _same(pace.state_dict()["optimizer"]["state"].get(number), own.get(number))
    assert pace.updates == {1: 12, 2: 6, 4: 3}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, Tensor) else one == other


@every_optimizer
def test_update_is_that_of_the_summed_gradients(name: str) -> None:
    """The slow twin: an optimiser by hand for the rows of each rate."""
    layer = layer_of()
    optimizer = made(name, layer)
    stored = [p for group in optimizer.param_groups for p in group["params"]]
    of_unit = torch.tensor([1, 3])[torch.arange(H) * 2 // H]
    twins = []
    for parameter in stored:
        for rate in (1, 3):
            rows = (of_unit.repeat(len(parameter) // H) == rate).nonzero()[:, 0]
            own = nn.Parameter(parameter.detach()[rows].clone())
            twins.append((parameter, rate, rows, own, MAKES[name]([own])))
    sums = [torch.zeros_like(own) for _, _, _, own, _ in twins]
    Pace(layer, optimizer, rates(name, (1, 3)))
    for step in range(1, STEPS + 1):
        gradients(layer, step)
        for number, (parameter, rate, rows, own, twin) in enumerate(twins):
            assert parameter.grad is not None
            sums[number] += parameter.grad[rows]
            if step % rate == 0:
                own.grad = sums[number].clone()
                twin.step()
                sums[number].zero_()
        optimizer.step()
    for parameter, _, rows, own, _ in twins:
        torch.testing.assert_close(parameter.detach()[rows], own.detach(), rtol=1e-6, atol=1e-7)


@every_optimizer
@pytest.mark.parametrize("scaled", [False, True])
def test_rates_of_one_are_the_plain_optimizer(name: str, scaled: bool) -> None:
    plain, paced = layer_of(), layer_of()
    optimizers = made(name, plain), made(name, paced)
    Pace(paced, optimizers[1], rates(name, 1), scaled=scaled)
    for step in range(STEPS):
        for layer, optimizer in zip((plain, paced), optimizers, strict=True):
            gradients(layer, step)
            optimizer.step()
    for one, other in zip(plain.parameters(), paced.parameters(), strict=True):
        assert torch.equal(one, other)


def test_others_go_on_as_ever_and_gradients_stay() -> None:
    plain, paced = layer_of(), layer_of()
    optimizers = made("Adam", plain), made("Adam", paced)
    Pace(paced, optimizers[1], {"U_f": 3})
    for step in range(5):
        for layer, optimizer in zip((plain, paced), optimizers, strict=True):
            gradients(layer, step)
            optimizer.step()
    for (name, one), other in zip(plain.named_parameters(), paced.parameters(), strict=True):
        assert other.grad is not None
        if name.startswith("weight_hh"):
            rows = {row for array, row in ((a, r + unit) for unit in range(H) for a, r in rows_of(paced, "U_f", 0))}
            others = [row for row in range(len(one)) if row not in rows]
            assert torch.equal(one[others], other[others])
            assert not torch.equal(one, other)
        else:
            assert torch.equal(one, other)


def test_scaled_rates_divide_the_learning_rate() -> None:
    layer = layer_of()
    before = layer["U_f"].detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    pace = Pace(layer, optimizer, {"U_f": (1, 4)}, scaled=True)
    gradients(layer, 0)
    slope = layer["U_f"].detach().clone()
    index = next(stack.rows["U_f"] for part in layer.parts() for stack in part.stacks if "U_f" in stack.rows)
    slope = layer.weight_hh_l0.grad[index]
    optimizer.step()
    lr_H = torch.tensor([0.1] * (H // 2) + [0.025] * (H // 2))
    torch.testing.assert_close(layer["U_f"].detach(), before - lr_H[:, None] * slope)
    assert pace.updates == {1: 1, 4: 1}


def test_closures_and_schedules() -> None:
    layer = layer_of()
    optimizer = torch.optim.SGD(layer.parameters(), 1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    pace = Pace(layer, optimizer, {"b_f": 2})
    before, rates_seen = layer["b_f"].detach().clone(), []

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = layer["b_f"].sum()
        value.backward()
        return value

    for _ in range(4):
        assert isinstance(optimizer.step(closure), Tensor)
        schedule.step()
        rates_seen.append(optimizer.param_groups[0]["lr"])
    # Two updates of a summed gradient of 2, at the rates 1 and 0.5.
    torch.testing.assert_close(layer["b_f"].detach(), before - 2 * 1.0 - 2 * 0.5)
    assert pace.updates == {1: 4, 2: 2}


def test_run_that_is_resumed_goes_on_to_the_same_numbers() -> None:
    def run(broken: int | None) -> Any:
        layer = layer_of()
        optimizer = made("AdamW", layer)
        pace = Pace(layer, optimizer, {"*": (1, 2, 5)})
        for step in range(STEPS):
            if step == broken:
                kept = copy.deepcopy((layer.state_dict(), optimizer.state_dict(), pace.state_dict()))
                layer = layer_of()
                optimizer = made("AdamW", layer)
                pace = Pace(layer, optimizer, {"*": (1, 2, 5)})
                for one, state in zip((layer, optimizer, pace), kept, strict=True):
                    one.load_state_dict(state)
            gradients(layer, step)
            optimizer.step()
        return layer

    whole = run(None)
    for broken in (1, 7):
        for one, other in zip(whole.parameters(), run(broken).parameters(), strict=True):
            assert torch.equal(one, other)
    pace = Pace(whole, made("AdamW", whole), {"*": 2})
    with pytest.raises(OptionError, match="of other update rates"):
        pace.load_state_dict({"rates": [1]})


def test_removed_pace_leaves_the_optimizer_as_it_was() -> None:
    layer = layer_of()
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    Pace(layer, optimizer, {"*": 3}).remove()
    before = layer["U_f"].detach().clone()
    gradients(layer, 0)
    optimizer.step()
    assert not torch.equal(layer["U_f"], before)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no parameter is called ''"),
        ({"V_*": 2}, r"no parameter is called 'V_\*'"),
        ({"U_f": 0}, "the rate of U_f is 0"),
        ({"U_f": 1.5}, "the rate of U_f is 1.5"),
        ({"U_f": range(1, H + 2)}, "U_f has 9 rates for 8 units"),
    ],
)
def test_rates_that_cannot_be_meant_are_refused(given: dict[str, Any], message: str) -> None:
    layer = layer_of()
    with pytest.raises(OptionError, match=message):
        Pace(layer, made("Adam", layer), given)


def test_optimizers_that_cannot_be_paced_are_refused() -> None:
    layer, other = layer_of(), nn.Linear(2, 2)
    with pytest.raises(OptionError, match="LBFGS looks at all parameters together"):
        Pace(layer, torch.optim.LBFGS(layer.parameters()), {"*": 2})
    with pytest.raises(OptionError, match="the optimizer does not have"):
        Pace(layer, made("Adam", other), {"*": 2})
    held = unvanish.MGU(I, H, constrain={"U_*": "orthogonal"})
    with pytest.raises(OptionError, match="is computed of other parameters"):
        Pace(held, made("Adam", held), {"U_*": 2})
