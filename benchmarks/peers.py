"""The peers in torch: torch.nn, torchrecurrent, and loops written by hand.

A loop is what a competent user would write: the input product hoisted out of time, one product a step for all
gates that can share it, and no needless operation.

torchrecurrent's layers are made without their second and third bias, and with our nonlinearities and fixed
numbers, so that both sides have the same parameters and the same products. Its cells are those of the catalogue
but for one: its LEM gives z[t-1], not z[t] as the paper has it, to the product of h, so that the two stages of a
step become one. LEM is therefore the one peer whose numbers are not checked against ours. How the library runs a
cell is its own affair: a Python loop, nothing hoisted, in PeepholeLSTM and MGU one product a gate.

Shapes: T time, B batch, I input, H hidden, G all gates side by side.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from compare import Case, Peer, TorchSide
from torch import Tensor, nn

Arrays = dict[str, Tensor]
Loop = Callable[[Case, Arrays], Tensor]


def named(prefixes: dict[str, str], gates: str) -> dict[str, tuple[str, ...]]:
    """Say which parameters an array holds: {"weight": "W"} and "ifgo" give W_i, W_f, W_g, W_o."""
    return {own: tuple(f"{prefix}_{gate}" for gate in gates) for own, prefix in prefixes.items()}


def _module_side(module: nn.Module, case: Case, arrays: Arrays, prefix: str = "") -> TorchSide:
    parameters = {name.removeprefix(prefix): parameter for name, parameter in module.named_parameters()}
    if parameters.keys() != arrays.keys():
        raise AssertionError(f"{module} holds {sorted(parameters)}, not {sorted(arrays)}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(arrays[name])
    x_TBI = case.x_TBI
    return TorchSide(lambda: module(x_TBI)[0], parameters, case.cotangent_TBH)


def torch_nn(kind: Callable[..., nn.Module], gates: str) -> Peer:
    """Return one of torch's own layers as a peer."""
    prefixes = {"weight_ih_l0": "W", "weight_hh_l0": "U", "bias_ih_l0": "b", "bias_hh_l0": "bh"}

    def make(case: Case, arrays: Arrays) -> TorchSide:
        return _module_side(kind(case.shape.width, case.shape.hidden), case, arrays)

    return Peer(f"torch.nn.{kind.__name__}", named(prefixes, gates), make)


def torchrecurrent(
    kind: str, holds: dict[str, tuple[str, ...]], *, same_numbers: bool = True, **options: Any
) -> Peer:
    """Return a layer of torchrecurrent as a peer."""

    def make(case: Case, arrays: Arrays) -> TorchSide:
        layer = getattr(importlib.import_module("torchrecurrent"), kind)
        module = layer(case.shape.width, case.shape.hidden, recurrent_bias=False, **options)
        return _module_side(module, case, arrays, "cells.0.")

    return Peer(f"torchrecurrent.{kind}", holds, make, "torchrecurrent", same_numbers)


def eager(loop: Loop, holds: dict[str, tuple[str, ...]]) -> Peer:
    """Return a loop in plain torch as a peer."""

    def make(case: Case, arrays: Arrays) -> TorchSide:
        leaves = {name: array.requires_grad_() for name, array in arrays.items()}
        return TorchSide(lambda: loop(case, leaves), leaves, case.cotangent_TBH)

    return Peer("eager loop", holds, make)


def _zeros(case: Case) -> Tensor:
    return case.x_TBI.new_zeros(case.shape.batch, case.shape.hidden)


