"""What helps: every remedy that fits is tried on a copy of the model, and the copy is measured.

Shapes: H hidden.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.cells import CATALOGUE
from unvanish.diagnosis.findings import VERDICTS, PartFinding, Prescription, Untried
from unvanish.diagnosis.measure import judge
from unvanish.errors import FlowError
from unvanish.flow.finding.convert import KNOWN, as_ours
from unvanish.flow.finding.observe import Observation, Seen, observe
from unvanish.flow.finding.untouched import copied
from unvanish.flow.measuring.profile import profile_of
from unvanish.nn import Recurrent, init

TIMED = 3


@dataclass(frozen=True)
class Remedy:
    """One thing to try: what it does, the code that does it, and the change to a copy of the model."""

    name: str
    text: str
    code: str
    apply: Callable[[nn.Module], None]
    changes_steps: bool = False


@dataclass(frozen=True)
class Patient:
    """A model that is ill, and what was seen of it; `run` runs it, or a copy, and returns its loss."""

    model: nn.Module
    run: Callable[[nn.Module], Tensor]
    observation: Observation
    need: int


@dataclass(frozen=True)
class _Tried:
    """A remedy as it was tried: what is seen of the changed model, and what a step of it costs."""

    observation: Observation
    cost: float


def prescribe(
    patient: Patient, parts: Sequence[PartFinding], generator: torch.Generator
) -> tuple[tuple[Prescription, ...], tuple[Untried, ...]]:
    """Try every remedy that fits a part of `parts`, the same one for several of them once.

    By part, what helps most comes first, and among equals what keeps the cell. Then what could not be tried.
    """
    tried: dict[str, _Tried | Exception] = {}
    seconds = seconds_of(patient.model, patient.run)
    found: list[Prescription] = []
    untried: list[Untried] = []
    for part in parts:
        of_part: list[tuple[bool, Prescription]] = []
        for remedy in _fitting(part, patient.observation.seen[part.module], patient.need):
            seed = int(torch.randint(1 << 31, (), generator=generator))
            if remedy.code not in tried:
                tried[remedy.code] = _try(remedy, patient, seconds, seed)
            outcome = tried[remedy.code]
            if isinstance(outcome, _Tried) and part.name not in outcome.observation.parts:
                outcome = FlowError(f"the changed model has no part {part.name}")
            if isinstance(outcome, Exception):
                reason = f"{type(outcome).__name__}: {outcome}"
                untried.append(Untried(remedy.name, part.name, remedy.text, remedy.code, reason))
            else:
                of_part.append((remedy.changes_steps, _prescription(remedy, part, outcome, patient.need, seed)))
        found += _helpful(of_part, part, patient.need)
    return tuple(found), tuple(untried)


def _try(remedy: Remedy, patient: Patient, seconds: float, seed: int) -> _Tried | Exception:
    """Change a copy of the model and look at it. Whatever its own code raises then is why it cannot be tried."""
    changed, run = copied(patient.model), patient.run
    try:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            remedy.apply(changed)
        observation = observe(changed, lambda: run(changed), links=patient.observation.links)
        return _Tried(observation, seconds_of(changed, run) / seconds if remedy.changes_steps else 1.0)
    except Exception as fault:
        return fault


def _prescription(remedy: Remedy, part: PartFinding, tried: _Tried, need: int, seed: int) -> Prescription:
    profile = profile_of(tried.observation.parts[part.name], 1, torch.Generator().manual_seed(seed))
    window = tried.observation.module_of(part.name).longest
    window = window if part.last_read is None else min(window, part.last_read + 1)
    now, reach = min(part.profile.reach, part.window), min(profile.reach, window)
    verdict = judge(profile, need, window).verdict
    return Prescription(
        remedy.name, part.name, remedy.text, remedy.code, now, reach, profile.censored, verdict, tried.cost
    )


def _helpful(found: list[tuple[bool, Prescription]], part: PartFinding, need: int) -> list[Prescription]:
    ill = VERDICTS.index(part.verdict)
    helpful = [(new, p) for new, p in found if VERDICTS.index(p.verdict) < ill or p.reach > p.reach_before]
    # Another cell learns other things: one that keeps the cell comes first.
    helpful.sort(key=lambda pair: (VERDICTS.index(pair[1].verdict), pair[0], -min(pair[1].reach, need)))
    return [prescription for _, prescription in helpful]


def seconds_of(model: nn.Module, run: Callable[[nn.Module], Tensor]) -> float:
    """The processor time of a loss with its gradients, in the median; the model has been run before."""
    times, twin = [], copied(model)
    for _ in range(TIMED):
        start = time.process_time()
        run(twin).backward()  # type: ignore[no-untyped-call]
        times.append(time.process_time() - start)
    return statistics.median(times)


# -- the remedies ------------------------------------------------------------------------------------------------


def _fitting(part: PartFinding, seen: Seen, need: int) -> Iterator[Remedy]:
    known = as_ours(seen.module) if isinstance(seen.module, KNOWN) else None
    suffix = part.name.rpartition(".")[2] if known is not None and seen.kind == "layer" else "l0"
    if known is not None:
        matrices = [p.name for p in known.system.parameters if p.role == "recurrent" and p.columns is not None]
        gates = [memory.gate for memory in part.saturation.memories if memory.gate]
        if matrices:
            yield _orthogonal(seen.name, suffix, matrices)
            yield _scaled(seen.name, suffix, matrices)
        saturated = max((found.saturated for found in part.saturation.activations), default=0.0)
        if saturated > 0.1 and not gates:
            quiet = [p.name for p in known.system.parameters if p.role in ("input", "bias", "hidden_bias")]
            yield _calmer(seen.name, suffix, quiet)
        if gates and part.verdict in ("borderline", "vanishing"):
            yield _chrono(seen.name, need)
    if seen.kind == "layer" and part.verdict in ("borderline", "vanishing"):
        yield from _exchanges(seen, part, need)


def _path(name: str) -> str:
    return f"model.{name}" if name else "model"


def _code(name: str, suffix: str, line: str, names: list[str]) -> str:
    listed = ", ".join(repr(f"{one}_{suffix}") for one in names)
    return (
        f"layer = unvanish.flow.as_ours({_path(name)})  # shares its parameters\n"
        f"with torch.no_grad():\n    for name in [{listed}]:\n        {line}"
    )


def _in_place(
    name: str, suffix: str, names: list[str], change: Callable[[Tensor], None]
) -> Callable[[nn.Module], None]:
    def apply(model: nn.Module) -> None:
        with torch.no_grad():
            for one in names:
                change(as_ours(model.get_submodule(name))[f"{one}_{suffix}"])

    return apply


def _orthogonal(name: str, suffix: str, matrices: list[str]) -> Remedy:
    def change(matrix: Tensor) -> None:
        init.orthogonal()(matrix)

    code = _code(name, suffix, "unvanish.init.orthogonal()(layer[name])", matrices)
    text = "begin with orthogonal recurrent matrices: no direction shrinks or grows by them"
    return Remedy("orthogonal", text, code, _in_place(name, suffix, matrices, change))


def _scaled(name: str, suffix: str, matrices: list[str]) -> Remedy:
    def change(matrix: Tensor) -> None:
        if matrix.shape[0] == matrix.shape[1]:
            matrix /= torch.linalg.eigvals(matrix).abs().max().clamp_min(1e-6)

    line = "layer[name].div_(torch.linalg.eigvals(layer[name]).abs().max())"
    text = "scale the recurrent matrices to the spectral radius 1"
    return Remedy("radius 1", text, _code(name, suffix, line, matrices), _in_place(name, suffix, matrices, change))


def _calmer(name: str, suffix: str, quiet: list[str]) -> Remedy:
    def change(values: Tensor) -> None:
        values.div_(10)

    code = _code(name, suffix, "layer[name].div_(10)", quiet)
    text = "scale the input's matrices and the biases down tenfold"
    return Remedy("calmer input", text, code, _in_place(name, suffix, quiet, change))


def _chrono(name: str, need: int) -> Remedy:
    steps = max(need, 3)  # a range of one number would hold nothing open
    text = f"gates that hold for up to {need} steps (chrono initialisation; Tallec, Ollivier 2018)"
    code = f"unvanish.init.chrono({steps}).fill(unvanish.flow.as_ours({_path(name)}))  # shares its parameters"
    return Remedy("chrono", text, code, lambda model: init.chrono(steps).fill(as_ours(model.get_submodule(name))))


def _exchanges(seen: Seen, part: PartFinding, need: int) -> Iterator[Remedy]:
    """Another layer in its place, with the same input and output: of its own cell with skips, or of another."""
    assert isinstance(seen.module, Recurrent | nn.RNNBase)
    if int(getattr(seen.module, "proj_size", 0)):
        return
    ours = as_ours(seen.module)
    # Along a skip of d steps the gradient takes one step where it took d; a skip begins with half the way at least.
    delay = max(2, min(math.ceil(3 * need / max(part.profile.reach, 1)), need // 2))
    alpha = round(1 - 1 / max(need, 2), 6)
    chrono = f"chrono:{max(need, 3)}"
    choices: list[tuple[str, str, dict[str, Any], str]] = [
        (
            "skips",
            ours.cell.name,
            {**ours.options, "skips": (delay,)},
            f"its own cell, with connections that skip {delay} steps",
        ),
        ("lstm", "lstm", {"init": chrono}, "an LSTM in its place, with gates that hold"),
        (
            "leaky_rnn",
            "leaky_rnn",
            {"alpha": alpha},
            f"a leaky recurrence in its place, with a time constant of {need} steps",
        ),
    ]
    for name, cell, options, text in choices:
        if cell in CATALOGUE and (name == "skips" or cell != ours.cell.name):
            code = _exchange_code(seen, cell, options)
            yield Remedy(name, text, code, _exchange(seen.name, cell, options), changes_steps=True)


def _exchange_code(seen: Seen, cell: str, options: Mapping[str, Any]) -> str:
    module = seen.module
    shape = (
        f"{module.input_size}, {module.hidden_size}, num_layers={module.num_layers}, "
        f"batch_first={bool(module.batch_first)}, bidirectional={bool(module.bidirectional)}"
    )
    words = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return f'{_path(seen.name)} = unvanish.Recurrent("{cell}", {shape}, {words})'


def _exchange(name: str, cell: str, options: Mapping[str, Any]) -> Callable[[nn.Module], None]:
    def apply(model: nn.Module) -> None:
        old = model.get_submodule(name)
        assert isinstance(old, Recurrent | nn.RNNBase)
        weight = next(old.parameters())
        new = Recurrent(
            cell,
            old.input_size,
            old.hidden_size,
            old.num_layers,
            bool(old.bias),
            bool(old.batch_first),
            float(old.dropout),
            bool(old.bidirectional),
            device=weight.device,
            dtype=weight.dtype,
            **options,
        )
        parent, _, last = name.rpartition(".")
        if not name:
            raise FlowError("the layer is the whole model, and has no place in which another could stand")
        setattr(model.get_submodule(parent), last, new.train(old.training))

    return apply
