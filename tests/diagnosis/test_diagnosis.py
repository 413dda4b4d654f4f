"""What a diagnosis says: need, causes with their numbers, prescriptions that do what they claim, plain data.

Shapes: T time, B batch, I input.
"""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

import unvanish
from tests.diagnosis.zoo import Last, Loop, OwnCell, changed, looped, sound, turned
from unvanish.data.dependency import dependency
from unvanish.diagnosis import VERDICTS, diagnose
from unvanish.diagnosis.findings import worst
from unvanish.diagnosis.watch.trace import trace_step
from unvanish.errors import FlowError

T, B, I, H = 60, 4, 2, 16


def loss(y: torch.Tensor) -> torch.Tensor:
    return (y - 1).square().mean()


def test_need_is_given_or_of_the_data_or_of_the_batch() -> None:
    patient = sound()(0)
    assert diagnose(patient.model, patient.batch, loss, need=7, prescriptions=False).need_from == "given"
    without = diagnose(patient.model, patient.batch, loss, prescriptions=False)
    assert (without.need, without.need_from) == (79, "the length of the batch")
    source = torch.randint(0, 4, (4000,))
    copied = source.clone()
    for t in range(23, 4000):
        copied[t] = copied[t - 23] if torch.rand(()) < 0.7 else source[t]
    of_data = diagnose(patient.model, patient.batch, loss, data=copied.numpy(), prescriptions=False)
    assert of_data.need_from == "the data"
    assert of_data.need == 23
    told = diagnose(patient.model, patient.batch, loss, data=of_data.dependency, prescriptions=False)
    assert (told.need, told.dependency) == (23, of_data.dependency)
    with pytest.raises(FlowError, match="from 1 on"):
        diagnose(patient.model, patient.batch, loss, need=0)


def test_verdict_follows_the_need() -> None:
    patient = changed(nn.RNN, turned(lambda: 0.8))(0)
    verdicts = [diagnose(patient.model, patient.batch, loss, need=n, prescriptions=False).verdict for n in (5, 60)]
    assert verdicts == ["healthy", "vanishing"]
    one = diagnose(patient.model, patient.batch, loss, need=60, prescriptions=False).parts[0]
    assert one.survives == pytest.approx(one.profile.norms[60])


def test_a_need_beyond_the_batch_is_not_reached_whatever_the_recurrence_keeps() -> None:
    patient = sound(nn.RNN)(0)
    found = diagnose(patient.model, patient.batch, loss, need=200, prescriptions=False)
    (part,) = found.parts
    assert part.verdict == "vanishing"
    assert part.survives == 0
    assert part.profile.censored
    assert found.causes[0].kind == "short window"
    assert found.causes[0].number == 80


