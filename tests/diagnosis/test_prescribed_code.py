"""Every code that a diagnosis prints runs as it stands, and gives what was measured.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unvanish
from tests.diagnosis import people, zoo
from tests.support.whole import usual, whole_only
from unvanish.diagnosis import Diagnosis, Prescription, diagnose

T, B, I, H = 60, 4, 3, 8

ILL = {case.name: case for case in zoo.cases() if case.verdict in ("vanishing", "exploding")}
OF_ZOO = usual(
    ["torch RNNCell, weak matrix", "torch GRU as it comes", "torch RNN, strong matrix"],
    list(ILL),
)
OF_PEOPLE = usual(
    [
        "a_state_in_a_dataclass",
        "a_dropout_inside_the_cell",
        "a_parametrised_matrix",
    ],
    [
        name
        for name, kind in people.KINDS.items()
        if {*kind.verdicts} & {"vanishing", "exploding"} and name != "a_dropout_on_one_of_two_states"  # by chance
    ],
)


def followed(model: nn.Module, remedy: Prescription) -> nn.Module:
    """A copy of a model on which the code of a remedy was executed, with the draw that was measured."""
    names = {"model": copy.deepcopy(model), "torch": torch, "unvanish": unvanish}
    torch.manual_seed(remedy.seed)
    exec(remedy.code, names)
    return names["model"]


def check_what_is_promised(found: Diagnosis, model: nn.Module, batch: Any, loss: Any, **asked: Any) -> None:
    """The verdict and the reach of every remedy are those of a model that it was applied to."""
    for remedy in found.prescriptions:
        again = diagnose(followed(model, remedy), batch, loss, **asked, prescriptions=False)
        part = next(part for part in again.parts if part.name == remedy.part)
        # At a border other directions may tell what those that were drawn could not.
        told = {part.verdict, remedy.verdict}
        assert len(told) == 1 or "borderline" in told, f"{remedy.name}: {remedy.verdict}, not {part.verdict}"
        reach = min(part.profile.reach, part.window)
        assert reach == pytest.approx(remedy.reach, rel=0.1, abs=2), remedy.name


@pytest.mark.parametrize("name", OF_ZOO)
def test_code_for_a_planted_fault_gives_what_was_measured(name: str) -> None:
    patient = ILL[name].make(0)
    asked = {"need": patient.need}
    found = diagnose(patient.model, patient.batch, patient.loss, **asked)
    check_what_is_promised(found, patient.model, patient.batch, patient.loss, **asked)


@pytest.mark.parametrize("name", OF_PEOPLE)
def test_code_for_a_model_as_people_write_it_gives_what_was_measured(name: str) -> None:
    torch.manual_seed(0)
    given = people.KINDS[name].make()
    patient = given.pop("model"), given.pop("batch"), given.pop("loss")
    asked = {key: value for key, value in given.items() if key not in ("optimizer", "step")}
    check_what_is_promised(diagnose(*patient, **asked), *patient, **asked)


# -- where a layer stands, and what it is --------------------------------------------------------------------------


class Around(nn.Module):
    """A model that reads the last output of one of the modules that it holds, found by its name."""

    def __init__(self, held: nn.Module, name: str, width: int, batch_first: bool = False) -> None:
        super().__init__()
        self.held, self.out = held, nn.Linear(width, 1)
        self.name, self.batch_first = name, batch_first

    def forward(self, x: Tensor) -> Tensor:
        output = self.held.get_submodule(self.name)(x)[0]
        return self.out(output[:, -1] if self.batch_first else output[-1])


def last(y: Tensor) -> Tensor:
    return (y - 1).square().mean()


PLACES = {
    "held.0": lambda rnn: nn.ModuleList([rnn]),
    "held.first-1": lambda rnn: nn.ModuleDict({"first-1": rnn}),
    "held.1.rnn": lambda rnn: nn.Sequential(nn.Linear(1, 1), nn.ModuleDict({"rnn": rnn})),
}


@pytest.mark.parametrize("name", usual(["held.1.rnn"], list(PLACES)))
def test_code_runs_wherever_a_layer_stands(name: str) -> None:
    model = Around(PLACES[name](nn.LSTM(I, H)), name.partition(".")[2], H)
    x_TBI = torch.randn(T, B, I)
    found = diagnose(model, x_TBI, last, need=40)
    assert len(found.prescriptions) >= 4
    assert not found.untried
    check_what_is_promised(found, model, x_TBI, last, need=40)


OPTIONS = [
    {"bias": False, "batch_first": True},
    {"num_layers": 2, "bidirectional": True, "dropout": 0.3, "dtype": torch.float64},
    {"nonlinearity": "relu"},
    {"proj_size": 5},
]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("options", usual(OPTIONS[1::2], OPTIONS), ids=str)
def test_another_layer_has_the_options_of_the_old_one(options: dict[str, Any]) -> None:
    kind = nn.LSTM if "proj_size" in options else nn.RNN
    rnn = kind(I, H, **options)
    with torch.no_grad():
        for name, array in rnn.named_parameters():
            array.mul_(0.5 if "weight_hh" in name else 1.0)
    width = (options.get("proj_size") or H) * (2 if rnn.bidirectional else 1)
    model = Around(nn.ModuleList([rnn]), "0", width, rnn.batch_first).to(options.get("dtype")).eval()
    x = torch.randn(B, T, I) if rnn.batch_first else torch.randn(T, B, I)
    x = x.to(options.get("dtype"))
    found = diagnose(model, x, last, need=40)
    others = [one for one in (*found.prescriptions, *found.untried) if "unvanish.Recurrent" in one.code]
    assert others
    for remedy in (one for one in others if isinstance(one, Prescription)):
        new = followed(model, remedy).held[0]
        assert (new.input_size, new.hidden_size, new.proj_size) == (I, H, rnn.proj_size)
        assert (new.num_layers, new.bidirectional) == (rnn.num_layers, rnn.bidirectional)
        assert (new.bias, new.batch_first, new.dropout) == (rnn.bias, rnn.batch_first, rnn.dropout)
        assert (new.training, next(new.parameters()).dtype) == (False, options.get("dtype", torch.float32))
        if remedy.name == "skips" and kind is nn.RNN:
            assert new.options == {"nonlinearity": options.get("nonlinearity", "tanh")}


@whole_only
def test_another_layer_of_ours_has_what_the_old_one_was_given() -> None:
    torch.manual_seed(0)
    cell = unvanish.Cell("mine", "h[t] = tanh(scale * (W @ x[t] + U @ h[t-1]))", numbers={"scale": 1.0})
    rnn = unvanish.Recurrent(cell, I, H, zoneout=0.1, scale=torch.tensor(0.4))
    model = zoo.Last(rnn, H).eval()
    found = diagnose(model, torch.randn(T, B, I), last, need=40)
    (remedy,) = [one for one in found.prescriptions if one.name == "skips"]
    new = followed(model, remedy).rnn
    assert new.cell.equations == cell.equations
    assert (new.zoneout, len(new.skips)) == (0.1, 1)
    assert float(new.options["scale"]) == pytest.approx(0.4)


def test_a_layer_that_stands_in_two_places_is_exchanged_in_both() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.out = nn.RNN(I, H), nn.Linear(H, 1)
            self.other = self.one

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.other(x)[0][-1])

    model, x_TBI = Tied(), torch.randn(T, B, I)
    found = diagnose(model, x_TBI, last, need=40)
    (remedy,) = [one for one in found.prescriptions if one.name == "lstm"]
    changed = followed(model, remedy)
    assert changed.one is changed.other
    assert isinstance(changed.one, unvanish.Recurrent)


def test_a_layer_that_is_the_whole_model_can_be_exchanged() -> None:
    def of_output(given: Any) -> Tensor:
        return given[0][-1].square().mean()

    model, x_TBI = nn.RNN(I, H), torch.randn(T, B, I)
    found = diagnose(model, x_TBI, of_output, need=40)
    assert {"lstm", "leaky_rnn"} <= {remedy.name for remedy in found.prescriptions}
    changed = followed(model, next(remedy for remedy in found.prescriptions if remedy.name == "lstm"))
    assert diagnose(changed, x_TBI, of_output, need=40, prescriptions=False).verdict == "healthy"


# -- what is not tried, and why ------------------------------------------------------------------------------------


class Kept(nn.LSTM):
    """A class of one's own."""


