"""Causes: what spoils the training step."""

from __future__ import annotations

import math
from collections.abc import Iterator

from unvanish.diagnosis.facts import Facts
from unvanish.diagnosis.findings import Cause
from unvanish.diagnosis.watch.trace import Clip, Trial

NOISE = 4.0  # spread over mean: as much is left of pure noise in the running means of Adam with its usual numbers
WANDERING = 0.01  # of the parameters' norm, in one step
CLIPPED = 100  # times the threshold: such a gradient is not clipped now and then, its size is lost at every step
SIGNS = 0.5  # of the numbers, clipped one by one: such a gradient has lost its direction
MANY = 0.1  # of the parameters' norm, changed in one step


def step(facts: Facts) -> Iterator[Cause]:
    """What is wrong with the step, and with what the optimiser has."""
    yield from _missing(facts)
    if facts.trial is not None:
        yield from _learning_rate(facts.trial)
    if facts.trace is None:
        return
    if facts.trace.kept:
        text = "gradients are never set to zero: each step adds its own to those of all steps before"
        yield Cause("no zero_grad", "", text, 1.0, "", "call optimizer.zero_grad() once for every step")
    for clip in facts.trace.clips:
        if clip.scaled:
            text = (
                "the gradient is clipped while it is still multiplied by the scale of GradScaler: the threshold "
                f"{clip.threshold:.3g} meets numbers that are thousands of times too large"
            )
            advice = "call scaler.unscale_(optimizer) before the clip"
            yield Cause("scaled gradient", "", text, clip.threshold, "threshold", advice)
            continue
        if clip.backwards_before == 0:
            text = "the gradient is clipped before the backward pass, when there is none: the clip cannot act"
            advice = "call it between loss.backward() and optimizer.step()"
        elif facts.trace.steps and clip.steps_before == facts.trace.steps:
            text = "the gradient is clipped after the optimiser's step: the clip cannot act"
            advice = "call it between loss.backward() and optimizer.step()"
        elif facts.trace.stepped and not clip.gradients & facts.trace.stepped:
            text = "the gradients that are clipped are not those that the optimiser takes: the clip cannot act"
            advice = "clip the parameters that were given to the optimiser"
        else:
            yield from _threshold(clip)
            continue
        yield Cause("idle clip", "", text, clip.threshold, "threshold", advice)


def _missing(facts: Facts) -> Iterator[Cause]:
    """Parameters that learn nothing, because no optimiser has them."""
    if facts.optimizer is None:
        return
    held = {id(p) for group in facts.optimizer.param_groups for p in group["params"]}
    named = [(name, p) for name, p in facts.model.named_parameters() if p.requires_grad]
    missing = [name for name, p in named if id(p) not in held]
    if missing:
        text = (
            f"{len(missing)} of {len(named)} trained parameters are not in the optimizer ({missing[0]}, …): they "
            "stay as they are"
        )
        advice = "give the optimizer model.parameters(), after all layers were made"
        yield Cause("not in the optimizer", missing[0], text, len(missing), "parameters", advice)


def _threshold(clip: Clip) -> Iterator[Cause]:
    threshold, norm = clip.threshold, clip.norm if clip.kind == "norm" else None
    if clip.cut > SIGNS:
        text = (
            f"{clip.cut:.0%} of the gradient's numbers are over the clip's threshold of {threshold:.3g}: of these "
            "only the sign is left"
        )
        advice = "clip by norm, which keeps the direction, or at a value that few of the numbers exceed"
        yield Cause("clip threshold", "", text, threshold, "threshold", advice)
    if norm is None or not norm or not math.isfinite(norm):
        return
    if threshold < norm / CLIPPED:
        times = f"{norm / threshold:.0f} times the clip's threshold of {threshold:.3g}"
        text = f"the gradient's norm is {norm:.3g}, {times}: every step is cut short"
        advice = (
            f"a threshold from {norm / 2:.2g} to {10 * norm:.2g} (half to ten times the usual norm) clips the rare"
        )
        yield Cause("clip threshold", "", text, threshold, "threshold", f"{advice}, not all")


def _learning_rate(trial: Trial) -> Iterator[Cause]:
    change, before, after = trial.change, trial.before, trial.after
    if trial.noise is not None and trial.noise > NOISE and change > WANDERING:
        text = (
            f"the gradient's spread is {trial.noise:.1f} times its mean, and a step changes the parameters by "
            f"{change:.1%} of their norm: they wander"
        )
        advice = "divide the learning rate by ten, or take larger batches"
        yield Cause("learning rate", "", text, trial.noise, "times the mean", advice)
    elif change > MANY and not after <= before:
        loss = f"the loss from {before:.3g} to {after:.3g}"
        text = f"one step changes the parameters by {change:.0%} of their norm, and {loss}"
        yield Cause("learning rate", "", text, change, "of the norm", "divide the learning rate by ten")
    elif 0 <= change < 1e-7:
        text = f"one step changes the parameters by {change:.1g} of their norm: nothing will be learnt"
        yield Cause("learning rate", "", text, change, "of the norm", "multiply the learning rate by a hundred")
