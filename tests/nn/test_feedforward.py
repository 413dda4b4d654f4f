"""Feed-forward networks: what they compute, and how far a gradient reaches into their depth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unvanish import flow
from unvanish.errors import OptionError
from unvanish.nn.feedforward import MLP, DenseMLP, FeedForward, HighwayMLP, ResidualMLP

I, H, O, D = 8, 64, 3, 30
KINDS = (MLP, ResidualMLP, DenseMLP, HighwayMLP)


def through(kind: type[FeedForward], *, layers: int = D, **options: Any) -> flow.DepthProfile:
    torch.manual_seed(0)
    network = kind(I, H, O, layers, **options)
    found = flow.depth(network, torch.randn(64, I))
    assert found.layers == tuple(f"layers.{index}" for index in range(layers))  # all of one width
    return found


def zeroed(network: nn.Module, *but: str) -> None:
    for name, parameter in network.named_parameters():
        if name.endswith("weight") and name not in but:
            nn.init.zeros_(parameter)


def test_a_plain_stack_of_sigmoids_vanishes_by_a_quarter_a_layer_and_more() -> None:
    found = through(MLP, activation="sigmoid", init="orthogonal")
    assert (found.norms <= 0.25 ** np.arange(D) * 1.0001).all()  # σ' is 1/4 at most, and ‖W‖ is 1
    assert found.reach <= 3
    assert through(MLP, activation="sigmoid").reach <= 3


@pytest.mark.parametrize("kind", [ResidualMLP, DenseMLP, HighwayMLP])
def test_connections_past_the_layers_carry_a_gradient_through_all_of_them(kind: type[FeedForward]) -> None:
    found = through(kind, activation="sigmoid")
    assert found.censored
    assert found.norms[-1] > 0.01


def test_a_clean_way_past_keeps_a_gradient_whole_and_an_activated_one_does_not() -> None:
    assert through(ResidualMLP, activation="sigmoid").rate == pytest.approx(0, abs=0.02)
    network = ResidualMLP(I, H, O, D, "sigmoid")
    zeroed(network)
    assert flow.depth(network, torch.randn(4, I)).norms == pytest.approx(np.ones(D))
    assert through(ResidualMLP, activation="sigmoid", order="post").reach <= 4
    assert through(ResidualMLP, activation="relu", order="post").censored


def test_a_highway_carries_what_its_gates_leave() -> None:
    for bias in (-1.0, -2.0, -4.0):
        network = HighwayMLP(I, H, O, D, "sigmoid", gate_bias=bias, dtype=torch.float64)
        zeroed(network)
        found = flow.depth(network, torch.randn(4, I, dtype=torch.float64))
        assert found.norms == pytest.approx((1 - 1 / (1 + math.exp(-bias))) ** np.arange(D))
    network = HighwayMLP(I, H, O, 5, init="he")  # a word for matrices leaves the gates' biases
    assert all(bool((layer.gate.bias == -2).all()) for layer in network.layers)  # type: ignore[union-attr]


def test_every_dense_layer_sees_every_earlier_one_by_itself() -> None:
    for kind, seen in ((DenseMLP, True), (MLP, False)):
        network = kind(I, H, O, 6)
        zeroed(network, "layers.5.linear.weight")
        norms = flow.depth(network, torch.randn(4, I)).norms
        assert (norms[1:] > 0).tolist() == ([True] * 5 if seen else [True] + [False] * 4)
    with torch.no_grad():
        zeroed(network := DenseMLP(I, H, O, 6), "readout.weight")
        found = torch.func.jacrev(network)(torch.randn(I))
    assert torch.allclose(found, network.readout.weight[:, :I])  # the input itself is read out too


def test_batch_normalisation_holds_sigmoids_open_and_layer_normalisation_halves_their_decay() -> None:
    plain, batch, layer = (
        through(MLP, activation="sigmoid", **norm) for norm in ({}, {"batch_norm": True}, {"layer_norm": True})
    )
    assert abs(batch.rate) < 0.15
    assert batch.censored
    assert plain.rate < -1.7
    assert layer.rate == pytest.approx(plain.rate / 2, rel=0.15)
    assert through(MLP, activation="tanh").reach < 15
    for norm in ("batch_norm", "layer_norm"):
        assert through(MLP, activation="tanh", **{norm: True}).censored


def test_he_keeps_relu_alive_and_a_batch_norm_beside_it_explodes_as_predicted() -> None:
    assert through(MLP, activation="relu", init=["he", {"*.bias": 0.0}]).rate == pytest.approx(0, abs=0.05)
    assert through(MLP, activation="relu", init=["xavier", {"*.bias": 0.0}]).rate == pytest.approx(
        -math.log(2) / 2, abs=0.06
    )
    # Yang, G. et al. (2019). A mean field theory of batch normalization: the square grows by π/(π - 1) a layer.
    found = through(MLP, activation="relu", batch_norm=True)
    assert found.rate == pytest.approx(math.log(math.pi / (math.pi - 1)) / 2, abs=0.04)


def test_what_they_compute() -> None:
    torch.manual_seed(0)
    x_BI, relu = torch.randn(5, I), torch.relu

    def by_hand(linear: nn.Module, x: Tensor) -> Tensor:
        return x @ linear.weight.T + linear.bias  # type: ignore[union-attr, operator, no-any-return]

    plain = MLP(I, H, O, 2, "tanh")
    y = x_BI
    for layer in plain.layers:
        y = by_hand(layer.linear, y).tanh()  # type: ignore[arg-type]
    assert torch.allclose(plain(x_BI), by_hand(plain.readout, y), atol=1e-6)

    for order in ("pre", "post"):
        residual = ResidualMLP(I, H, O, 1, "relu", layer_norm=True, order=order)
        layer, x = residual.layers[0], residual.entry(x_BI)

        def n(x: Tensor) -> Tensor:
            return nn.functional.layer_norm(x, (H,))

        one, two = (lambda v: by_hand(layer.first, v)), (lambda v: by_hand(layer.second, v))  # noqa: B023
        y = x + two(relu(n(one(relu(n(x)))))) if order == "pre" else relu(x + n(two(relu(n(one(x))))))
        assert torch.allclose(residual(x_BI), by_hand(residual.readout, y), atol=1e-5)

    highway = HighwayMLP(I, H, O, 1, "sigmoid")
    layer, x = highway.layers[0], highway.entry(x_BI)
    g = by_hand(layer.gate, x).sigmoid()  # type: ignore[arg-type]
    y = g * by_hand(layer.plain.linear, x).sigmoid() + (1 - g) * x  # type: ignore[union-attr, arg-type]
    assert torch.allclose(highway(x_BI), by_hand(highway.readout, y), atol=1e-6)

    dense = DenseMLP(I, H, O, 2, "tanh")
    seen = x_BI
    for layer in dense.layers:
        seen = torch.cat([seen, by_hand(layer.linear, seen).tanh()], -1)  # type: ignore[arg-type]
    assert torch.allclose(dense(x_BI), by_hand(dense.readout, seen), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_any_leading_dimensions_any_type_any_device(kind: type[FeedForward]) -> None:
    network = kind(I, 5, O, 3, layer_norm=True, dtype=torch.float64)
    x = torch.randn(4, 6, I, dtype=torch.float64)
    y = network(x)
    assert y.shape == (4, 6, O)
    assert torch.allclose(network(x[1, 2]), y[1, 2])
    assert kind(I, 5, O, 3, init="orthogonal", device="meta").readout.weight.is_meta
    with pytest.raises(OptionError, match="last width must be 8"):
        network(x[..., 1:])
    batch = kind(I, 5, O, 3, batch_norm=True)
    batch(torch.randn(4, 6, I)).sum().backward()
    assert all(p.grad is not None for p in batch.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_initialisers_by_word_and_pattern(kind: type[FeedForward]) -> None:
    network = kind(I, 5, O, 3, init=["orthogonal", {"readout.bias": 2.0}])
    for name, parameter in network.named_parameters():
        if parameter.dim() == 2:
            short = parameter.detach() if parameter.shape[0] <= parameter.shape[1] else parameter.detach().T
            assert torch.allclose(short @ short.T, torch.eye(len(short)), atol=1e-5), name
    assert (network.readout.bias == 2).all()
    with torch.no_grad():
        network.readout.bias.zero_()
    network.reset_parameters()
    assert (network.readout.bias == 2).all()
    torch.manual_seed(0)
    before = kind(I, 5, O, 3).state_dict()
    torch.manual_seed(0)
    for (name, a), b in zip(before.items(), kind(I, 5, O, 3).state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    for word in ("chrono:9", "forget", "leaks:1:9"):
        with pytest.raises(OptionError, match="feed-forward network has none"):
            kind(I, 5, O, 3, init=word)


def test_words_for_square_matrices_go_from_hidden_to_hidden() -> None:
    network = MLP(I, 5, O, 3, init="identity")
    weights = [layer.linear.weight.detach() for layer in network.layers]  # type: ignore[union-attr]
    assert [bool((w == torch.eye(*w.shape)).all()) for w in weights] == [False, True, True]  # type: ignore[operator]
    with pytest.raises(OptionError, match="no matrix leads from hidden to hidden"):
        DenseMLP(I, 5, O, 1, init="radius:0.9")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "tanhh"}, "unknown activation 'tanhh': did you mean 'tanh'"),
        ({"norm": "bach"}, "norm is 'bach': give layer_norm=True or batch_norm=True"),
        ({"batch_norm": 1}, "batch_norm is 1: give True or False"),
        ({"batch_norm": True, "layer_norm": True}, "both set"),
        ({"batchnorm": True}, "ResidualMLP takes no keyword 'batchnorm': did you mean 'batch_norm'?"),
        ({"ordr": "pre"}, "ResidualMLP takes no keyword 'ordr': did you mean 'order'?"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"hidden_size": 1.5}, "hidden_size is 1.5"),
        ({"order": "both"}, "order is 'both'"),
        ({"init": {"layer.*": 0.0}}, "init names 'layer.*', which is not a parameter"),
        ({"init": "orthogonl"}, "unknown initialiser"),
    ],
)
def test_what_cannot_be_meant_so_is_refused(options: dict[str, Any], message: str) -> None:
    sizes = {"input_size": I, "hidden_size": 5, "output_size": O, "num_layers": 2}
    with pytest.raises(OptionError) as caught:
        ResidualMLP(**{**sizes, **options})
    assert message in str(caught.value)


def test_norm_by_its_old_name_warns_and_does_the_same() -> None:
    for norm in ("batch", "layer"):
        torch.manual_seed(0)
        with pytest.warns(DeprecationWarning, match=f"{norm}_norm=True") as caught:
            old = MLP(I, 5, O, 3, norm=norm)
        assert caught[0].filename == __file__
        new = MLP(I, 5, O, 3, **{f"{norm}_norm": True})
        assert repr(old) == repr(new)
        new.load_state_dict(old.state_dict())
        assert torch.equal(old(x := torch.randn(4, I)), new(x))
