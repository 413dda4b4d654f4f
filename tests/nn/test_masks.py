"""Recurrent dropout, zoneout and weight drop do to a step what their papers say, on every back end.

Shapes: T time, B batch, I input, H hidden, W width of a state.
"""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from tests.support.strategies import cells as random_cells
from tests.support.whole import engine_of, usual
from unvanish import Cell, Recurrent, cells
from unvanish import engine as engines
from unvanish.engine import Pass, Result
from unvanish.equations.rewrites.masks import with_recurrent_dropout
from unvanish.errors import OptionError

from .layers import INPUT, as_tuple, each_cell, each_kind, made, noise, random_states

TIME, BATCH = 6, 4
EVERYTHING = {"recurrent_dropout": 0.4, "zoneout": 0.3, "weight_drop": 0.2}


def same(found: Any, wanted: Any) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Pass]:
    """What the engine is given, pass by pass."""
    seen, run = list[Pass](), engines.run

    def spy(job: Pass, *how: Any) -> Result:
        seen.append(job)
        return run(job, *how)

    monkeypatch.setattr(engines, "run", spy)
    return seen


@contextlib.contextmanager
def given_masks(change: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
    """Let passes run with other masks than those that were drawn."""
    run = engines.run

    def changed(job: Pass, *how: Any) -> Result:
        return run(replace(job, masks={name: change(name, mask) for name, mask in job.masks.items()}), *how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "run", changed)
        yield


def gradients(values: list[Tensor], *leaves: Tensor) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    real = [value for value in values if value.is_floating_point()]
    total = sum((v * torch.randn(v.shape, generator=generator, dtype=v.dtype)).sum() for v in real)
    return list(torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True))


# -- by hand -----------------------------------------------------------------------------------------------


class ByHand:
    """A cell's step written in torch, with masks: `drop` where a state meets a matrix, `keep` after the step."""

    def __init__(self, layer: Recurrent, masks: dict[str, Any]) -> None:
        self.layer, self.masks = layer, masks

    def drop(self, state: str, value: Tensor) -> Tensor:
        return self.masks.get(f"__dropout_{state}", 1.0) * value

    def keep(self, state: str, step: int, old: Tensor, new: Tensor) -> Tensor:
        mask = self.masks.get(f"__zoneout_{state}", 0.0)
        kept = mask[step] if isinstance(mask, Tensor) else mask
        return kept * old + (1 - kept) * new

    def linear(self, gate: str, x: Tensor, h: Tensor) -> Tensor:
        layer = self.layer
        total = x @ layer[f"W_{gate}"].T + h @ layer[f"U_{gate}"].T + layer[f"b_{gate}"]
        return total + layer[f"bh_{gate}"] if layer.cell.name in ("rnn", "lstm") else total

    def lstm(self, x_TBI: Tensor, h: Tensor, c: Tensor) -> list[Tensor]:
        outputs = []
        for step, x in enumerate(x_TBI):
            i, f, g, o = (self.linear(gate, x, self.drop("h", h)) for gate in "ifgo")
            new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = self.keep("h", step, h, o.sigmoid() * new_c.tanh())  # of c as it is before zoneout
            c = self.keep("c", step, c, new_c)
            outputs.append(h)
        return [torch.stack(outputs), h, c]

    def gru_reset_before(self, x_TBI: Tensor, h: Tensor) -> list[Tensor]:
        outputs = []
        for step, x in enumerate(x_TBI):
            masked = self.drop("h", h)
            r, z = (self.linear(gate, x, masked).sigmoid() for gate in "rz")
            n = self.linear("n", x, r * masked).tanh()
            h = self.keep("h", step, h, (1 - z) * n + z * h)
            outputs.append(h)
        return [torch.stack(outputs), h]

    def skip_rnn(self, x_TBI: Tensor, h_BDH: Tensor) -> list[Tensor]:
        past = list(reversed(h_BDH.chunk(3, -1)))  # made with d = 3
        for step, x in enumerate(x_TBI):
            far = self.drop("h", past[-3]) @ self.layer["V_h"].T
            new = (self.linear("h", x, self.drop("h", past[-1])) + far).tanh()
            past.append(self.keep("h", step, past[-1], new))
        return [torch.stack(past[3:]), torch.cat(past[:-4:-1], -1)]


SHARES = {
    "recurrent dropout": {"recurrent_dropout": 0.5},
    "zoneout": {"zoneout": 0.5},
    "both": {"recurrent_dropout": 0.25, "zoneout": 0.25},
}


