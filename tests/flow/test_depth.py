"""The profile along depth: what is measured is what the product of the layers' Jacobians says.

Shapes: T time, B batch, I input, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import unvanish
from unvanish.errors import FlowError, OptionError
from unvanish.flow.measuring.depth import depth

WIDTH = 8


class Block(nn.Module):
    """A layer, what it is called with, and how the two are put together."""

    def __init__(self, mix: Callable[[Tensor, Tensor], Tensor], layer: nn.Module) -> None:
        super().__init__()
        self.mix, self.layer = mix, layer

    def forward(self, x_BW: Tensor) -> Tensor:
        return self.mix(x_BW, self.layer(x_BW))


class Dense(nn.Module):
    """Every layer sees the outputs of all before it (Huang et al. 2017), each through a matrix of its own."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(WIDTH * (index + 1), WIDTH) for index in range(count))

    def forward(self, x_BW: Tensor) -> Tensor:
        seen = [x_BW]
        for block in self.blocks:
            seen.append(block(torch.cat(seen, -1)).sigmoid())
        return seen[-1]


def scaled_orthogonal(gain: float, count: int = 12) -> nn.Sequential:
    layers = [nn.Linear(WIDTH, WIDTH, bias=False, dtype=torch.float64) for _ in range(count)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain)
    return nn.Sequential(*layers)


def sigmoid_layers(count: int = 20) -> list[nn.Module]:
    return [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Sigmoid()) for _ in range(count)]


def inputs(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(5, WIDTH, dtype=dtype)


@pytest.mark.parametrize("gain", [0.3, 0.9, 1.0, 1.5])
def test_rate_of_scaled_orthogonal_layers_is_the_log_of_the_scale(gain: float) -> None:
    found = depth(scaled_orthogonal(gain), inputs(torch.float64), draws=1)
    assert found.norms == pytest.approx(gain ** np.arange(12))
    assert found.rate == pytest.approx(math.log(gain), abs=1e-10)
    assert found.level == pytest.approx(0, abs=1e-9)
    reach = min(11, math.floor(math.log(0.01) / math.log(gain))) if gain < 1 else 11
    assert (found.reach, found.censored) == (reach, reach == 11)
    assert found.layers == tuple(map(str, range(12)))
    assert found.by_layer["0"] == pytest.approx(gain**11)


def test_norms_are_frobenius_norms_of_products_of_jacobians() -> None:
    """E‖Jᵀv‖² = ‖J‖²_F for v ~ N(0, I)."""
    layers = [nn.Linear(3, 5), nn.Linear(5, 2), nn.Linear(2, 4)]
    model = nn.Sequential(*layers).double()
    found = depth(model, torch.randn(1, 3, dtype=torch.float64), draws=4000)
    product = torch.eye(4, dtype=torch.float64)
    for d, layer in enumerate([*layers[:0:-1], None]):
        assert found.norms[d] == pytest.approx(float(product.detach().norm()) / 2, rel=0.03)
        product = product @ layer.weight if layer is not None else product


def test_identity_blocks_lose_nothing() -> None:
    blocks = [Block(lambda x, y: x + 0 * y, layer) for layer in sigmoid_layers()]
    found = depth(nn.Sequential(*blocks), inputs())
    assert found.norms == pytest.approx(np.ones(20))
    assert found.rate == pytest.approx(0, abs=1e-6)
    assert found.weight_norms == pytest.approx(np.zeros(20))


def test_plain_sigmoid_layers_vanish_residual_and_dense_ones_do_not() -> None:
    plain = depth(nn.Sequential(*sigmoid_layers()), inputs())
    residual = depth(nn.Sequential(*[Block(torch.add, layer) for layer in sigmoid_layers()]), inputs())
    dense = depth(Dense(20), inputs())
    assert plain.rate < math.log(0.25)  # σ′ ≤ ¼, and these matrices shrink as well
    assert plain.reach < 5
    assert residual.reach == dense.reach == 19
    assert abs(residual.rate) < 0.1
    assert plain.norms[-1] < 1e-10 < 0.01 < dense.norms[-1]
    assert plain.weight_norms[0] < 1e-8 < 0.01 < residual.weight_norms[0]


def test_weight_norms_are_those_of_autograd() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 6), nn.Tanh(), nn.Linear(6, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 3))
    x_BW, v_BW = inputs(), torch.randn(5, 3)
    found = depth(model, x_BW, cotangent=v_BW)
    model(x_BW).backward(v_BW)
    for index, norm in zip((0, 2, 4), found.weight_norms, strict=True):
        gradients = [p.grad for p in model[index].parameters() if p.grad is not None]
        wanted = math.sqrt(sum(float(g.square().sum()) for g in gradients)) / float(v_BW.norm())
        assert norm == pytest.approx(wanted, rel=1e-5)
    assert found.layers == ("0", "2", "4")  # an activation trains nothing: it is not a layer


