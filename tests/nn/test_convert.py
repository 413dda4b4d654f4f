"""`unvanish.convert` swaps the layers of a model and changes nothing else.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import unvanish
from unvanish.errors import OptionError

T, B, I, H = 6, 3, 5, 7
DOUBLE = {"dtype": torch.float64}
LAYERS: dict[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "rnn": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu", "num_layers": 2}),
    "lstm": (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    "projected": (nn.LSTM, {"proj_size": 3, "batch_first": True}),
    "gru": (nn.GRU, {"bidirectional": True}),
    "no bias": (nn.GRU, {"bias": False}),
    "dropout": (nn.LSTM, {"num_layers": 3, "dropout": 0.3}),
}


@pytest.fixture(params=LAYERS)
def theirs(request: pytest.FixtureRequest) -> nn.RNNBase:
    kind, options = LAYERS[request.param]
    return kind(I, H, **options, **DOUBLE).eval()


def close(found: Any, wanted: Any) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_bare_layer_comes_back_as_ours_with_the_same_numbers(theirs: nn.RNNBase) -> None:
    x = torch.randn(T, B, I, **DOUBLE)
    wanted, ours = theirs(x), unvanish.convert(theirs)
    assert type(ours).__name__ == type(theirs).__name__
    assert isinstance(ours, unvanish.Recurrent)
    close(ours(x), wanted)


def test_parameters_are_the_same_objects_and_train_on(theirs: nn.RNNBase) -> None:
    model = nn.ModuleDict({"rnn": theirs})
    twin = copy.deepcopy(model)
    optimizers = [torch.optim.Adam(m.parameters(), 1e-2) for m in (model, twin)]
    before, keys = list(model.parameters()), list(model.state_dict())
    unvanish.convert(model)
    assert all(map(lambda a, b: a is b, model.parameters(), before))
    assert list(model.state_dict()) == keys
    x = torch.randn(T, B, I, **DOUBLE)
    for _ in range(3):
        for one, optimizer in zip((model, twin), optimizers, strict=True):
            optimizer.zero_grad()
            one["rnn"](x)[0].square().sum().backward()
            optimizer.step()
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_there_and_back_gives_the_layer_of_torch(theirs: nn.RNNBase) -> None:
    x = torch.randn(T, B, I, **DOUBLE)
    wanted, kind, text = theirs(x), type(theirs), repr(theirs)
    back = unvanish.convert(unvanish.convert(theirs), to="torch")
    assert type(back) is kind
    assert repr(back) == text
    close(back(x), wanted)
    assert pytest.approx(theirs.dropout) == back.dropout
    assert back.training is theirs.training


class Model(nn.Module):
    """A layer that stands in two places, ties, a hook, a parametrisation, a frozen parameter, an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, I)
        self.first, self.again = nn.LSTM(I, I), None
        self.again = self.first
        self.body = nn.Sequential(nn.ModuleDict({"gru": nn.GRU(I, H)}))
        self.out = nn.Linear(H, 11)
        parametrizations.weight_norm(self.first, "weight_hh_l0")
        self.body[0]["gru"].weight_ih_l0.requires_grad_(False)
        self.first.note = "mine"

    def forward(self, x_TB: Tensor) -> Tensor:
        x_TBI = self.again(self.first(self.embed(x_TB))[0])[0]
        return self.out(self.body[0]["gru"](x_TBI)[0])


def test_hooks_ties_and_parametrisations_stay() -> None:
    model, x_TB = Model().double().eval(), torch.randint(0, 11, (T, B))
    called: list[str] = []
    handle = model.first.register_forward_hook(lambda *_: called.append("hook"))
    wanted = model(x_TB)
    called.clear()
    assert unvanish.convert(model) is model
    close(model(x_TB), wanted)
    assert called == ["hook", "hook"]
    assert model.first is model.again
    assert model.first.note == "mine"
    assert not model.body[0]["gru"].weight_ih_l0.requires_grad
    assert set(model.first.parametrizations) == {"weight_hh_l0"}
    model(x_TB).sum().backward()
    assert model.first.parametrizations.weight_hh_l0.original0.grad is not None
    handle.remove()
    model(x_TB)
    assert len(called) == 3 + 1
    close(unvanish.convert(model, to="torch")(x_TB), wanted)
    assert isinstance(model.first, nn.LSTM)


def test_old_weight_norm_goes_on() -> None:
    theirs, x_TBI = nn.LSTM(I, H, **DOUBLE), torch.randn(T, B, I, **DOUBLE)
    with pytest.warns(FutureWarning, match="weight_norm"):
        theirs = torch.nn.utils.weight_norm(theirs, "weight_hh_l0")
    wanted, ours = theirs(x_TBI), unvanish.convert(theirs)
    with torch.no_grad():
        ours.weight_hh_l0_g.mul_(2)
    doubled = theirs(x_TBI)  # the parameters are the same objects
    assert not torch.allclose(doubled[0], wanted[0])
    close(ours(x_TBI), doubled)


def test_what_cannot_be_swapped_is_listed_with_the_reason() -> None:
    class Odd(nn.LSTM):
        def forward(self, *given: Any) -> Any:
            return super().forward(*given)

    model = nn.ModuleDict({"odd": Odd(I, H), "cell": nn.GRUCell(I, H), "good": nn.RNN(I, H)})
    with pytest.warns(UserWarning, match=r"odd \(Odd is a class of its own\); cell \(a GRUCell is called once"):
        unvanish.convert(model)
    assert isinstance(model["good"], unvanish.RNN)
    assert isinstance(model["odd"], Odd)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (unvanish.PeepholeLSTM(I, H), "torch.nn has no peephole_lstm"),
        (unvanish.LSTM(I, H, layer_norm=True, zoneout=0.1), "torch.nn has no zoneout, layer_norm"),
        (unvanish.RNN(I, H, nonlinearity="sigmoid"), "torch.nn.RNN has no sigmoid"),
        (unvanish.RNN(I, H, proj_size=2), "torch.nn.RNN has no projection"),
    ],
    ids=["cell", "options", "function", "projection"],
)
def test_what_torch_does_not_have_stays_and_is_listed(layer: unvanish.Recurrent, reason: str) -> None:
    with pytest.warns(UserWarning, match=reason):
        assert unvanish.convert(layer, to="torch") is layer


def test_unknown_target_is_refused() -> None:
    with pytest.raises(OptionError, match="give 'unvanish' or 'torch'"):
        unvanish.convert(nn.LSTM(I, H), to="keras")
