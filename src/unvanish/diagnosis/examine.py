"""From a model, a batch and a loss to a diagnosis."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.checks import is_whole
from unvanish.data.dependency import Dependency, dependency
from unvanish.diagnosis.causes import causes
from unvanish.diagnosis.facts import Facts
from unvanish.diagnosis.findings import Diagnosis, PartFinding, Prescription, Untried, worst
from unvanish.diagnosis.measure import measure
from unvanish.diagnosis.prescriptions import prescribe
from unvanish.diagnosis.probes import calmed, mixed_rows, padding_read, read_without_gradient
from unvanish.diagnosis.question import Question, check_kinds, understood
from unvanish.diagnosis.remedying.remedy import Patient
from unvanish.diagnosis.watch.trace import StepTrace, Trial, noise_of, norm_of, trace_step
from unvanish.errors import FlowError
from unvanish.flow.finding.calls import tensors_in
from unvanish.flow.finding.observe import Observation, observe
from unvanish.flow.finding.untouched import copied_with, eagerly, same_random, unwrapped


def examine(asked: Question) -> Diagnosis:
    """Observe, measure, judge, and say why."""
    check_kinds(asked)
    with same_random(asked.model), eagerly(asked.model):
        return _examined(understood(asked))


def _examined(asked: Question) -> Diagnosis:
    model, generator = unwrapped(asked.model), torch.Generator().manual_seed(asked.seed)
    inputs = tensors_in(asked.batch)
    asked.say("finding the recurrences")
    observation = observe(model, lambda: asked.run(model), cells=asked.cells, inputs=inputs, need=asked.need)
    if max(seen.steps for seen in observation.seen.values()) < 2:
        raise FlowError("the batch has one time step: give a longer sequence, there is no time to look back in")
    if asked.data is not None:
        asked.say("measuring what the data need")
    found = _measured(asked.data, asked.say)
    need, need_from = _needed(asked.need, found, observation)
    asked.say(f"measuring {', '.join(observation.parts)}")
    of_batch = asked.need is None and found is None
    parts = measure(observation, need, generator, of_batch=of_batch)
    asked.say("looking for causes")
    trace, trial = _training(model, asked.run, asked.optimizer, asked.step)
    facts = Facts(
        model,
        asked.batch,
        observation,
        parts,
        need,
        _of_parts(observation, parts),
        trace,
        trial,
        asked.optimizer,
        mixed_rows(model, asked.batch, observation),
        calmed(observation, parts),
        padding_read(asked, model),
        read_without_gradient(asked, model, parts),
        of_batch,
    )
    why = causes(facts)
    verdict = "non-finite" if why and why[0].kind.startswith("non-finite") else facts.verdict
    helps: tuple[Prescription, ...] = ()
    untried: tuple[Untried, ...] = ()
    if asked.prescriptions and verdict in ("borderline", "vanishing", "exploding"):
        ill = [part for part in parts if part.verdict == verdict]
        patient = Patient(model, asked.run, observation, need, inputs, asked.cells, asked.say)
        helps, untried = prescribe(patient, ill, generator)
    unknown = _unknown(found, trace, parts)
    if asked.target and asked.data is not None and not isinstance(asked.data, Dependency | tuple):
        need_from += ", for their own next step"
        unknown = ("what the target needs of the input: give data=(inputs, targets)", *unknown)
    return Diagnosis(verdict, need, need_from, float(observation.loss), parts, why, helps, unknown, found, untried)


def _measured(data: Any, say: Callable[[str], None]) -> Dependency | None:
    """What the data need; of a pair, what the second needs of the first."""
    if data is None or isinstance(data, Dependency):
        return data
    if type(data) is tuple and len(data) == 2:
        return dependency(data[0], target=data[1], say=say)
    return dependency(data, say=say)


def _needed(need: int | None, found: Dependency | None, observation: Observation) -> tuple[int, str]:
    if need is not None:
        if not is_whole(need) or need < 1:
            raise FlowError(f"the needed lag is {need!r}: give a whole number of steps from 1 on")
        return need, "given"
    if found is not None:
        nothing = "need nothing" if found.visible else "depend on nothing"
        return max(1, found.needed), "the data" if found.needed else f"the data, which {nothing} further back"
    return max(1, max(part.steps for part in observation.parts.values()) - 1), "the length of the batch"


def _of_parts(observation: Observation, parts: tuple[PartFinding, ...]) -> str:
    gradients = [gradient for gradient in observation.gradients.values() if gradient is not None]
    if not all(bool(torch.isfinite(array).all()) for array in [observation.loss, *gradients]):
        return "non-finite"
    return worst([part.verdict for part in parts])


def _training(
    model: nn.Module,
    run: Callable[[nn.Module], Tensor],
    optimizer: torch.optim.Optimizer | None,
    step: Callable[[], Any] | None,
) -> tuple[StepTrace | None, Trial | None]:
    """Watch the training step; try one step of the optimiser on a copy."""
    trace = None if step is None else trace_step(model, optimizer, step)
    if optimizer is None:
        return trace, None
    twin, its = copied_with(model, optimizer)
    before = _parameters(twin)
    with torch.random.fork_rng([]):
        its.zero_grad()
        first = run(twin)
        first.backward()  # type: ignore[no-untyped-call]
        if not math.isfinite(norm_of(list(twin.parameters()))):
            return trace, None
        if inspect.signature(its.step).parameters["closure"].default is inspect.Parameter.empty:
            its.step(lambda: _with_gradients(its, run, twin))
        else:
            its.step()
        with torch.no_grad():
            after = float(run(twin))
    size = float(torch.linalg.vector_norm(before))
    change = float(torch.linalg.vector_norm(_parameters(twin) - before)) / max(size, 1e-30)
    return trace, Trial(change, float(first.detach()), after, noise_of(optimizer))


def _with_gradients(
    optimizer: torch.optim.Optimizer, run: Callable[[nn.Module], Tensor], model: nn.Module
) -> float:
    """The closure of optimisers that evaluate the loss several times in a step, such as LBFGS."""
    optimizer.zero_grad()
    value = run(model)
    value.backward()  # type: ignore[no-untyped-call]
    return float(value.detach())


def _parameters(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().double().flatten() for parameter in model.parameters()])


def _unknown(found: Dependency | None, trace: StepTrace | None, parts: tuple[PartFinding, ...]) -> tuple[str, ...]:
    """What was not looked at, and so is not known."""
    lines = []
    if found is None:
        lines.append("whether the data depend on what lies so far back: give data=… to measure it")
    else:
        if found.censored:
            lines.append(
                f"whether the data need more than {max(1, found.needed)} steps, and the verdict is relative to that"
            )
        if found.note:
            lines.append(f"of what the data need: {found.note}")
    if trace is None:
        lines.append("whether gradients are clipped, and when: give step=… to watch a training step")
    if any(part.extrapolated for part in parts):
        lines.append("the gradient beyond the batch's length: it was taken on from the fitted line")
    lines.append("how the flow changes while the model trains: this is one moment of it")
    return tuple(lines)
