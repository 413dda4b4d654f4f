"""What goes wrong in a training loop is told once, where and when it does; nothing is left behind.

Shapes: T time, B batch, I input, H hidden, S states.
"""

from __future__ import annotations

import copy
import io
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unvanish
from unvanish import flow
from unvanish.diagnosis.watch import Alert, Watcher, watch
from unvanish.errors import FlowError, OptionError

T, B, I, H = 24, 3, 2, 5


class Last(nn.Module):
    """A recurrence, read at its last step."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.rnn, self.out = layer, nn.Linear(H, 1)
        self.fails = False

    def forward(self, x_TBI: Tensor) -> Tensor:
        h_TBH = self.rnn(x_TBI)[0]
        if self.fails:
            raise ZeroDivisionError
        return self.out(h_TBH[-1])


class Cells(nn.Module):
    """A cell that is called once a step; the state is cut before one of them, if one is named."""

    def __init__(self, cut: int | None = None) -> None:
        super().__init__()
        self.cell, self.cut = nn.GRUCell(I, H), cut

    def forward(self, x_TBI: Tensor) -> Tensor:
        h_BH = x_TBI.new_zeros(B, H)
        for step, x_BI in enumerate(x_TBI):
            h_BH = self.cell(x_BI, h_BH.detach() if step == self.cut else h_BH)
        return h_BH


class Linear(nn.RNN):
    """A recurrence whose matrix is a multiple of the identity, and whose states stay on relu's rising half."""

    def __init__(self, radius: float) -> None:
        super().__init__(I, H, nonlinearity="relu", bias=False)
        with torch.no_grad():
            self.weight_hh_l0.copy_(radius * torch.eye(H))
            self.weight_ih_l0.abs_()


def sound_lstm(layers: int = 1) -> unvanish.Recurrent:
    """An LSTM whose forget gates are open."""
    return unvanish.LSTM(I, H, layers, init={"b_f": 4.0})


def batches(count: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return (torch.rand(T, B, I, generator=generator) for _ in range(count))


def train(
    model: nn.Module,
    steps: int = 6,
    *,
    before: Callable[[int], object] = lambda step: None,
    lr: float = 1e-3,
    clip: Callable[[str], object] = lambda moment: None,
    loss: Callable[[int, Tensor], Tensor] = lambda step, y: (y - 1).square().mean(),
    **options: Any,
) -> Watcher:
    """A plain training loop, watched; `before` and `clip` plant the faults."""
    optimizer = torch.optim.SGD(model.parameters(), lr)
    with watch(model, optimizer, **{"alert": lambda alert: None, "every": 1, **options}) as watcher:
        for step, x_TBI in enumerate(batches(steps), 1):
            before(step)
            optimizer.zero_grad()
            value = loss(step, model(x_TBI))
            clip("before")
            value.backward()
            clip("between")
            optimizer.step()
            clip("after")
    return watcher


def places(watcher: Watcher) -> list[tuple[Any, ...]]:
    return [(a.kind, a.step, a.where, a.state, a.time_step) for a in watcher.alerts]


# -- what is told ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer", [sound_lstm, lambda: sound_lstm(2), lambda: Linear(1.0)], ids=["lstm", "2", "linear"]
)
def test_sound_loop_tells_nothing(layer: Callable[[], nn.Module]) -> None:
    model, clips = Last(layer()), []
    watcher = train(
        model, 30, need=T - 4, clip=lambda m: m == "between" and nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    )
    assert places(watcher) == clips
    assert watcher.step == 30


def test_loss_at_every_step_that_adds_up_does_not_explode() -> None:
    class Every(Last):
        def forward(self, x_TBI: Tensor) -> Tensor:
            return self.out(self.rnn(x_TBI.repeat(20, 1, 1))[0])

    model = Every(Linear(1.0))
    with flow.record(model) as recording:
        model(next(batches(1))).mean().backward()
    norms_T = recording["rnn"].norms[:, 0]
    assert norms_T[0] > 100 * norms_T[-1]  # a hundredfold, and none of it by the recurrence
    assert places(train(model, 3, lr=0.0)) == []