def _peephole_lstm(case: Case, a: Arrays) -> Tensor:
    input_TBG = F.linear(case.x_TBI, a["weight_ih"], a["bias"])
    weight_HG, (p_i, p_f, p_o) = a["weight_hh"].t(), a["peephole"].chunk(3)
    h_BH, c_BH, outputs = _zeros(case), _zeros(case), []
    for gates_BG in input_TBG.unbind(0):
        i, f, g, o = torch.addmm(gates_BG, h_BH, weight_HG).chunk(4, 1)
        i, f = torch.sigmoid(torch.addcmul(i, p_i, c_BH)), torch.sigmoid(torch.addcmul(f, p_f, c_BH))
        c_BH = torch.addcmul(f * c_BH, i, torch.tanh(g))
        h_BH = torch.sigmoid(torch.addcmul(o, p_o, c_BH)) * torch.tanh(c_BH)
        outputs.append(h_BH)
    return torch.stack(outputs)


def _gru(case: Case, a: Arrays) -> Tensor:
    """The GRU as published: the reset gate acts before the product, which makes a second one of a step."""
    input_TBG, hidden = F.linear(case.x_TBI, a["weight_ih"], a["bias"]), case.shape.hidden
    gates_TBG, new_TBH = input_TBG[..., : 2 * hidden], input_TBG[..., 2 * hidden :]
    gate_weight_HG, new_weight_HH = a["weight_rz"].t(), a["weight_n"].t()
    h_BH, outputs = _zeros(case), []
    for gates_BG, new_BH in zip(gates_TBG.unbind(0), new_TBH.unbind(0), strict=True):
        r, z = torch.sigmoid(torch.addmm(gates_BG, h_BH, gate_weight_HG)).chunk(2, 1)
        h_BH = torch.lerp(torch.tanh(torch.addmm(new_BH, r * h_BH, new_weight_HH)), h_BH, z)
        outputs.append(h_BH)
    return torch.stack(outputs)


def _leaky(case: Case, a: Arrays, alpha_H: Tensor) -> Tensor:
    input_TBH, weight_HH = F.linear(case.x_TBI, a["weight_ih"], a["bias"]), a["weight_hh"].t()
    h_BH, outputs = _zeros(case), []
    for input_BH in input_TBH.unbind(0):
        h_BH = torch.lerp(torch.tanh(torch.addmm(input_BH, h_BH, weight_HH)), h_BH, alpha_H)
        outputs.append(h_BH)
    return torch.stack(outputs)


def _leaky_rnn(case: Case, a: Arrays) -> Tensor:
    return _leaky(case, a, case.layer.get_buffer("alpha_l0"))


def _trained_leaky_rnn(case: Case, a: Arrays) -> Tensor:
    return _leaky(case, a, torch.sigmoid(a["share"]))


def _simple_gru(case: Case, a: Arrays) -> Tensor:
    input_TBG, weight_HG = F.linear(case.x_TBI, a["weight_ih"], a["bias"]), a["weight_hh"].t()
    h_BH, outputs = _zeros(case), []
    for gates_BG in input_TBG.unbind(0):
        z, n = torch.addmm(gates_BG, h_BH, weight_HG).chunk(2, 1)
        h_BH = torch.lerp(torch.tanh(n), h_BH, torch.sigmoid(z))
        outputs.append(h_BH)
    return torch.stack(outputs)


def _skip_rnn(case: Case, a: Arrays) -> Tensor:
    input_TBH, delay = F.linear(case.x_TBI, a["weight_ih"], a["bias"]), case.layer.cell.delays["d"]
    weight_HH, skip_HH = a["weight_hh"].t(), a["weight_skip"].t()
    h_BH, outputs = _zeros(case), []
    for step, input_BH in enumerate(input_TBH.unbind(0)):
        h_BH = torch.addmm(input_BH, h_BH, weight_HH)
        h_BH = torch.tanh(torch.addmm(h_BH, outputs[step - delay], skip_HH) if step >= delay else h_BH)
        outputs.append(h_BH)
    return torch.stack(outputs)