def frozen() -> nn.Module:
    return nn.LSTM(I, H).requires_grad_(False)


def parametrised() -> nn.Module:
    rnn = nn.LSTM(I, H)
    nn.utils.parametrizations.weight_norm(rnn, "weight_hh_l0")
    return rnn


UNTRIED = {
    "must not change": (frozen, {"orthogonal", "chrono", "skips", "gru", "leaky_rnn"}),
    "recomputed": (parametrised, {"orthogonal", "skips", "gru", "leaky_rnn"}),
    "class of its own": (lambda: Kept(I, H), {"skips", "gru", "leaky_rnn"}),
}


@pytest.mark.parametrize("reason", UNTRIED)
def test_what_a_layer_does_not_allow_is_not_tried_and_the_reason_is_told(reason: str) -> None:
    make, names = UNTRIED[reason]
    model = nn.Sequential(nn.Linear(I, I), zoo.Last(make(), H))
    found = diagnose(model, torch.randn(T, B, I), last, need=40)
    assert {one.name for one in found.untried} == names
    assert all(reason in one.reason for one in found.untried)
    assert {one.name for one in found.prescriptions}.isdisjoint(names)


def test_the_code_for_what_torch_compile_was_given_changes_that() -> None:
    torch.manual_seed(0)
    model, x_TBI = zoo.Last(nn.RNN(I, H), H), torch.randn(T, B, I)
    compiled = torch.compile(model, backend="eager")
    found = diagnose(compiled, x_TBI, last, need=40)
    for remedy in found.prescriptions:
        names = {"model": compiled, "torch": torch, "unvanish": unvanish}
        exec(remedy.code, names)
        assert names["model"] is compiled
        assert ("unvanish.Recurrent" in remedy.code) == isinstance(model.rnn, unvanish.Recurrent)
        model.rnn = nn.RNN(I, H)


