"""Watch a training loop: tell once, when it happens, that the gradient is lost on its way back through time."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.checks import whole_number
from unvanish.diagnosis.watch.alerts import Alert, Inputs, Judge, ScalarLog
from unvanish.diagnosis.watch.trace import StepTrace, traced
from unvanish.errors import OptionError
from unvanish.flow.finding.recorder import Recording, is_recorded, record
from unvanish.nn import Recurrent
from unvanish.torch_internals import after_backward

FIRST = 3  # steps at the start are all sampled: most faults are there from the first one on
ROWS = 4  # of a batch, that a layer is measured with where the loss hides its gradient
TRACED = 2  # steps in which every Python call is looked at, for clips that cannot act


class Watcher:
    """What `watch` returns: the alerts so far, and the state of the watch.

    Whoever has a training loop of their own kind drives it by hand, with `hooked=False`: `begin` before a forward
    pass, `before_step` after the backward pass, `after_step` when the parameters have changed, `release` when
    something went wrong.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Iterable[torch.optim.Optimizer] = (),
        *,
        need: int | None = None,
        every: int = 50,
        cells: Iterable[str] = (),
        alert: Callable[[Alert], object] | None = None,
        log: ScalarLog | None = None,
        hooked: bool = True,
    ) -> None:
        for name, value in (("need", need), ("every", every)):
            if value is not None:
                whole_number(value, name, give="a number of steps from 1 on")
        self._model, self._optimizers, self._cells = model, tuple(optimizers), tuple(cells)
        for optimizer in self._optimizers:
            if not isinstance(optimizer, torch.optim.Optimizer):
                raise OptionError(f"the optimizer is a {type(optimizer).__name__}: give the optimizer itself")
        if log is not None and not hasattr(log, "add_scalar"):
            raise OptionError(f"log is a {type(log).__name__}: give a SummaryWriter, or what has its add_scalar")
        self._every = every
        self._judge = Judge(model, self._optimizers, need, _warn if alert is None else alert, log)
        self._clips = _ClipWatch()
        self._recording: Recording | None = None
        self._inputs: Inputs = {}
        self._sampled = self._closed = self._queued = False
        self._patches, self._hooks = contextlib.ExitStack(), contextlib.ExitStack()
        with record(model, self._cells):
            pass  # a model without a recurrence, or a cell that it has not, is told here and not in the loop
        if hooked:
            self._attach()

    @property
    def alerts(self) -> list[Alert]:
        """What was told, in order."""
        return self._judge.alerts

    @property
    def step(self) -> int:
        """How many steps of the optimiser have been made."""
        return self._judge.step

    def begin(self) -> None:
        """A forward pass begins: record it, where the step is one to sample and nothing of it is recorded yet."""
        if self._recording is not None:
            self._patches.close()
            if self._has_gradient(self._recording):
                return  # gradients are summed over several passes: the first of them is judged
            self._recording = None
        upcoming = self.step + 1
        if (upcoming <= FIRST or upcoming % self._every == 0) and not self._closed and not is_recorded(self._model):
            self._recording = self._patches.enter_context(record(self._model, self._cells))
            self._inputs = self._patches.enter_context(_caught(self._recording.modules))
        if upcoming <= TRACED and self._optimizers and not self._closed:
            self._clips.start()

    def pause(self) -> None:
        """Let passes run as they always do; what was recorded is still judged at the step."""
        self._patches.close()

    def discard(self) -> None:
        """Forget what was recorded of a step that is left out."""
        self._recording = None
        self._patches.close()

    def release(self) -> None:
        """Take everything out of the model that a pass was recorded with; look at no more calls."""
        self.discard()
        self._clips.stop()

    def before_step(self) -> None:
        """The gradients are there, the optimiser has not used them yet: judge a step that was sampled."""
        self._clips.take(self._optimizers)
        if self._recording is not None:
            recording, self._recording = self._recording, None
            self._patches.close()
            self._sampled = self._judge.look(recording, self._inputs)

    def after_step(self) -> None:
        """The parameters have changed."""
        self.before_step()  # of an optimiser that runs forward and backward itself
        for text, threshold in self._clips.of_step():
            self._judge.tell(
                Alert("idle clip", self.step + 1, "", "", None, threshold, f"step {self.step + 1}: {text}")
            )
        if self._sampled and not self._judge.sick:
            self._judge.note_fault(self._judge.parameter_fault("after this step of the optimiser"))
        self._sampled = False
        self._judge.step += 1

    def close(self) -> None:
        """Look at the parameters once more, and stop: the model and the optimiser are as they were before."""
        if not self._closed and not self._judge.sick and self.step:
            self._judge.note_fault(self._judge.parameter_fault("where the watch ends"))
        self._closed = True
        self.release()
        self._hooks.close()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the count of steps, the alerts and what has been told, as plain data for a checkpoint."""
        return self._judge.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken: what was told then is not told again."""
        self._judge.load_state_dict(state_dict)

    def _attach(self) -> None:
        model, keep = self._model, self._hooks.callback
        if isinstance(model, nn.RNNBase) and "forward" not in vars(model):
            model.forward = _Forward(model)
            keep(delattr, model, "forward")
        keep(model.register_forward_pre_hook(_Hook(self._on_forward)).remove)
        keep(model.register_forward_hook(_Hook(self._on_forward_end), always_call=True).remove)
        for optimizer in self._optimizers[:1]:
            keep(optimizer.register_step_pre_hook(_Hook(lambda *_: self.before_step())).remove)
            keep(optimizer.register_step_post_hook(_Hook(lambda *_: self.after_step())).remove)
        if not self._optimizers:
            for parameter in model.parameters():
                if parameter.requires_grad:
                    hook = parameter.register_post_accumulate_grad_hook(_Hook(self._on_gradient))  # type: ignore[no-untyped-call]
                    keep(hook.remove)

    def _on_forward(self, module: nn.Module, args: Any) -> None:
        if torch.is_grad_enabled():
            self._queued = False
            self.begin()
            if self._recording is not None and args and isinstance(module, Recurrent | nn.RNNBase):
                self._inputs.update(_few("", module, args[0]))  # its own hooks of this call are fixed by now
        elif self._recording is not None:
            self.pause()  # an evaluation

    def _on_forward_end(self, module: nn.Module, _: Any, output: Any) -> None:
        if output is None and sys.exc_info()[1] is not None:
            self.release()

    def _on_gradient(self, _: Tensor) -> None:
        """Without an optimiser, the end of a backward pass is the end of a step."""
        if not self._queued:
            self._queued = True
            after_backward(self._on_backward_end)

    def _on_backward_end(self) -> None:
        self._queued = False
        self.after_step()

    def _has_gradient(self, recording: Recording) -> bool:
        """Whether a backward pass has been, and its gradients were not set back: a step that was left out is."""
        came = any(track.arrived for tracks in recording.passes.values() for track in tracks)
        return came and any(p.grad is not None and bool(p.grad.any()) for p in self._model.parameters())