def test_scale_of_the_cotangent_changes_nothing() -> None:
    model, x_BW, v_BW = nn.Sequential(*sigmoid_layers(6)), inputs(), torch.randn(5, WIDTH)
    found, large = depth(model, x_BW, cotangent=v_BW), depth(model, x_BW, cotangent=1000 * v_BW)
    assert large.norms == pytest.approx(found.norms, rel=1e-4)
    assert large.weight_norms == pytest.approx(found.weight_norms, rel=1e-4)


def test_generator_decides_the_draws() -> None:
    model, x_BW = nn.Sequential(*sigmoid_layers(4)), inputs()

    def norms(seed: int) -> list[float]:
        found: list[float] = depth(model, x_BW, generator=torch.Generator().manual_seed(seed)).norms.tolist()
        return found

    assert norms(1) == norms(1) != norms(2)


def test_layers_by_name_as_modules_and_shared_ones() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.shared, self.last = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

        def forward(self, x_BW: Tensor, scale: float = 1.0) -> Tensor:
            x_BW = self.first(x_BW).relu_()  # in place: what the layer gave must stay known
            return self.last(self.shared(self.shared(scale * x_BW)))

    model, x_BW = Model(), inputs()
    assert depth(model, x_BW).layers == ("first", "shared", "shared (2)", "last")
    assert depth(model, x_BW, at=["first", model.last]).layers == ("first", "last")
    v_BW = torch.randn(5, WIDTH)
    whole, cut = depth(model, x_BW, cotangent=v_BW), depth(model, x_BW, at=["first", "last"], cotangent=v_BW)
    assert cut.norms[1] == pytest.approx(whole.norms[3])
    scaled = depth(model, (x_BW, 0.5), cotangent=v_BW)
    assert scaled.norms[3] == pytest.approx(whole.norms[3] / 2, rel=1e-5)
    named = depth(model, {"scale": 0.5, "x_BW": x_BW}, cotangent=v_BW)
    assert named.norms == pytest.approx(scaled.norms)
    back_BW = v_BW @ model.last.weight @ model.shared.weight @ model.shared.weight
    back_BW = back_BW * (model.first(x_BW) > 0)
    assert whole.norms[3] == pytest.approx(float(back_BW.detach().norm() / v_BW.norm()), rel=1e-5)


def test_a_list_inside_the_model_holds_the_layers() -> None:
    model = nn.Sequential(nn.Sequential(*sigmoid_layers(3)))
    assert depth(model, inputs()).layers == ("0.0", "0.1", "0.2")
    mixed = nn.ModuleDict({"body": nn.Sequential(*sigmoid_layers(2)), "head": nn.Linear(WIDTH, 2)})
    model = nn.Sequential(mixed["body"], mixed["head"])
    assert depth(model, inputs()).layers == ("0", "1")
    assert depth(model, inputs(), at=["0.0", "0.1", "1"]).layers == ("0.0", "0.1", "1")


def test_measuring_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(*[nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH)) for _ in range(3)])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        found = depth(model, inputs())
    assert found.norms[0] == pytest.approx(1)
    assert found.norms[-1] > 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_frozen_layers_pass_a_gradient_on_but_have_none_of_their_own() -> None:
    model, x_BW, v_BW = nn.Sequential(*sigmoid_layers(4)), inputs(), torch.randn(5, WIDTH)
    wanted = depth(model, x_BW, cotangent=v_BW)
    for layer in (model[0], model[1]):
        layer.requires_grad_(False)
    found = depth(model, x_BW, cotangent=v_BW)
    assert found.norms == pytest.approx(wanted.norms)
    assert np.isnan(found.weight_norms).tolist() == [True, True, False, False]
    assert found.to_dict()["weight_norms"][0] is None


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, unvanish.PeepholeLSTM, unvanish.RNN])
def test_layers_of_a_recurrent_stack(kind: Any, bidirectional: bool, batch_first: bool) -> None:
    options = {"bidirectional": bidirectional, "batch_first": batch_first, "dtype": torch.float64}
    stack = kind(3, 4, num_layers=3, **options)
    layers = [kind(3 if index == 0 else 4 * (1 + bidirectional), 4, **options) for index in range(3)]
    for index, layer in enumerate(layers):
        for name, parameter in layer.named_parameters():
            parameter.data = getattr(stack, name.replace("_l0", f"_l{index}")).data
    x_TBI = torch.randn(6, 2, 3, dtype=torch.float64)
    outputs = []
    y_TBW = x_TBI
    for layer in layers:
        y_TBW = layer(y_TBW)[0]
        outputs.append(y_TBW)
    v_TBW = torch.randn_like(y_TBW)
    gradients = torch.autograd.grad(y_TBW, outputs, v_TBW)
    found = depth(stack, x_TBI, cotangent=v_TBW)
    assert found.layers == ("l0", "l1", "l2")
    wanted = [float(gradient.norm() / v_TBW.norm()) for gradient in reversed(gradients)]
    assert found.norms == pytest.approx(wanted, rel=1e-9)


