"""Loops whose steps differ: cells in turn, slow ones, skipped steps; states in one tensor or outside the graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.diagnosis.people import Given, H, I, Weights, asked, kind


class Gated(nn.Module):
    """Two cells and a read-out; with `hold` their gates keep what they have."""

    def __init__(self, hold: bool) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.GRUCell(I, H), nn.GRUCell(I, H), nn.Linear(H, 1)
        for cell in (self.first, self.second) if hold else ():
            nn.init.constant_(cell.bias_ih[H : 2 * H], 6.0)


class InTurn(Gated):
    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], H)
        for t in range(len(x)):
            h = (self.first if t % 2 else self.second)(x[t], h)
        return self.out(h)


@kind("vanishing", cause="keeps", found="loop")
def cells_in_turn() -> Given:
    return asked(InTurn(hold=False))


@kind("healthy", found="loop")
def cells_in_turn_that_hold() -> Given:
    return asked(InTurn(hold=True))


class Slow(Gated):
    """The second cell has its turn at every tenth step, and is all that remembers."""

    def __init__(self, hold: bool) -> None:
        super().__init__(hold=False)
        self.second = nn.GRUCell(H, H)
        nn.init.constant_(self.second.bias_ih[H : 2 * H], 6.0 if hold else -3.0)

    def forward(self, x: Tensor) -> Tensor:
        fast = slow = x.new_zeros(x.shape[1], H)
        for t in range(len(x)):
            fast = self.first(x[t], fast)
            if t % 10 == 9:
                slow = self.second(fast, slow)
        return self.out(fast + slow)


@kind("vanishing", cause="keeps", found="loop")
def a_slow_cell() -> Given:
    return asked(Slow(hold=False))


@kind("healthy", found="loop")
def a_slow_cell_that_holds() -> Given:
    return asked(Slow(hold=True))


class Skips(Gated):
    """The state stays as it is where the input is small."""

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], H)
        for t in range(len(x)):
            if x[t].mean() > 0:
                h = self.first(x[t], h)
        return self.out(h)


@kind("vanishing", found="loop")
def steps_skipped_by_the_data() -> Given:
    return asked(Skips(hold=False))


@kind("healthy", found="loop")
def steps_skipped_by_the_data_with_gates_that_hold() -> Given:
    return asked(Skips(hold=True))


class FedBack(nn.Module):
    """At every second step the cell gets what it has said itself."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRUCell(I, H), nn.Linear(H, I)

    def forward(self, x: Tensor) -> Tensor:
        h, given, said = x.new_zeros(x.shape[1], H), x[0], []
        for t in range(len(x)):
            h = self.cell(given, h)
            said.append(self.out(h))
            given = said[-1] if t % 2 else x[t]
        return torch.stack(said)[-1]


@kind("vanishing", cause="keeps")
def fed_back_at_every_second_step() -> Given:
    return asked(FedBack())


class OneStepWithout(Gated):
    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], H)
        for t, x_t in enumerate(x):
            with torch.set_grad_enabled(t != 30):
                h = self.first(x_t, h)
        return self.out(h)


@kind("vanishing", cause="detached", found="cell")
def one_step_without_gradients() -> Given:
    return asked(OneStepWithout(hold=True))


class Delayed(Weights):
    """A step reads the state of eight steps back."""

    def forward(self, x: Tensor) -> Tensor:
        states = [x.new_zeros(x.shape[1], H)] * 8
        for x_t in x:
            states.append(self.step(x_t, states[-8]))
        return self.out(states[-1])


@kind("vanishing", found="loop")
def a_state_of_eight_steps_back() -> Given:
    model = Delayed()
    nn.init.normal_(model.u.weight, std=0.1 / H**0.5)
    return asked(model)


@kind("healthy", found="loop")
def a_state_of_eight_steps_back_that_holds() -> Given:
    return asked(Delayed(hold=True), need=58)  # the lag before, 56, is near enough


class InMemory(Weights):
    """The states of all steps lie in one tensor."""

    def forward(self, x: Tensor) -> Tensor:
        states = x.new_zeros(len(x) + 1, x.shape[1], H)
        for t in range(len(x)):
            states[t + 1] = self.step(x[t], states[t].clone())
        return self.out(states[-1])


@kind("vanishing", found="loop")
def states_in_one_tensor() -> Given:
    return asked(InMemory())


@kind("healthy", found="loop")
def states_in_one_tensor_that_hold() -> Given:
    return asked(InMemory(hold=True))


class Outside(Weights):
    """The state is made of Python's numbers."""

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], H)
        for x_t in x[:-1]:
            h = torch.tensor(self.step(x_t, h).tolist())
        return self.out(self.step(x[-1], h))


@kind("dead", cause="detached", found="input")
def a_state_outside_the_graph() -> Given:
    return asked(Outside())


# -- what a second attack found ----------------------------------------------------------------------------------


class InPlace(Weights):
    """The state is one tensor, changed at every step."""

    keep = 0.5

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], H)
        for x_t in x:
            h.mul_(self.keep).add_(torch.tanh(self.w(x_t)))
        return self.out(h)


@kind("vanishing", found="loop")
def a_state_that_is_changed_in_place() -> Given:
    return asked(InPlace())


@kind("healthy", found="loop")
def a_state_that_is_changed_in_place_and_holds() -> Given:
    model = InPlace()
    model.keep = 0.99
    return asked(model)


class CutLate(Gated):
    """The state is cut eight steps before the end, where the loss reads."""

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], H)
        for t, x_t in enumerate(x):
            h = self.first(x_t, h.detach() if t == len(x) - 8 else h)
        return self.out(h)


