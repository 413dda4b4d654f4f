"""Ω is what its authors wrote and coded, for any cell, and its gradient that of what stands in the Jacobian."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import unvanish
from tests.remedies.transcribed import CELLS, Params, Row, omega, run_row, slopes
from tests.support.whole import usual
from unvanish import penalty

STEPS, BATCH, INPUT, HIDDEN = 6, 3, 2, 3
SKIP = {"skip_rnn": {"d": 3}}


def layer_of(cell: str, **options: Any) -> unvanish.Recurrent:
    return unvanish.Recurrent(cell, INPUT, HIDDEN, dtype=torch.float64, **SKIP.get(cell, {}), **options)


def parameters_of(layer: unvanish.Recurrent, part: str) -> dict[str, Tensor]:
    return {p.name: layer[f"{p.name}_{part}"].detach().clone() for p in layer.system.parameters}


def by_hand(
    layer: unvanish.Recurrent,
    x_TBI: Tensor,
    cotangent_TBW: Tensor,
    lengths: list[int],
    reset_TB: Tensor,
    of_ends: float,
) -> dict[str, tuple[Params, list[Row]]]:
    """Run a layer row by row, and send a gradient back: of each part its parameters and its rows."""
    cell, found = CELLS[layer.cell.name], dict[str, tuple[Params, list[Row]]]()
    inputs = [x_TBI[:length, row] for row, length in enumerate(lengths)]
    directions = ("", "_reverse") if layer.bidirectional else ("",)
    for depth in range(layer.num_layers):
        outputs: list[list[Tensor]] = [[] for _ in inputs]
        for way in directions:
            part = f"l{depth}{way}"
            p = {name: value.requires_grad_() for name, value in parameters_of(layer, part).items()}
            rows = []
            for number, x_TI in enumerate(inputs):
                reset_T = reset_TB[: len(x_TI), number]
                if way:  # turned round, a piece begins behind where it began before
                    x_TI = x_TI.flip(0)
                    reset_T = torch.cat([torch.zeros(1, dtype=torch.bool), reset_T[1:].flip(0)])
                rows.append(run_row(cell, p, x_TI, reset_T, HIDDEN))
                output_TH = torch.stack([values["h"] for values in rows[-1].values])
                outputs[number].append(output_TH.flip(0) if way else output_TH)
            found[part] = p, rows
        inputs = [torch.cat(each, -1) for each in outputs]
    losses = [(inputs[row] * cotangent_TBW[:length, row]).sum() for row, length in enumerate(lengths)]
    losses += [
        of_ends * row.values[-1][state].sum() for _, rows in found.values() for row in rows for state in cell.states
    ]
    torch.stack(losses).sum().backward()
    return {part: ({name: value.detach() for name, value in p.items()}, rows) for part, (p, rows) in found.items()}


def compare(
    layer: unvanish.Recurrent,
    form: str,
    lengths: list[int] | None = None,
    reset: bool = False,
    of_ends: float = 0.0,
    steps: int = STEPS,
    negligible: tuple[str, ...] = (),
) -> None:
    """Hold value, spread and gradient of every part against those by hand.

    The loss is a random sum of the output, and `of_ends` times the sum of the states at the end of the rows. Every
    parameter that stands in the Jacobian must have a gradient, but those that are `negligible`.
    """
    x_TBI = torch.randn(steps, BATCH, INPUT, dtype=torch.float64)
    wide = HIDDEN * (1 + layer.bidirectional)
    cotangent_TBW = torch.randn(steps, BATCH, wide, dtype=torch.float64)
    reset_TB = torch.rand(steps, BATCH) < 0.2 if reset else torch.zeros(steps, BATCH, dtype=torch.bool)
    expected = by_hand(layer, x_TBI, cotangent_TBW, lengths or [steps] * BATCH, reset_TB, of_ends)

    regulariser = penalty.Omega(2.0, form=form).attach(layer)  # type: ignore[arg-type]
    given: dict[str, Any] = {} if lengths is None else {"lengths": lengths}
    turn = (lambda value: value.transpose(0, 1)) if layer.batch_first else (lambda value: value)
    given |= {"reset": turn(reset_TB)} if reset else {}
    output, final = layer(turn(x_TBI), **given)
    finals = final if isinstance(final, tuple) else (final,)
    ends = sum(state[..., :HIDDEN].sum() for state in finals)  # of several steps side by side, the newest
    ((output * turn(cotangent_TBW)).sum() + of_ends * ends).backward()
    before = {name: parameter.grad.clone() for name, parameter in layer.named_parameters()}
    record = regulariser()
    added = {name: parameter.grad - before[name] for name, parameter in layer.named_parameters()}

    assert record.added
    assert record.weight == 2.0
    cell, values = CELLS[layer.cell.name], []
    for part in (one.name for one in layer.parts()):
        p, rows = expected[part]
        value, logs = omega(cell, p, rows, form)
        values.append(value)
        assert record.by_part[part] == pytest.approx(value, rel=1e-9)
        assert record.spread[part] == pytest.approx(torch.tensor(logs).std(correction=0).item(), rel=1e-5)
        for name, slope in slopes(cell, p, rows, form).items():
            assert name in negligible or slope.abs().max() > 1e-6
            torch.testing.assert_close(stored(layer, added, name, part), 2.0 * slope, rtol=1e-5, atol=1e-8)
        for name in set(p) - set(cell.standing):
            assert not stored(layer, added, name, part).any()
    assert record.value == pytest.approx(sum(values), rel=1e-9)


def stored(layer: unvanish.Recurrent, arrays: dict[str, Tensor], name: str, part: str) -> Tensor:
    """One equation's array out of what is stored side by side, told from where its view lies."""
    view = layer[f"{name}_{part}"]
    for whole, parameter in layer.named_parameters():
        start = view.storage_offset() - parameter.storage_offset()
        if view.untyped_storage().data_ptr() == parameter.untyped_storage().data_ptr():
            return arrays[whole].flatten()[start : start + view.numel()].view(view.shape)
    raise KeyError(name)