def test_whole_is_healthy_where_one_part_remembers() -> None:
    assert worst(["vanishing", "healthy"]) == "healthy"
    assert worst(["vanishing", "exploding", "healthy"]) == "exploding"
    assert worst(["dead", "healthy"]) == "dead"
    assert worst(list(VERDICTS)) == "non-finite"


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_prescriptions_do_what_they_say(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model, x_TBI = Last(kind(I, H), H), 0.1 * torch.randn(T, B, I)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = diagnose(model, x_TBI, loss, need=40)
    assert found.verdict == "vanishing"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert found.prescriptions
    assert found.prescriptions[0].verdict == "healthy"
    for remedy in found.prescriptions:
        assert remedy.reach > remedy.reach_before or remedy.verdict == "healthy"
        assert remedy.cost > 0
    # The code of each, done to the model as a user would do it, gives what was measured, but for the draw.
    for remedy in found.prescriptions:
        twin = Last(kind(I, H), H)
        twin.load_state_dict(before)
        exec(remedy.code, {"model": twin, "torch": torch, "unvanish": unvanish})
        after = diagnose(twin, x_TBI, loss, need=40, prescriptions=False).parts[0]
        assert after.profile.reach > remedy.reach_before


class Particular(Last):
    """Does not run with another layer in the place of its own."""

    def forward(self, x_TBI: Tensor) -> Tensor:
        if isinstance(self.rnn, unvanish.Recurrent):
            raise KeyError("wants a layer of torch")
        return super().forward(x_TBI)


def test_remedy_that_could_not_be_tried_is_told_with_the_reason() -> None:
    torch.manual_seed(0)
    found = diagnose(Particular(nn.RNN(I, H), H), 0.1 * torch.randn(T, B, I), loss, need=40)
    assert found.prescriptions
    assert {remedy.name for remedy in found.untried} == {"skips", "lstm", "gru", "leaky_rnn"}
    assert {remedy.reason for remedy in found.untried} == {"KeyError: 'wants a layer of torch'"}
    assert found.to_dict()["untried"][0]["reason"] in str(found)


def test_prescriptions_for_a_cell_and_for_an_explosion() -> None:
    patient = looped(nn.LSTMCell, "joined")(0)
    with torch.no_grad():
        unvanish.flow.as_ours(patient.model.cell)["b_f"].fill_(-2)
    found = diagnose(patient.model, patient.batch, loss, need=30)
    assert {"chrono", "orthogonal"} == {remedy.name for remedy in found.prescriptions if remedy.heals}
    patient = changed(nn.RNN, turned(lambda: 2.5))(1)
    found = diagnose(patient.model, patient.batch, loss, need=40)
    assert found.verdict == "exploding"
    assert {"orthogonal", "radius 1"} & {p.name for p in found.prescriptions if p.verdict == "healthy"}


def test_all_of_it_is_plain_data() -> None:
    for model in (Last(nn.LSTM(I, H), H), Loop(OwnCell(H, 0.5), H), Last(nn.RNN(I, H, nonlinearity="relu"), H)):
        x_TBI = torch.randn(T, B, I)
        x_TBI[3] = math.nan if isinstance(model, Loop) else 0.0
        found = diagnose(model, x_TBI, loss, need=40)
        text = json.dumps(found.to_dict(), allow_nan=False)
        again = json.loads(text)
        assert again["verdict"] == found.verdict
        assert [cause["kind"] for cause in again["causes"]] == [cause.kind for cause in found.causes]
        assert again["unknown"]


def test_same_seed_gives_the_same_diagnosis() -> None:
    patient = sound(nn.GRU)(0)
    one, other = (diagnose(patient.model, patient.batch, loss, need=40, seed=3).to_dict() for _ in range(2))
    assert one == other


class Between(nn.Module):
    """A sound cell, with something between its calls."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.cell, self.between, self.out = nn.GRUCell(I, H), between, nn.Linear(H, 1)
        with torch.no_grad():
            unvanish.flow.as_ours(self.cell)["b_z"].fill_(6.0)

    def forward(self, x_TBI: torch.Tensor) -> torch.Tensor:
        h_BH = torch.zeros(x_TBI.shape[1], H)
        for x_BI in x_TBI:
            h_BH = self.between(self.cell(x_BI, h_BH))
        return self.out(h_BH)


@pytest.mark.parametrize(
    ("between", "verdict"),
    [
        (nn.Identity(), "healthy"),
        (nn.Dropout(0.5), "vanishing"),
        (nn.Sequential(nn.Linear(H, H), nn.Tanh()), "vanishing"),
        (nn.LayerNorm(H, elementwise_affine=False), "healthy"),
    ],
)
def test_what_stands_between_the_calls_of_a_cell_counts(between: nn.Module, verdict: str) -> None:
    torch.manual_seed(0)
    model, x_TBI = Between(between), torch.randn(T, B, I)
    found = diagnose(model, x_TBI, loss, need=30, cells=["cell"])
    (part,) = found.parts
    if not isinstance(between, nn.LayerNorm):
        assert found.verdict == verdict
    assert bool(part.changed_between) == (not isinstance(between, nn.Identity))
    if verdict == "vanishing":
        assert found.causes[0].kind == "changed between calls"
    # The share that is left is that of the model's own graph.
    torch.manual_seed(1)
    states = [torch.zeros(B, H, requires_grad=True)]
    model.eval()
    for x_BI in x_TBI:
        states.append(between(model.cell(x_BI, states[-1])))
    ends = diagnose(model, x_TBI, loss, need=30, prescriptions=False).parts[0].profile.norms
    draws = [torch.randn(B, H) for _ in range(8)]
    kept = [
        float(torch.autograd.grad(states[-1], states[-21], v, retain_graph=True)[0].norm() / v.norm())
        for v in draws
    ]
    assert math.log(float(ends[20])) == pytest.approx(math.log(sum(kept) / len(kept)), abs=1.5)


def test_a_cut_inside_a_batch_is_named_and_a_head_of_zeros_is_dead() -> None:
    class Every(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.out = nn.GRUCell(I, H), nn.Linear(H, 1)

        def forward(self, x_TBI: torch.Tensor) -> torch.Tensor:
            h_BH = torch.zeros(B, H)
            for t, x_BI in enumerate(x_TBI):
                h_BH = self.cell(x_BI, h_BH.detach() if t % 10 == 9 else h_BH)
            return self.out(h_BH)

    model, x_TBI = Every(), torch.randn(T, B, I)
    found = diagnose(model, x_TBI, loss, need=40, prescriptions=False)
    assert (found.verdict, found.causes[0].kind) == ("vanishing", "detached state")
    assert 9 <= found.causes[0].number <= 11
    zero = Last(nn.LSTM(I, H), H)
    nn.init.zeros_(zero.out.weight)
    found = diagnose(zero, x_TBI, loss, need=40)
    assert (found.verdict, found.causes[0].kind) == ("dead", "disconnected")


@pytest.mark.parametrize(
    ("options", "words"),
    [({"need": 2.5}, "give a whole number"), ({"loss": 3.0}, "the loss is a float"), ({"need": 0}, "from 1 on")],
)
def test_arguments_that_cannot_be_meant_so(options: dict[str, object], words: str) -> None:
    given = {"loss": loss, "need": 5, **options}
    with pytest.raises(FlowError, match=words):
        diagnose(Last(nn.RNN(I, H), H), torch.randn(T, B, I), given.pop("loss"), **given)


def test_a_packed_sequence_is_one_argument() -> None:
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(T, B, I), torch.tensor([T, 40, 30, 20]))

    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.out = nn.LSTM(I, H), nn.Linear(H, 1)

        def forward(self, given: nn.utils.rnn.PackedSequence) -> torch.Tensor:
            return self.out(self.rnn(given)[1][0][-1])

    assert diagnose(Packed(), packed, loss, need=40, prescriptions=False).parts[0].window == T


def test_data_that_depend_on_nothing_are_told_so() -> None:
    patient = sound()(0)
    found = diagnose(patient.model, patient.batch, loss, data=torch.randn(3000).numpy(), prescriptions=False)
    assert found.need_from == "the data, which depend on nothing further back"


def test_verdict_is_relative_to_a_need_that_may_be_larger() -> None:
    patient, rng = sound()(0), torch.Generator().manual_seed(0)
    rising = torch.zeros(3000)
    for t in range(12, 3000):
        rising[t] = 0.8 * rising[t - 12] + torch.randn((), generator=rng)
    data = dependency(rising.numpy(), lags=12, draws=10)
    found = diagnose(patient.model, patient.batch, loss, data=data, prescriptions=False)
    assert found.need_is_least
    assert "needed lag at least 12 steps (from the data)" in str(found)
    assert any("more than 12 steps, and the verdict is relative to that" in line for line in found.unknown)
    assert not diagnose(patient.model, patient.batch, loss, data=data, need=5, prescriptions=False).need_is_least


# -- the training step -----------------------------------------------------------------------------------------


def test_a_training_step_is_watched_and_undone() -> None:
    model, x_TBI = Last(nn.LSTM(I, H), H), torch.randn(T, B, I)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def step() -> None:
        optimizer.zero_grad()
        loss(model(x_TBI)).backward()
        clip_grad_norm_(model.parameters(), 0.25)
        clip_grad_value_(model.parameters(), 0.125)
        optimizer.step()

    trace = trace_step(model, optimizer, step)
    assert (trace.backwards, trace.steps) == (1, 1)
    norm, value = trace.clips
    assert (norm.kind, norm.threshold, norm.backwards_before, norm.steps_before) == ("norm", 0.25, 1, 0)
    assert (value.kind, value.threshold) == ("value", 0.125)
    assert norm.gradients & trace.stepped
    assert value.gradients & trace.stepped
    loss(model(x_TBI)).backward()
    wanted = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(p.grad) for p in model.parameters()]))
    assert norm.norm == pytest.approx(float(wanted), rel=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not optimizer.state_dict()["state"]


def test_a_step_of_the_optimiser_is_taken_on_a_copy() -> None:
    model, x_TBI = Last(nn.LSTM(I, H), H), torch.randn(T, B, I)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    diagnose(model, x_TBI, loss, need=10, optimizer=optimizer, prescriptions=False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not optimizer.state_dict()["state"]
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("noisy", [False, True])
def test_learning_rate_is_judged_against_the_noise_of_the_gradient(noisy: bool) -> None:
    patient = sound()(0)
    optimizer = torch.optim.Adam(patient.model.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        for parameter in patient.model.parameters():
            parameter.grad = torch.randn_like(parameter) if noisy else torch.ones_like(parameter)
        optimizer.step()
    found = diagnose(patient.model, patient.batch, loss, need=5, optimizer=optimizer, prescriptions=False)
    told = [cause for cause in found.causes if cause.unit == "times the mean"]
    assert bool(told) == noisy
    if noisy:  # the mean of Adam's usual (1 - 0.9) / (1 + 0.9) of the squares
        assert told[0].number == pytest.approx(math.sqrt(1.9 / 0.1 - 1), rel=0.15)


def test_a_training_step_that_raises_is_undone_too() -> None:
    model = Last(nn.LSTM(I, H), H)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = model.out.bias.detach().clone()

    def step() -> None:
        loss(model(torch.randn(T, B, I))).backward()
        optimizer.step()
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        diagnose(model, torch.randn(T, B, I), loss, need=10, optimizer=optimizer, step=step)
    assert torch.equal(model.out.bias, before)


def test_parts_that_share_a_fault_are_told_once() -> None:
    torch.manual_seed(0)
    model = Last(nn.LSTM(I, H, num_layers=3), H)
    found = diagnose(model, torch.randn(T, B, I), loss, need=40, prescriptions=False)
    assert [part.verdict for part in found.parts] == ["vanishing"] * 3
    (told,) = [cause for cause in found.causes if cause.kind == "forgetting"]
    assert told.text.endswith("rnn.l1, rnn.l2 likewise")
