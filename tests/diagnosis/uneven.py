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
    return asked(Delayed(hold=True), need=59)


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
