"""Every remedy of a run does what its word says, is counted, measured against a network without it, and resumed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.support.runs import (
    KilledError,
    assert_same_run,
    at_step,
    interrupt,
    keep_state,
    kill,
    load_state,
    numbers,
    silent,
    small,
    straight,
)
from tests.support.whole import usual, whole_only
from unvanish import Cell
from unvanish.cells import find
from unvanish.data.text import Vocabulary, Windows, load_corpus
from unvanish.errors import NonFiniteError, OptionError
from unvanish.record import CONFIG, RunRecord
from unvanish.remedies import clip, penalty
from unvanish.train import TextModel, TrainSettings, generate, load_model, resume, train
from unvanish.train import callback as callbacks
from unvanish.train import ending as runs

PLAIN: dict[str, Any] = {"engine": "reference", "epochs": 1, "probes": 0}  # nothing is compiled
NETWORK: dict[str, dict[str, Any]] = {
    "init": {"init": ["orthogonal"]},
    "layer_norm": {"layer_norm": True},
    "skips": {"skips": [3]},
    "constrain": {"constrain": "orthogonal"},
    "recurrent_dropout": {"recurrent_dropout": 0.4},
    "zoneout": {"zoneout": 0.3},
    "weight_drop": {"weight_drop": 0.4},
}


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no run write more than a word at its end."""
    monkeypatch.setattr(runs, "SAMPLE_LENGTH", 5)


def first_window(settings: TrainSettings) -> tuple[TextModel, torch.Tensor, torch.Tensor]:
    """Return the network of a run as it begins, and its first window, by nothing but the seed and the text."""
    corpus = load_corpus(Path(settings.source or ""))
    vocabulary = Vocabulary.of(corpus.train)
    torch.manual_seed(settings.seed)
    model = TextModel(find(settings.cell), len(vocabulary), settings)
    return model, *next(iter(Windows(vocabulary.encode(str(corpus.train)), settings.length, settings.batch_size)))


def gradient_norm(model: TextModel) -> float:
    return math.hypot(*(float(p.grad.norm()) for p in model.parameters() if p.grad is not None))


def remedies(run: Path) -> dict[str, dict[str, Any]]:
    """Return the last line of each remedy."""
    return {line["name"]: line for line in numbers(run, "remedy")}


def plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, torch.Tensor) else value


# -- what a word does ----------------------------------------------------------------------------------


def test_every_setting_reaches_the_layer(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"connect": "residual", "layers": 3, "init": ["orthogonal", "forget:7"]}
    for changes in NETWORK.values():
        asked = {**changes, **asked}
    run = straight(small(tmp_path, **PLAIN, **asked), tmp_path / "run")
    kept = RunRecord(run).config["settings"]
    assert {name: kept[name] for name in asked} == asked
    model, vocabulary, _ = load_model(run)
    layer = model.recurrent
    for name, value in {**asked, "skips": (3,)}.items():
        if name not in ("init", "layers"):
            assert getattr(layer, name) == value, name
    torch.manual_seed(1)
    fresh = TextModel(find("lstm"), len(vocabulary), TrainSettings.from_dict(kept)).recurrent
    assert (fresh["b_f"] == 7).all()
    assert len(generate(model, vocabulary, "sea", 5)) == 5


def test_factor_is_what_the_gradient_was_multiplied_with(tmp_path: Path) -> None:
    steps = numbers(straight(small(tmp_path, **PLAIN, clip="norm:0.27"), tmp_path / "run"), "step")
    clipped = [line for line in steps if line["clipped"]]
    assert 0 < len(clipped) < len(steps)
    for line in clipped:
        assert line["factor"] == pytest.approx(0.27 / line["gradient_norm"])
    assert all(line["factor"] is None for line in steps if not line["clipped"])