def test_state_that_the_loss_does_not_read_may_catch_up() -> None:
    cell = unvanish.Cell("late", "c[t] = a * c[t-1] + W_c @ x[t]\nh[t] = e * c[t-1] + z * h[t-1] + W_h @ x[t]")
    layer = unvanish.Recurrent(cell, I, H, init={"a": 1.4, "e": 1e-3, "z": 1e-3})
    assert places(train(Last(layer), 3, lr=0.0)) == []
    with torch.no_grad():
        layer["e_l0"].fill_(1.0)
    assert [(alert.kind, alert.state) for alert in train(Last(layer), 3, lr=0.0).alerts] == [("exploding", "c")]


@pytest.mark.parametrize("radius", [1.4, 2.0])
def test_exploding_is_told_where_it_passes_a_hundredfold(radius: float) -> None:
    near = T // 4 - 1  # the steps that the growth is counted from
    back = next(k for k in itertools.count() if radius ** (k - near) >= 100)
    watcher = train(Last(Linear(radius)), 4, lr=0.0)
    assert places(watcher) == [("exploding", 1, "rnn.l0", "h", T - 1 - back)]
    assert watcher.alerts[0].value == pytest.approx(radius ** (T - 1 - near), rel=1e-4)


def test_vanishing_is_told_against_the_needed_lag() -> None:
    radius = 0.7
    reach = next(k for k in itertools.count() if radius ** (k + 1) < 0.01)
    watcher = train(Last(Linear(radius)), 4, need=reach + 1)
    assert places(watcher) == [("vanishing", 1, "rnn.l0", "h", T - 2 - reach)]
    assert watcher.alerts[0].value == pytest.approx(radius ** (reach + 1), rel=1e-3)
    assert f"{reach} steps" in watcher.alerts[0].text
    assert places(train(Last(Linear(radius)), 4, need=reach)) == []


def test_without_a_needed_lag_only_what_rounding_loses_is_vanishing() -> None:
    assert places(train(Last(Linear(0.7)), 4)) == []  # 0.7 ** 23 = 2.7e-4
    watcher = train(Last(Linear(0.4)), 4)
    reach = next(k for k in itertools.count() if 0.4 ** (k + 1) < 1e-6)
    assert places(watcher) == [("vanishing", 1, "rnn.l0", "h", T - 2 - reach)]


def test_one_layer_of_a_stack_that_remembers_is_enough() -> None:
    model = Last(sound_lstm(2))
    with torch.no_grad():
        model.rnn["b_f_l0"].fill_(-4.0)
    assert places(train(model, 4, need=T - 4)) == []
    with torch.no_grad():
        model.rnn["b_f_l1"].fill_(-4.0)
    assert [alert.kind for alert in train(model, 4, need=T - 4).alerts] == ["vanishing"]


def test_window_that_is_shorter_than_the_need_is_told_after_three_samples() -> None:
    watcher = train(Last(Linear(1.0)), 6, need=T)
    assert places(watcher) == [("vanishing", 3, "rnn.l0", "h", 0)]
    assert "ends" in watcher.alerts[0].text


def test_state_that_is_cut_is_seen_in_a_cell_called_once_a_step() -> None:
    cut = 20
    assert places(train(Cells(cut), 4)) == [("vanishing", 1, "cell", "h", cut - 1)]
    assert places(train(Cells(), 4)) == []


def test_reverse_direction_counts_time_from_the_other_end() -> None:
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = unvanish.RNN(I, H, bidirectional=True)

        def forward(self, x_TBI: Tensor) -> Tensor:
            return self.rnn(x_TBI)[0][0, :, H:]  # the reverse direction ends here

    model = First()
    with torch.no_grad():
        model.rnn["U_h_l0_reverse"].copy_(0.01 * torch.eye(H))
    alerts = [alert for alert in train(model, 1, need=10).alerts if alert.where == "rnn.l0_reverse"]
    assert [(alert.kind, alert.time_step) for alert in alerts] == [("vanishing", 1)]


