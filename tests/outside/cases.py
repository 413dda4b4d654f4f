"""The ten models with a task that each can learn, where the truth is taken, and how they should be found."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.outside import signals
from tests.outside import text as texts
from tests.outside.truth import Taken, after_calls, layer_by_calls, layers_by_hand

Watch = Callable[[nn.Module], contextlib.AbstractContextManager[Taken]]


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, a batch of its task with the loss, the needed lag; how its parts are found, by their names.

    Attributes:
        make: the model at its start.
        batch: a new batch (whatever `diagnose` takes) and its loss.
        need: the lag that the verdict is relative to.
        found: how each part should be found.
        watch: records the states of the same parts in a block.
        rate: of Adam.
        updates: how many are trained at most in `make test`: fewer of what is slow.
        embedding: whose output is the input along which is measured, where no state can be seen.
    """

    make: Callable[[], nn.Module]
    batch: Callable[[], tuple[Any, Callable[[Any], Tensor]]]
    need: int
    found: dict[str, str]
    watch: tuple[Watch, ...]
    rate: float = 3e-3
    updates: int = 200
    embedding: str | None = None


def layers(*names: str) -> Watch:
    return lambda model: layers_by_hand(model, names)


def calls(**taken: tuple[str, Callable[[Any], Any]]) -> Watch:
    named = {name.replace("__", "."): where for name, where in taken.items()}
    return lambda model: after_calls(model, named)


def reversed_words() -> tuple[Any, Callable[[Any], Tensor]]:
    src = torch.randint(2, 14, (8, 14))
    src[5:, 11:] = 0
    tgt = torch.cat([torch.ones(8, 1, dtype=torch.long), src.flip(1)], 1)
    return (src, tgt), lambda logits: F.cross_entropy(logits.flatten(0, 1), tgt[:, 1:].flatten(), ignore_index=0)


def words(state: Callable[[], Any]) -> Callable[[], tuple[Any, Callable[[Any], Tensor]]]:
    """Most words belong to a topic, which goes on for a while; the others are of all topics."""

    def made() -> tuple[Any, Callable[[Any], Tensor]]:
        topic, stream = torch.randint(1, 5, (10,)), []
        for _ in range(31):
            topic = torch.where(torch.rand(10) < 0.05, torch.randint(1, 5, (10,)), topic)
            stream.append(torch.where(torch.rand(10) < 0.5, 0, topic) * 6 + torch.randint(0, 6, (10,)))
        text = torch.stack(stream)
        return (text[:-1], state()), lambda out: F.cross_entropy(out[0].flatten(0, 1), text[1:].flatten())

    return made


def spoken() -> tuple[Any, Callable[[Any], Tensor]]:
    symbols, lengths = torch.randint(1, 6, (8, 6)), torch.tensor([48, 48, 48, 40, 48, 40, 48, 32])
    frames = F.one_hot(symbols, 8).float().repeat_interleave(8, 1) + 0.2 * torch.randn(8, 48, 8)
    targets = lengths // 8

    def loss(out: Any) -> Tensor:
        return F.ctc_loss(out[0], symbols, out[1], targets, zero_infinity=True)

    return (frames, lengths), loss


def rollout() -> tuple[Any, Callable[[Any], Tensor]]:
    """The first observation of an episode tells which action is worth something."""
    steps, envs = 24, 12
    dones = (torch.rand(steps, envs) < 0.05).float()
    cue, obs = torch.randint(0, 3, (envs,)), 0.3 * torch.randn(steps, envs, 5)
    dones[0] = 1.0
    best = []
    for t in range(steps):
        cue = torch.where(dones[t] > 0, torch.randint(0, 3, (envs,)), cue)
        obs[t, :, :3] += F.one_hot(cue, 3) * dones[t][:, None] * 2
        best.append(cue)
    actions = torch.randint(0, 3, (steps, envs))
    advantages = (actions == torch.stack(best)).float() * 1.5 - 0.5
    old, returns = torch.full((steps, envs), 1 / 3).log(), advantages.flip(0).cumsum(0).flip(0) / steps

    def loss(out: Any) -> Tensor:
        log_p, entropy, value = out
        ratio = (log_p - old).exp()
        policy = torch.max(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.2)).mean()
        return policy + 0.5 * (value - returns).square().mean() - 0.01 * entropy.mean()

    zeros = torch.zeros(1, envs, 24)
    return (obs, dones, actions, zeros, zeros.clone()), loss


def seasons() -> tuple[Any, Callable[[Any], Tensor]]:
    time = torch.arange(21.0)[:, None]
    phase, series = 6.3 * torch.rand(10), torch.randint(0, 4, (10,))
    z = torch.sin(0.7 * time + phase) + 0.1 * torch.randn(21, 10)
    values = torch.where(torch.rand(20, 10) < 0.1, float("nan"), z[:-1])
    covariates = torch.stack([time[1:] / 21, torch.cos(0.7 * time[1:])], -1).expand(20, 10, 2)

    def loss(out: Any) -> Tensor:
        return -torch.distributions.Normal(*out).log_prob(z[1:]).mean()

    return (values, covariates, series), loss


