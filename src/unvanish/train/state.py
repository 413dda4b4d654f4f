"""What a training state must be to go on with: of the right kind and shape everywhere, before anything is changed.

Lightning, torch and the clips take in what they are given, and fail halfway, or later, or train on something else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field, InstanceOf, ValidationError
from torch import Tensor

from unvanish.errors import RunError
from unvanish.record.config import Count, Strict, explain
from unvanish.remedies.pace import Pace
from unvanish.train.checkpoint import MODEL_PREFIX, STATE, Checkpoint, checkpoint_name
from unvanish.train.module import NetworkModule, make_optimizer
from unvanish.train.pacing import paced, plain_pace, steps_alike
from unvanish.train.remedies import made

MIXED, HALVES = ("bf16", "16"), (torch.bfloat16, torch.float16)


# -- shapes of plain data ----------------------------------------------------------------------------------------


class _Progress(Strict):
    ready: Count
    completed: Count
    started: Count = 0
    processed: Count = 0


class _Tracker(Strict):
    total: _Progress
    current: _Progress


class _Batches(_Tracker):
    is_last_batch: bool


class _Optimizer(Strict):
    step: _Tracker
    zero_grad: _Tracker


class _Optimization(Strict):
    optimizer: _Optimizer


class _Stepped(Strict):
    steps: Count = Field(alias="_batches_that_stepped")


class _FitLoop(Strict):
    """Lightning's counters; it passes over those that are missing, and begins them at 0."""

    own: dict[str, Any] = Field(alias="state_dict")
    epochs: _Tracker = Field(alias="epoch_progress")
    stepped: _Stepped = Field(alias="epoch_loop.state_dict")
    batches: _Batches = Field(alias="epoch_loop.batch_progress")
    schedulers: _Tracker = Field(alias="epoch_loop.scheduler_progress")
    automatic_state: dict[str, Any] = Field(alias="epoch_loop.automatic_optimization.state_dict")
    automatic: _Optimization = Field(alias="epoch_loop.automatic_optimization.optim_progress")
    manual_state: dict[str, Any] = Field(alias="epoch_loop.manual_optimization.state_dict")
    manual: _Tracker = Field(alias="epoch_loop.manual_optimization.optim_step_progress")
    validation_state: dict[str, Any] = Field(alias="epoch_loop.val_loop.state_dict")
    validation: _Batches = Field(alias="epoch_loop.val_loop.batch_progress")


class _Loops(Strict):
    fit_loop: _FitLoop


class _Tally(Strict):
    steps: Count
    clipped: Count
    factors: float
    adjoints: list[Count] = Field(min_length=2, max_length=2)
    penalised: dict[str, Count]


class _Keeper(Strict):
    """What `RunKeeper` keeps; version 0.1.0 had two counts in the place of the tally."""

    validated_at: int = Field(ge=-1, le=2**53)
    tally: _Tally | None = None
    clipped_steps: Count = 0
    steps_since: Count = 0
    recorded: Count = 0


class _Callbacks(Strict):
    keeper: _Keeper = Field(alias="RunKeeper")


class _OptimizerState(Strict):
    state: dict[int, dict[str, Any]]
    param_groups: list[dict[str, Any]] = Field(min_length=1, max_length=1)


class _Schedule(Strict):
    best: float | None = None
    waited: Count = 0
    lowered: Count = 0


class _RandomStates(Strict):
    cpu: InstanceOf[Tensor]
    cuda: InstanceOf[Tensor] | None = None
    others: list[InstanceOf[Tensor]] = Field(default_factory=list)  # of the other processes


class _Pace(Strict):
    """Update rates: what has been gathered, and the optimiser of the paced parameters."""

    step: Count
    rates: list[Count]
    updates: list[Count]
    gathered: list[InstanceOf[Tensor] | None]
    optimizer: dict[str, Any]


