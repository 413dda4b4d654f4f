"""Ω by hand: loops over steps and rows, the cells' equations and their Jacobians written out, in double precision.

Nothing here comes from the package. The states are run in plain torch, and the gradients that reach them are kept
by autograd. Each cell then says what its Jacobian, transposed, makes of such a gradient: its values are given
numbers, and only the parameters that stand in it are looked up.

Names: p parameters, v the values of a step, d the gradients of the states after it; at_i, at_f, … those at the
place where a gate's products are summed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Values = dict[str, Tensor]
Params = Mapping[str, Tensor]


@dataclass(frozen=True)
class ByHand:
    """A cell: its step, what its Jacobian does, and which parameters stand in that.

    `step` takes parameters, the input, and the states so many steps back, and returns all values of the step;
    `back` takes the gradients of the states after it, and says what they send to which state how far back.
    """

    states: tuple[str, ...]
    delays: tuple[int, ...]
    step: Callable[[Params, Tensor, Callable[[str, int], Tensor]], Values]
    back: Callable[[Params, Values, Callable[[str, int], Tensor], Values], dict[tuple[str, int], Tensor]]
    standing: tuple[str, ...]


def rnn_step(p: Params, x: Tensor, past: Callable[[str, int], Tensor]) -> Values:
    return {"h": torch.tanh(p["W_h"] @ x + p["b_h"] + p["U_h"] @ past("h", 1) + p["bh_h"])}


def rnn_back(p: Params, v: Values, past: Callable[[str, int], Tensor], d: Values) -> dict[tuple[str, int], Tensor]:
    return {("h", 1): p["U_h"].T @ (d["h"] * (1 - v["h"] ** 2))}


def skip_step(p: Params, x: Tensor, past: Callable[[str, int], Tensor]) -> Values:
    return {"h": torch.tanh(p["W_h"] @ x + p["b_h"] + p["U_h"] @ past("h", 1) + p["V_h"] @ past("h", 3))}


def skip_back(p: Params, v: Values, past: Callable[[str, int], Tensor], d: Values) -> dict[tuple[str, int], Tensor]:
    through = d["h"] * (1 - v["h"] ** 2)
    return {("h", 1): p["U_h"].T @ through, ("h", 3): p["V_h"].T @ through}


def lstm_step(p: Params, x: Tensor, past: Callable[[str, int], Tensor]) -> Values:
    def gate(name: str) -> Tensor:
        return p[f"W_{name}"] @ x + p[f"b_{name}"] + p[f"U_{name}"] @ past("h", 1) + p[f"bh_{name}"]

    i, f, g, o = (
        torch.sigmoid(gate("i")),
        torch.sigmoid(gate("f")),
        torch.tanh(gate("g")),
        torch.sigmoid(gate("o")),
    )
    c = f * past("c", 1) + i * g
    return {"i": i, "f": f, "g": g, "o": o, "c": c, "h": o * torch.tanh(c)}


def peephole_step(p: Params, x: Tensor, past: Callable[[str, int], Tensor]) -> Values:
    def gate(name: str) -> Tensor:
        return p[f"W_{name}"] @ x + p[f"b_{name}"] + p[f"U_{name}"] @ past("h", 1)

    i = torch.sigmoid(gate("i") + p["p_i"] * past("c", 1))
    f = torch.sigmoid(gate("f") + p["p_f"] * past("c", 1))
    g = torch.tanh(gate("g"))
    c = f * past("c", 1) + i * g
    o = torch.sigmoid(gate("o") + p["p_o"] * c)
    return {"i": i, "f": f, "g": g, "o": o, "c": c, "h": o * torch.tanh(c)}


def lstm_back(p: Params, v: Values, past: Callable[[str, int], Tensor], d: Values) -> dict[tuple[str, int], Tensor]:
    peeps = "p_i" in p
    i, f, g, o, through = v["i"], v["f"], v["g"], v["o"], torch.tanh(v["c"])
    at_o = d["h"] * through * o * (1 - o)
    d_c = d["c"] + d["h"] * o * (1 - through**2) + (p["p_o"] * at_o if peeps else 0)
    at_i, at_f, at_g = d_c * g * i * (1 - i), d_c * past("c", 1) * f * (1 - f), d_c * i * (1 - g**2)
    to_h = p["U_i"].T @ at_i + p["U_f"].T @ at_f + p["U_g"].T @ at_g + p["U_o"].T @ at_o
    to_c = d_c * f + (p["p_i"] * at_i + p["p_f"] * at_f if peeps else 0)
    return {("h", 1): to_h, ("c", 1): to_c}


def gru_step(p: Params, x: Tensor, past: Callable[[str, int], Tensor]) -> Values:
    h = past("h", 1)
    r = torch.sigmoid(p["W_r"] @ x + p["U_r"] @ h + p["b_r"])
    z = torch.sigmoid(p["W_z"] @ x + p["U_z"] @ h + p["b_z"])
    n = torch.tanh(p["W_n"] @ x + p["U_n"] @ (r * h) + p["b_n"])
    return {"r": r, "z": z, "n": n, "h": (1 - z) * n + z * h}


def gru_back(p: Params, v: Values, past: Callable[[str, int], Tensor], d: Values) -> dict[tuple[str, int], Tensor]:
    h, r, z, n = past("h", 1), v["r"], v["z"], v["n"]
    at_z, at_n = d["h"] * (h - n) * z * (1 - z), d["h"] * (1 - z) * (1 - n**2)
    shut = p["U_n"].T @ at_n
    at_r = shut * h * r * (1 - r)
    return {("h", 1): d["h"] * z + shut * r + p["U_r"].T @ at_r + p["U_z"].T @ at_z}


GATES = ("U_i", "U_f", "U_g", "U_o")
CELLS = {
    "rnn": ByHand(("h",), (1,), rnn_step, rnn_back, ("U_h",)),
    "skip_rnn": ByHand(("h",), (1, 3), skip_step, skip_back, ("U_h", "V_h")),
    "lstm": ByHand(("h", "c"), (1,), lstm_step, lstm_back, GATES),
    "peephole_lstm": ByHand(("h", "c"), (1,), peephole_step, lstm_back, (*GATES, "p_i", "p_f", "p_o")),
    "gru_reset_before": ByHand(("h",), (1,), gru_step, gru_back, ("U_r", "U_z", "U_n")),
}


@dataclass(frozen=True)
class Row:
    """One row of one part, as it was run: what each step was given and gave, and where it starts anew."""

    values: list[Values]
    started: list[int]  # for each step, at which one its piece begins


def run_row(cell: ByHand, p: Params, x_TI: Tensor, reset_T: Tensor, hidden: int) -> Row:
    """Run one row of one part; every state keeps the gradient that will reach it."""
    row = Row([], [])
    blank = torch.zeros(hidden, dtype=x_TI.dtype)
    for t in range(len(x_TI)):
        row.started.append(t if t == 0 or bool(reset_T[t]) else row.started[-1])

        def past(name: str, delay: int, now: int = t) -> Tensor:
            reachable = now - delay >= row.started[now]
            return row.values[now - delay][name] if reachable else blank

        values = cell.step(p, x_TI[t], past)
        for state in cell.states:
            # What leaves the step is a thing of its own: c within the step also makes h, which is no later step.
            values[state] = values[state].clone()
            values[state].retain_grad()
        row.values.append(values)
    return row


def omega(cell: ByHand, p: Params, rows: list[Row], form: str) -> tuple[float, list[float]]:
    """Ω of one part, and the logarithms of all its ratios, from rows whose gradients have come."""
    total, active, logs = 0.0, 0, list[float]()
    for row in rows:
        for t in range(len(row.values) - 1):
            if row.started[t + 1] == t + 1:  # the next step starts anew: nothing leads from here to there
                continue
            sent = sum(float(gradient(row.values[t + 1][name]).square().sum()) for name in cell.states)
            if sent < 1e-20:
                continue
            came = {name: torch.zeros_like(gradient(row.values[t][name])) for name in cell.states}
            for delay in cell.delays:
                if t + delay < len(row.values) and row.started[t + delay] <= t:
                    for (name, back), share in sent_back(cell, p, row, t + delay).items():
                        came[name] += share if back == delay else 0
            ratio = sum(float(value.square().sum()) for value in came.values()) / sent
            total += (ratio - 1) ** 2 if form == "coded" else (ratio**0.5 - 1) ** 2
            active += 1
            logs.append(0.5 * torch.tensor(ratio, dtype=torch.float64).log().item())
    return total / max(active, 1), logs


def sent_back(cell: ByHand, p: Params, row: Row, t: int) -> dict[tuple[str, int], Tensor]:
    """What step t sends to earlier states, with all its values held constant."""
    values = {name: value.detach() for name, value in row.values[t].items()}
    blank = torch.zeros_like(values["h"])

    def past(name: str, delay: int) -> Tensor:
        return row.values[t - delay][name].detach() if t - delay >= row.started[t] else blank

    return cell.back(p, values, past, {name: gradient(row.values[t][name]) for name in cell.states})


def gradient(value: Tensor) -> Tensor:
    """What has reached a state; zero if nothing has."""
    return torch.zeros_like(value).detach() if value.grad is None else value.grad


def slopes(cell: ByHand, p: Params, rows: list[Row], form: str, step: float = 1e-6) -> Values:
    """∂Ω/∂(what stands in the Jacobian), by central differences."""
    fixed = {name: value.detach().clone() for name, value in p.items()}
    found = {}
    for name in cell.standing:
        slope = torch.zeros_like(fixed[name])
        for place in range(slope.numel()):
            ends = []
            for sign in (1, -1):
                moved = {**fixed, name: fixed[name].clone()}
                moved[name].view(-1)[place] += sign * step
                ends.append(omega(cell, moved, rows, form)[0])
            slope.view(-1)[place] = (ends[0] - ends[1]) / (2 * step)
        found[name] = slope
    return found