# -- numbers that are none ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [sound_lstm, lambda: nn.LSTM(I, H)], ids=["ours", "torch"])
def test_gradient_that_is_no_number_is_told_at_its_state_and_time_step(layer: Callable[[], nn.Module]) -> None:
    class Planted(Last):
        planted = False

        def forward(self, x_TBI: Tensor) -> Tensor:
            h_TBH = self.rnn(x_TBI)[0]
            if self.planted:
                mask_TBH = torch.zeros_like(h_TBH)
                mask_TBH[7, 0, 0] = float("inf")
                h_TBH.register_hook(lambda gradient: gradient + mask_TBH)
            return self.out(h_TBH[-1])

    model = Planted(layer())
    watcher = train(model, 8, before=lambda step: setattr(model, "planted", step >= 5))
    assert places(watcher)[-1] == ("non-finite", 5, "rnn.l0", "h", 7)
    assert [alert.kind for alert in watcher.alerts].count("non-finite") == 1
    model = Planted(layer())
    late = train(model, 8, before=lambda step: setattr(model, "planted", step == 8), every=4)
    assert places(late)[-1] == ("non-finite", 8, "rnn.l0", "h", 7)
    assert "at step 4 all were" in late.alerts[-1].text


def test_loss_that_is_no_number_is_told_at_the_first_state_it_comes_to() -> None:
    nan = lambda step, y: (y * (float("nan") if step == 4 else 1.0)).mean()  # noqa: E731
    assert places(train(Last(sound_lstm()), 6, loss=nan)) == [("non-finite", 4, "rnn.l0", "h", T - 1)]
    assert places(train(Last(sound_lstm(2)), 6, loss=nan)) == [("non-finite", 4, "rnn.l1", "h", T - 1)]


def test_gradient_of_a_parameter_alone() -> None:
    model = Last(sound_lstm())
    model.out.bias.register_hook(lambda gradient: gradient * float("nan"))
    watcher = train(model, 3)
    assert places(watcher) == [("non-finite", 1, "out.bias", "", None)]
    assert "the gradient of the parameter out.bias" in watcher.alerts[0].text


def test_parameter_is_told_before_the_step_that_it_spoils_or_after_the_one_that_spoils_it() -> None:
    model = Last(sound_lstm())

    def plant(step: int) -> None:
        if step == 4:
            model.rnn.bias_ih_l0.data[0] = float("nan")

    found = [("non-finite", 4, "rnn.bias_ih_l0", "", None)]
    assert places(train(model, 6, before=plant)) == found
    blown = train(Last(sound_lstm()), 3, lr=float("inf"))
    assert places(blown) == [("non-finite", 1, "rnn.weight_ih_l0", "", None)]
    assert "after this step" in blown.alerts[0].text


def test_numbers_that_recover_are_told_again_at_another_place() -> None:
    model = Last(sound_lstm())
    kept = model.rnn.bias_ih_l0.detach().clone()

    def plant(step: int) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.nan_to_num_(0.1)
            model.rnn.bias_ih_l0.copy_(kept)
            if step in (2, 4):
                model.rnn.bias_ih_l0[0] = float("nan")
            if step in (5, 7):
                model.out.bias[0] = float("nan")

    watcher = train(model, 8, before=plant)
    found = [(a.step, a.where) for a in watcher.alerts if a.kind == "non-finite"]
    # Step 4 is the same place again; 5 follows on it without a sound sample between them.
    assert found == [(2, "rnn.bias_ih_l0"), (7, "out.bias")]


# -- what does not learn -----------------------------------------------------------------------------------------


class Two(nn.Module):
    """Two recurrences, of which one may not reach the loss."""

    def __init__(self, joined: bool) -> None:
        super().__init__()
        self.one, self.two, self.joined = sound_lstm(), sound_lstm(), joined

    def forward(self, x_TBI: Tensor) -> Tensor:
        two = self.two(x_TBI)[0][-1]
        return self.one(x_TBI)[0][-1] + (two if self.joined else two.detach())


def test_part_without_a_gradient_is_dead_after_three_samples() -> None:
    assert places(train(Two(joined=False), 6)) == [("dead", 3, "two.l0", "", None)]
    assert places(train(Two(joined=True), 6)) == []
    frozen = Two(joined=False)
    frozen.two.requires_grad_(False)
    assert places(train(frozen, 6)) == []


def test_gradient_of_zeros_is_none() -> None:
    watcher = train(Last(sound_lstm()), 6, loss=lambda step, y: torch.relu(y - 100).sum())
    assert places(watcher) == [("dead", 3, "rnn.l0", "", None)]