class _Ours(Strict):
    """The part of a training state that is not Lightning's."""

    states: list[InstanceOf[Tensor]]
    windows_done: Count
    random_states: _RandomStates
    clip: dict[str, Any] | None = None
    penalties: dict[str, dict[str, Any]] = Field(default_factory=dict)
    pace: _Pace | None = None
    schedule: _Schedule = Field(default_factory=lambda: _Schedule())


class _Scaler(Strict):
    """By how much a loss in half precision is scaled up."""

    scale: float = Field(gt=0, lt=1e30)
    growth_factor: float = Field(gt=1, le=1e3)
    backoff_factor: float = Field(gt=0, lt=1)
    growth_interval: int = Field(ge=1, le=2**31)
    grown: Count = Field(alias="_growth_tracker")


class _State(Strict):
    version: str = Field(
        alias="pytorch-lightning_version", pattern=r"^2\.\d{1,4}\.\d{1,4}(\.?(dev|rc|post)\d{1,8})?$"
    )
    epoch: Count
    global_step: Count
    loops: _Loops
    callbacks: _Callbacks
    lr_schedulers: list[Any] = Field(max_length=0)
    state_dict: dict[str, InstanceOf[Tensor]]
    optimizer_states: list[_OptimizerState] = Field(min_length=1, max_length=1)
    ours: _Ours = Field(alias="unvanish")
    scaler: _Scaler | None = Field(default=None, alias="MixedPrecision")


# -- whether a state fits a run ----------------------------------------------------------------------------------


class _UnfitError(Exception):
    """Says what does not fit."""


def read_state(checkpoint: Checkpoint, module: NetworkModule, windows: int) -> dict[str, Any]:
    """Return the training state of a checkpoint that fits a run whose epochs have so many windows.

    Raises:
        RunError: something in it cannot be gone on with; it is named.
    """
    state = checkpoint.read_state()
    try:
        checked = _State.model_validate(state)
        if checkpoint.path.name not in (STATE, checkpoint_name(checked.global_step)):
            raise _UnfitError(f"it is of step {checked.global_step}")
        _check_weights(checked, module)
        _check_progress(checked, windows, module.settings.accumulate)
        options = _check_optimizer(checked.optimizer_states[0], module, checked.global_step)
        _check_ours(checked.ours, module, windows)
        _check_pace(checked.ours, module, checked.global_step)
    except ValidationError as fault:
        raise RunError(f"{checkpoint.path} is not a checkpoint of a run: {explain(fault)}; restore it") from fault
    except _UnfitError as fault:
        raise RunError(f"{checkpoint.path} does not fit its run: {fault}; restore it") from fault
    state["optimizer_states"][0]["param_groups"] = [options]
    state["loops"] = {"fit_loop": state["loops"]["fit_loop"]}
    # What else may stand in it Lightning would take in as well.
    names = [field.alias or key for key, field in _State.model_fields.items()]
    return {name: state[name] for name in names if name in state}


def check_weights(found: Mapping[str, Any], wanted: Mapping[str, Tensor], path: Any) -> None:
    """Refuse weights that are not those of a network: other names, shapes, kinds of number, or NaN among them.

    Raises:
        RunError: the first of them is named.
    """
    try:
        _compare("weights", found, wanted)
    except _UnfitError as fault:
        raise RunError(f"{path} does not fit its run: {fault}; restore it") from fault


def _check_weights(state: _State, module: NetworkModule) -> None:
    _compare("weights", state.state_dict, module.state_dict())
    if not all(name.startswith(MODEL_PREFIX) for name in state.state_dict):
        raise _UnfitError("the weights are those of another network")


