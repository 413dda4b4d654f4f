"""Update rates of their own: some parameters learn at every step, others at every second, fourth, … one.

A parameter with rate r takes part in every r-th step of the optimiser, with the sum of the gradients since its last
one, and stays as it is in between, and so does all that the optimiser remembers of it. Slow parameters keep what
fast ones would overwrite: the multiple time scales of Schmidhuber (1992) and El Hihi, Bengio (1995), put into the
updates instead of the states. With `scaled` they take part in every step, at a learning rate r times smaller.

Shapes: R rows of a stored array, H units.
"""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.checks import whole_number
from unvanish.errors import OptionError, nearest
from unvanish.flow.finding.convert import as_ours
from unvanish.nn import Recurrent

Rates = int | Sequence[int]


@dataclass
class _Slice:
    """Rows of a stored parameter that are updated together: a parameter of an optimiser of their own.

    Attributes:
        whole: the parameter as the layer stores it.
        rows: which of its rows.
        own: these rows, as that optimiser has them.
        rate: every how many steps they are updated.
        group: the number of the parameter group that `whole` is in.
        gathered: the sum of the gradients since the last update; None where none came.
        updates: how often they were updated.
    """

    whole: nn.Parameter
    rows: Tensor
    own: nn.Parameter
    rate: int
    group: int
    gathered: Tensor | None = None
    updates: int = 0


