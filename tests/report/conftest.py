"""Run records to report on: a realistic one, and the ways in which a record can be less than that."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from unvanish.record import RunRecord

from .browsing import launched
from .diagnosed import diagnosis

LAGS = 200
MOMENTS = 12
Build = Callable[..., Path]

LATEX = [
    r"i_{t} = \sigma\left(W_{i} x_{t} + U_{i} h_{t-1} + b_{i}\right)",
    r"f_{t} = \sigma\left(W_{f} x_{t} + U_{f} h_{t-1} + b_{f}\right)",
    r"g_{t} = \tanh\left(W_{g} x_{t} + U_{g} h_{t-1} + b_{g}\right)",
    r"o_{t} = \sigma\left(W_{o} x_{t} + U_{o} h_{t-1} + b_{o}\right)",
    r"c_{t} = f_{t} \odot c_{t-1} + i_{t} \odot g_{t}",
    r"h_{t} = o_{t} \odot \tanh\left(c_{t}\right)",
]
EQUATIONS = """
    i    = sigmoid(W_i @ x[t] + U_i @ h[t-1] + b_i)
    f    = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)
    g    = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
    o    = sigmoid(W_o @ x[t] + U_o @ h[t-1] + b_o)
    c[t] = f * c[t-1] + i * g
    h[t] = o * tanh(c[t])
"""
SAMPLE = """KING: What shall the morning bring, that we have not
already lost to night? The sea is wide,
and he that stands upon the farther shore
hath heard no word of ours.

SECOND LORD: My liege, the wind is turned.
"""


def configuration() -> dict[str, Any]:
    """A configuration as `unvanish train` writes it."""
    return {
        "name": "plays-lstm-256",
        "created": "2025-11-21T09:14:03",
        "seed": 7,
        "versions": {
            "unvanish": "0.1.0",
            "python": "3.11.2",
            "torch": "2.9.0",
            "lightning": "2.6.4",
            "platform": "Linux-6.1-x86_64",
            "processor": "AMD EPYC 9B14",
            "threads": 2,
            "device": "cpu",
        },
        "settings": {
            "cell": "lstm",
            "hidden": 256,
            "layers": 2,
            "length": 200,
            "batch_size": 32,
            "epochs": 6,
            "lr": 0.002,
            "optimizer": "adam",
            "clip": 1.0,
        },
        "cell": {
            "name": "lstm",
            "title": "Long short-term memory",
            "equations": EQUATIONS,
            "latex": LATEX,
            "cite": "hochreiter1997long",
            "parameters": 789504,
        },
        "data": {
            "source": "/home/reader/texts/plays.txt",
            "train_characters": 1_003_854,
            "valid_characters": 111_540,
            "vocabulary_size": 65,
        },
        "parameters": 855_680,
    }


def profile(rate: float, share: float) -> dict[str, Any]:
    """A profile as LSTMs have it: `h` fades at once, `c` slowly."""
    short = [(1 - share) * math.exp(-0.35 * lag) for lag in range(LAGS)]
    long = [share * math.exp(rate * lag) for lag in range(LAGS)]
    norms = {
        "all": [math.hypot(one, other) for one, other in zip(short, long, strict=True)],
        "h": short,
        "c": long,
    }
    start = norms["all"][0]
    above = [lag for lag, norm in enumerate(norms["all"]) if norm >= 0.01 * start]
    censored = above[-1] == LAGS - 1
    fit = {"rate": rate, "level": math.log(share / start)}
    return {"lags": list(range(LAGS)), "norms": norms, **fit, "reach": above[-1], "censored": censored}


def flow_line(moment: int) -> dict[str, Any]:
    """One measurement of both layers; the second layer's gradient ends up reaching beyond the probe."""
    progress = moment / (MOMENTS - 1)
    profiles = {
        "l0": profile(-0.16 + 0.125 * progress, 0.25 + 0.2 * progress),
        "l1": profile(-0.11 + 0.0905 * progress, 0.35 + 0.3 * progress),
    }
    generator = random.Random(moment)
    loss_norms = {
        part: {
            state: [
                scale * math.exp(0.006 * time - 2 * progress) * generator.uniform(0.85, 1.15)
                for time in range(LAGS)
            ]
            for state, scale in (("h", 0.004), ("c", 0.0012))
        }
        for part in profiles
    }
    return {"epoch": moment / 2, "profiles": profiles, "loss_norms": loss_norms}


def step_line(at: int, generator: random.Random) -> dict[str, Any]:
    """Ten optimiser steps."""
    return {
        "loss": 1.42 + 2.8 * math.exp(-at / 16) + generator.gauss(0, 0.025),
        "gradient_norm": math.exp(generator.gauss(0.6 * math.exp(-at / 30) - 0.6, 0.3)),
        "parameter_norm": 38 + 14 * (1 - math.exp(-at / 50)),
        "learning_rate": 0.002,
        "clipped": min(10, max(0, round(generator.gauss(9 * math.exp(-at / 25), 1)))),
        "steps": 10,
    }