def test_a_stack_with_given_states_and_one_inside_a_model() -> None:
    stack = unvanish.LSTM(3, 4, num_layers=2, dropout=0.5)
    x_TBI, hx = torch.randn(6, 2, 3), (torch.randn(2, 2, 4), torch.randn(2, 2, 4))
    v_TBW = torch.randn(6, 2, 4)
    without, found = depth(stack, x_TBI, cotangent=v_TBW), depth(stack, (x_TBI, hx), cotangent=v_TBW)
    assert found.norms[1] != without.norms[1]
    zeros = (torch.zeros(2, 2, 4), torch.zeros(2, 2, 4))
    assert depth(stack, (x_TBI, zeros), cotangent=v_TBW).norms[1] == without.norms[1]
    model = nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 4))
    assert depth(model, x_TBI).layers == ("0", "1")  # of what a layer gives, the first tensor is its output


def test_a_stack_with_something_that_goes_past_its_layers_is_told() -> None:
    class Past(unvanish.Recurrent):
        def forward(self, *args: Any, **options: Any) -> Any:
            output, states = super().forward(*args, **options)
            return output + args[0], states

    with pytest.raises(FlowError, match="a forward of its own"):
        depth(Past("rnn", 3, 3, num_layers=2), torch.randn(6, 2, 3))


def test_what_cannot_be_measured() -> None:
    plain, x_BW = nn.Sequential(*sigmoid_layers(3)), inputs()
    cases: list[tuple[nn.Module, Any, dict[str, Any], type[Exception], str]] = [
        (nn.Linear(WIDTH, 2), x_BW, {}, FlowError, "two layers that are called"),
        (nn.Sequential(nn.Linear(WIDTH, 2), nn.ReLU()), x_BW, {}, FlowError, "found 0"),
        (nn.LSTM(WIDTH, 4), x_BW[None], {}, FlowError, "found l0"),
        (nn.LSTM(WIDTH, 4, num_layers=2), x_BW, {}, FlowError, r"\(T, B, I\)"),
        (plain, x_BW, {"at": ["0", "9"]}, FlowError, "no layer '9'"),
        (plain, x_BW, {"at": ["0", nn.Linear(2, 2)]}, FlowError, "not a part of the model"),
        (plain, x_BW, {"draws": 0}, OptionError, "draws"),
        (plain, x_BW, {"cotangent": torch.ones(2)}, OptionError, "cotangent"),
        (plain, x_BW, {"cotangent": torch.zeros(5, WIDTH)}, FlowError, "nothing to send back"),
    ]
    for model, batch, options, error, says in cases:
        with pytest.raises(error, match=says):
            depth(model, batch, **options)


def test_a_layer_that_gives_no_tensor_is_told() -> None:
    class Words(nn.Linear):
        def forward(self, input: Tensor) -> Any:
            return {"y": super().forward(input)}

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = Words(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

        def forward(self, x_BW: Tensor) -> Tensor:
            found: Tensor = self.last(self.first(x_BW)["y"])
            return found

    with pytest.raises(FlowError, match="gives dict"):
        depth(Model(), inputs())


class Frame(NamedTuple):
    x: Tensor
    scale: float


class Framed(nn.Module):
    """Takes one argument that is a tuple by type."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, given: Frame | PackedSequence) -> Tensor:
        x = given.data if isinstance(given, PackedSequence) else given.x * given.scale
        for block in self.blocks:
            x = block(x)
        return x


def test_named_tuple_is_one_argument_and_so_is_a_packed_sequence() -> None:
    x_TBW = torch.randn(4, 2, WIDTH)
    for batch in (Frame(x_TBW, 0.5), pack_padded_sequence(x_TBW, torch.tensor([4, 2]))):
        assert depth(Framed(), batch).layers == ("blocks.0", "blocks.1", "blocks.2")
    with pytest.raises(FlowError, match="batched tensor"):
        depth(nn.GRU(WIDTH, WIDTH, 2), pack_padded_sequence(x_TBW, torch.tensor([4, 2])))
