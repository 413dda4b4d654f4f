"""Another layer in place of one whose state the model's own code reads: refused in plain words, never silently."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import unvanish
from unvanish.diagnosis import Diagnosis

I, H, B, T = 2, 8, 4, 60


class Reader(nn.Module):
    """Reads a sequence and answers from what its layer returns, in one of several ways."""

    def __init__(self, layer: nn.Module, way: str) -> None:
        super().__init__()
        directions = 2 if layer.bidirectional else 1
        self.rnn, self.out, self.way = layer, nn.Linear(H * directions, 1), way

    def forward(self, x_TBI: Tensor) -> Tensor:
        read: Tensor = getattr(self, f"_{self.way}")(x_TBI)
        answer: Tensor = self.out(read)
        return answer

    def _output(self, x_TBI: Tensor) -> Tensor:
        last: Tensor = self.rnn(x_TBI)[0][-1]
        return last

    def _last_state(self, x_TBI: Tensor) -> Tensor:
        last: Tensor = self.rnn(x_TBI)[1][-1]
        return last

    def _both_directions(self, x_TBI: Tensor) -> Tensor:
        h_n = self.rnn(x_TBI)[1]
        return torch.cat([h_n[-2], h_n[-1]], dim=-1)

    def _pair(self, x_TBI: Tensor) -> Tensor:
        _, (h, _) = self.rnn(x_TBI)
        last: Tensor = h[-1]
        return last

    def _unpacked(self, x_TBI: Tensor) -> Tensor:
        y_TBH, (_, _) = self.rnn(x_TBI)
        last: Tensor = y_TBH[-1]
        return last

    def _first_state(self, x_TBI: Tensor) -> Tensor:
        last: Tensor = self.rnn(x_TBI, x_TBI.new_zeros(1, x_TBI.shape[1], H))[0][-1]
        return last

    def _handed_on(self, x_TBI: Tensor) -> Tensor:
        state = None
        for step_TBI in x_TBI.split(1):
            y_TBH, state = self.rnn(step_TBI, state)
        last: Tensor = y_TBH[-1]
        return last


def asked(layer: nn.Module, way: str) -> Diagnosis:
    torch.manual_seed(0)
    return unvanish.diagnose(Reader(layer, way), torch.randn(T, B, I), lambda y: (y - 1).square().mean(), need=40)


@pytest.mark.parametrize(
    ("kind", "way", "refused", "words"),
    [
        (nn.GRU, "last_state", {"skips", "lstm"}, "uses the state that model.rnn returns beside its output"),
        (nn.LSTM, "pair", {"skips", "gru", "leaky_rnn"}, "uses the state that model.rnn returns beside its output"),
        (nn.LSTM, "unpacked", {"gru", "leaky_rnn"}, "uses the state that model.rnn returns beside its output"),
        (nn.GRU, "first_state", {"skips", "lstm"}, "gives model.rnn its first state in the form of the layer"),
    ],
)
def test_layer_whose_state_is_read_is_not_exchanged_for_one_of_another_form(
    kind: type[nn.RNNBase], way: str, refused: set[str], words: str
) -> None:
    """An LSTM in place of a GRU runs where the code reads `h_n[-1]`, and gives it c: nothing failed then."""
    found = asked(kind(I, H), way)
    assert {one.name for one in found.untried} == refused
    assert all(words in one.reason for one in found.untried)
    assert not any("Error" in one.reason for one in found.untried)
    assert {one.name for one in found.prescriptions}.isdisjoint(refused)
    assert found.prescriptions


@pytest.mark.parametrize("way", ["output", "handed_on"])
def test_layer_whose_state_is_not_read_is_exchanged(way: str) -> None:
    found = asked(nn.GRU(I, H), way)
    assert not found.untried
    assert {"lstm", "skips", "leaky_rnn"} <= {one.name for one in found.prescriptions}


def test_model_is_as_it_was_after_its_state_was_made_up() -> None:
    torch.manual_seed(0)
    model, x_TBI = Reader(nn.GRU(I, H), "last_state"), torch.randn(T, B, I)
    before, drawn = model(x_TBI), torch.get_rng_state()
    unvanish.diagnose(model, x_TBI, lambda y: (y - 1).square().mean(), need=40)
    assert torch.equal(model(x_TBI), before)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not model.rnn._forward_hooks
    assert not model.rnn._forward_pre_hooks


def test_finding_says_which_gradient_was_measured() -> None:
    class Last(nn.Sequential):
        def forward(self, x_TBI: Tensor) -> Tensor:
            read: Tensor = super().forward(x_TBI.movedim(0, 2))[..., -1]
            return read

    torch.manual_seed(0)
    model = Last(nn.Conv1d(I, H, 5, padding=2), nn.Tanh())
    found = unvanish.diagnose(model, torch.randn(T, B, I), lambda y: y.square().mean(), need=40)
    assert [one["measured"] for one in found.to_dict()["parts"]] == ["the loss"]
    assert {part.measured for part in asked(nn.GRU(I, H), "output").parts} == {"random directions"}


def test_one_remedy_for_all_parts_of_a_stack_is_told_once() -> None:
    found = asked(nn.GRU(I, H, 2, bidirectional=True), "both_directions")
    parts = ["rnn.l0", "rnn.l0_reverse", "rnn.l1", "rnn.l1_reverse"]
    assert [one.part for one in found.prescriptions if one.name == "chrono"] == parts, "as data, one by one"
    told = str(found).splitlines()
    (hold,) = [line for line in told if "gates that hold for up to" in line]
    assert ", ".join(parts) in hold
    assert len([line for line in told if "an LSTM in its place" in line]) == 1
    assert [line.split(": ")[1] for line in told if line.startswith("  not tried")] == [", ".join(parts)] * 2