def pulses() -> tuple[Any, Callable[[Any], Tensor]]:
    x = torch.rand(4, 14, 2)
    y = F.pad(x[..., :1], (0, 0, 4, 0))[:, :14]
    return x, lambda out: F.mse_loss(out[:, 4:], y[:, 4:])


def film() -> tuple[Any, Callable[[Any], Tensor]]:
    at, speed = torch.randint(0, 6, (6, 2)), torch.randint(-1, 2, (6, 2))
    frames = torch.zeros(6, 13, 1, 6, 6)
    for t in range(13):
        place = (at + t * speed) % 6
        frames[torch.arange(6), t, 0, place[:, 0], place[:, 1]] = 1.0
    return frames[:, :12], lambda out: F.binary_cross_entropy_with_logits(out, frames[:, 12])


def numbers() -> tuple[Any, Callable[[Any], Tensor]]:
    items = torch.rand(12, 12, 1)
    order = items.squeeze(-1).argsort(1)
    return (items, order), lambda log_p: F.nll_loss(log_p.flatten(0, 1), order.flatten())


def symbols() -> tuple[Any, Callable[[Any], Tensor]]:
    """What counts at the end is the last symbol that is not silence."""
    x = torch.where(torch.rand(10, 24) < 0.85, 0, torch.randint(1, 8, (10, 24)))
    x[:, 0] = torch.randint(1, 8, (10,))
    last = torch.where(x > 0, torch.arange(24), 0).amax(1)
    target = x.gather(1, last[:, None]).squeeze(1)
    return x, lambda out: F.cross_entropy(out[:, -1], target)


@contextlib.contextmanager
def scanned(model: Any) -> Iterator[Taken]:
    """Record the states of every scan, made by hand of what the scan is given."""
    found: Taken = {}
    for index, block in enumerate(model.blocks):

        def scan(decay: Tensor, driven: Tensor, c: Tensor, block: Any = block, index: int = index) -> Tensor:
            h, states = torch.zeros_like(driven[:, 0]).requires_grad_(), []
            for t in range(driven.shape[1]):
                h = decay[:, t].detach().exp() * h + driven[:, t].detach()
                states.append((h,))
            found[f"blocks.{index}"] = states
            return type(block).scan(block, decay, driven, c)

        block.scan = scan
    try:
        yield found
    finally:
        for block in model.blocks:
            del block.scan


def zeros(*shape: int) -> Callable[[], Any]:
    return lambda: (torch.zeros(shape), torch.zeros(shape))


CASES: dict[str, Case] = {
    "seq2seq with attention": Case(
        texts.Translator,
        reversed_words,
        12,
        {"reader.gru.l0": "layer", "reader.gru.l0_reverse": "layer", "writer.gru.l0": "layer"},
        (layers("reader.gru"), calls(writer__gru__l0=("writer", lambda out: out[2:]))),
        updates=120,
    ),
    "word language model": Case(
        texts.WordModel,
        words(zeros(2, 10, 24)),
        12,
        {"lstm.l0": "layer", "lstm.l1": "layer"},
        (layers("lstm"),),
    ),
    "speech": Case(
        signals.SpeechRecogniser,
        spoken,
        12,
        {f"layers.{i}.lstm.l0{way}": "layer" for i in (0, 1) for way in ("", "_reverse")},
        (layers("layers.0.lstm", "layers.1.lstm"),),
        updates=120,
    ),
    "policy": Case(
        signals.RecurrentPolicy,
        rollout,
        12,
        {"lstm.l0": "layer"},
        (lambda model: layer_by_calls(model, "lstm"),),
        updates=100,
    ),
    "weight-dropped language model": Case(
        texts.ThinnedWordModel,
        words(lambda: None),
        12,
        {"layers.0.lstm.l0": "layer", "layers.1.lstm.l0": "layer"},
        (layers("layers.0.lstm", "layers.1.lstm"),),
    ),
    "liquid cell": Case(
        signals.LiquidNetwork,
        pulses,
        3,
        {"cell": "cell"},
        (calls(cell=("cell", lambda out: (out,))),),
        updates=60,
    ),
    "DeepAR": Case(
        signals.DeepAR,
        seasons,
        12,
        {"lstm.l0": "layer", "lstm.l1": "layer"},
        (lambda model: layer_by_calls(model, "lstm"),),
        updates=60,
    ),
    "ConvLSTM": Case(
        signals.FramePredictor,
        film,
        10,
        {"cells.0": "cell", "cells.1": "cell"},
        (calls(cells__0=("cells.0", lambda out: out[1]), cells__1=("cells.1", lambda out: out[1])),),
        updates=80,
    ),
    "pointer network": Case(
        texts.PointerNetwork,
        numbers,
        11,
        {"encoder.l0": "layer", "decoder": "cell"},
        (layers("encoder"), calls(decoder=("decoder", lambda out: out))),
    ),
    "selective scan": Case(
        signals.ScanModel,
        symbols,
        20,
        {"blocks.0": "loop", "blocks.1": "loop"},
        (scanned,),
        updates=80,
    ),
    "selective scan at once": Case(
        lambda: signals.ScanModel(at_once=True), symbols, 20, {"the input": "input"}, (), embedding="embed"
    ),
}