@kind("vanishing", cause="detached", found="cell")
def a_cut_before_the_loss() -> Given:
    return asked(CutLate(hold=True))


class Phases(Gated):
    """One cell reads the beginning, the other the rest."""

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], H)
        for t in range(len(x)):
            h = (self.first if t < 15 else self.second)(x[t], h)
        return self.out(h)


@kind("vanishing")
def a_cell_for_each_phase() -> Given:
    return asked(Phases(hold=False), need=46)  # a step before the first cell's last


@kind("healthy")
def a_cell_for_each_phase_that_holds() -> Given:
    return asked(Phases(hold=True))


class Averages(Gated):
    """A running mean of the states is kept beside them, and is not used, or is all that is read."""

    def __init__(self, reads: bool) -> None:
        super().__init__(hold=False)
        self.reads = reads

    def forward(self, x: Tensor) -> Tensor:
        h = mean = x.new_zeros(x.shape[1], H)
        for x_t in x:
            h = self.first(x_t, h)
            mean = mean + h if self.reads else 0.99 * mean + 0.01 * h
        return self.out(mean if self.reads else h)


@kind("vanishing", cause="keeps")
def a_running_mean_that_nothing_reads() -> Given:
    return asked(Averages(reads=False))


@kind("vanishing", cause="keeps")
def a_sum_over_all_steps() -> Given:
    return asked(Averages(reads=True))


class HalfDetached(nn.Module):
    """One of two states is detached at every step, or the gradient is halved between two calls."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.cell, self.out = way, nn.LSTMCell(I, H), nn.Linear(H, 1)
        nn.init.constant_(self.cell.bias_ih[H : 2 * H], 6.0)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[1], H)
        for x_t in x:
            h, c = self.cell(x_t, (h, c.detach() if self.way == "detached" else c))
            if self.way == "hooked":
                c.register_hook(lambda g: 0.5 * g)
            elif self.way == "scaled":
                c = 0.5 * c + 0.5 * c.detach()
        return self.out(h)


@kind("vanishing", found="cell")
def one_of_two_states_detached() -> Given:
    return asked(HalfDetached("detached"))


@kind("vanishing", found="cell")
def a_gradient_that_a_hook_halves() -> Given:
    return asked(HalfDetached("hooked"))


@kind("vanishing", found="cell")
def a_gradient_that_is_halved_between_calls() -> Given:
    return asked(HalfDetached("scaled"))


class Shrinks(Gated):
    """Rows end one after the other, the longest first."""

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], H)
        for t, x_t in enumerate(x):
            rows = max(2, x.shape[1] - t // 12)
            h = self.first(x_t[:rows], h[:rows])
        return self.out(h)


@kind("vanishing", found="loop")
def a_batch_that_shrinks() -> Given:
    return asked(Shrinks(hold=False))


@kind("healthy", found="loop")
def a_batch_that_shrinks_and_holds() -> Given:
    return asked(Shrinks(hold=True))


@kind("healthy", found="loop")
def a_slow_cell_with_as_many_rows_as_turns() -> Given:
    return asked(Slow(hold=True), torch.randn(60, 6, I))


@kind("healthy", found="loop")
def cells_in_turn_with_as_many_rows_as_turns() -> Given:
    return asked(InTurn(hold=True), torch.randn(60, 30, I))


class Swaps(Gated):
    """A call takes what the one before the last returned."""

    def forward(self, x: Tensor) -> Tensor:
        h = g = x.new_zeros(x.shape[1], H)
        for x_t in x:
            h, g = g, self.first(x_t, h)
        return self.out(g + h)


@kind("vanishing")
def states_that_are_swapped() -> Given:
    return asked(Swaps(hold=False))


@kind("healthy")
def states_that_are_swapped_and_hold() -> Given:
    return asked(Swaps(hold=True))


class Handed(nn.Module):
    """A decoder goes on from the last state of its encoder, each over half the steps."""

    def __init__(self, hold: bool) -> None:
        super().__init__()
        self.encoder, self.decoder, self.out = nn.GRU(I, H), nn.GRU(I, H), nn.Linear(H, 1)
        for layer in (self.encoder, self.decoder) if hold else ():
            nn.init.constant_(layer.bias_ih_l0[H : 2 * H], 6.0)

    def forward(self, x: Tensor) -> Tensor:
        half = len(x) // 2
        _, h = self.encoder(x[:half])
        return self.out(self.decoder(x[half:], h)[0][-1])


@kind("vanishing", found="layer")
def a_decoder_that_goes_on_from_its_encoder() -> Given:
    return asked(Handed(hold=False))


@kind("healthy", found="layer")
def a_decoder_that_goes_on_from_its_encoder_and_holds() -> Given:
    return asked(Handed(hold=True))


class Masked(nn.Module):
    """Episodes end row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.LSTMCell(I, H), nn.Linear(H, 1)
        nn.init.constant_(self.cell.bias_ih[H : 2 * H], 6.0)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[1], H)
        for t, x_t in enumerate(x):
            alive = (torch.arange(x.shape[1])[:, None] * 7 + t) % 25 != 0
            h, c = self.cell(x_t, (h * alive, c * alive))
        return self.out(h)


@kind("vanishing", cause="rows are set back to zero one by one", found="cell")
def episodes_that_end_row_by_row() -> Given:
    return asked(Masked())


class SomeRows(Gated):
    """Only the rows with a word at a step are run, at some steps none."""

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[1], H)
        for x_t in x:
            rows = (x_t[:, 0] > 0.5).nonzero()[:, 0]
            h = h.index_copy(0, rows, self.first(x_t[rows], h[rows]))
        return self.out(h)


@kind("vanishing", found="loop")
def only_some_rows_are_run() -> Given:
    return asked(SomeRows(hold=False))