def test_gradient_that_comes_between_begins_the_count_anew() -> None:
    model = Two(joined=False)
    watcher = train(model, 6, before=lambda step: setattr(model, "joined", step % 3 == 0))
    assert places(watcher) == []


# -- the step ----------------------------------------------------------------------------------------------------


CLIPS = [("before", 1, "norm"), ("after", 2, "norm"), ("between", None, "norm")]


@pytest.mark.parametrize(("moment", "step", "by"), [*CLIPS, ("after", 2, "value"), ("between", None, "value")])
def test_clip_that_cannot_act(moment: str, step: int | None, by: str) -> None:
    model = Last(sound_lstm())
    function = {"norm": nn.utils.clip_grad_norm_, "value": nn.utils.clip_grad_value_}[by]
    watcher = train(model, 6, clip=lambda at: at == moment and function(model.parameters(), 0.5))
    assert places(watcher) == ([] if step is None else [("idle clip", step, "", "", None)])
    assert all(alert.value == 0.5 for alert in watcher.alerts)


def test_clip_of_other_parameters() -> None:
    model, other = Last(sound_lstm()), nn.Linear(2, 2)
    other(torch.ones(2)).sum().backward()
    watcher = train(model, 4, clip=lambda at: at == "between" and nn.utils.clip_grad_norm_(other.parameters(), 0.5))
    assert places(watcher) == [("idle clip", 1, "", "", None)]
    assert "none of those" in watcher.alerts[0].text


def test_clip_when_gradients_are_summed_over_batches() -> None:
    model = Last(sound_lstm())
    optimizer, told = torch.optim.SGD(model.parameters(), 1e-3), list[Alert]()
    with watch(model, optimizer, every=1, alert=told.append):
        for _ in range(3):
            for x_TBI in batches(4):
                model(x_TBI).square().mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            nn.utils.clip_grad_value_(model.parameters(), 0.25)
            optimizer.zero_grad()
    assert [(alert.kind, alert.step, alert.value) for alert in told] == [("idle clip", 2, 0.25)]


def test_parameters_that_no_optimiser_has() -> None:
    model = Last(sound_lstm())
    optimizer, told = torch.optim.SGD(model.rnn.parameters(), 1e-3), list[Alert]()
    with watch(model, optimizer, alert=told.append):
        for x_TBI in batches(3):
            model(x_TBI).mean().backward()
            optimizer.step()
    assert [(alert.kind, alert.step, alert.where, alert.value) for alert in told] == [
        ("optimizer", 1, "out.weight", 2)
    ]


# -- when --------------------------------------------------------------------------------------------------------


class Scalars(list[tuple[str, float, int]]):
    """Takes scalars as a SummaryWriter does."""

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.append((tag, value, step))


def test_scalars_of_every_sampled_step() -> None:
    log = Scalars()
    train(Last(Linear(0.7)), 12, every=5, need=10, lr=0.0, log=log)
    assert sorted({step for _, _, step in log}) == [1, 2, 3, 5, 10]
    values = {tag: value for tag, value, step in log if step == 10}
    assert set(values) == {f"gradient/rnn.l0/{name}" for name in ("reach", "left", "largest")}
    assert values["gradient/rnn.l0/reach"] == 12  # 0.7 ** 12 = 1.4 %
    assert values["gradient/rnn.l0/left"] == pytest.approx(0.7**10, rel=1e-4)


def test_without_an_optimiser_a_step_is_a_backward_pass() -> None:
    model, told = Last(sound_lstm()), list[Alert]()
    with watch(model, every=1, alert=told.append) as watcher:
        for step, x_TBI in enumerate(batches(5), 1):
            value = model(x_TBI).mean()
            (value * (float("nan") if step == 4 else 1.0)).backward()
    assert watcher.step == 5
    assert [(alert.kind, alert.step, alert.where) for alert in told] == [("non-finite", 4, "rnn.l0")]


def test_optimiser_that_runs_forward_and_backward_itself() -> None:
    model = Last(Linear(2.0))
    optimizer, told = torch.optim.LBFGS(model.parameters(), lr=0.0, max_iter=2), list[Alert]()
    with watch(model, optimizer, every=1, alert=told.append) as watcher:
        for x_TBI in batches(3):

            def closure(x_TBI: Tensor = x_TBI) -> Tensor:
                optimizer.zero_grad()
                value = model(x_TBI).mean()
                value.backward()
                return value

            optimizer.step(closure)
    assert watcher.step == 3
    assert [(alert.kind, alert.step) for alert in told] == [("exploding", 1)]