@contextlib.contextmanager
def _caught(modules: Mapping[nn.Module, str]) -> Iterator[Inputs]:
    """Keep what each layer is called with first in the block, of a few rows."""
    found: Inputs = {}

    def catch(name: str) -> Callable[..., None]:
        # One that is removed while its module is being called gets no keywords.
        def hook(module: Any, args: tuple[Any, ...], keywords: Mapping[str, Any] = MappingProxyType({})) -> None:
            if name not in found:
                found.update(_few(name, module, args[0] if args else keywords.get("input")))

        return hook

    with contextlib.ExitStack() as stack:
        for module, name in modules.items():
            if isinstance(module, Recurrent | nn.RNNBase):
                hook = module.register_forward_pre_hook(catch(name), with_kwargs=True)
                stack.callback(hook.remove)
        yield found


def _few(name: str, layer: Any, x: Any) -> Inputs:
    """A few rows of what a layer is called with."""
    if not isinstance(x, Tensor) or x.dim() != 3:
        return {}
    return {name: x.detach()[:ROWS] if layer.batch_first else x.detach()[:, :ROWS]}


def _warn(alert: Alert) -> None:
    warnings.warn(f"{alert.kind}: {alert.text}", stacklevel=2)


class _Hook:
    """A hook of a model: a copy or a pickle of the model is not watched, and takes no watcher with it."""

    def __init__(self, act: Callable[..., None] | None = None) -> None:
        self.act = act

    def __call__(self, *args: Any) -> None:
        if self.act is not None:
            self.act(*args)

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()


