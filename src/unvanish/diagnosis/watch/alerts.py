"""Judge the gradient norms of one training step, and tell what goes wrong once.

Shapes: T time, S states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unvanish.diagnosis.findings import steps_text
from unvanish.diagnosis.measure import GROWTH
from unvanish.flow.finding.recorder import Recording, Track
from unvanish.flow.measuring.profile import REACH_SHARE, profiles

IN_A_ROW = 3  # samples: one batch without a gradient, or of short sequences, is not a fault yet
ROUNDING = 1e-6  # ten times the spacing of single precision: what is smaller is lost in the sum over the steps


@dataclass(frozen=True)
class Alert:
    """Something that goes wrong in a training, told when it is first seen; n_t = ‖∂L/∂s_t‖ of every state s.

    - non-finite: a parameter, a state's gradient (with the time step where it began, seen from the loss), or a
      parameter's; what follows from it is not told;
    - vanishing: n_t falls for good under 1 % of its largest within fewer than `need` steps back from the last step
      at which the loss pulls, in every state of every layer of a module; or, three samples in a row, the window
      itself is shorter. If `need` is None, nobody has said that the far steps matter, and only what training
      cannot use is told: n_t falls for good under 1e-6 of its largest, where it adds no more than rounding to a sum
      in single precision. A loss that pulls at every step hides a gradient that vanishes between them: where `need`
      is given, a direction is sent back from the last step of every layer as well;
    - exploding: n_t, of all states together, grows to a hundred times the largest of the quarter of the steps that
      is nearest to the loss (the gradients of a loss at every step add up as well, but not to so much);
    - dead: no gradient arrives at a part that is trained, three samples in a row;
    - reads early: the loss reads a direction only near its own first step, fewer than `need` steps after it (if
      None, at the first alone), three samples in a row;
    - idle clip: a clip of torch that cannot act, seen in the first two steps (not under another profiler);
    - optimizer: parameters that need a gradient and that the optimiser does not have.

    Attributes:
        kind: one of these.
        step: of the optimiser, counted from 1.
        where: the layer and direction (`encoder.l0`), or the parameter; empty for the whole.
        state: which of its states, of several the last that vanishes; empty where it is none.
        time_step: of the window, counted from 0; None where it is none.
        value: the norm that is not finite; the share of the gradient that is left (vanishing); how many times it
            has grown (exploding); the steps that can be gone back (reads early); the threshold (idle clip); how
            many parameters (optimizer).
        text: what is wrong and what to do, in a sentence or two.
    """

    kind: str
    step: int
    where: str
    state: str
    time_step: int | None
    value: float
    text: str


Inputs = dict[str, Tensor]  # what layers were given, by name


class ScalarLog(Protocol):
    """What takes scalars: a SummaryWriter of TensorBoard, or anything with this method."""

    def add_scalar(self, tag: str, value: float, step: int, /) -> object:
        """Take one number of one step."""


@dataclass(frozen=True)
class _Window:
    """The gradient norms of one part in one pass, in the order in which its steps were run."""

    part: str
    states: tuple[str, ...]
    norms_TS: Tensor

    @property
    def last(self) -> int:
        """The last step that a gradient arrives at: where the loss pulls."""
        return int(self.norms_TS.any(1).nonzero()[-1])

    def time(self, index: int) -> int:
        """The time step of the sequence: the other direction begins at its end."""
        return len(self.norms_TS) - 1 - index if self.part.endswith("_reverse") else index

    def shares_TS(self) -> Tensor:
        """What there is of each state's largest norm: a loss reads h, and what it keeps may begin small in c."""
        largest_S = self.norms_TS.amax(0)
        return torch.where(largest_S > 0, self.norms_TS / largest_S, 0.0)

    def grown_T(self) -> Tensor:
        """How much the norm of the full state grows over the largest near the loss.

        That is of a quarter of the steps, as a single one may have a small loss by chance; and of all states
        together, as one that the loss does not read begins at nothing.
        """
        norms_T: Tensor = torch.linalg.vector_norm(self.norms_TS, dim=1)
        near = max(1, (self.last + 1) // 4)
        return norms_T / norms_T[self.last + 1 - near : self.last + 1].max()

    def farthest(self, share: float) -> int:
        """The farthest step back at which a share of some state's largest norm is left."""
        return int((self.shares_TS() >= share).any(1).nonzero()[0])


def _windows(name: str, passes: Sequence[Track]) -> list[_Window]:
    """The passes of a part that a gradient came to; a layer that is called once a step has a single one."""
    if not any(track.arrived for track in passes):
        return []
    if len(passes) > 1 and all(not track.arrived or len(track.norms) == 1 for track in passes):
        sound = next(track.norms for track in passes if track.arrived)
        rows = [track.norms if track.arrived else torch.zeros_like(sound) for track in passes]
        return [_Window(name, passes[0].states, torch.cat(rows).detach().double().cpu())]
    found = [track for track in passes if track.arrived]
    return [_Window(name, track.states, track.norms.detach().double().cpu()) for track in found]


class Judge:
    """Judges the samples of one training, and remembers what it has told.

    Attributes:
        alerts: what was told, in order.
        step: how many steps of the optimiser have been made.
        sick: whether the last sample had numbers that are not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: tuple[torch.optim.Optimizer, ...],
        need: int | None,
        alert: Callable[[Alert], object],
        log: ScalarLog | None,
    ) -> None:
        self.alerts: list[Alert] = []
        self.step, self.sick = 0, False
        self._sound = 0  # the last step whose sample was finite
        self._model, self._optimizers, self._need = model, optimizers, need
        self._alert, self._log = alert, log
        self._told: set[tuple[str, str]] = set()
        self._in_a_row: dict[str, int] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return all that it remembers, as plain data."""
        return {
            "step": self.step,
            "alerts": [asdict(alert) for alert in self.alerts],
            "told": [list(place) for place in sorted(self._told)],
            "in_a_row": dict(self._in_a_row),
            "sick": self.sick,
            "sound": self._sound,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self.step, self.sick, self._sound = (state_dict[name] for name in ("step", "sick", "sound"))
        self.alerts = [Alert(**alert) for alert in state_dict["alerts"]]
        self._told = {(kind, place) for kind, place in state_dict["told"]}
        self._in_a_row = dict(state_dict["in_a_row"])

    def look(self, recording: Recording, inputs: Inputs) -> bool:
        """Judge a sample; False where no backward pass has been. `inputs`: of some layers, what they were given."""
        windows = {name: _windows(name, passes) for name, passes in recording.passes.items()}
        came = any(windows.values()) or any(p.grad is not None for p in self._model.parameters())
        if not came:
            return False
        self._not_given()
        fault = self.parameter_fault("before this step") or self._state_fault(windows) or self._gradient_fault()
        self.note_fault(fault)
        if fault is not None:
            return True
        modules: dict[str, list[_Window]] = {}
        for part, found in windows.items():
            alive = [window for window in found if window.norms_TS.any()]
            name = next(
                n for n in recording.modules.values() if part in (n, "cell") or part.rpartition(".")[0] == n
            )
            self._dead(part, bool(alive), self._model.get_submodule(name))
            if alive:
                window = max(alive, key=lambda window: len(window.norms_TS))
                self._reads_early(window)
                modules.setdefault(name, []).append(window)
                self._exploding(window)
                self._write(window)
        for name, of_module in modules.items():
            self._vanishing(name, of_module)
            if name in inputs:
                self._hidden(name, self._model.get_submodule(name), inputs[name])
        return True

    def note_fault(self, fault: Alert | None) -> None:
        """Tell where numbers stopped being finite; what follows from it is told no more until all are again."""
        if fault is None:
            self.sick, self._sound = False, self.step + 1
        elif not self.sick:
            self.sick = True
            self.tell(fault)

    def _fault(self, where: str, state: str, time_step: int | None, norm: float, what: str, mend: str) -> Alert:
        since = f"; at step {self._sound} all were" if 0 < self._sound < self.step else ""
        text = f"step {self.step + 1}: {what}{since}. {mend}"
        return Alert("non-finite", self.step + 1, where, state, time_step, norm, text)

    def parameter_fault(self, moment: str) -> Alert | None:
        """The first parameter that is not finite."""
        name, norm = _first_fault((name, p.detach()) for name, p in self._model.named_parameters())
        what = f"the parameter {name} is not finite {moment}"
        mend = "Go back to a checkpoint from before, lower the learning rate, and clip the gradient by norm."
        return self._fault(name, "", None, norm, what, mend) if name else None

    def _state_fault(self, windows: dict[str, list[_Window]]) -> Alert | None:
        """The backward pass runs from the last part and step to the first: there it began."""
        for part in reversed(windows):
            for window in reversed(windows[part]):
                rows = (~torch.isfinite(window.norms_TS)).nonzero()
                if len(rows):
                    index = int(rows[-1, 0])
                    column = int((~torch.isfinite(window.norms_TS[index])).nonzero()[0])
                    state, time_step = window.states[column], window.time(index)
                    what = (
                        f"the gradient of the loss is not finite at state {state} of {part}, time step {time_step}"
                    )
                    began = index == len(window.norms_TS) - 1
                    from_loss = ", the first that it comes to: the loss, or what lies between, is not finite"
                    mend = "Look at the batch and the loss." if began else "Clip it by norm, or shorten the window."
                    what += from_loss if began else f" of {len(window.norms_TS)}, and before it"
                    return self._fault(part, state, time_step, float(window.norms_TS[index, column]), what, mend)
        return None

    def _gradient_fault(self) -> Alert | None:
        named = ((name, p.grad.detach()) for name, p in self._model.named_parameters() if p.grad is not None)
        name, norm = _first_fault(named)
        what = f"the gradient of the parameter {name} is not finite, though that of every state is"
        return (
            self._fault(name, "", None, norm, what, "Look at the loss and at what stands there.") if name else None
        )

    def _dead(self, part: str, alive: bool, module: nn.Module) -> None:
        given = {p for o in self._optimizers for group in o.param_groups for p in group["params"]}
        trained = any(p.requires_grad and (not given or p in given) for p in module.parameters())
        if self._count(f"dead {part}", trained and not alive):
            text = (
                f"step {self.step + 1}: no gradient of the loss arrives at {part}, {IN_A_ROW} samples in a row: "
                "it does not learn. Use its output in the loss, without detach() or no_grad(), and look for dead "
                "relu units."
            )
            self.tell(Alert("dead", self.step + 1, part, "", None, 0.0, text))

    def _reads_early(self, window: _Window) -> None:
        """A direction that is read near its own first step has nothing to look back to."""
        last, steps = window.last, len(window.norms_TS)
        early = last < min(steps - 1, 1 if self._need is None else self._need)
        if self._count(f"reads early {window.part}", early):
            text = (
                f"step {self.step + 1}: the loss reads {window.part} no later than step {last + 1} of {steps} in "
                f"its own direction, {IN_A_ROW} samples in a row: {steps_text(last)} can be gone back from there. "
                "Let the loss read the last step of each direction."
            )
            alert = Alert("reads early", self.step + 1, window.part, "", window.time(last), float(last), text)
            self.tell(alert)

    def _count(self, what: str, holds: bool) -> bool:
        """Whether it has held in so many samples in a row."""
        self._in_a_row[what] = self._in_a_row.get(what, 0) + 1 if holds else 0
        return self._in_a_row[what] >= IN_A_ROW

    def _exploding(self, window: _Window) -> None:
        grown_T = window.grown_T()
        over = (grown_T >= GROWTH).nonzero()
        if not len(over):
            return
        index, most = int(over[-1]), float(grown_T.max())
        state, time_step = window.states[int(window.norms_TS[index].argmax())], window.time(index)
        text = (
            f"step {self.step + 1}: the gradient of the loss grows {most:.3g}-fold on its way back through "
            f"{window.part}; at time step {time_step} of {len(grown_T)} it has grown a hundredfold, most of it in "
            f"state {state}. Clip it by norm, or begin with orthogonal recurrent matrices."
        )
        self.tell(Alert("exploding", self.step + 1, window.part, state, time_step, most, text))

    def _vanishing(self, module: str, windows: list[_Window]) -> None:
        """One part of a module that remembers is enough: what reaches farthest is judged."""
        share = ROUNDING if self._need is None else REACH_SHARE
        window = max(windows, key=lambda one: one.last - one.farthest(share))
        last, far, steps = window.last, window.farthest(share), len(window.norms_TS)
        reach, need = last - far, last if self._need is None else self._need
        short = self._count(f"short {module}", last < need and far == 0 and last == steps - 1)
        if reach >= need or (far == 0 and not short):
            return
        shares_TS = window.shares_TS()
        state, time_step = window.states[int(shares_TS[far].argmax())], window.time(max(far - 1, 0))
        if far == 0:
            left = 0.0
            what = f"the window of {window.part} ends {steps_text(last)} before the loss: no gradient comes further"
        else:
            left = float(shares_TS[max(last - need, 0)].max())
            kept = f"{share:.0%}" if self._need else "a millionth"
            what = (
                f"{kept} of the gradient of the loss reaches {steps_text(reach)} back through {window.part}, in a "
                f"window of {steps_text(steps)}"
            )
        wanted = f"; {steps_text(need)} are needed" if self._need else ": what lies further back adds only rounding"
        text = f"step {self.step + 1}: {what}{wanted}. Ask unvanish.diagnose for the causes and what helps."
        self.tell(Alert("vanishing", self.step + 1, window.part, state, time_step, left, text), module)

    def _hidden(self, name: str, module: nn.Module, x: Tensor) -> None:
        """Send a direction back from the last step: a loss that pulls at every step hides what vanishes between."""
        if self._need is None or ("vanishing", name) in self._told:
            return
        with torch.random.fork_rng([]), torch.enable_grad():
            measured = profiles(module, x, generator=torch.Generator().manual_seed(self.step))
        part, found = max(measured.items(), key=lambda one: one[1].reach)
        if found.censored or found.reach >= self._need:
            return
        where = f"{name}.{part}" if name else part
        left = float(found.norms[min(self._need, len(found.norms) - 1)])
        text = (
            f"step {self.step + 1}: 1% of a gradient from the last step reaches {steps_text(found.reach)} back "
            f"through {where}; {steps_text(self._need)} are needed. The loss pulls at every step and hides it: its "
            "own gradient is large everywhere. Ask unvanish.diagnose for the causes and what helps."
        )
        self.tell(Alert("vanishing", self.step + 1, where, "", None, left, text), name)

    def _write(self, window: _Window) -> None:
        if self._log is None:
            return
        last = window.last
        values = {
            "reach": float(last - window.farthest(REACH_SHARE)),
            "left": float(window.shares_TS()[max(0, last - (self._need or last))].max()),
            "largest": float(torch.linalg.vector_norm(window.norms_TS, dim=1).max()),
        }
        for name, value in values.items():
            self._log.add_scalar(f"gradient/{window.part}/{name}", value, self.step + 1)

    def _not_given(self) -> None:
        """Parameters that need a gradient, and that no optimiser has."""
        given = {p for o in self._optimizers for group in o.param_groups for p in group["params"]}
        names = [name for name, p in self._model.named_parameters() if p.requires_grad and p not in given]
        if self._optimizers and names:
            listed = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            text = (
                f"step {self.step + 1}: {len(names)} parameters of the model need a gradient and are not among the "
                f"optimiser's: {listed}. Give them to it, or set requires_grad_(False)."
            )
            self.tell(Alert("optimizer", self.step + 1, names[0], "", None, float(len(names)), text), "")

    def tell(self, alert: Alert, place: str | None = None) -> None:
        """Tell an alert, the first of its kind and place."""
        key = alert.kind, alert.where if place is None else place
        if key not in self._told:
            self._told.add(key)
            self.alerts.append(alert)
            self._alert(alert)


def _first_fault(named: Iterable[tuple[str, Tensor]]) -> tuple[str, float]:
    """The first of some tensors that is not finite, and its norm; one look at the device for all of them."""
    known = list(named)
    if not known:
        return "", 0.0
    sound = torch.stack([torch.isfinite(value).all() for _, value in known]).tolist()
    faults = [(name, value) for (name, value), good in zip(known, sound, strict=True) if not good]
    return (faults[0][0], float(torch.linalg.vector_norm(faults[0][1]))) if faults else ("", 0.0)