def test_alert_is_a_warning_by_default() -> None:
    model = Last(Linear(2.0))
    with pytest.warns(UserWarning, match=r"exploding: step 1: .* rnn\.l0"):
        train(model, 2, lr=0.0, alert=None)


def test_state_goes_on_where_it_was() -> None:
    whole = Last(Linear(2.0))
    first = train(whole, 2, need=T, lr=0.0)
    saved = torch.load(_saved(first.state_dict()), weights_only=True)
    optimizer, told = torch.optim.SGD(whole.parameters(), 0.0), list[Alert]()
    with watch(whole, optimizer, need=T, every=1, alert=told.append) as second:
        second.load_state_dict(saved)
        assert (second.step, second.alerts) == (2, first.alerts)
        for x_TBI in batches(2):
            whole(x_TBI).mean().backward()
            optimizer.step()
    # Explosion was told before; the third sample in a row of a window that is too short comes now.
    assert [(alert.kind, alert.step) for alert in told] == [("vanishing", 3)]
    assert places(second) == places(train(Last(Linear(2.0)), 4, need=T, lr=0.0))


def _saved(value: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return buffer


# -- nothing is left behind, nothing is changed ------------------------------------------------------------------


def traces(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, ...]:
    """Everything that watching could leave behind."""
    modules = [
        (
            len(m._forward_hooks),
            len(m._forward_pre_hooks),
            len(m._forward_hooks_always_called),
            vars(m).get("forward"),
        )
        for m in model.modules()
    ]
    watches = [m.taps for m in model.modules() if isinstance(m, unvanish.Recurrent)]
    parameters = [len(getattr(p, "_post_accumulate_grad_hooks", None) or ()) for p in model.parameters()]
    steps = len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks)
    return modules, watches, parameters, steps, sys.getprofile()


MODELS = [lambda: Last(sound_lstm()), lambda: Last(nn.LSTM(I, H)), lambda: nn.GRU(I, H), Cells]


def _called(model: nn.Module, x_TBI: Tensor) -> Tensor:
    output = model(x_TBI)
    return output[0][-1] if isinstance(output, tuple) else output


@pytest.mark.parametrize("make", MODELS, ids=["ours", "torch", "root", "cells"])
@pytest.mark.parametrize("with_optimizer", [True, False])
def test_nothing_is_left_behind(make: Callable[[], nn.Module], with_optimizer: bool) -> None:
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    before = traces(model, optimizer)
    log = Scalars()
    options: dict[str, Any] = {"every": 1, "alert": lambda alert: None, "log": log}
    watcher = watch(model, optimizer if with_optimizer else None, **options)
    idle = traces(model, optimizer)
    for x_TBI in batches(4):
        value = _called(model, x_TBI).mean()
        with torch.no_grad():
            _called(model, x_TBI)
        assert traces(model, optimizer)[:2] == idle[:2]  # an evaluation in between runs as it always does
        value.backward()
        optimizer.step()
    assert watcher.step == 4
    assert len({step for _, _, step in log}) == 4
    assert traces(model, optimizer) == idle
    _called(model, next(batches(1)))  # a pass without a step
    watcher.close()
    assert traces(model, optimizer) == before


@pytest.mark.parametrize("layer", [sound_lstm, lambda: nn.LSTM(I, H)], ids=["ours", "torch"])
def test_exception_leaves_nothing_behind(layer: Callable[[], nn.Module]) -> None:
    model = Last(layer())
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with watch(model, optimizer, every=1, alert=lambda alert: None) as watcher:
        before = traces(model, optimizer)
        model.fails = True
        with pytest.raises(ZeroDivisionError):
            model(next(batches(1)))
        assert traces(model, optimizer) == before
        model.fails = False
        for x_TBI in batches(3):
            model(x_TBI).mean().backward()
            optimizer.step()
        assert watcher.step == 3