class _Forward:
    """The forward method of a torch layer that is the whole model.

    A module fetches its forward method before it calls its hooks: what a hook puts in its place would be too late.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        present = vars(self.module)["forward"]
        return (
            type(self.module).forward(self.module, *args, **keywords)
            if present is self
            else present(*args, **keywords)
        )


class _ClipWatch:
    """Sees the clips of the first steps, and which of them cannot act.

    A clip acts if a backward pass came since the last step, and if its gradients are among those of the
    optimiser.
    """

    def __init__(self) -> None:
        self._trace: StepTrace | None = None
        self._stack = contextlib.ExitStack()
        self._over = False
        self._backwards = 0  # that had been made at the last step
        self._judged = 0

    def start(self) -> None:
        """Begin, once; not under a profiler, which has the only place there is for looking at calls."""
        if self._trace is None and not self._over and sys.getprofile() is None:
            self._trace = self._stack.enter_context(traced(None))

    def stop(self) -> None:
        """Look at no more calls."""
        self._over, self._trace = True, None
        self._stack.close()

    def take(self, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Note the gradients that the optimisers take."""
        if self._trace is not None:
            gradients = [p.grad for o in optimizers for group in o.param_groups for p in group["params"]]
            self._trace.stepped |= {g.data_ptr() for g in gradients if g is not None and g.layout == torch.strided}

    def of_step(self) -> Iterator[tuple[str, float]]:
        """What is wrong with the clips since the last step, each with its threshold."""
        trace = self._trace
        if trace is None:
            return
        clips, self._judged = trace.clips[self._judged :], len(trace.clips)
        idle = [clip for clip in clips if clip.backwards_before <= self._backwards]
        self._backwards, stepped, trace.stepped = trace.backwards, trace.stepped, set()
        trace.steps += 1
        if trace.steps >= TRACED:
            self.stop()
        if idle:
            yield _IDLE, idle[0].threshold
        elif clips and stepped and not any(clip.gradients & stepped for clip in clips):
            yield _OTHERS, clips[0].threshold


_IDLE = (
    "the gradient is clipped before the backward pass or after the optimiser's step: the clip cannot act. Call it "
    "between loss.backward() and optimizer.step()."
)
_OTHERS = (
    "the gradients that are clipped are none of those that the optimiser takes: the clip cannot act. Clip the "
    "parameters that were given to the optimiser."
)


def watch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    need: int | None = None,
    every: int = 50,
    cells: Iterable[str] = (),
    alert: Callable[[Alert], object] | None = None,
    log: ScalarLog | None = None,
) -> Watcher:
    """Watch a training loop, and tell when its gradient is lost on the way back through time.

    The norms n_t = ‖∂L/∂s_t‖ of every state s are recorded in the first three steps and in every `every`-th one;
    any other step pays four calls of a hook. Told is the first event of each kind and place; `Alert` says which
    there are. What happens between two steps that are recorded is told at the later of them. A step that a
    GradScaler leaves out is not judged.

    Args:
        model: any module whose forward pass runs a recurrence; on a step that is recorded, torch.nn layers run on
            our engine, with the same numbers to rounding (but other masks of dropout).
        optimizer: what trains it. If None, a step is a backward pass that reaches a parameter of the model, and
            clips are not looked at.
        need: the needed lag in steps.
        cells: names of modules that are called once a step, where they are not of torch.
        alert: gets every `Alert`; if None, it is a warning.
        log: gets, by part, `reach` (steps), `left` (the share of the norm at the needed lag, or at the first step)
            and `largest` of every step that is recorded.

    Returns:
        The `Watcher`: its `alerts`, `close()`, `state_dict()` and `load_state_dict()`; a context as well.

    Raises:
        FlowError: the model has no recurrent part that is known, or `cells` names no module of it.
        OptionError: `need` or `every` is under 1.

    >>> model = nn.RNN(1, 4)
    >>> optimizer = torch.optim.SGD(model.parameters(), 0.01)
    >>> with watch(model, optimizer, need=50, alert=lambda alert: print(alert.kind, alert.where)) as watcher:
    ...     model(torch.randn(100, 2, 1))[0][-1].sum().backward()
    ...     optimizer.step()
    vanishing l0
    """
    return Watcher(
        model,
        () if optimizer is None else (optimizer,),
        need=need,
        every=every,
        cells=cells,
        alert=alert,
        log=log,
    )
