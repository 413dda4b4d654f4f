"""One result of every kind, made of chosen numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unvanish import Diagnosis, flow
from unvanish.data.dependency.needed import Curve
from unvanish.diagnosis import Cause, PartFinding, Prescription
from unvanish.flow import Dependency, Jacobian, Lyapunov, Memory, Profile, Saturation, fit_rate, reach_of
from unvanish.record import Result, RunRecord


def profile(rate: float = -0.1, lags: int = 100, part: str = "l0", **changes: Any) -> Profile:
    """A gradient of an LSTM that shrinks at one rate."""
    norms = np.exp(rate * np.arange(lags))
    states = {"h": norms * 0.6, "c": norms * 0.8}
    found = {"band": (norms * 0.9, norms * 1.1), **changes}
    return Profile(part, norms, states, *fit_rate(norms), *reach_of(norms), **found)


def of_norms(norms: list[float]) -> Profile:
    """The profile of a cell with one state, of any norms at all."""
    measured = np.asarray(norms, dtype=np.float64)
    return Profile("l0", measured, {"h": measured}, *fit_rate(measured), *reach_of(measured))


def depth() -> flow.DepthProfile:
    """Eight layers, each of which halves the gradient."""
    layers = [torch.nn.Linear(4, 4, bias=False) for _ in range(8)]
    for layer in layers:
        torch.nn.init.orthogonal_(layer.weight, gain=0.5)
    return flow.depth(torch.nn.Sequential(*layers), torch.ones(3, 4), generator=torch.Generator().manual_seed(0))


def dependency(kind: str = "symbols", first: int = 1) -> Dependency:
    """Data that depend on 20 steps back, of which six are enough."""
    lags = np.arange(first, 41)
    raw = np.where(lags <= 20, 0.5 * np.exp(-lags / 8), 0.01)
    mean, high = np.full(len(lags), 0.01), np.full(len(lags), 0.02)
    gain = 1 - np.exp(-lags / 1.3)
    unit = "squared rank correlation" if kind == "numbers" else "nats"
    return Dependency(
        kind=kind,
        needed=6,
        censored=True,
        note="longer contexts come too seldom",
        curve=Curve(lags, gain, 0.02 * gain, "nats"),
        unit=unit,
        lags=lags,
        values=raw - mean,
        raw=raw,
        null_mean=mean,
        null_high=high,
        p_values=np.where(raw > high, 0.0, 0.6),
        significant=raw > high,
        samples=1000 - lags,
    )


def saturation(part: str = "l0") -> Saturation:
    """A gate, a candidate, a memory."""
    activations = (
        flow.Activation("f", "sigmoid", 0.25, 0.61, 0.75, 0.0),
        flow.Activation("tanh(c[t])", "tanh", 0.125, -0.02, 0.5, 0.0),
    )
    return Saturation(part, activations, (Memory("c", "f", 0.6, 2.5, 7.5),))


def jacobian() -> Jacobian:
    """Two rows of a state of four numbers."""
    matrix = np.random.default_rng(0).normal(size=(2, 4, 4)) / 3
    return Jacobian("l0", matrix, {"h": slice(0, 2), "c": slice(2, 4)}, 1)


def lyapunov() -> Lyapunov:
    """Four exponents, one of a direction that is lost at once."""
    return Lyapunov("l0", np.array([0.02, -0.1, -0.4, -math.inf]), np.array([0.01, 0.02, 0.03, math.nan]), 75)


def part(name: str = "rnn.l0", rate: float = -0.1, window: int = 99) -> PartFinding:
    """A part that vanishes."""
    return PartFinding(
        name=name,
        module="rnn",
        kind="LSTM of torch.nn",
        verdict="vanishing",
        because="2 % of the gradient is left",
        profile=profile(rate, part=name),
        window=window,
        survives=math.exp(80 * rate),
        extrapolated=False,
        loss_norms={"h": [0.1, 0.2]},
        eigenvalues=(0.8 + 0.1j, 0.8 - 0.1j, complex(0.2)),
        exponents=(-0.1, -0.4),
        saturation=saturation(name),
        split=flow.Split(name, rate, rate / 2, rate / 2),
    )


def prescription(name: str = "rnn.l0", reach: int = 99, censored: bool = True) -> Prescription:
    """A remedy that was tried."""
    code = "unvanish.init.chrono(80).fill(model.rnn)"
    return Prescription(
        "chrono", name, "gates that hold", code, 46, reach, censored, "healthy", 1.01, (1.0, 1.1), 3
    )


def diagnosis() -> Diagnosis:
    """Two parts, one of them cut by its window; a cause, two remedies."""
    cause = Cause("forgetting", "rnn.l0", "the gate f keeps 0.5 of the state c", 2.0, "steps", "open it")
    remedies = prescription(), prescription("rnn.l1", 60, False)
    parts = part(), part("rnn.l1", -0.02, window=40)
    return Diagnosis("vanishing", 80, "given", 0.69, parts, (cause,), remedies, ())


def split() -> flow.Split:
    """Flat activations lose most of it."""
    return flow.Split("l0", -0.3, -0.1, -0.2)


def linear() -> flow.Linear:
    """A matrix that lets its powers grow before they fade."""
    return flow.linear([[0.9, 4.0], [0.0, 0.5]], steps=40)


def course() -> flow.Course:
    """A vector on its way back through it."""
    return linear().send_back([1.0, 1.0])


def decomposition() -> flow.Decomposition:
    """The gradient of a small RNN, term by term."""
    layer = torch.nn.RNN(2, 3).double()
    x = torch.randn(8, 1, 2, dtype=torch.float64)
    return flow.decompose(
        layer, x, lambda output_TBW: output_TBW.sum((1, 2)), parameter=["weight_hh_l0", "bias_hh_l0"]
    )


def recording() -> flow.Recording:
    """The gradient at the steps of an LSTM."""
    model = torch.nn.LSTM(2, 3)
    with flow.record(model) as found:
        model(torch.randn(12, 2, 2))[0][-1].sum().backward()
    return found


def run(folder: Path) -> RunRecord:
    """Three validations of two layers, the upper of which reaches past what was looked at."""
    record = RunRecord.create(folder / "a-run", {"settings": {"length": 50}})
    for step in range(10, 310, 10):
        record.append("step", step, step / 10, epoch=0, loss=3 * math.exp(-step / 200))
    for step, near in ((100, 20), (200, 60), (300, 90)):
        reach = {"l0": {"steps": near, "censored": False}, "l1": {"steps": 199, "censored": True}}
        record.append("valid", step, step / 10, loss=3.1 * math.exp(-step / 250), bits=2.0, reach=reach)
        norms = {"all": [1.0, 0.5, 0.2], "h": [0.6, 0.3, 0.1]}
        record.append("flow", step, step / 10, profiles={"l0": {"lags": [0, 1, 2], "norms": norms}})
    ends = {"low": {"80": [1.0, 2.0], "95": [0.5, 1.5]}, "high": {"80": [3.0, 4.0], "95": [3.5, 4.5]}}
    window = {"key": "north", "target": "y", "after": "2024-01-01", "history": [1.0, 2.0, 1.5], "came": [2.5, None]}
    series = {"key": "north", "windows": 1, "mase": 0.5, "mae": 0.2, "naive": 1.0}
    one = {**window, "middle": [2.0, 3.0], **ends}
    record.append("forecast", 300, 30.0, on="test", windows=[one], series=[series], of=1)
    record.append("confusion", 300, 30.0, on="valid", names=["cat", "dog"], taken=[[8, 2], [1, 9]])
    record.append("need", 300, 30.0, lag=48, censored=True, of=1000)
    return record


def every_kind(folder: Path) -> dict[str, Result]:
    """One result of every kind, by the name of the kind."""
    found = [
        profile(),
        depth(),
        dependency(),
        saturation(),
        jacobian(),
        lyapunov(),
        part(),
        prescription(),
        diagnosis(),
        run(folder),
        split(),
        linear(),
        course(),
        decomposition(),
        recording(),
    ]
    return {one.shown_as: one for one in found}