def test_evaluation_is_neither_recorded_nor_counted() -> None:
    model, log = Last(sound_lstm()), Scalars()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with watch(model, optimizer, every=1, alert=lambda alert: None, log=log) as watcher:
        before = traces(model, optimizer)
        with torch.no_grad():
            model.eval()(next(batches(1)))
        assert traces(model, optimizer) == before
        model.train()(next(batches(1)))  # one without a step: the next pass is the one that counts
        model(next(batches(1))).mean().backward()
        model(next(batches(1)))  # a look at the training loss, after the backward pass
        optimizer.step()
        assert watcher.step == 1
    assert len(log) == 3


def test_recording_of_someone_else_is_left_alone() -> None:
    model = Last(nn.LSTM(I, H))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with watch(model, optimizer, every=1, alert=lambda alert: None):
        before = traces(model, optimizer)
        with flow.record(model) as recording:
            value = model(next(batches(1))).mean()
        value.backward()
        optimizer.step()
        assert recording["rnn"].arrived
        assert traces(model, optimizer)[:2] == before[:2]


@pytest.mark.parametrize("to_none", [True, False])
def test_step_that_is_left_out_is_not_judged(to_none: bool) -> None:
    model, told = Last(sound_lstm()), list[Alert]()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with watch(model, optimizer, every=1, alert=told.append) as watcher:
        for batch, x_TBI in enumerate(batches(6)):
            optimizer.zero_grad(set_to_none=to_none)
            scaler.scale(model(x_TBI).mean() * (float("inf") if batch in (0, 3) else 1.0)).backward()
            scaler.step(optimizer)
            scaler.update()
    assert watcher.step == 4
    assert told == []


def test_profiler_is_left_alone() -> None:
    def profiler(frame: object, event: str, argument: object) -> None:
        pass

    model = Last(sound_lstm())
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    sys.setprofile(profiler)
    try:
        with watch(model, optimizer):
            model(next(batches(1)))
            assert sys.getprofile() is profiler
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("make", MODELS, ids=["ours", "torch", "root", "cells"])
def test_copy_and_pickle_of_a_watched_model_are_not_watched(make: Callable[[], nn.Module]) -> None:
    model = make()
    optimizer, log = torch.optim.SGD(model.parameters(), 1e-3), Scalars()
    log.handle = iter(())  # type: ignore[attr-defined]  (what can neither be copied nor pickled)
    with watch(model, optimizer, every=1, alert=lambda alert: None, log=log):
        x_TBI = next(batches(1))
        twins = [copy.deepcopy(model), torch.load(_saved(model), weights_only=False)]
        wanted = _called(model, x_TBI)
        for twin in twins:
            with torch.no_grad():
                for parameter in twin.parameters():
                    parameter.mul_(1.0)
            torch.testing.assert_close(_called(twin, x_TBI), wanted)
            _called(twin, x_TBI).mean().backward()
            with torch.no_grad():
                next(twin.parameters()).zero_()
            assert not torch.equal(_called(twin, x_TBI), wanted)
        assert log == []


def run(model: nn.Module, **options: Any) -> list[list[Tensor]]:
    """The loss and the gradients of every step."""
    optimizer, found = torch.optim.Adam(model.parameters(), 1e-2), []
    watcher = watch(model, optimizer, alert=lambda alert: None, **options) if options else None
    for x_TBI in batches(9):
        optimizer.zero_grad()
        loss = _called(model, x_TBI.double()).square().mean()
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
        optimizer.step()
    if watcher is not None:
        watcher.close()
    return found


@pytest.mark.parametrize("make", MODELS, ids=["ours", "torch", "root", "cells"])
def test_losses_and_gradients_are_those_without_watching(make: Callable[[], nn.Module]) -> None:
    model = make().double()
    twin = copy.deepcopy(model)
    for watched, plain in zip(run(model, every=2), run(twin), strict=True):
        torch.testing.assert_close(watched, plain, rtol=1e-9, atol=1e-12)