engines = pytest.mark.parametrize("engine", ["reference", "native"])
cells = pytest.mark.parametrize("cell", CELLS)


@engines
@pytest.mark.parametrize("form", ["coded", "paper"])
@cells
def test_omega_is_that_of_its_authors(cell: str, form: str, engine: str) -> None:
    compare(layer_of(cell, engine=engine), form, of_ends=0.5)


@engines
@cells
def test_omega_where_rows_end_early(cell: str, engine: str) -> None:
    compare(layer_of(cell, engine=engine), "coded", lengths=[4, 6, 2])


@engines
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru_reset_before"])
def test_omega_where_rows_end_early_and_the_loss_reads_their_last_states(cell: str, engine: str) -> None:
    compare(layer_of(cell, engine=engine), "coded", lengths=[4, 6, 2], of_ends=0.5)


@engines
@cells
def test_omega_where_rows_start_anew(cell: str, engine: str) -> None:
    compare(layer_of(cell, engine=engine), "paper", reset=True, steps=10)


@engines
@pytest.mark.parametrize("reset", [False, True], ids=["whole", "reset"])
@cells
def test_omega_step_by_step(cell: str, reset: bool, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long passes are looked at in windows of steps; here each window is as short as it can be."""
    monkeypatch.setattr("unvanish.engine.steps.WINDOW_BYTES", 1)
    compare(layer_of(cell, engine=engine), "coded", reset=reset)


@engines
@pytest.mark.parametrize("steps", [2, 3, 4])
def test_omega_of_a_sequence_about_as_long_as_a_skip(steps: int, engine: str) -> None:
    compare(layer_of("skip_rnn", engine=engine), "coded", steps=steps, negligible=("V_h",))


@engines
@cells
def test_one_step_has_no_omega(cell: str, engine: str) -> None:
    layer = layer_of(cell, engine=engine)
    regulariser = penalty.Omega().attach(layer)
    for _ in range(5):
        read(layer, steps=1)
        layer.zero_grad()
        assert regulariser().value == 0.0
        assert all(parameter.grad is None or not parameter.grad.any() for parameter in layer.parameters())


@engines
@pytest.mark.parametrize(
    "options",
    [
        {"num_layers": 2},
        {"bidirectional": True},
        {"num_layers": 2, "bidirectional": True, "batch_first": True},
        {"batch_first": True},
    ],
    ids=lambda options: " ".join(options),
)
@pytest.mark.parametrize("cell", ["rnn", "gru_reset_before"])
def test_omega_of_stacks(cell: str, options: dict[str, Any], engine: str) -> None:
    compare(layer_of(cell, engine=engine, **options), "coded", lengths=[6, 3, 5], reset=True)


@engines
@pytest.mark.parametrize("kind", ["orthogonal", "radius:0.3", "antisymmetric", "weight_norm"])
def test_a_constrained_matrix_gets_its_gradient_through_the_constraint(kind: str, engine: str) -> None:
    held, plain = layer_of("rnn", constrain=kind, engine=engine), layer_of("rnn", engine=engine)
    with torch.no_grad():
        for name in ("W_h", "U_h", "b_h", "bh_h"):
            plain[name].copy_(held[name])
    x, records = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64), []
    for layer in (held, plain):
        regulariser = penalty.Omega().attach(layer)
        layer(x)[0].square().sum().backward()
        layer.zero_grad()
        records.append(regulariser().value)
    assert records[0] == pytest.approx(records[1], rel=1e-9)
    free = [parameter for name, parameter in held.named_parameters() if "parametrizations" in name]
    through = torch.autograd.grad(held["U_h"], free, plain.weight_hh_l0.grad, allow_unused=True)
    for parameter, gradient in zip(free, through, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


# -- what the object promises --------------------------------------------------------------------------------------


def read(layer: unvanish.Recurrent, steps: int = 8, scale: float = 1.0) -> None:
    """Run a pass and its backward pass."""
    (scale * layer(torch.randn(steps, 4, INPUT, dtype=next(layer.parameters()).dtype))[0].square()).sum().backward()


def test_schedules() -> None:
    layer = layer_of("rnn")
    found = {}
    for name, schedule in {"constant": "constant", "1/t": "1/t", "own": lambda t: 10.0**-t}.items():
        with penalty.Omega(6.0, schedule=schedule).attach(layer) as regulariser:
            found[name] = []
            for _ in range(3):
                read(layer)
                found[name].append(regulariser().weight)
    assert found["constant"] == [6.0, 6.0, 6.0]
    assert found["1/t"] == [6.0, 3.0, 2.0]
    assert found["own"] == pytest.approx([0.6, 0.06, 0.006])


def test_the_gradient_is_multiplied_by_alpha_and_a_weight_of_zero_only_looks() -> None:
    added = []
    for weight in (0.0, 1.0, 3.0):
        torch.manual_seed(3)
        layer = layer_of("rnn")
        regulariser = penalty.Omega(weight).attach(layer)
        read(layer)
        before = layer.weight_hh_l0.grad.clone()
        record = regulariser()
        added.append(layer.weight_hh_l0.grad - before)
        assert record.value > 0
    assert not added[0].any()
    assert added[1].any()
    torch.testing.assert_close(added[2], 3 * added[1])
    torch.manual_seed(3)
    layer = layer_of("rnn")
    regulariser = penalty.Omega(3.0).attach(layer)
    read(layer)
    layer.zero_grad()  # what has no gradient gets this one as its first
    regulariser()
    torch.testing.assert_close(layer.weight_hh_l0.grad, added[2])


def test_the_schedule_goes_on_where_its_state_was_taken() -> None:
    layer = layer_of("rnn")
    with penalty.Omega(6.0, schedule="1/t").attach(layer) as first:
        for _ in range(2):
            read(layer)
            first()
        state = first.state_dict()
    second = penalty.Omega(6.0, schedule="1/t").attach(layer)
    second.load_state_dict(state)
    assert second.alpha == 2.0
    assert second.calls == 2


def test_a_detached_omega_hears_nothing_and_the_layer_is_as_before() -> None:
    layer = layer_of("rnn")
    with penalty.Omega().attach(layer) as regulariser:
        assert len(layer.taps) == 1
    assert layer.taps == ()
    read(layer)
    with pytest.raises(unvanish.errors.FlowError, match=r"attach\(model\) it before the forward pass"):
        regulariser()


def test_each_call_sees_the_passes_since_the_last_one() -> None:
    layer = layer_of("rnn")
    regulariser = penalty.Omega(0.0).attach(layer)
    read(layer, steps=8)
    alone = regulariser().value
    with torch.no_grad():  # looks on, and leaves no tape behind
        layer(torch.randn(5, 4, INPUT, dtype=torch.float64))
    torch.manual_seed(5)
    read(layer)
    first = regulariser().value
    torch.manual_seed(5)
    read(layer)
    read(layer)  # of two passes Ω is the sum
    assert regulariser().value > first
    assert alone > 0


def test_what_is_not_finite_is_not_added_and_is_counted() -> None:
    layer = unvanish.RNN(INPUT, 8)
    regulariser = penalty.Omega().attach(layer)
    read(layer, scale=float("nan"))
    layer.zero_grad()
    read(layer, scale=float("inf"))
    layer.zero_grad()
    before = layer.weight_hh_l0.grad
    record = regulariser()
    assert before is None
    assert layer.weight_hh_l0.grad is None
    assert not record.added
    assert (regulariser.calls, regulariser.refused) == (1, 1)
    read(layer)
    layer.zero_grad()
    assert regulariser().added
    assert layer.weight_hh_l0.grad is not None


def test_what_omega_refuses() -> None:
    for weight in (-1.0, float("nan"), float("inf"), True, "2"):
        with pytest.raises(unvanish.errors.OptionError, match="weight of Omega"):
            penalty.Omega(weight)  # type: ignore[arg-type]
    with pytest.raises(unvanish.errors.OptionError, match="'coded'"):
        penalty.Omega(form="squared")  # type: ignore[arg-type]
    with pytest.raises(unvanish.errors.OptionError, match="'1/t'"):
        penalty.Omega(schedule="linear")  # type: ignore[arg-type]
    with pytest.raises(unvanish.errors.OptionError, match="weight_drop"):
        penalty.Omega().attach(layer_of("rnn", weight_drop=0.1))
    with pytest.raises(unvanish.errors.OptionError, match="layer_norm"):
        penalty.Omega().attach(layer_of("rnn", batch_norm=4))
    with pytest.raises(unvanish.errors.OptionError, match=r"no unvanish\.Recurrent"):
        penalty.Omega().attach(torch.nn.LSTM(2, 3))


@pytest.mark.parametrize("engine", ["reference", "native"])
def test_a_linear_recurrence_has_the_omega_that_its_matrix_says(engine: str) -> None:
    """U = 0.5 · orthogonal: every ratio is 1/4 of squares, whatever the gradient."""
    cell = unvanish.Cell("linear", "h[t] = U @ h[t-1] + W @ x[t]")
    layer = unvanish.Recurrent(cell, INPUT, 5, init={"U": "orthogonal:0.5"}, engine=engine, dtype=torch.float64)
    for form, value in (("coded", (0.25 - 1) ** 2), ("paper", (0.5 - 1) ** 2)):
        with penalty.Omega(form=form).attach(layer) as regulariser:  # type: ignore[arg-type]
            layer(torch.randn(9, 3, INPUT, dtype=torch.float64))[0].square().sum().backward()
            record = regulariser()
        assert record.value == pytest.approx(value, rel=1e-9)
        assert record.spread["l0"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("seed", range(usual(2, 5)))
def test_following_omega_alone_brings_the_ratios_to_one_and_makes_them_alike(seed: int) -> None:
    """Of a matrix that begins uneven; only what is Ω's own moves the weights."""
    torch.manual_seed(seed)
    layer = unvanish.RNN(2, 16, init={"U_h": "normal:0.5"}, engine="reference")
    regulariser = penalty.Omega(1.0).attach(layer)
    optimizer = torch.optim.SGD(layer.parameters(), 0.02)
    x, v = torch.randn(20, 16, 2), torch.randn(16, 16)
    records = []
    for _ in range(150):
        (layer(x)[0][-1] * v).sum().backward()
        optimizer.zero_grad()
        records.append(regulariser())
        optimizer.step()
    assert records[-1].value < 0.5 * records[0].value
    assert records[-1].spread["l0"] < 0.9 * records[0].spread["l0"]


@pytest.mark.parametrize("seed", range(usual(2, 3)))
def test_omega_in_training_keeps_the_ratios_alike(seed: int) -> None:
    """Asked for after the last number: the sign of the first. With Ω the norm wavers less on its way back."""
    found = {}
    for weight in (0.0, 2.0):
        torch.manual_seed(seed)
        layer = unvanish.RNN(1, 16, init={"U_h": "normal:0.5"}, engine="reference")
        out = torch.nn.Linear(16, 1)
        regulariser = penalty.Omega(weight).attach(layer)
        optimizer = torch.optim.Adam([*layer.parameters(), *out.parameters()], 3e-3)
        spreads = []
        for _ in range(120):
            x = torch.randn(15, 16, 1)
            optimizer.zero_grad()
            answer = out(layer(x)[0][-1]).squeeze(-1)
            torch.nn.functional.binary_cross_entropy_with_logits(answer, (x[0, :, 0] > 0).float()).backward()
            spreads.append(regulariser().spread["l0"])
            torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
            optimizer.step()
        found[weight] = sum(spreads[-20:]) / 20
    assert found[2.0] < 0.85 * found[0.0]