def test_means_over_sparse_lines_are_those_over_their_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small(tmp_path, 1100, **PLAIN, clip="norm:0.35", penalty=["omega:2"])
    each = numbers(straight(settings, tmp_path / "each"), "step")
    monkeypatch.setattr(callbacks, "STEP_RECORDS", 4)
    width = len(each) // 4
    assert 0 < sum(line["clipped"] for line in each) < len(each)
    for line in numbers(straight(settings, tmp_path / "sparse"), "step"):
        part = each[line["step"] - width : line["step"]]
        factors = [one["factor"] for one in part if one["clipped"]]
        assert line["clipped"] == len(factors)
        assert line["factor"] == (pytest.approx(sum(factors) / len(factors)) if factors else None)
        assert line["penalties"]["omega:2"]["acted"] == width


@pytest.mark.parametrize(
    "word", ["layer:0.1", "unit:0.01", "percentile:50", "zscore:0.5", "random:0.2", "value:0.02"]
)
def test_every_clip_of_the_gradient_acts_as_it_does_by_hand(tmp_path: Path, word: str) -> None:
    settings = small(tmp_path, **PLAIN, clip=word)
    line = numbers(straight(settings, tmp_path / "run"), "step")[0]
    model, x_TB, y_TB = first_window(settings)
    model.loss(model(x_TB)[0], y_TB).backward()
    made = clip.parse(word)
    assert made is not None
    record = made(model)
    assert line["gradient_norm"] == pytest.approx(record.norm)
    assert (line["clipped"], line["factor"]) == (
        record.acted,
        pytest.approx(record.factor) if record.acted else None,
    )


@pytest.mark.parametrize("word", ["step:0.0005", "step-norm:0.001"])
def test_a_clip_inside_the_backward_pass_counts_adjoints(tmp_path: Path, word: str) -> None:
    settings = small(tmp_path, **PLAIN, clip=word)
    steps = numbers(straight(settings, tmp_path / "run"), "step")
    model, x_TB, y_TB = first_window(settings)
    made = clip.parse(word)
    assert isinstance(made, clip.PerStep)
    with made.attach(model):
        model.loss(model(x_TB)[0], y_TB).backward()
        assert made(model).acted
    assert steps[0]["gradient_norm"] == pytest.approx(gradient_norm(model))
    assert steps[0]["adjoints"] == list(made.adjoints[:2])
    assert 0 < steps[0]["adjoints"][1] < steps[0]["adjoints"][0]
    assert all("factor" not in line and line["clipped"] == 1 for line in steps)


def test_a_clip_inside_the_backward_pass_and_omega_leave_measuring_alone(tmp_path: Path) -> None:
    """What is measured is the network's own profile, and the passes that measure it are not counted."""
    changes: dict[str, Any] = {"engine": "reference", "clip": "step:0.0005", "penalty": ["omega:1"]}
    quiet = straight(small(tmp_path, **changes, probes=0), tmp_path / "quiet")
    probed = straight(small(tmp_path, **changes, probes=5, valid_every=3), tmp_path / "probed")
    assert numbers(quiet, "step") == numbers(probed, "step")
    flows = numbers(probed, "flow")
    for line in (line for line in flows if line["loss_norms"]):
        assert all(norm > 0 for norm in line["loss_norms"]["l1"]["h"])
    bare = straight(small(tmp_path, engine="reference", probes=0, epochs=1), tmp_path / "bare")
    assert remedies(probed)["clip"]["profiles"] == remedies(bare)["clip"]["profiles"]


def test_omega_is_that_of_the_backward_pass_and_goes_before_the_clip(tmp_path: Path) -> None:
    settings = small(tmp_path, **PLAIN, penalty=["omega:2"], clip="norm:0.01")
    line = numbers(straight(settings, tmp_path / "run"), "step")[0]
    model, x_TB, y_TB = first_window(settings)
    with penalty.Omega(2.0).attach(model) as omega:
        loss = model.loss(model(x_TB)[0], y_TB)
        loss.backward()
        without = gradient_norm(model)
        record = omega()
    told = line["penalties"]["omega:2"]
    assert (told["value"], told["weight"], told["acted"]) == (pytest.approx(record.value), 2.0, 1)
    assert told["spread"] == {part.rpartition(".")[2]: pytest.approx(one) for part, one in record.spread.items()}
    assert line["gradient_norm"] == pytest.approx(gradient_norm(model))
    assert abs(line["gradient_norm"] - without) > 1e-3 * without
    assert line["loss"] == pytest.approx(float(loss.detach()))
    assert line["factor"] == pytest.approx(0.01 / line["gradient_norm"])