def test_steps_that_are_not_sampled_are_the_same_to_the_last_bit() -> None:
    model = Last(sound_lstm())
    twin = copy.deepcopy(model)
    first = watch(model, torch.optim.SGD(model.parameters(), 1e-3), alert=lambda alert: None)
    first.load_state_dict({**first.state_dict(), "step": 50})  # the first steps are over
    optimizer = first._optimizers[0]
    for x_TBI in batches(9):
        for one in (model, twin):
            one.zero_grad()
            one(x_TBI).square().mean().backward()
        assert all(torch.equal(p.grad, q.grad) for p, q in zip(model.parameters(), twin.parameters(), strict=True))
        optimizer.step()
        twin.load_state_dict(model.state_dict())
    assert first.step == 59


# -- what is invalid -------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"every": 0}, {"need": 0}, {"need": -3}])
def test_counts_under_one_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="give a number of steps from 1 on"):
        watch(nn.RNN(1, 1), **options)


def test_model_without_a_recurrence_is_refused_at_once() -> None:
    with pytest.raises(FlowError, match="no recurrent layer"):
        watch(nn.Linear(1, 1))
    with pytest.raises(FlowError, match="no module 'cel'"):
        watch(Cells(), cells=["cel"])


class ReadAt(nn.Module):
    """A layer that is read at one of its steps."""

    def __init__(self, layer: nn.Module, step: int) -> None:
        super().__init__()
        self.rnn, self.step = layer, step

    def forward(self, x_TBI: Tensor) -> Tensor:
        return self.rnn(x_TBI)[0][self.step]


@pytest.mark.parametrize(
    ("layer", "step", "need", "told"),
    [
        (nn.LSTM(I, H, bidirectional=True), -1, None, [("l0_reverse", T - 1, 0)]),
        (nn.LSTM(I, H, bidirectional=True), 0, None, [("l0", 0, 0)]),
        (nn.GRU(I, H), 0, None, [("l0", 0, 0)]),
        (nn.GRU(I, H), 5, 10, [("l0", 5, 5)]),
        (nn.GRU(I, H), 5, 5, []),
        (nn.GRU(I, H), -1, T - 1, []),
    ],
)
def test_direction_that_is_read_near_its_first_step_is_told(
    layer: nn.Module, step: int, need: int | None, told: list[tuple[str, int, int]]
) -> None:
    torch.manual_seed(0)
    model, found = ReadAt(layer, step), list[Alert]()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with watch(model, optimizer, need=need, alert=found.append, every=1):
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(T, B, I)).sum().backward()
            optimizer.step()
    early = [alert for alert in found if alert.kind == "reads early"]
    assert [(alert.where.removeprefix("rnn."), alert.time_step, alert.value) for alert in early] == told


class Every(Last):
    """A recurrence that is read at every step."""

    def forward(self, x_TBI: Tensor) -> Tensor:
        return self.out(self.rnn(x_TBI)[0])


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize(("hold", "told"), [(False, ["vanishing"]), (True, [])])
def test_what_a_loss_at_every_step_hides_is_measured(root: bool, hold: bool, told: list[str]) -> None:
    torch.manual_seed(0)
    layer = nn.GRU(I, H)
    if hold:
        nn.init.constant_(layer.bias_ih_l0[H : 2 * H], 8.0)
    model, found = layer if root else Every(layer), list[Alert]()
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    random = torch.get_rng_state()
    with watch(model, optimizer, need=20, alert=found.append, every=1):
        for _ in range(3):
            optimizer.zero_grad()
            output = model(torch.ones(T, B, I))
            (output[0] if root else output).square().mean().backward()
            optimizer.step()
    assert [alert.kind for alert in found] == told
    assert torch.equal(torch.get_rng_state(), random)
    assert all("pulls at every step" in alert.text for alert in found)


def test_end_of_a_watch_looks_at_the_parameters() -> None:
    model, found = Last(nn.GRU(I, H)), list[Alert]()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with watch(model, optimizer, alert=found.append) as watcher:
        for step in range(10):
            optimizer.zero_grad()
            (model(torch.randn(T, B, I)).mean() * (math.nan if step == 5 else 1.0)).backward()
            optimizer.step()
        assert not found
    assert [alert.kind for alert in found] == ["non-finite"]
    watcher.close()
    assert len(found) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [({"optimizer": iter([])}, "the optimizer is a list_iterator"), ({"log": "runs/tb"}, "log is a str")],
)
def test_what_is_no_optimizer_or_log_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        watch(Last(nn.GRU(I, H)), **more)
