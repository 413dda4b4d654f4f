"""Diagnoses to report on: a realistic one as plain data, and the ways in which one can be less than that."""

from __future__ import annotations

import math
import random
from typing import Any

LAGS = 120
NEED = 48
CODE = 'layer = unvanish.flow.as_ours(model.rnn)\nwith torch.no_grad():\n    layer["b_f_l0"].copy_(a < b & "c")'


def profile(rate: float, states: tuple[str, ...] = ("h", "c")) -> dict[str, Any]:
    """A gradient that shrinks at one rate, shared evenly by the states."""
    whole = [math.exp(rate * lag) for lag in range(LAGS)]
    above = [lag for lag, norm in enumerate(whole) if norm >= 0.01]
    return {
        "lags": list(range(LAGS)),
        "norms": {"all": whole} | {state: [norm / math.sqrt(len(states)) for norm in whole] for state in states},
        "rate": rate,
        "level": 0.0,
        "reach": above[-1],
        "censored": above[-1] == LAGS - 1,
    }


def part(name: str, rate: float) -> dict[str, Any]:
    """One layer of an LSTM, with all that is measured of it."""
    generator = random.Random(name)
    angles = [generator.uniform(0, math.pi) for _ in range(8)]
    activations = [
        {"name": "f", "function": "sigmoid", "saturated": 0.25, "mean": 0.61, "slope": 0.75, "dead": 0.0},
        {"name": "tanh(c[t])", "function": "tanh", "saturated": 0.125, "mean": -0.02, "slope": 0.5, "dead": 0.0},
    ]
    return {
        "name": name,
        "module": "rnn",
        "kind": "torch.nn.LSTM",
        "verdict": "vanishing",
        "because": "1.2e-11 of the gradient is left",
        "window": LAGS,
        "survives": math.exp(rate * NEED),
        "extrapolated": False,
        "profile": profile(rate),
        "loss_norms": {state: [0.01 * math.exp(0.1 * t) for t in range(LAGS)] for state in ("h", "c")},
        "eigenvalues": [[0.8 * math.cos(a), sign * 0.8 * math.sin(a)] for a in angles for sign in (1, -1)],
        "exponents": [0.02, -0.1, -0.4, -0.9],
        "activations": activations,
        "memories": [{"state": "c", "gate": "f", "keep": 0.6, "time_constant": 2.5, "longest": 7.5}],
        "split": {"rate": rate, "weights": rate + 0.05, "activations": -0.05},
    }


def dependency() -> dict[str, Any]:
    """Data that depend on themselves up to the needed lag."""
    lags = list(range(1, 101))
    mean, high = [0.01] * 100, [0.02] * 100
    values = [0.8 * math.exp(-lag / 16) if lag <= NEED else 0.001 * math.sin(lag) for lag in lags]
    return {
        "kind": "symbols",
        "unit": "nats",
        "needed": NEED,
        "censored": False,
        "note": "",
        "curve": {
            "lags": lags,
            "gain": [0.5 * min(lag, NEED) / NEED for lag in lags],
            "error": [0.01] * 100,
            "unit": "nats",
        },
        "visible": NEED,
        "visible_censored": False,
        "lags": lags,
        "values": values,
        "raw": [value + 0.01 for value in values],
        "null_mean": mean,
        "null_high": high,
        "p_values": [0.0 if lag <= NEED else 0.5 for lag in lags],
        "significant": [lag <= NEED for lag in lags],
        "samples": [1000 - lag for lag in lags],
    }


def diagnosis() -> dict[str, Any]:
    """Two vanishing layers, data that need 48 steps, two causes, two remedies."""
    causes = [
        {
            "kind": "forgetting",
            "where": "rnn.l0",
            "text": "the gate f of rnn.l0 keeps 0.6 of the state c in a step",
            "number": 2.5,
            "unit": "steps",
            "advice": "begin with biases that hold the gate open",
        },
        {
            "kind": "saturation",
            "where": "rnn.l1",
            "text": "rnn.l1 is flat in places",
            "number": 0.34,
            "unit": "of the values",
            "advice": "scale the input down",
        },
    ]
    remedy = {"part": "rnn.l0", "text": "biases that hold the gates open", "code": CODE, "reach_before": 9}
    return {
        "target": "models.language:build",
        "verdict": "vanishing",
        "need": NEED,
        "need_from": "the data",
        "loss": 1.375,
        "parts": [part("rnn.l0", -0.5), part("rnn.l1", -0.2)],
        "causes": causes,
        "prescriptions": [
            {**remedy, "name": "chrono", "reach": 119, "censored": True, "verdict": "healthy", "cost": 1.0},
            {**remedy, "name": "orthogonal", "reach": 23, "censored": False, "verdict": "vanishing", "cost": 1.5}
            | {"cost_range": [1.2, 1.8]},
        ],
        "unknown": ["dependence on several places at once", "how the flow changes while the model trains"],
        "dependency": dependency(),
    }