@pytest.mark.parametrize("word", ["orthogonal:0.3", "stabilise:4", "flossing:0.05"])
def test_a_term_beside_the_loss_is_trained_on_and_recorded_by_itself(tmp_path: Path, word: str) -> None:
    settings = small(tmp_path, **PLAIN, penalty=[word])
    line = numbers(straight(settings, tmp_path / "run"), "step")[0]
    model, x_TB, y_TB = first_window(settings)
    embedded = model.embedding(x_TB)
    output, _, every = model.recurrent(embedded, all_states=True)
    loss = model.loss(model.head(output), y_TB)
    made = penalty.parse(word)
    if isinstance(made, penalty.Orthogonality):
        term = made(model)
    elif isinstance(made, penalty.NormStabiliser):
        term = made(every["h"][0]) + made(every["h"][1])
    else:
        assert isinstance(made, penalty.Flossing)
        term = made(model.recurrent, embedded.detach())
    (loss + term).backward()
    told = line["penalties"][word]
    close = 0.05 if "flossing" in word else 1e-5  # its directions are drawn
    assert told["value"] * made.weight == pytest.approx(float(term.detach()), rel=close)
    assert told["acted"] == 1
    assert line["loss"] == pytest.approx(float(loss.detach())), "the task's loss, without the penalty"
    assert line["gradient_norm"] == pytest.approx(gradient_norm(model), rel=max(close, 1e-5))


def test_a_penalty_of_no_weight_never_acts_and_changes_nothing(tmp_path: Path) -> None:
    plain = numbers(straight(small(tmp_path, **PLAIN), tmp_path / "plain"), "step")
    idle = numbers(
        straight(small(tmp_path, **PLAIN, penalty=["omega:0", "orthogonal:0"]), tmp_path / "idle"), "step"
    )
    for one, other in zip(plain, idle, strict=True):
        told = other.pop("penalties")
        assert [found["acted"] for found in told.values()] == [0, 0]
        for name in ("loss", "gradient_norm", "parameter_norm"):
            assert other[name] == pytest.approx(one[name], rel=1e-6)


def test_a_penalty_that_is_not_finite_is_told(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"at training step 1: the penalty orthogonal:1e38 is inf"):
        train(small(tmp_path, **PLAIN, penalty=["orthogonal:1e38"]), tmp_path / "run", say=silent)


def test_a_penalty_whose_gradient_is_not_finite_is_told(tmp_path: Path) -> None:
    """A state that doubles at every step: by U, the sum of its squares has a gradient larger than itself."""
    identity = {"nonlinearity": "identity"}
    linear: dict[str, Any] = {"cell": "rnn", "cell_options": identity, "init": ["identity:2"]}
    linear |= {"layers": 1, "hidden": 1}
    model, x_TB, _ = first_window(small(tmp_path, **PLAIN, **linear))
    with torch.no_grad():
        value = float(penalty.NormStabiliser(1.0)(model.recurrent(model.embedding(x_TB))[0]))
    word = f"stabilise:{3e38 / value:.3g}"
    with pytest.raises(NonFiniteError, match="its gradient are finite, so it is the gradient of a penalty") as told:
        train(small(tmp_path, **PLAIN, **linear, penalty=[word]), tmp_path / "run", say=silent)
    assert word in str(told.value)


def test_an_adjoint_that_is_lost_in_one_step_is_told_with_its_place(tmp_path: Path) -> None:
    """The derivative of sqrt at V h = 0 is not finite: the clip makes the adjoint zero, and that ends the run."""
    cell = Cell("rooted", "h[t] = tanh(W @ x[t] + U @ h[t-1] + sqrt(abs(V @ h[t-1])))", initial={"V": 0.0})
    settings = small(tmp_path, **PLAIN, layers=1, clip="step:1")
    with pytest.raises(NonFiniteError, match=r"first overflows going back to time step 10 of recurrent\.l0"):
        train(settings, tmp_path / "run", cell=cell, say=silent)


