"""Models as people write them, with the verdict and the first cause that each deserves.

A loop is written out in forward, or called by another name; a state lies in a list, a dataclass, a buffer; there is
something between the steps; the step of training is spoilt. Each is a kind, and most have siblings.
"""

from __future__ import annotations

import dataclasses
import random
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

T, B, I, H = 60, 6, 4, 20
Given = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is run, the verdicts that are right, what the first cause says, and how the recurrence was found."""

    make: Callable[[], Given]
    verdicts: tuple[str, ...]
    cause: str | None
    found: str | None


KINDS: dict[str, Kind] = {}


def kind(*verdicts: str, cause: str | None = None, found: str | None = None) -> Any:
    def keep(make: Callable[[], Given]) -> Callable[[], Given]:
        KINDS[make.__name__] = Kind(make, verdicts, cause, found)
        return make

    return keep


def mean_square(y: Tensor) -> Tensor:
    return y.square().mean()


def asked(model: nn.Module, batch: Any = None, need: int = 50, **more: Any) -> Given:
    batch = torch.randn(T, B, I) if batch is None else batch
    return {"model": model, "batch": batch, "loss": mean_square, "need": need, **more}


class Weights(nn.Module):
    """What a plain recurrence and its read-out need."""

    def __init__(self, hold: bool = False) -> None:
        super().__init__()
        self.w, self.u, self.out = nn.Linear(I, H), nn.Linear(H, H, bias=not hold), nn.Linear(H, 1)
        self.hold = hold
        if hold:
            nn.init.orthogonal_(self.u.weight)

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return 0.05 * self.w(x) + self.u(h) if self.hold else torch.tanh(self.w(x) + self.u(h))


class Last(nn.Module):
    """A layer whose last output is read."""

    def __init__(self, rnn: nn.Module, width: int, classes: int = 1) -> None:
        super().__init__()
        self.rnn, self.out = rnn, nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][-1])


def holding_lstm() -> Last:
    rnn = nn.LSTM(I, H)
    rnn.bias_ih_l0.data[H : 2 * H] = 5.0
    return Last(rnn, H)


# -- loops that are written out ----------------------------------------------------------------------------------


@kind("vanishing", cause="activation", found="loop")
def a_sigmoid_loop() -> Given:
    class Model(Weights):
        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(x.shape[1], H)
            for t in range(len(x)):
                h = torch.sigmoid(self.w(x[t]) + self.u(h))
            return self.out(h)

    return asked(Model())


@kind("healthy", found="loop")
def a_loop_that_remembers_over_a_batch_that_comes_first() -> Given:
    class Model(Weights):
        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), H)
            for t in range(x.shape[1]):
                h = self.step(x[:, t], h)
            return self.out(h)

    return asked(Model(hold=True), torch.randn(B, T, I))


@kind("exploding", cause="weights", found="loop")
def a_loop_that_explodes() -> Given:
    class Model(Weights):
        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(x.shape[1], H)
            for x_t in x:
                h = self.step(x_t, 1.3 * h)
            return self.out(h)

    return asked(Model(hold=True))


@kind("vanishing", found="loop")
def a_loop_over_what_was_projected_before_it_with_states_in_a_list() -> Given:
    class Model(Weights):
        def forward(self, x: Tensor) -> Tensor:
            projected, states = self.w(x), [x.new_zeros(x.shape[1], H)]
            for x_t in projected.unbind(0):
                states.append(torch.tanh(x_t + self.u(states[-1])))
            return self.out(torch.stack(states)[-1])

    return asked(Model())


@kind("vanishing", found="loop")
def a_first_step_that_differs() -> Given:
    class Model(Weights):
        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.w(x[0]))
            for x_t in x[1:]:
                h = self.step(x_t, h)
            return self.out(h.relu())

    return asked(Model())


@kind("vanishing", found="loop")
def a_branch_in_the_step() -> Given:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.back, self.out = nn.Linear(I + H, H), nn.Linear(H, I), nn.Linear(H, 1)

        def forward(self, x: Tensor) -> Tensor:
            coin, h = random.Random(0), x.new_zeros(x.shape[1], H)
            for x_t in x:
                given = x_t if coin.random() < 0.5 else self.back(h).tanh()
                h = torch.tanh(self.mix(torch.cat([given, h], -1)))
            return self.out(h)

    return asked(Model())


@kind("vanishing", cause="forgetting", found="loop")
def a_state_in_a_dataclass() -> Given:
    @dataclasses.dataclass
    class State:
        h: Tensor
        c: Tensor

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gates, self.out = nn.Linear(I + H, 4 * H), nn.Linear(H, 1)

        def forward(self, x: Tensor) -> Tensor:
            state = State(x.new_zeros(x.shape[1], H), x.new_zeros(x.shape[1], H))
            for x_t in x:
                i, f, g, o = self.gates(torch.cat([x_t, state.h], -1)).chunk(4, -1)
                c = f.sigmoid() * state.c + i.sigmoid() * g.tanh()
                state = State(o.sigmoid() * c.tanh(), c)
            return self.out(state.h)

    return asked(Model())


@kind("vanishing", found="loop")
def a_state_in_a_buffer() -> Given:
    class Model(Weights):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("state", torch.ones(B, H))

        def forward(self, x: Tensor) -> Tensor:
            for x_t in x:
                self.state = self.step(x_t, self.state)
            return self.out(self.state)

    return asked(Model())


@kind("vanishing", found="loop")
def a_state_in_a_mapping_of_the_model() -> Given:
    class Model(Weights):
        def forward(self, x: Tensor) -> Tensor:
            self.memory = {"h": x.new_zeros(x.shape[1], H)}
            for x_t in x:
                self.memory["h"] = self.step(x_t, self.memory["h"])
            return self.out(self.memory["h"])

    return asked(Model())


@kind("healthy", found="loop")
def a_state_that_is_read_five_steps_later() -> Given:
    class Model(Weights):
        def forward(self, x: Tensor) -> Tensor:
            states = [x.new_zeros(x.shape[1], H)] * 5
            for x_t in x:
                states.append(self.step(x_t, states[-5]))
            return self.out(states[-1])

    return asked(Model(hold=True))


@kind("vanishing", found="loop")
def rows_without_a_batch() -> Given:
    class Model(Weights):
        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(H)
            for x_t in x:
                h = self.step(x_t, h)
            return self.out(h)

    return asked(Model(), torch.randn(T, I))


@kind("vanishing", found="loop")
def cells_one_above_the_other() -> Given:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells, self.out = nn.ModuleList([nn.GRUCell(I, H), nn.GRUCell(H, H)]), nn.Linear(H, 1)

        def forward(self, x: Tensor) -> Tensor:
            states = [x.new_zeros(x.shape[1], H) for _ in self.cells]
            for below in x:
                for index, cell in enumerate(self.cells):
                    below = states[index] = cell(below, states[index])
            return self.out(states[-1])

    return asked(Model())


@kind("vanishing", found="loop")
def a_cell_called_by_its_forward() -> Given:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.out = nn.LSTMCell(I, H), nn.Linear(H, 1)

        def forward(self, x: Tensor) -> Tensor:
            states = (x.new_zeros(x.shape[1], H),) * 2
            for x_t in x:
                states = self.cell.forward(x_t, states)
            return self.out(states[0])

    return asked(Model())


@kind("vanishing", found="loop")
def a_named_module_that_takes_what_the_loop_made() -> Given:
    class Model(Weights):
        def __init__(self) -> None:
            super().__init__()
            self.squash = nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(x.shape[1], H)
            for x_t in x:
                h = self.squash(self.w(x_t) + self.u(h))
            return self.out(h)

    return asked(Model(), cells=["squash"])


@kind("vanishing", found="loop")
def four_calls_in_a_step_of_time() -> Given:
    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.u = nn.Linear(I, H), nn.Linear(H, H)

        def forward(self, h: Tensor, x: Tensor) -> Tensor:
            pull = torch.sigmoid(self.w(x) + self.u(h))
            return h + (pull - (0.4 + pull) * h) / 4

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.field, self.out = Field(), nn.Linear(H, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(x.shape[1], H)
            for x_t in x:
                for _ in range(4):
                    h = self.field(h, x_t)
            return self.out(h)

    return asked(Model(), torch.randn(30, B, I), need=20)


@kind("vanishing", found="loop")
def an_autograd_function_in_the_step() -> Given:
    class Squash(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: Tensor) -> Tensor:
            ctx.save_for_backward(value.tanh())
            return value.tanh()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient * (1 - ctx.saved_tensors[0].square())

    class Model(Weights):
        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(x.shape[1], H)
            for x_t in x:
                h = Squash.apply(self.w(x_t) + self.u(h))
            return self.out(h)

    return asked(Model())


@kind("vanishing", cause="forgetting", found="loop")
def a_convolution_in_the_step() -> Given:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gates, self.out = nn.Conv2d(2 + 3, 12, 3, padding=1), nn.Linear(3 * 16, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = c = x.new_zeros(x.shape[1], 3, 4, 4)
            for x_t in x:
                i, f, o, g = self.gates(torch.cat([x_t, h], 1)).chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
            return self.out(h.flatten(1))

    return asked(Model(), torch.randn(40, 2, 2, 4, 4), need=30)


# -- what stands around a step, and in it ------------------------------------------------------------------------


@kind("vanishing", found="loop")
def a_dropout_inside_the_cell() -> Given:
    class Cell(Weights):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return torch.tanh(self.w(x) + self.u(F.dropout(h, 0.1)))

    return asked(_stepped(Cell()))


@kind("vanishing", "healthy")
def a_dropout_on_one_of_two_states() -> Given:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.out = nn.LSTMCell(I, H), nn.Linear(H, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = c = x.new_zeros(x.shape[1], H)
            for x_t in x:
                h, c = self.cell(x_t, (h, F.dropout(c, 0.2)))
            return self.out(h)

    return asked(Model())


@kind("vanishing", "dead", cause="detached", found="loop")
def a_cell_that_detaches_its_state() -> Given:
    class Cell(Weights):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return self.w(x) + self.u(h.detach())

    return asked(_stepped(Cell(hold=True)))


@kind("vanishing", "dead", cause="detached", found="loop")
def a_state_without_its_graph() -> Given:
    class Model(Weights):
        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(x.shape[1], H)
            for x_t in x:
                with torch.no_grad():
                    past = self.u(h)
                h = torch.tanh(self.w(x_t) + past)
            return self.out(h)

    return asked(Model())


@kind("vanishing", "dead", cause="detached", found="loop")
def a_state_taken_as_data() -> Given:
    class Model(Weights):
        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(x.shape[1], H)
            for x_t in x:
                h = torch.tanh(self.w(x_t) + h.data @ self.u.weight.T)
            return self.out(h)

    return asked(Model())


@kind("vanishing", cause="detached", found="loop")
def a_loop_that_is_cut_every_tenth_step() -> Given:
    class Model(Weights):
        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(x.shape[1], H)
            for t, x_t in enumerate(x):
                h = self.step(x_t, h if t % 10 else h.detach())
            return self.out(h)

    return asked(Model(hold=True))


@kind("vanishing", "healthy", found="loop")
def a_layer_inside_a_decoder() -> Given:
    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.mix = nn.GRU(I, H, 2), nn.Linear(2 * H, H)

        def forward(self, x: Tensor, context: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
            y, hidden = self.gru(x[None], hidden)
            return torch.tanh(self.mix(torch.cat([y[0], context], -1))), hidden

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder, self.out = Decoder(), nn.Linear(H, 1)

        def forward(self, x: Tensor) -> Tensor:
            context, hidden = x.new_zeros(x.shape[1], H), x.new_zeros(2, x.shape[1], H)
            for x_t in x:
                context, hidden = self.decoder(x_t, context, hidden)
            return self.out(context)

    return asked(Model(), torch.randn(30, 5, I), need=20)


@kind("vanishing", found="layer")
def a_layer_that_is_called_step_by_step() -> Given:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.out = nn.LSTM(I, H), nn.Linear(H, 1)

        def forward(self, x: Tensor) -> Tensor:
            states = None
            for x_t in x:
                y, states = self.rnn(x_t[None], states)
            return self.out(y[0])

    return asked(Model())


@kind("vanishing", found="layer")
def a_state_that_the_module_keeps() -> Given:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.out = nn.GRU(I, H), nn.Linear(H, 1)
            self.hidden = torch.zeros(1, B, H)

        def forward(self, x: Tensor) -> Tensor:
            y, self.hidden = self.rnn(x, self.hidden)
            return self.out(y)

    return asked(Model())


@kind("vanishing", found="layer")
def a_parametrised_matrix() -> Given:
    rnn = nn.GRU(I, H)
    nn.utils.parametrizations.weight_norm(rnn, "weight_hh_l0")
    return asked(Last(rnn, H))


@kind("vanishing", "healthy", found="layer")
def a_matrix_that_is_thinned_by_hand() -> Given:
    class Thinned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(I, H)
            self.raw = nn.Parameter(self.rnn.weight_hh_l0.data.clone())
            del self.rnn.weight_hh_l0

        def forward(self, x: Tensor) -> Any:
            self.rnn.weight_hh_l0 = F.dropout(self.raw, 0.3, self.training)
            return self.rnn(x)

    return asked(Last(Thinned(), H))


@kind("vanishing", found="layer")
def autocast_inside_forward() -> Given:
    class Model(Last):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.out(self.rnn(torch.mm(x.flatten(0, 1), torch.eye(I)).view_as(x))[0][-1]).float()

    return asked(Model(nn.LSTM(I, H), H))


@kind("healthy", found="layer")
def a_compiled_model() -> Given:
    return asked(torch.compile(holding_lstm(), backend="eager"), loss=lambda y: (y - 1).square().mean())


@kind("vanishing", cause="forgetting", found="layer")
def a_layer_that_is_compiled_by_itself() -> Given:
    model = Last(nn.GRU(I, H), H)
    model.rnn = torch.compile(model.rnn, backend="eager")
    return asked(model)


@kind("vanishing", found="input")
def a_scripted_model() -> Given:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return asked(torch.jit.script(Last(nn.LSTM(I, H), H)))


@kind("healthy", found="input")
def attention_alone() -> Given:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
            self.embed, self.layers, self.out = (
                nn.Embedding(30, 16),
                nn.TransformerEncoder(layer, 3),
                nn.Linear(16, 1),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.layers(self.embed(x))[:, -1])

    return asked(Model(), torch.randint(0, 30, (B, 40)), need=30)


@kind("vanishing", found="input")
def a_convolution_that_sees_five_steps() -> Given:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.see, self.out = nn.Sequential(nn.Conv1d(I, 8, 3), nn.Tanh(), nn.Conv1d(8, 8, 3)), nn.Linear(8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.see(x)[..., -1])

    return asked(Model(), torch.randn(B, I, T))


# -- where the loss reads ----------------------------------------------------------------------------------------


@kind("vanishing", "dead", cause="reads")
def a_loss_over_an_early_step() -> Given:
    class Model(Last):
        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.rnn(x)[0][4])

    return asked(Model(holding_lstm().rnn, H))


@kind("vanishing", "dead", cause="disconnected")
def a_direction_that_is_never_read() -> Given:
    class Model(Last):
        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.rnn(x)[0][-1, :, :H])

    return asked(Model(nn.GRU(I, H, bidirectional=True), H))


# -- the right cause ---------------------------------------------------------------------------------------------


@kind("vanishing", cause="forgetting", found="cell")
def a_gate_of_ones_own_that_forgets() -> Given:
    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.new = nn.Linear(I + H, H), nn.Linear(I + H, H)

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            both = torch.cat([x, h], -1)
            keep = torch.sigmoid(self.gate(both))
            return keep * h + (1 - keep) * torch.tanh(self.new(both))

    return asked(_stepped(Cell()))


@kind("vanishing", cause="forgetting")
def a_constant_that_damps() -> Given:
    class Cell(Weights):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return 0.7 * h + 0.02 * torch.tanh(self.w(x) + self.u(h))

    return asked(_stepped(Cell()))


@kind("non-finite", cause="target")
def a_target_with_a_gap() -> Given:
    target = torch.randn(B, 1)
    target[2] = float("nan")
    return asked(Last(nn.LSTM(I, H), H), loss=lambda y: F.smooth_l1_loss(y, target))


@kind("non-finite", cause="ignored")
def labels_that_do_not_count() -> Given:
    target = torch.full((B,), -1)
    return asked(Last(nn.GRU(I, H), H, 3), loss=lambda y: F.cross_entropy(y, target, ignore_index=-1))


@kind("non-finite", cause="log in norm")
def a_logarithm_of_nothing() -> Given:
    class Log(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.log(x - x)

    class Model(Last):
        def __init__(self) -> None:
            super().__init__(nn.LSTM(I, H), H)
            self.norm = Log()

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.norm(x).mean()

    return asked(Model())


@kind("vanishing", cause="forgetting")
def a_frozen_mask_of_minus_infinity() -> Given:
    class Model(Last):
        def __init__(self) -> None:
            super().__init__(nn.LSTM(I, H), H, 3)
            self.mask = nn.Parameter(torch.tensor([0.0, float("-inf"), 0.0]), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            return (super().forward(x) + self.mask).softmax(-1)

    return asked(Model(), loss=lambda y: -(y[:, 0] + 1e-6).log().mean())


@kind(cause="input")
def units_of_a_sensor() -> Given:
    x = torch.stack([15 + torch.randn(T, 16), 990 + 4 * torch.randn(T, 16), 410 + 30 * torch.randn(T, 16)], -1)
    return asked(Last(nn.LSTM(3, H), H), x, need=20)


@kind(cause="batch")
def time_and_batch_exchanged() -> Given:
    class Model(Last):
        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.rnn(x)[0][:, -1])

    return asked(Model(nn.GRU(I, H), H), torch.randn(14, 33, I), need=20)


# -- a step that spoils ------------------------------------------------------------------------------------------


def _with_step(step: Callable[[nn.Module, Tensor, torch.optim.Optimizer], None]) -> Given:
    model, x = holding_lstm(), torch.randn(21, B, I)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    return asked(model, x, 15, optimizer=optimizer, step=lambda: step(model, x, optimizer))


@kind(cause="scale")
def a_clip_of_a_scaled_gradient() -> Given:
    scaler = torch.amp.GradScaler("cpu")

    def step(model: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        scaler.scale(mean_square(model(x))).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    return _with_step(step)


@kind("healthy", cause="none")
def a_clip_after_the_scale_was_taken_off() -> Given:
    scaler = torch.amp.GradScaler("cpu")

    def step(model: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        scaler.scale(mean_square(model(x))).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    return _with_step(step)


@kind(cause="zero_grad")
def gradients_that_add_up() -> Given:
    def step(model: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer) -> None:
        mean_square(model(x)).backward()
        optimizer.step()

    return _with_step(step)


@kind("healthy", cause="none")
def gradients_set_to_zero_at_the_end() -> Given:
    def step(model: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer) -> None:
        mean_square(model(x)).backward()
        optimizer.step()
        for parameter in model.parameters():
            parameter.grad = None

    return _with_step(step)


@kind(cause="optimizer")
def a_layer_that_no_optimizer_has() -> Given:
    model = holding_lstm()
    return asked(model, optimizer=torch.optim.SGD(model.out.parameters(), 0.1))


@kind("vanishing")
def a_step_of_lbfgs() -> Given:
    model = Last(nn.LSTM(I, H), H)
    return asked(model, optimizer=torch.optim.LBFGS(model.parameters(), lr=0.5))


@kind("vanishing")
def a_loss_of_tiny_numbers() -> Given:
    return asked(Last(nn.LSTM(I, H), H), loss=lambda y: 1e-26 * mean_square(y))


@kind("healthy", cause="none")
def a_sound_model_with_a_loss_of_tiny_numbers() -> Given:
    return asked(holding_lstm(), loss=lambda y: 1e-26 * mean_square(y))


def _stepped(cell: nn.Module) -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.out = cell, nn.Linear(H, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(x.shape[1], H)
            for x_t in x:
                h = self.cell(x_t, h)
            return self.out(h)

    return Model()


# -- before and after the recurrence -----------------------------------------------------------------------------


@kind("healthy", cause="starved")
def many_sigmoid_layers_after_the_recurrence() -> Given:
    model = holding_lstm()
    model.out = nn.Sequential(*[layer for _ in range(25) for layer in (nn.Linear(H, H), nn.Sigmoid())])
    return asked(model)


@kind("healthy", cause="starved")
def many_sigmoid_layers_before_the_recurrence() -> Given:
    before = nn.Sequential(*[layer for _ in range(25) for layer in (nn.Linear(I, I), nn.Sigmoid())])
    return asked(nn.Sequential(before, holding_lstm()))


@kind("healthy", cause="frozen")
def an_embedding_that_is_frozen() -> Given:
    model = nn.Sequential(nn.Embedding(30, I), holding_lstm())
    model[0].requires_grad_(False)
    return asked(model, torch.randint(0, 30, (T, B)))