def _delayed_rnn(case: Case, a: Arrays) -> Tensor:
    """With nothing from the step before, as many steps as the delay has are done at once."""
    input_TBH, weight_HH = F.linear(case.x_TBI, a["weight_ih"], a["bias"]), a["weight_skip"].t()
    outputs: list[Tensor] = []
    for input_DBH in input_TBH.split(case.layer.cell.delays["d"]):
        together = input_DBH.flatten(0, 1)
        if outputs:
            together = torch.addmm(together, outputs[-1][: len(together)], weight_HH)
        outputs.append(torch.tanh(together))
    return torch.cat(outputs).view_as(input_TBH)


def _clockwork_rnn(case: Case, a: Arrays) -> Tensor:
    """Slices of the units that move would spare products, but each would fill a gradient of the whole matrix."""
    period_H = case.layer.get_buffer("period_l0")
    weight_HH = (a["weight_hh"] * (period_H[None, :] >= period_H[:, None])).t()
    moves_TH = torch.arange(case.shape.steps)[:, None] % period_H == 0
    h_BH, outputs = _zeros(case), []
    for input_BH, moves_H in zip(F.linear(case.x_TBI, a["weight_ih"], a["bias"]), moves_TH, strict=True):
        h_BH = torch.where(moves_H, torch.tanh(torch.addmm(input_BH, h_BH, weight_HH)), h_BH)
        outputs.append(h_BH)
    return torch.stack(outputs)


STACKED = {"weight_ih": "W", "weight_hh": "U", "bias": "b"}
PEEPHOLE = {**named(STACKED, "ifgo"), "peephole": ("p_i", "p_f", "p_o")}
LSTM, GRU, RNN = torch_nn(nn.LSTM, "ifgo"), torch_nn(nn.GRU, "rzn"), torch_nn(nn.RNN, "h")
PEEPHOLE_LOOP = eager(_peephole_lstm, PEEPHOLE)
GRU_LOOP = eager(
    _gru, {**named({"weight_ih": "W", "bias": "b"}, "rzn"), "weight_rz": ("U_r", "U_z"), "weight_n": ("U_n",)}
)
LEAKY_LOOP = eager(_leaky_rnn, named(STACKED, "h"))
TRAINED_LEAKY_LOOP = eager(_trained_leaky_rnn, {**named(STACKED, "h"), "share": ("a",)})
SIMPLE_GRU_LOOP = eager(_simple_gru, named(STACKED, "zn"))
SKIP_LOOP = eager(_skip_rnn, {**named(STACKED, "h"), "weight_skip": ("V_h",)})
DELAYED_LOOP = eager(_delayed_rnn, {"weight_ih": ("W_h",), "weight_skip": ("V_h",), "bias": ("b_h",)})
CLOCKWORK_LOOP = eager(_clockwork_rnn, named(STACKED, "h"))

WEIGHTS = {"weight_ih": "W", "bias_ih": "b"}
OSCILLATOR: dict[str, Any] = {"dt": 0.042, "gamma": 2.7, "epsilon": 4.7}
PEEPHOLE_LIBRARY = torchrecurrent(
    "PeepholeLSTM", {**named({**WEIGHTS, "weight_hh": "U"}, "ifgo"), "weight_ph": ("p_i", "p_f", "p_o")}
)
MGU_LIBRARY = torchrecurrent("MGU", named({**WEIGHTS, "weight_hh": "U"}, "fn"))
INDRNN_LIBRARY = torchrecurrent("IndRNN", {**named(WEIGHTS, "h"), "vector_u": ("u_h",)}, nonlinearity="relu")
LEM_LIBRARY = torchrecurrent(
    "LEM",
    {
        "weight_ih": ("W_dh", "W_dz", "W_z", "W_h"),
        "weight_hh": ("U_dh", "U_dz", "U_z"),
        "weight_ch": ("V_h",),
        "bias_ih": ("b_dh", "b_dz", "b_z", "b_h"),
    },
    same_numbers=False,
    cell_bias=False,
    dt=1.0,
)
CORNN_LIBRARY = torchrecurrent(
    "coRNN", named({**WEIGHTS, "weight_hh": "U", "weight_ch": "V"}, "f"), cell_bias=False, **OSCILLATOR
)