# -- what a remedy did to the profile ------------------------------------------------------------------


@pytest.mark.parametrize("name", usual(list(NETWORK)[::3], NETWORK))
def test_without_a_remedy_is_the_profile_of_the_run_without_it(tmp_path: Path, name: str) -> None:
    bare = remedies(straight(small(tmp_path, **PLAIN), tmp_path / "bare"))
    run = straight(small(tmp_path, **PLAIN, **NETWORK[name]), tmp_path / "run")
    line = remedies(run)[name]
    assert line["step"] == 0
    assert line["without"] == bare["clip"]["profiles"]
    assert line["profiles"] != line["without"]
    assert set(bare) == {"clip"}


@whole_only
def test_each_of_several_remedies_is_measured_without_itself_alone(tmp_path: Path) -> None:
    both: dict[str, Any] = {**PLAIN, "init": ["orthogonal", "forget:3"], "skips": [4]}
    lines = numbers(straight(small(tmp_path, **both), tmp_path / "both"), "remedy")
    assert [(line["name"], line["asked"]) for line in lines] == [
        ("init", "orthogonal"),
        ("init", "forget:3"),
        ("skips", "4"),
        ("clip", "norm:5"),
    ]
    fewer = [{"init": ["forget:3"]}, {"init": ["orthogonal"]}, {"skips": []}]
    for place, changes in enumerate(fewer):
        run = straight(small(tmp_path, **{**both, **changes}), tmp_path / f"run{place}")
        assert lines[place]["without"] == remedies(run)["clip"]["profiles"]
        assert lines[place]["profiles"] == lines[3]["profiles"]


@whole_only
def test_a_connection_is_measured_along_depth(tmp_path: Path) -> None:
    settings = small(tmp_path, **PLAIN, connect="residual", layers=4, zoneout=0.1)
    depth = remedies(straight(settings, tmp_path / "run"))["connect"]["depth"]
    assert depth["with"]["layers"] == ["l0", "l1", "l2", "l3"]
    assert depth["with"]["norms"][-1] > 2 * depth["without"]["norms"][-1], "the path past the layers keeps more"


@pytest.mark.parametrize("changes", [{"init": ["orthogonal"]}, {"recurrent_dropout": 0.3, "zoneout": 0.1}], ids=str)
def test_measuring_remedies_draws_no_random_number_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    settings = small(tmp_path, **PLAIN, dropout=0.2, **changes)
    measured = straight(settings, tmp_path / "measured")
    monkeypatch.setattr(callbacks, "lines_at_start", lambda *_: ())
    unmeasured = straight(settings, tmp_path / "unmeasured")
    assert len(numbers(measured, "remedy")) == 1 + len(changes)
    assert not numbers(unmeasured, "remedy")
    assert numbers(measured, "step", "valid", "sample") == numbers(unmeasured, "step", "valid", "sample")


# -- resumed -------------------------------------------------------------------------------------------

STATEFUL: dict[str, dict[str, Any]] = {
    "percentile": {"clip": "percentile:50"},
    "z-score": {"clip": "zscore:0.5"},
    "random step": {"clip": "random:0.3"},
    "omega": {"penalty": ["omega:2"], "clip": "norm:0.5"},
    "terms": {"penalty": ["flossing:0.01", "stabilise:1", "orthogonal:0.1"], "clip": "step:0.001", "layers": 1},
    "noise": {"recurrent_dropout": 0.3, "zoneout": 0.1, "weight_drop": 0.2, "constrain": "weight_norm"},
}