@pytest.mark.parametrize("name", ["lstm", "gru_reset_before", "skip_rnn"])
@pytest.mark.parametrize(
    ("options", "engine"),
    [
        *((options, "reference") for options in SHARES.values()),
        # one kernel of each cell: the one that test_native_draws… has too
        *((options, "native") for options in usual([SHARES["both"]], [*SHARES.values()])),
    ],
    ids=str,
)
def test_a_step_in_training_is_the_one_written_by_hand(
    name: str, options: dict[str, float], engine: str, jobs: list[Pass]
) -> None:
    layer = made(name, engine=engine, **options)
    x_TBI, states = noise(TIME, BATCH, INPUT), random_states(layer, BATCH)
    leaves = [array.requires_grad_() for array in (x_TBI, *states)]
    output, final = layer(x_TBI, states if len(states) > 1 else states[0])
    found = [output, *(state[0] for state in as_tuple(final))]
    masks = dict(jobs[0].masks)
    assert masks
    wanted = getattr(ByHand(layer, masks), name)(x_TBI, *(state[0] for state in states))
    same(found, wanted)
    leaves += layer.parameters()
    same(gradients(found, *leaves), gradients(wanted, *leaves))


@pytest.mark.parametrize("name", ["lstm", "gru_reset_before", "skip_rnn"])
@pytest.mark.parametrize("engine", ["reference", "native"])
def test_a_step_in_evaluation_is_the_one_with_the_expectation(name: str, engine: str, jobs: list[Pass]) -> None:
    layer = made(name, engine=engine, recurrent_dropout=0.5, zoneout=0.25).eval()
    x_TBI, states = noise(TIME, BATCH, INPUT), random_states(layer, BATCH)
    output, final = layer(x_TBI, states if len(states) > 1 else states[0])
    assert not jobs[0].masks
    by_hand = ByHand(layer, {"__zoneout_h": 0.25, "__zoneout_c": 0.25})
    same([output, *(state[0] for state in as_tuple(final))], getattr(by_hand, name)(x_TBI, *(s[0] for s in states)))


def test_states_have_shares_of_their_own(jobs: list[Pass]) -> None:
    layer = made("lstm", zoneout={"c": 0.5, "h": 0.0})
    x_TBI = noise(TIME, BATCH, INPUT)
    output, (h, c) = layer(x_TBI)
    masks = dict(jobs[0].masks)
    assert set(masks) == {"__zoneout_c"}
    zeros = torch.zeros_like(h[0])
    same([output, h[0], c[0]], ByHand(layer, masks).lstm(x_TBI, zeros, zeros))


# -- what is drawn -----------------------------------------------------------------------------------------


def test_masks_are_drawn_with_the_probabilities_asked_for(jobs: list[Pass]) -> None:
    layer = Recurrent("lstm", 2, 50, recurrent_dropout=0.2, zoneout={"h": 0.1, "c": 0.6}, bidirectional=True)
    layer(torch.zeros(40, 30, 2))
    for job in jobs:
        drop_BW = job.masks["__dropout_h"]
        assert drop_BW.shape == (30, 50)
        assert {round(float(value), 5) for value in drop_BW.unique()} == {0.0, 1.25}
        assert float((drop_BW == 0).double().mean()) == pytest.approx(0.2, abs=0.05)
        for state, share in {"h": 0.1, "c": 0.6}.items():
            keep_TBW = job.masks[f"__zoneout_{state}"]
            assert keep_TBW.shape == (40, 30, 50)
            assert set(keep_TBW.unique().tolist()) == {0.0, 1.0}
            assert float(keep_TBW.double().mean()) == pytest.approx(share, abs=0.01)
            assert not torch.equal(keep_TBW[0], keep_TBW[1])
    forth, back = (job.masks["__dropout_h"] for job in jobs)
    assert not torch.equal(forth, back)
    assert not torch.equal(forth[0], forth[1])