def _check_progress(state: _State, windows: int, accumulate: int) -> None:
    fit, step = state.loops.fit_loop, state.global_step
    passed = _passed(state, windows, -(-windows // accumulate))
    epochs, rest = divmod(passed, windows)
    counts = {
        "optimiser steps": fit.automatic.optimizer.step.total.completed,
        "steps of earlier epochs and this one": epochs * -(-windows // accumulate) + -(-rest // accumulate),
    }
    for name, count in counts.items():
        if count != step:
            raise _UnfitError(f"global_step is {step}, the {name} are {count}")
    if fit.batches.total.ready != passed or rest % accumulate:
        raise _UnfitError(f"global_step is {step}, the batches are {fit.batches.total.ready}")
    if fit.batches.is_last_batch != (step > 0 and state.ours.windows_done == 0):
        raise _UnfitError("is_last_batch is not what the windows that are done say")
    if fit.epochs.current.completed != state.epoch:
        raise _UnfitError(f"epoch is {state.epoch}, the epochs completed are {fit.epochs.current.completed}")


def _passed(state: _State, windows: int, steps: int) -> int:
    """Count windows by epochs of so many steps: within one, some are done; between two, all of the last."""
    done = state.ours.windows_done
    if done == 0 and state.global_step == (state.epoch + 1) * steps:
        return (state.epoch + 1) * windows  # an epoch is over that Lightning has not counted yet
    return state.epoch * windows + done


def _check_optimizer(found: _OptimizerState, module: NetworkModule, step: int) -> dict[str, Any]:
    """Compare with what the optimiser has after a step of its own on a network of these shapes; return its options.

    The learning rate may be another, as it is taken from the settings; options that a later version of torch has
    may be missing.
    """
    if module.settings.pace:
        optimizer, _ = _paced_copy(module, step)
    else:
        copies = [torch.nn.Parameter(torch.zeros_like(parameter)) for parameter in module.parameters()]
        optimizer = make_optimizer(module.settings, copies)
        _step(optimizer, copies, min(step, 1))
    wanted = optimizer.state_dict()
    given = found.param_groups[0]
    options: dict[str, Any] = wanted["param_groups"][0]
    for name, value in options.items():
        if name != "lr" and repr(given.get(name, value)) != repr(value):  # there may be anything, also arrays
            raise _UnfitError(f"the optimiser's {name} is not that of {module.settings.optimizer}")
    if found.state or module.settings.precision != "16":  # there all steps may have been left out so far
        _compare("optimiser's states", found.state, wanted["state"])
    return options


def _step(optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter], times: int) -> None:
    for _ in range(times):
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()


def _paced_copy(module: NetworkModule, step: int) -> tuple[torch.optim.Optimizer, Pace | None]:
    """The optimiser and the update rates of a network like this after steps that leave the same shapes."""
    network = made(module, module.settings).cpu()
    parameters = list(network.parameters())
    optimizer = make_optimizer(module.settings, parameters)
    pace = paced(network, optimizer, module.settings)
    _step(optimizer, parameters, steps_alike(module.settings, step) or 0)
    return optimizer, pace


def _check_pace(ours: _Ours, module: NetworkModule, step: int) -> None:
    """Compare what was gathered with what so many steps gather."""
    if not module.settings.pace or steps_alike(module.settings, step) is None:
        return
    _, pace = _paced_copy(module, step)
    assert pace is not None
    if ours.pace is None or ours.pace.step != step or len(ours.pace.gathered) != len(pace.state_dict()["gathered"]):
        raise _UnfitError("the update rates are not those of this run")
    found = plain_pace(ours.pace.model_dump())
    _compare("update rates", found, plain_pace(pace.state_dict()))


def _check_ours(ours: _Ours, module: NetworkModule, windows: int) -> None:
    if ours.windows_done >= windows:
        raise _UnfitError(f"windows_done is {ours.windows_done}, an epoch has {windows} windows")
    layer, settings = module.model.recurrent, module.settings
    wanted = layer.zero_states(settings.rows)
    if not module.question.carries:
        if ours.states:
            raise _UnfitError("it has carried states, and this run carries none")
    elif ours.states or ours.windows_done:
        if settings.precision in MIXED and len(ours.states) == len(wanted):  # autocast says of which kind each is
            wanted = tuple(
                one.to(found.dtype) if found.dtype in HALVES else one
                for one, found in zip(wanted, ours.states, strict=True)
            )
        _compare("carried states", dict(enumerate(ours.states)), dict(enumerate(wanted)))
    states = [
        ("cpu", torch.Generator(), ours.random_states.cpu),
        ("cuda", _cuda_generator(), ours.random_states.cuda),
    ]
    states += [("cpu", torch.Generator(), one) for one in ours.random_states.others]
    for name, generator, given in states:
        if given is not None and generator is not None:
            try:
                generator.set_state(given)
            except (RuntimeError, TypeError) as fault:
                raise _UnfitError(f"the state of the random numbers ({name}) is not one") from fault
    _check_remedies(ours, module)


def _cuda_generator() -> torch.Generator | None:
    return torch.Generator("cuda") if torch.cuda.is_available() else None


def _check_remedies(ours: _Ours, module: NetworkModule) -> None:
    """Compare what the clip and the penalties keep with what fresh ones keep."""
    clip = module.clip
    if clip is not None and ours.clip is not None and ours.clip.get("word") == module.settings.clip:
        _compare("clip", ours.clip, {"word": module.settings.clip, **clip.state_dict()}, free=("norms", "first"))
        _check_generator(ours.clip)
    elif ours.clip is not None and not isinstance(ours.clip.get("word"), str):
        raise _UnfitError("the clip has no word")
    fresh = module.penalties.state_dict()
    for word, kept in ours.penalties.items():
        if word in fresh:
            _compare(f"penalty {word}", kept, fresh[word])


def _check_generator(clip: Mapping[str, Any]) -> None:
    if "generator" in clip:
        try:
            torch.Generator().set_state(clip["generator"])
        except (RuntimeError, TypeError) as fault:
            raise _UnfitError("the state of the clip's random numbers is not one") from fault


def _compare(what: str, found: Any, wanted: Any, free: tuple[str, ...] = ()) -> None:
    """Refuse what is not of the kinds and shapes of something made afresh; `free` may be of another length."""
    if isinstance(wanted, Tensor):
        _compare_arrays(what, found, wanted, what.rpartition(".")[2] in free)
    elif isinstance(wanted, Mapping):
        if not isinstance(found, Mapping) or set(found) != set(wanted):
            other = set(found) ^ set(wanted) if isinstance(found, Mapping) else {"its entries"}
            raise _UnfitError(f"the {what} are not those of this run: {min(map(str, other))}")
        for name, value in wanted.items():
            _compare(f"{what}.{name}", found[name], value, free)
    elif isinstance(wanted, list):
        if not isinstance(found, list) or not all(isinstance(one, float) and math.isfinite(one) for one in found):
            raise _UnfitError(f"{what} is not a list of numbers")
    elif type(found) is not type(wanted) or (isinstance(wanted, int) and not 0 <= found <= 2**53):
        raise _UnfitError(f"{what} is not what it should be, a {type(wanted).__name__}")
    elif isinstance(wanted, float) and not math.isfinite(found):
        raise _UnfitError(f"{what} is not finite")
    elif isinstance(wanted, str) and found != wanted:
        raise _UnfitError(f"{what} is {found!r:.60}, not {wanted!r:.60}")


def _compare_arrays(what: str, found: Any, wanted: Tensor, free: bool) -> None:
    if not isinstance(found, Tensor) or found.layout != torch.strided or found.dtype != wanted.dtype:
        raise _UnfitError(f"{what} is not an array of {wanted.dtype}")
    fits = found.ndim == wanted.ndim if free else found.shape == wanted.shape
    if not fits:
        raise _UnfitError(f"{what} has the shape {tuple(found.shape)}, not {tuple(wanted.shape)}")
    if found.is_floating_point() and not bool(torch.isfinite(found).all()):
        raise _UnfitError(f"{what} holds numbers that are not finite")