@pytest.mark.parametrize(
    ("name", "act"),
    [
        *((name, kill) for name in usual(("terms", "noise"), STATEFUL)),
        *((name, interrupt) for name in usual(("omega",), ("percentile", "omega"))),
    ],
)
def test_resumed_to_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, act: Any) -> None:
    monkeypatch.setattr(callbacks, "STEP_RECORDS", 5)  # a line every three steps
    settings = small(tmp_path, **{**PLAIN, "epochs": 2, "valid_every": 5, **STATEFUL[name]})
    whole = straight(settings, tmp_path / "whole")
    with monkeypatch.context() as patch:
        at_step(9, act, patch)
        try:
            train(settings, tmp_path / "run", say=silent)
        except KilledError:
            assert act is kill
    resume(tmp_path / "run", say=silent)
    assert_same_run(whole, tmp_path / "run")
    kept = [load_state(run)["unvanish"] for run in (whole, tmp_path / "run")]
    assert kept[0]["clip"].keys() == kept[1]["clip"].keys()
    for name, value in kept[0]["clip"].items():
        assert plain(value) == plain(kept[1]["clip"][name])
    assert kept[0]["penalties"] == kept[1]["penalties"]
    for counts in kept[1]["penalties"].values():
        assert counts["calls"] == 16


def test_a_changed_clip_begins_anew_and_is_told_with_its_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small(tmp_path, **{**PLAIN, "epochs": 2}, clip="percentile:50")
    with monkeypatch.context() as patch:
        at_step(5, interrupt, patch)
        train(settings, tmp_path / "run", say=silent)
    for step, word in ((9, "norm:0.001"), (11, "none")):
        with monkeypatch.context() as patch:
            at_step(step, interrupt, patch)
            resume(tmp_path / "run", clip=word, say=silent)
    resume(tmp_path / "run", say=silent)
    told = [(line["step"], line["asked"]) for line in numbers(tmp_path / "run", "remedy")]
    assert told == [(0, "percentile:50"), (5, "norm:0.001"), (9, "none")]
    steps = numbers(tmp_path / "run", "step")
    assert [line["clipped"] for line in steps[5:]] == [1] * 4 + [0] * 7
    assert [line.get("factor") is None for line in steps[5:]] == [False] * 4 + [True] * 7
    assert load_state(tmp_path / "run")["unvanish"]["clip"] is None


def test_a_run_of_an_older_version_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = small(tmp_path, **{**PLAIN, "epochs": 2}, clip="norm:0.3")
    whole = straight(settings, tmp_path / "whole")
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_step(5, interrupt, patch)
        train(settings, run, say=silent)
    config = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    for name in ("penalty", "init", "connect", "layer_norm", "skips", "constrain", *NETWORK):
        config["settings"].pop(name, None)
    (run / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
    state = load_state(run)
    del state["unvanish"]["clip"], state["unvanish"]["penalties"]
    (keeper,) = [name for name in state["callbacks"] if name.startswith("RunKeeper")]
    state["callbacks"][keeper] = {"clipped_steps": 0, "steps_since": 0, "validated_at": -1}
    keep_state(run, state)
    lines = [line for line in (run / "records.jsonl").read_text().splitlines() if '"kind": "remedy"' not in line]
    (run / "records.jsonl").write_text("\n".join(lines) + "\n")
    resume(run, say=silent)
    kinds = "step", "valid", "flow", "sample"
    assert numbers(run, *kinds) == numbers(whole, *kinds)
    assert [(line["step"], line["asked"]) for line in numbers(run, "remedy")] == [(5, "norm:0.3")]


# -- refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"penalty": "omega:2"},
        {"init": "orthogonal"},
        {"init": [7]},
        {"clip": 5},
        {"layer_norm": 1},
        {"zoneout": True},
        {"skips": "5"},
        {"skips": [5, 5]},
        {"constrain": {"U_*": "orthogonl"}},
        {"recurrent_dropout": "0.5"},
    ],
    ids=str,
)
def test_settings_that_cannot_be_meant_so_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        small(tmp_path, **changes)


def test_a_penalty_that_cannot_go_with_the_network_is_refused_before_there_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="take one of the two"):
        train(small(tmp_path, penalty=["omega:2"], weight_drop=0.1), tmp_path / "run", say=silent)
    assert not (tmp_path / "run").exists()