def valid_line(moment: int, reach: dict[str, Any]) -> dict[str, Any]:
    """One validation."""
    loss = 1.51 + 1.6 * math.exp(-moment / 2.2)
    measures = {"bits": loss / math.log(2), "perplexity": math.exp(loss), "tokens_per_second": 48_211.0}
    return {"epoch": moment / 2, "loss": loss, **measures, "reach": reach}


@pytest.fixture
def configured() -> dict[str, Any]:
    """A realistic configuration, to be changed at will."""
    return configuration()


@pytest.fixture
def start(tmp_path: Path, configured: dict[str, Any]) -> Callable[..., RunRecord]:
    """Makes a record that holds a configuration and nothing else."""

    def build(config: dict[str, Any] | None = None) -> RunRecord:
        return RunRecord.create(tmp_path / "run", configured if config is None else config)

    return build


@pytest.fixture
def fill() -> Callable[[RunRecord], None]:
    """Writes a whole training into a record."""
    return fill_record


def fill_record(record: RunRecord) -> None:
    """Two layers, states h and c, 120 step lines, 12 moments, a stop and a resumption."""
    generator = random.Random(1)
    record.append("event", 0, 0.0, what="started", text="2 threads, cpu")
    for at in range(120):
        step, seconds = 10 * (at + 1), 1.9 * (at + 1)
        record.append("step", step, seconds, **step_line(at, generator))
        if at % 10 == 9:
            line = flow_line(at // 10)
            record.append("flow", step, seconds, **line)
            reach = {
                part: {"steps": one["reach"], "censored": one["censored"], "rate": one["rate"]}
                for part, one in line["profiles"].items()
            }
            record.append("valid", step, seconds, **valid_line(at // 10, reach))
        if at == 9:
            record.append("sample", step, seconds, prompt="KING:", text="KING: he tha sot wer the anod the, so\n")
        if at == 59:
            record.append("event", step, seconds, what="stopped", text="interrupted from the keyboard")
            record.append("event", step, seconds, what="resumed", text="from checkpoints/last.ckpt")
    record.append("sample", 1200, 229.0, prompt="KING:", text=SAMPLE)
    record.append("event", 1200, 229.4, what="finished", text="6 epochs")


MARKUP = '</script></pre><script>window.injected=1</script><img src=x onerror="window.injected=1">\'"&amp;'


@pytest.fixture
def hostile() -> dict[str, Any]:
    """A configuration that tries to be markup wherever it can."""
    latex = [r"\text{<img src=x onerror=window.injected=1>}", r"\href{javascript:alert(1)}{x}", r"\style{a}{<b>}"]
    return {
        "name": MARKUP,
        "created": MARKUP,
        "versions": {MARKUP: MARKUP, "device": MARKUP},
        "settings": {"cell": MARKUP, MARKUP: [MARKUP, {MARKUP: MARKUP}], "length": MARKUP},
        "cell": {"name": MARKUP, "title": MARKUP, "equations": MARKUP, "latex": latex, "cite": MARKUP},
        "data": {"source": f"/tmp/{MARKUP}"},
    }


@pytest.fixture
def fill_hostile() -> Callable[[RunRecord], None]:
    """Writes a record whose parts, states, sample and events try to be markup."""

    def build(record: RunRecord) -> None:
        names = ("all", "<b>bold</b>", '<a href="https://example.com">link</a>', "%{x}", "__proto__", MARKUP)
        for step in (1, 2, 3):
            one = profile(-0.1, 0.5)
            one["norms"] = dict.fromkeys(names, one["norms"]["all"])
            profiles = {"l0": one, MARKUP: one, "__proto__": one}
            loss_norms = {MARKUP: {name: [1.0, 0.5] for name in names}}
            record.append("flow", step, 1.0, epoch=1, profiles=profiles, loss_norms=loss_norms)
            record.append("step", step, 1.0, loss=4.0, gradient_norm=1.0, parameter_norm=2.0, clipped=1, steps=1)
            record.append("valid", step, 1.0, loss=4.0, reach={MARKUP: {"steps": 3, "censored": True, "rate": -1}})
        record.append("sample", 3, 1.0, prompt=MARKUP, text=MARKUP * 3)
        record.append("event", 3, 1.0, what="non-finite", text=MARKUP)

    return build


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """One browser for all tests of the pages."""
    with launched() as browser:
        yield browser


@pytest.fixture
def found() -> dict[str, Any]:
    """A realistic diagnosis, to be changed at will."""
    return diagnosis()