class Pace:
    """Gives parameters of a layer update rates of their own, with any optimiser of torch.

    From here on `optimizer.step()` updates the paced parameters at their rates and all others as ever; learning
    rates and other settings are those of the optimiser's groups at each step, so that schedules act on both.

    Attributes:
        step: how many steps of the optimiser have been made.

    >>> layer = torch.nn.GRU(3, 8)
    >>> optimizer = torch.optim.Adam(layer.parameters(), 1e-3)
    >>> pace = Pace(layer, optimizer, {"U_*": (1, 2, 4, 8)})  # a quarter of the units each
    >>> for _ in range(8):
    ...     layer(torch.randn(5, 2, 3))[0].sum().backward()
    ...     optimizer.step()
    >>> pace.updates
    {1: 8, 2: 4, 4: 2, 8: 1}
    """

    def __init__(
        self,
        layer: Recurrent | nn.RNNBase,
        optimizer: torch.optim.Optimizer,
        rates: Mapping[str, Rates],
        *,
        scaled: bool = False,
    ) -> None:
        """Take the parameters over.

        Args:
            layer: of this package, or of torch.
            optimizer: what trains it.
            rates: by equation name or pattern (`U_f`, `W_*`, `*`): one rate for all units, or several, for as many
                groups of units of even size, one after the other. Later entries win.
            scaled: whether rates divide the learning rate, instead of the number of updates.

        Raises:
            OptionError: a pattern names no parameter, a rate is under 1, the optimiser does not train the layer, or
                looks at all parameters together (LBFGS).
        """
        if isinstance(optimizer, torch.optim.LBFGS):
            raise OptionError("LBFGS looks at all parameters together: no part of them can go at a rate of its own")
        self.step, self.scaled, self._optimizer = 0, scaled, optimizer
        self._slices = _slices(layer, optimizer, rates)
        self._wholes = {id(one.whole): one.whole for one in self._slices}
        self._kept: dict[int, Tensor | None] = {}
        self._own = _like(optimizer, self._slices)
        self._hooks = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    @property
    def updates(self) -> dict[int, int]:
        """How often the parameters of each rate have been updated."""
        return {rate: max(one.updates for one in self._slices if one.rate == rate) for rate in self.rates}

    @property
    def rates(self) -> tuple[int, ...]:
        """The rates there are, ascending."""
        return tuple(sorted({one.rate for one in self._slices}))

    def __repr__(self) -> str:
        listed = ", ".join(f"1/{rate}: {count:,}" for rate, count in self.updates.items())
        return f"Pace({self.step:,} steps; updates at {listed})"

    def remove(self) -> None:
        """Give the parameters back to the optimiser, which starts over with them."""
        for hook in self._hooks:
            hook.remove()

    def state_dict(self) -> dict[str, Any]:
        """Return the step, the gathered gradients and the state of the paced parameters' optimiser."""
        return {
            "step": self.step,
            "rates": [one.rate for one in self._slices],
            "updates": [one.updates for one in self._slices],
            "gathered": [one.gathered for one in self._slices],
            "optimizer": self._own.state_dict(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            OptionError: it is of other rates.
        """
        if state_dict["rates"] != [one.rate for one in self._slices]:
            raise OptionError("the state is of other update rates: make the Pace with those that it was saved with")
        self.step = state_dict["step"]
        for one, updates, gathered in zip(self._slices, state_dict["updates"], state_dict["gathered"], strict=True):
            one.updates = updates
            one.gathered = None if gathered is None else gathered.to(one.whole.device, copy=True)
        self._own.load_state_dict(state_dict["optimizer"])

    def _before(self, _: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        """Take the gradients of the paced parameters; where a closure makes them, after it."""
        closure = args[1] if len(args) > 1 else keywords.get("closure")
        if closure is None:
            self._take()
            return None

        def closed() -> Any:
            found = closure()
            self._take()
            return found

        rest = args[2:] if len(args) > 1 else args[1:]
        return (*args[:1], closed, *rest), {key: one for key, one in keywords.items() if key != "closure"}

    @torch.no_grad()
    def _take(self) -> None:
        if getattr(self._optimizer, "grad_scale", None) is not None:
            raise OptionError(
                "a fused optimiser divides by the scale of GradScaler itself: make it with fused=False for Pace"
            )
        for one in self._slices:
            gradient = one.whole.grad
            if gradient is not None:
                rows = gradient[one.rows]
                one.gathered = rows.clone() if one.gathered is None else one.gathered.add_(rows)
        self._kept = {key: whole.grad for key, whole in self._wholes.items()}
        for whole in self._wholes.values():
            whole.grad = None

    @torch.no_grad()
    def _after(self, *_: Any) -> None:
        self.step += 1
        due = [one for one in self._slices if self._is_due(one)]
        for one in self._slices:
            one.own.grad = None
        for one in due:
            one.own.data = one.whole.detach()[one.rows].to(one.own.dtype)
            one.own.grad = one.gathered
        self._settings()
        self._own.step()
        for one in due:
            one.whole.data[one.rows] = one.own.detach()
            one.own.grad, one.gathered = None, None
            one.updates += 1
        for key, whole in self._wholes.items():
            whole.grad = self._kept.get(key)

    def _is_due(self, one: _Slice) -> bool:
        return one.gathered is not None and (self.scaled or self.step % one.rate == 0)

    def _settings(self) -> None:
        """Give every slice the settings that its parameter's group has now."""
        for one, group in zip(self._slices, self._own.param_groups, strict=True):
            theirs = self._optimizer.param_groups[one.group]
            group.update({key: value for key, value in theirs.items() if key not in ("params", "param_names")})
            if self.scaled:
                group["lr"] = theirs["lr"] / one.rate


def _slices(
    layer: Recurrent | nn.RNNBase, optimizer: torch.optim.Optimizer, rates: Mapping[str, Rates]
) -> list[_Slice]:
    """The rows of every stored parameter that has any paced ones, by rate."""
    places = {id(p): number for number, group in enumerate(optimizer.param_groups) for p in group["params"]}
    found: list[_Slice] = []
    used: set[str] = set()
    names: list[str] = []
    for part in as_ours(layer).parts():
        for stack in part.stacks:
            whole = part.arrays[stack.name]
            rate_R = torch.ones(len(whole), dtype=torch.long, device="cpu")
            paced = False
            for name, rows in stack.rows.items():
                names.append(name)
                for pattern, given in rates.items():
                    if fnmatch.fnmatchcase(name, pattern):
                        used.add(pattern)
                        paced = True
                        rate_R[rows] = _by_unit(given, rows.stop - rows.start, pattern)
            if paced:
                stored = part.place.stored(stack.name)
                if not isinstance(whole, nn.Parameter):
                    raise OptionError(f"{stored} is computed of other parameters: it has no update rate of its own")
                if id(whole) not in places:
                    raise OptionError(f"the optimizer does not have {stored}: give it the parameters of the layer")
                found += _by_rate(whole, rate_R, places[id(whole)])
    unknown = [pattern for pattern in rates if pattern not in used]
    if unknown or not rates:
        pattern = unknown[0] if unknown else ""
        raise OptionError(f"no parameter is called '{pattern}': {nearest(pattern, dict.fromkeys(names))}")
    return found


def _by_unit(rates: Rates, units: int, pattern: str) -> Tensor:
    """The rate of every unit: groups of even size, one after the other."""
    given = list(rates) if isinstance(rates, Sequence) else [rates]
    for rate in given:
        whole_number(rate, f"the rate of {pattern}", give="a whole number of steps from 1 on")
    if not 1 <= len(given) <= units:
        raise OptionError(f"{pattern} has {len(given)} rates for {units} units: give from one to one for each unit")
    return torch.tensor(given, device="cpu")[torch.arange(units, device="cpu") * len(given) // units]


def _by_rate(whole: nn.Parameter, rate_R: Tensor, group: int) -> list[_Slice]:
    found = []
    for rate in sorted(set(rate_R.tolist())):
        rows = (rate_R == rate).nonzero()[:, 0].to(whole.device)
        found.append(_Slice(whole, rows, nn.Parameter(whole.detach()[rows].clone()), rate, group))
    return found


def _like(optimizer: torch.optim.Optimizer, slices: Sequence[_Slice]) -> torch.optim.Optimizer:
    """An optimiser of the same kind for the slices, with a group for each."""
    kind: Callable[..., torch.optim.Optimizer] = type(optimizer)
    known = inspect.signature(kind).parameters
    defaults = {name: value for name, value in optimizer.defaults.items() if name in known}
    try:
        return kind([{"params": [one.own]} for one in slices], **defaults)
    except (TypeError, ValueError) as fault:
        raise OptionError(f"no second {type(optimizer).__name__} can be made like the first: {fault}") from fault