# -- cells of one's own --------------------------------------------------------------------------------------------


class Leaking(nn.Module):
    """What is kept is a parameter itself, a number or a vector; the state goes in by its name."""

    def __init__(self, leak: Tensor, returns: str) -> None:
        super().__init__()
        self.leak, self.mix, self.returns = nn.Parameter(leak), nn.Linear(I + H, H), returns

    def forward(self, x: Tensor, *, state: Tensor) -> Any:
        new = self.leak * state + 0.02 * torch.tanh(self.mix(torch.cat([state, x], -1)))
        return {"out": new.sum(), "h": new} if self.returns == "dict" else [new.sum(), new]


class Stepping(nn.Module):
    """A loop over such a cell."""

    def __init__(self, cell: Leaking) -> None:
        super().__init__()
        self.cells, self.out = nn.ModuleList([cell]), nn.Linear(H, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], H)
        for x_t in x:
            h = self.cells[0](x_t, state=h)["h" if self.cells[0].returns == "dict" else 1]
        return self.out(h)


LEAKS = [(torch.tensor(0.5), "dict"), (torch.full((H,), 0.6), "list")]


@whole_only
@pytest.mark.parametrize(("leak", "returns"), usual(LEAKS[:1], LEAKS))
def test_the_share_that_a_cell_of_ones_own_keeps_is_set_to_the_need(leak: Tensor, returns: str) -> None:
    torch.manual_seed(0)
    model, x_TBI = Stepping(Leaking(leak, returns)), torch.randn(T, B, I)
    found = diagnose(model, x_TBI, last, need=40)
    by_name = {remedy.name: remedy for remedy in found.prescriptions}
    assert {"gate bias", "skip"} <= {name for name, remedy in by_name.items() if remedy.heals}
    kept = 1 / (1 - followed(model, by_name["gate bias"]).cells[0].leak.detach())
    assert 30 <= float(kept.mean()) <= 60
    check_what_is_promised(found, model, x_TBI, last, need=40)


def test_a_step_that_no_module_holds_is_told_so() -> None:
    torch.manual_seed(0)
    given = people.KINDS["a_sigmoid_loop"].make()
    found = diagnose(given["model"], given["batch"], given["loss"], need=given["need"])
    (told,) = found.untried
    assert told.name == "skip"
    assert "no module holds the step" in told.reason


def test_only_the_columns_that_take_the_state_are_made_orthogonal() -> None:
    torch.manual_seed(0)
    given = people.KINDS["a_gate_of_ones_own_that_forgets"].make()
    model = given["model"]
    found = diagnose(model, given["batch"], given["loss"], need=given["need"])
    (remedy,) = [one for one in found.prescriptions if one.name == "orthogonal"]
    changed = followed(model, remedy)
    for old, new in ((model.cell.gate, changed.cell.gate), (model.cell.new, changed.cell.new)):
        assert torch.equal(old.weight[:, : people.I], new.weight[:, : people.I])
        square = new.weight.detach()[:, people.I :]
        torch.testing.assert_close(square @ square.T, torch.eye(people.H))


# -- one remedy for several parts ----------------------------------------------------------------------------------


class ReadsState(nn.Module):
    """A classifier of a stacked, bidirectional layer that reads its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(I, H, num_layers=2, bidirectional=True), nn.Linear(2 * H, 2)

    def forward(self, x_TBI: Tensor) -> Tensor:
        h_n = self.rnn(x_TBI)[1]
        answer: Tensor = self.out(torch.cat([h_n[-2], h_n[-1]], -1))
        return answer


def test_orthogonal_matrices_are_one_remedy_for_all_parts_that_need_them() -> None:
    torch.manual_seed(0)
    model, x_TBI = ReadsState(), torch.randn(T, B, I)
    found = diagnose(model, x_TBI, lambda y: y.square().mean(), need=40)
    parts = [f"rnn.{name}" for name in ("l0", "l0_reverse", "l1", "l1_reverse")]
    same = [one for one in found.prescriptions if one.name == "orthogonal"]
    assert [one.part for one in same] == parts
    assert len({one.code for one in same}) == 1
    assert str(found).count("orthogonal recurrent matrices: no direction") == 1
    changed = followed(model, same[0])
    for name in ("l0", "l0_reverse", "l1", "l1_reverse"):
        for square in getattr(changed.rnn, f"weight_hh_{name}").detach().split(H):
            torch.testing.assert_close(square @ square.T, torch.eye(H))
