"""What helps: every remedy that fits is tried on a copy of the model, and the copy is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from unvanish.diagnosis.costs import FREE, Cost, cost_of
from unvanish.diagnosis.findings import VERDICTS, PartFinding, Prescription, Untried
from unvanish.diagnosis.measure import look
from unvanish.diagnosis.remedying.layers import SHORT, exchanges, for_module
from unvanish.diagnosis.remedying.own import OwnCell
from unvanish.diagnosis.remedying.remedy import Patient, Remedy, carry_out
from unvanish.diagnosis.remedying.state import why_not_exchanged
from unvanish.errors import FlowError, UnvanishError
from unvanish.flow.finding.convert import KNOWN
from unvanish.flow.finding.observe import Observation, observe
from unvanish.flow.finding.untouched import copied


@dataclass(frozen=True)
class _Tried:
    """A remedy as it was tried: what is seen of the changed model, what a step of it costs, what it drew from."""

    observation: Observation
    cost: Cost
    seed: int


def prescribe(
    patient: Patient, parts: Sequence[PartFinding], generator: torch.Generator
) -> tuple[tuple[Prescription, ...], tuple[Untried, ...]]:
    """Try every remedy that fits a part of `parts`, the same one for several of them once.

    By part, what helps most comes first, and among equals what keeps the cell. Then what could not be tried.
    """
    tried: dict[str, _Tried | Exception] = {}
    found: list[Prescription] = []
    untried: list[Untried] = []
    for part in parts:
        of_part: list[tuple[bool, Prescription]] = []
        for remedy in _fitting(patient, part, parts):
            seed = int(torch.randint(1 << 31, (), generator=generator))
            if remedy.code not in tried:
                patient.say(f"trying {remedy.name} on {part.name}")
                tried[remedy.code] = _try(remedy, patient, seed)
            outcome = tried[remedy.code]
            if isinstance(outcome, _Tried) and part.name not in outcome.observation.parts:
                outcome = FlowError(f"the changed model has no part {part.name}")
            if isinstance(outcome, Exception):
                own = isinstance(outcome, UnvanishError)
                reason = str(outcome) if own else f"{type(outcome).__name__}: {outcome}"
                untried.append(Untried(remedy.name, part.name, remedy.text, remedy.code, reason))
            else:
                of_part.append((remedy.changes_steps, _prescription(remedy, part, outcome, patient.need, seed)))
        found += _helpful(of_part, part, patient.need)
    return tuple(found), tuple(untried)


def _try(remedy: Remedy, patient: Patient, seed: int) -> _Tried | Exception:
    """Change a copy of the model and look at it. Whatever its own code raises then is why it cannot be tried."""
    if remedy.refusal is not None:
        return FlowError(remedy.refusal)
    try:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            changed = carry_out(remedy.code, copied(patient.model))
    except Exception as fault:
        return fault
    try:
        tried: _Tried | Exception = _looked_at(changed, remedy, patient, seed)
    except Exception as fault:
        tried = fault
    if remedy.exchanges is not None:
        failed = isinstance(tried, Exception)
        why = why_not_exchanged(patient.model, changed, remedy.exchanges, patient.run, failed=failed)
        return tried if why is None else FlowError(why)
    return tried


def _looked_at(changed: nn.Module, remedy: Remedy, patient: Patient, seed: int) -> _Tried:
    observation = observe(
        changed,
        lambda: patient.run(changed),
        cells=patient.cells,
        links=patient.observation.links,
        inputs=patient.inputs,
        need=patient.need,
    )
    cost = cost_of(changed, patient.model, patient.run) if remedy.changes_steps else FREE
    return _Tried(observation, cost, seed)


def _prescription(remedy: Remedy, part: PartFinding, tried: _Tried, need: int, seed: int) -> Prescription:
    observation, generator = tried.observation, torch.Generator().manual_seed(seed)
    seen = observation.module_of(part.name)
    window = part.window
    profile, judged = look(observation.parts[part.name], seen, need, window, generator)
    return Prescription(
        remedy.name,
        part.name,
        remedy.text,
        remedy.code,
        min(part.profile.reach, part.window),
        min(profile.reach, window),
        profile.censored,
        judged.verdict,
        tried.cost.median,
        (tried.cost.low, tried.cost.high),
        tried.seed,
    )


def _helpful(found: list[tuple[bool, Prescription]], part: PartFinding, need: int) -> list[Prescription]:
    ill = VERDICTS.index(part.verdict)
    helpful = [(new, p) for new, p in found if VERDICTS.index(p.verdict) < ill or p.reach > p.reach_before]
    # Another cell learns other things: one that keeps the cell comes first.
    helpful.sort(key=lambda pair: (VERDICTS.index(pair[1].verdict), pair[0], -min(pair[1].reach, need)))
    return [prescription for _, prescription in helpful]


def _fitting(patient: Patient, part: PartFinding, parts: Sequence[PartFinding]) -> Iterator[Remedy]:
    """What can be tried for a part."""
    seen, need = patient.observation.seen[part.module], patient.need
    if isinstance(seen.module, KNOWN) and seen.kind in ("layer", "cell"):
        ill = [one for one in parts if one.module == part.module]
        by_suffix = {one.name.rpartition(".")[2] if seen.kind == "layer" else "l0": one for one in ill}
        yield from for_module(part, seen.name, seen.module, by_suffix, need)
        if seen.kind == "layer" and part.verdict in SHORT:
            yield from exchanges(patient.model, seen, part, need)
    elif seen.kind in ("loop", "cell"):
        yield from OwnCell(patient, part, seen).remedies()