@each_cell
def test_a_seed_decides_in_training_and_nothing_is_drawn_otherwise(name: str) -> None:
    layer = made(name, num_layers=2, engine=engine_of(name), **possible(name))
    x_TBI = noise(TIME, BATCH, INPUT)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(layer(x_TBI)[0])
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    layer.eval()
    before = torch.get_rng_state()
    assert torch.equal(layer(x_TBI)[0], layer(x_TBI)[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_weight_drop_drops_entries_of_the_recurrent_matrices_once_for_each_call(jobs: list[Pass]) -> None:
    layer, x_TBI = made("lstm", weight_drop=0.5, proj_size=3, engine="reference"), noise(TIME, BATCH, INPUT)
    found = gradients([layer(x_TBI)[0]], *layer.parameters())
    arrays = jobs[0].weights.arrays
    whole = dict(layer.named_parameters())
    factors = {name: array / whole[f"{name}_l0"] for name, array in arrays.items()}
    thinned = factors.pop("weight_hh").detach()
    assert all(bool((factor == 1).all()) for factor in factors.values())  # the projection too
    assert set(thinned.unique().tolist()) == {0.0, 2.0}
    assert 0.3 < float((thinned == 0).double().mean()) < 0.7
    plain = made("lstm", proj_size=3, engine="reference")
    plain.load_state_dict({f"{name}_l0": array for name, array in arrays.items()})
    wanted = gradients([plain(x_TBI)[0]], *plain.parameters())
    for (name, _), one, other in zip(layer.named_parameters(), found, wanted, strict=True):
        same(one, other * thinned if name == "weight_hh_l0" else other)
    layer(x_TBI)
    assert not torch.equal(jobs[-1].weights.arrays["weight_hh"], jobs[0].weights.arrays["weight_hh"])
    layer.eval()(x_TBI)
    assert jobs[-1].weights.arrays["weight_hh"] is layer.weight_hh_l0


# -- every cell --------------------------------------------------------------------------------------------


def possible(name: str) -> dict[str, float]:
    """All that can be drawn for a cell: one without recurrent matrices has nothing to drop."""
    matrices = any(parameter.role == "recurrent" for parameter in cells[name].system().parameters)
    return EVERYTHING if matrices else {"zoneout": 0.3}


@each_kind
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_native_draws_what_the_reference_draws(name: str, training: bool) -> None:
    options = {**possible(name), "num_layers": 2, "bidirectional": True}
    layers = [made(name, engine=engine, **options) for engine in ("reference", "native")]
    layers[1].load_state_dict(layers[0].state_dict())
    x_TBI, states = noise(TIME, BATCH, INPUT).requires_grad_(), random_states(layers[0], BATCH)
    reset_TB = torch.rand(TIME, BATCH) < 0.2
    for keywords in ({}, {"lengths": [6, 2, 0, 5], "reset": reset_TB}):
        found = []
        for layer in layers:
            layer.train(training)
            torch.manual_seed(8)
            output, final, every = layer(x_TBI, states, all_states=True, **keywords)
            values = [output, *as_tuple(final), *every.values()]
            found.append(values + gradients(values, x_TBI, *layer.parameters()))
        same(found[1], found[0])


@pytest.mark.parametrize("name", ["lstm", "gru_reset_before", "skip_rnn", "clockwork_rnn"])
def test_masks_are_the_same_where_segments_are_worked_out_again(name: str) -> None:
    fast, lean = made(name, **EVERYTHING), made(name, memory="lean", **EVERYTHING)
    lean.load_state_dict(fast.state_dict())
    x_TBI, found = noise(TIME, BATCH, INPUT).requires_grad_(), []
    reset_TB = torch.rand(TIME, BATCH) < 0.2
    for layer in (fast, lean):
        torch.manual_seed(8)
        output, final = layer(x_TBI, lengths=[6, 2, 0, 5], reset=reset_TB)
        values = [output, *as_tuple(final)]
        found.append(values + gradients(values, x_TBI, *layer.parameters()))
    same(found[1], found[0])


@given(random_cells())
@settings(max_examples=40)
def test_masks_of_ones_drop_nothing_and_those_of_zeros_keep_nothing(cell: Cell) -> None:
    options: dict[str, Any] = {"dtype": torch.float64, "engine": "reference"}
    options |= {"memory_size": 2} if cell.widths else {}
    plain, x_TBI = Recurrent(cell, 3, 4, **options), noise(5, 2, 3)
    shares = {"recurrent_dropout": 0.5} if with_recurrent_dropout(plain._system).masks else {}
    shares |= {"zoneout": 0.5} if plain._system.states else {}
    masked = Recurrent(cell, 3, 4, **options, **shares)
    masked.load_state_dict(plain.state_dict())
    with given_masks(lambda name, mask: mask * 0 + name.startswith("__dropout")):
        same(masked(x_TBI), plain(x_TBI))
    assert masked.part("l0").plan.system.masks or not shares


@each_cell
def test_without_shares_the_system_is_the_plain_one(name: str) -> None:
    layer = made(name, recurrent_dropout=0, zoneout={}, weight_drop=0.0)
    for training in (True, False):
        assert layer.train(training).part("l0").plan is made(name).part("l0").plan


OPERANDS = [
    "U @ h[t-1]",
    "U @ h[t-1] + V @ h[t-2]",
    "U @ (p * h[t-1])",
    "U @ layernorm(h[t-1])",
    "U @ layernorm(p * h[t-1])",
    "U @ s + 0.5 * s",
    "U @ (V @ h[t-1])",
]


@pytest.mark.parametrize("text", OPERANDS)
def test_a_mask_of_zeros_hides_the_state_from_matrices_alone(text: str) -> None:
    line = "s = p * h[t-1]\n" if "s +" in text else ""
    cell = Cell("probe", f"{line}h[t] = tanh(W @ x[t] + {text} + q * h[t-1])")
    masked = Recurrent(cell, 3, 4, dtype=torch.float64, recurrent_dropout=0.5, engine="reference")
    plain = Recurrent(cell, 3, 4, dtype=torch.float64, engine="reference")
    plain.load_state_dict(masked.state_dict())
    with torch.no_grad():
        plain.weight_hh_l0.zero_()
    x_TBI = noise(TIME, BATCH, 3)
    with given_masks(lambda name, mask: mask * 0):
        same(masked(x_TBI), plain(x_TBI))


# -- a layer like any other --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_draws_the_same(how: str) -> None:
    layer, x_TBI = made("lstm", **EVERYTHING), noise(TIME, BATCH, INPUT)
    again = copy.deepcopy(layer) if how == "deepcopy" else pickle.loads(pickle.dumps(layer))
    outputs = []
    for one in (layer, again):
        torch.manual_seed(4)
        outputs.append(one(x_TBI)[0])
    assert torch.equal(*outputs)
    assert list(layer.state_dict()) == list(made("lstm").state_dict())


def test_a_layer_says_what_it_draws_and_cannot_be_told_otherwise() -> None:
    layer = made("lstm", recurrent_dropout=0.25, zoneout={"c": 0.5}, weight_drop=0.1)
    assert repr(layer) == "Recurrent(lstm, 3, 8, recurrent_dropout=0.25, zoneout={'c': 0.5}, weight_drop=0.1)"
    for name in ("recurrent_dropout", "zoneout", "weight_drop"):
        with pytest.raises(AttributeError):
            setattr(layer, name, 0.0)


def test_fused_kernels_run_what_has_no_masks() -> None:
    layer, x_TBI = made("lstm", recurrent_dropout=0.5, engine="builtin"), noise(TIME, BATCH, INPUT)
    with pytest.raises(
        OptionError, match="engine='builtin' cannot run this layer: torch's fused kernels take no masks"
    ):
        layer(x_TBI)
    plain = made("lstm", engine="reference")
    plain.load_state_dict(layer.state_dict())
    same(layer.eval()(x_TBI), plain(x_TBI))
    zoned = made("lstm", zoneout=0.5, engine="builtin").eval()
    with pytest.raises(OptionError, match="no fused kernel for these equations"):
        zoned(x_TBI)


def test_every_mapped_sequence_has_masks_of_its_own() -> None:
    layer, x_TBI = made("gru_reset_before", engine="reference", **EVERYTHING), noise(TIME, BATCH, INPUT)
    twice_NTBI = x_TBI.expand(2, -1, -1, -1)
    for randomness, differs in (("different", True), ("same", False)):
        mapped_NTBH = torch.func.vmap(lambda x: layer(x)[0], randomness=randomness)(twice_NTBI)
        assert torch.equal(*mapped_NTBH) != differs


REFUSED = [
    (
        "lstm",
        {"recurrent_dropout": 1.0},
        "recurrent_dropout is 1.0: give a probability from 0 on that is less than 1",
    ),
    ("lstm", {"recurrent_dropout": -0.1}, "recurrent_dropout is -0.1"),
    ("lstm", {"recurrent_dropout": True}, "recurrent_dropout is True"),
    ("lstm", {"recurrent_dropout": "0.5"}, "recurrent_dropout is '0.5'"),
    ("lstm", {"recurrent_dropout": float("nan")}, "recurrent_dropout is nan"),
    ("lstm", {"weight_drop": 1}, "weight_drop is 1: give a probability"),
    ("lstm", {"weight_drop": None}, "weight_drop is None"),
    ("lstm", {"zoneout": 1.5}, "zoneout is 1.5: give a probability"),
    ("lstm", {"zoneout": [0.1]}, "zoneout is [0.1]: give a probability"),
    ("lstm", {"zoneout": {"c": 1.0}}, "zoneout of c is 1.0: give a probability"),
    ("lstm", {"zoneout": {"cc": 0.1}}, "zoneout names 'cc', which is not a state of lstm: did you mean 'c'?"),
    ("lstm", {"zoneot": 0.1}, "lstm takes no keyword 'zoneot': did you mean 'zoneout'"),
    ("indrnn", {"recurrent_dropout": 0.5}, "indrnn multiplies no past state with a matrix"),
    ("indrnn", {"weight_drop": 0.5}, "indrnn has no recurrent matrix"),
    (Cell("still", "h[t] = tanh(W @ x[t])"), {"zoneout": 0.5}, "still carries no state"),
]


@pytest.mark.parametrize(("cell", "options", "message"), REFUSED, ids=[row[2][:50] for row in REFUSED])
def test_what_cannot_be_drawn_is_refused(cell: Cell | str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        Recurrent(cell, 2, 4, **options)
    assert message in str(caught.value)
