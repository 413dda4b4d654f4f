"""Clips with a fixed threshold: what each keeps, what each bounds, and that torch and the papers say the same."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from unvanish.errors import OptionError
from unvanish.remedies import clip

SHAPES = [(5, 3), (5,), (2, 3, 4), (1,), ()]


def given(scale: float = 1.0, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    """Parameters of many shapes with gradients."""
    found = [nn.Parameter(torch.randn(shape).to(dtype)) for shape in SHAPES]
    for parameter in found:
        parameter.grad = (scale * torch.randn(parameter.shape)).to(dtype)
    return found


def gradient(parameters: list[nn.Parameter]) -> Tensor:
    return torch.cat([parameter.grad.double().flatten() for parameter in parameters])


def angle(first: Tensor, second: Tensor) -> float:
    first, second = first / first.norm(), second / second.norm()
    return math.degrees(2 * math.atan2(float((first - second).norm()), float((first + second).norm())))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4, 1e15, 1e30])
def test_by_norm_keeps_the_direction_and_gives_the_threshold(scale: float) -> None:
    parameters = given(scale)
    before = gradient(parameters)
    threshold = 0.3 * float(before.norm())
    record = clip.ByNorm(threshold)(parameters)
    after = gradient(parameters)
    assert angle(before, after) < 1e-4
    assert float(after.norm()) == pytest.approx(threshold, rel=1e-6)
    assert record.norm == pytest.approx(float(before.norm()), rel=1e-6)
    assert record.factor == pytest.approx(0.3, rel=1e-6)
    assert record.acted
    assert not record.nonfinite


def test_by_norm_leaves_a_short_gradient_alone_to_the_bit() -> None:
    parameters = given()
    before = gradient(parameters)
    record = clip.ByNorm(1e6)(parameters)
    assert torch.equal(before, gradient(parameters))
    assert (record.acted, record.factor) == (False, 1.0)


def test_by_value_bounds_every_entry_and_turns_the_gradient() -> None:
    parameters = given(3.0)
    before = gradient(parameters)
    record = clip.ByValue(0.5)(parameters)
    after = gradient(parameters)
    assert torch.equal(after, before.clamp(-0.5, 0.5))
    assert angle(before, after) > 5
    assert record.factor == pytest.approx(float(after.norm() / before.norm()), rel=1e-6)
    assert record.acted
    # longer than the threshold as a whole, though no entry is
    assert not clip.ByValue(0.5)(parameters).acted


@pytest.mark.parametrize("threshold", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_says_the_same(threshold: float, dtype: torch.dtype) -> None:
    for ours, theirs in ((clip.ByNorm, clip_grad_norm_), (clip.ByValue, clip_grad_value_)):
        parameters = given(2.0, dtype)
        twins = [nn.Parameter(parameter.detach().clone()) for parameter in parameters]
        for twin, parameter in zip(twins, parameters, strict=True):
            twin.grad = parameter.grad.clone()
        norm = theirs(twins, threshold)
        record = ours(threshold)(parameters)
        torch.testing.assert_close(gradient(parameters), gradient(twins), rtol=2e-6, atol=1e-7)
        if norm is not None:
            assert record.norm == pytest.approx(float(norm), rel=1e-6)


def test_per_layer_bounds_each_module_and_spares_the_short() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1)))
    for layer, scale in zip([model[0], model[2][0], model[2][1]], (100.0, 1e-3, 10.0), strict=True):
        for parameter in layer.parameters():
            parameter.grad = scale * torch.randn(parameter.shape)
    layers = [list(layer.parameters()) for layer in (model[0], *model[2])]
    before = [gradient(layer) for layer in layers]
    record = clip.PerLayer(1.0)(model)
    for layer, was in zip(layers, before, strict=True):
        now = gradient(layer)
        assert float(now.norm()) == pytest.approx(min(1.0, float(was.norm())), rel=1e-6)
        assert angle(was, now) < 1e-4
    after = torch.cat([gradient(layer) for layer in layers])
    assert record.factor == pytest.approx(float(after.norm() / torch.cat(before).norm()), rel=1e-6)


def test_per_layer_takes_groups_and_the_rest_is_one_more() -> None:
    parameters = given(10.0)
    first, rest = parameters[:2], parameters[2:]
    clip.PerLayer(1.0, groups=[first])(parameters)
    assert float(gradient(first).norm()) == pytest.approx(1.0, rel=1e-6)
    assert float(gradient(rest).norm()) == pytest.approx(1.0, rel=1e-6)


def test_a_copy_of_per_layer_keeps_its_groups_and_follows_a_copied_model() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    found = clip.PerLayer(1.0, groups=list(model))
    for its, copied in ((model, copy.deepcopy(found)), copy.deepcopy((model, found))):
        for parameter in its.parameters():
            parameter.grad = torch.full_like(parameter, 9.0)
        copied(its)
        for layer in its:
            assert float(gradient(list(layer.parameters())).norm()) == pytest.approx(1.0, rel=1e-6)


def test_per_layer_of_an_optimiser_and_of_a_list() -> None:
    parameters = given(10.0)
    groups = [{"params": parameters[:2]}, {"params": parameters[2:]}]
    clip.PerLayer(1.0)(torch.optim.SGD(groups, lr=1.0))
    assert float(gradient(parameters[:2]).norm()) == pytest.approx(1.0, rel=1e-6)
    assert float(gradient(parameters[2:]).norm()) == pytest.approx(1.0, rel=1e-6)
    parameters = given(10.0)
    clip.PerLayer(1.0)(parameters)
    for parameter in parameters:
        assert float(parameter.grad.norm()) <= 1 + 1e-6


def test_a_parameter_in_two_groups_is_refused() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(OptionError, match="two of the groups"):
        clip.PerLayer(1.0, groups=[layer, [layer.bias]])


def unit_wise(weight: Tensor, slope: Tensor, factor: float, eps: float) -> Tensor:
    """Equation 3 of Brock et al. 2021, unit by unit, in double precision."""
    if weight.dim() < 2:
        return unit_wise(weight.reshape(1, -1), slope.reshape(1, -1), factor, eps).reshape(weight.shape)
    rows = []
    for w, g in zip(weight.double(), slope.double(), strict=True):
        size = max(float(w.norm()), eps)
        rows.append(factor * size / g.norm() * g if float(g.norm()) / size > factor else g)
    return torch.stack(rows)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e25])
@pytest.mark.parametrize("width", [3, 300])  # the wide ones are measured by themselves
def test_unit_wise_is_the_papers(scale: float, width: int) -> None:
    shapes = [*SHAPES, (3, 5), (6, width), (2, width, 40)]
    parameters = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    with torch.no_grad():
        parameters[0][1] = 0.0  # a unit that begins at zero
    for parameter in parameters:
        parameter.grad = scale * torch.randn(parameter.shape)
    before = [parameter.grad.clone() for parameter in parameters]
    record = clip.UnitWise(0.02, eps=1e-2)(parameters)
    for parameter, slope in zip(parameters, before, strict=True):
        wanted = unit_wise(parameter.detach(), slope, 0.02, 1e-2)
        torch.testing.assert_close(parameter.grad.double(), wanted, rtol=1e-5, atol=1e-30)
    norms = [
        torch.cat([one.double().flatten() for one in many]).norm() for many in (before, [gradient(parameters)])
    ]
    assert record.factor == pytest.approx(float(norms[1] / norms[0]), rel=1e-5)
    assert record.acted == (record.factor < 1)


def test_unit_wise_depends_on_the_size_of_the_weights_alone() -> None:
    """Weights and gradients times a constant: the same share is left, which no fixed threshold would give."""
    factors = []
    for scale in (1.0, 1000.0):
        torch.manual_seed(1)
        weight = nn.Parameter(scale * torch.randn(4, 4))
        weight.grad = scale * torch.randn(4, 4)
        factors.append(clip.UnitWise(0.1, eps=1e-9)([weight]).factor)
    assert factors[0] == pytest.approx(factors[1], rel=1e-5)
    assert factors[0] < 1


@pytest.mark.parametrize("threshold", [0, -1.0, math.nan, math.inf, "1", True, None])
@pytest.mark.parametrize("kind", [clip.ByNorm, clip.ByValue, clip.PerLayer, clip.UnitWise, clip.RandomStep])
def test_a_threshold_is_a_positive_number(kind: type[clip.Clip], threshold: object) -> None:
    with pytest.raises(OptionError, match="positive number"):
        kind(threshold)  # type: ignore[call-arg]
