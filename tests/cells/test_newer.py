"""MGU, IndRNN, LEM and coRNN: equal to a loop written by hand from the paper, and what they are for, as laws.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from unvanish import Recurrent

INPUT, HIDDEN, STEPS, BATCH = 3, 7, 11, 4
Loop = Callable[[dict[str, Tensor], Tensor, list[Tensor]], list[Tensor]]


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def made(name: str, **options: Any) -> Recurrent:
    return Recurrent(name, INPUT, HIDDEN, dtype=torch.float64, **options)


def mgu(p: dict[str, Tensor], x: Tensor, states: list[Tensor]) -> list[Tensor]:
    (h,) = states
    f = torch.sigmoid(x @ p["W_f"].t() + h @ p["U_f"].t() + p["b_f"])
    candidate = torch.tanh(x @ p["W_n"].t() + (f * h) @ p["U_n"].t() + p["b_n"])
    return [(1 - f) * h + f * candidate]


def indrnn(p: dict[str, Tensor], x: Tensor, states: list[Tensor]) -> list[Tensor]:
    (h,) = states
    return [torch.relu(x @ p["W_h"].t() + p["u_h"] * h + p["b_h"])]


def lem(p: dict[str, Tensor], x: Tensor, states: list[Tensor]) -> list[Tensor]:
    h, z = states
    step_z = 0.3 * torch.sigmoid(x @ p["W_dz"].t() + h @ p["U_dz"].t() + p["b_dz"])
    step_h = 0.3 * torch.sigmoid(x @ p["W_dh"].t() + h @ p["U_dh"].t() + p["b_dh"])
    z = z + step_z * (torch.tanh(x @ p["W_z"].t() + h @ p["U_z"].t() + p["b_z"]) - z)
    h = h + step_h * (torch.tanh(x @ p["W_h"].t() + z @ p["V_h"].t() + p["b_h"]) - h)
    return [h, z]


def cornn(p: dict[str, Tensor], x: Tensor, states: list[Tensor]) -> list[Tensor]:
    h, z = states
    force = torch.tanh(x @ p["W_f"].t() + h @ p["U_f"].t() + z @ p["V_f"].t() + p["b_f"])
    z = z + 0.1 * force - 0.1 * 0.9 * h - 0.1 * 1.2 * z
    return [h + 0.1 * z, z]


LOOPS: dict[str, tuple[Loop, dict[str, Any]]] = {
    "mgu": (mgu, {}),
    "indrnn": (indrnn, {}),
    "lem": (lem, {"dt": 0.3}),
    "cornn": (cornn, {"dt": 0.1, "gamma": 0.9, "epsilon": 1.2}),
}


@pytest.mark.parametrize("engine", ["reference", "native"])
@pytest.mark.parametrize("name", LOOPS)
def test_cell_equals_the_loop_written_from_its_paper(name: str, engine: str) -> None:
    loop, options = LOOPS[name]
    layer = made(name, engine=engine, **options)
    initial = [0.5 * noise(1, BATCH, HIDDEN) for _ in layer.state_names]
    x_TBI, direction_TBH = noise(STEPS, BATCH, INPUT), noise(STEPS, BATCH, HIDDEN)
    output_TBH, final = layer(x_TBI, tuple(initial) if len(initial) > 1 else initial[0])
    names = [parameter.name for parameter in layer.cell.system().parameters]
    leaves = {parameter: layer[parameter].detach().clone().requires_grad_() for parameter in names}
    states, outputs = [state[0] for state in initial], []
    for x_BI in x_TBI:
        states = loop(leaves, x_BI, states)
        outputs.append(states[0])
    wanted_TBH = torch.stack(outputs)
    assert (output_TBH - wanted_TBH).abs().max() < 1e-12
    for found, wanted in zip(final if isinstance(final, tuple) else (final,), states, strict=True):
        assert (found[0] - wanted).abs().max() < 1e-12
    (output_TBH * direction_TBH).sum().backward()
    (wanted_TBH * direction_TBH).sum().backward()
    gradients = made(name, **options)  # the gradients by their equation names, read as a layer's weights
    with torch.no_grad():
        for parameter, source in zip(gradients.parameters(), layer.parameters(), strict=True):
            parameter.copy_(source.grad)
    for parameter, leaf in leaves.items():
        assert leaf.grad is not None
        assert (gradients[parameter] - leaf.grad).abs().max() < 1e-12 * (1 + leaf.grad.abs().max()), parameter


class TestMGU:
    def test_a_shut_gate_keeps_the_state_and_an_open_one_lets_in_the_new(self) -> None:
        x_TBI, h_1BH = noise(STEPS, BATCH, INPUT), noise(1, BATCH, HIDDEN)
        shut = made("mgu", init={"b_f": -60.0})
        torch.testing.assert_close(shut(x_TBI, h_1BH)[0][-1], h_1BH[0])
        free, plain = made("mgu", init={"b_f": 60.0}), made("rnn", init={"bh_h": 0.0})
        with torch.no_grad():
            for theirs, ours in (("W_h", "W_n"), ("U_h", "U_n"), ("b_h", "b_n")):
                plain[theirs].copy_(free[ours])
        torch.testing.assert_close(free(x_TBI, h_1BH)[0], plain(x_TBI, h_1BH)[0])


class TestIndRNN:
    def test_units_do_not_speak_to_each_other_in_time(self) -> None:
        layer, x_TBI = made("indrnn", nonlinearity="tanh"), noise(STEPS, BATCH, INPUT)
        h_1BH = noise(1, BATCH, HIDDEN).requires_grad_()
        for unit in range(HIDDEN):
            (gradient_1BH,) = torch.autograd.grad(layer(x_TBI, h_1BH)[0][-1, :, unit].sum(), h_1BH)
            reached_H = (gradient_1BH != 0).all(dim=1)[0]
            assert reached_H.tolist() == [other == unit for other in range(HIDDEN)]

    def test_the_gradient_along_k_steps_is_the_kth_power_of_the_weight(self) -> None:
        layer, u_H = made("indrnn", nonlinearity="identity"), torch.linspace(-1.1, 1.1, HIDDEN, dtype=torch.float64)
        with torch.no_grad():
            layer["u_h"].copy_(u_H)
        h_1BH = noise(1, BATCH, HIDDEN).requires_grad_()
        (gradient_1BH,) = torch.autograd.grad(layer(noise(STEPS, BATCH, INPUT), h_1BH)[0][-1].sum(), h_1BH)
        torch.testing.assert_close(gradient_1BH, (u_H**STEPS).expand(1, BATCH, HIDDEN))

    def test_every_unit_begins_with_the_longest_memory(self) -> None:
        assert (made("indrnn")["u_h"] == 1).all()
        drawn_H = made("indrnn", init={"u_h": torch.nn.init.uniform_})["u_h"]
        assert ((drawn_H > 0) & (drawn_H < 1)).all()


class TestLEM:
    def test_states_stay_within_one_for_time_steps_up_to_one(self) -> None:
        layer = made("lem", init={"*": lambda array: array.normal_(0, 5)})
        _, (h_1BH, z_1BH) = layer(10 * noise(200, BATCH, INPUT))
        assert h_1BH.abs().max() <= 1
        assert z_1BH.abs().max() <= 1

    def test_a_small_time_step_keeps_the_states(self) -> None:
        layer, states = made("lem", dt=0.0), (noise(1, BATCH, HIDDEN), noise(1, BATCH, HIDDEN))
        for found, initial in zip(layer(noise(STEPS, BATCH, INPUT), states)[1], states, strict=True):
            torch.testing.assert_close(found, initial)


class TestCoRNN:
    def test_without_a_drive_a_unit_is_a_damped_oscillator(self) -> None:
        """h'' = -gamma h - epsilon h' from h = 1, h' = 0, at a time by which it has swung through zero."""
        dt, gamma, epsilon, time = 1e-4, 4.0, 0.6, 2.0
        layer = made("cornn", dt=dt, gamma=gamma, epsilon=epsilon, init={"*": 0.0})
        h_1BH = torch.ones(1, 1, HIDDEN, dtype=torch.float64)
        output_TBH, _ = layer(noise(round(time / dt), 1, INPUT), (h_1BH, torch.zeros_like(h_1BH)))
        damping = epsilon / 2
        frequency = math.sqrt(gamma - damping**2)
        swing = math.cos(frequency * time) + damping / frequency * math.sin(frequency * time)
        wanted = math.exp(-damping * time) * swing
        assert wanted < -0.3
        assert (output_TBH[-1] - wanted).abs().max() < 1e-3
