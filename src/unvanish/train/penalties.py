"""The penalties of a run: what is added to the loss, or to the gradient after its backward pass.

Shapes: T time, B batch, H hidden, L layers, W width of a state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unvanish.errors import OptionError
from unvanish.nn import States
from unvanish.remedies.penalty import Flossing, NormStabiliser, Omega, Orthogonality, Penalty, parse
from unvanish.train.model import Inputs, Network


class Penalties:
    """What the penalties of a run do at every step.

    Attributes:
        needs_states: whether one of them looks at the states of all steps.
        found: of the last step, for every word that was asked for: `value`, before its weight; `weight`; `acted`,
            whether it changed the gradient; and of Ω `spread`, by part.

    Raises:
        OptionError: a penalty cannot go with this network.
    """

    def __init__(self, words: Sequence[str], model: Network) -> None:
        made = {word: parse(word) for word in words}
        self.made: dict[str, Penalty] = {word: one for word, one in made.items() if one is not None}
        self.needs_states = any(isinstance(one, NormStabiliser) for one in self.made.values())
        self.found: dict[str, dict[str, Any]] = {}
        self._model = [model]  # in a list: it is no part of whatever holds these penalties
        for penalty in self.made.values():
            if isinstance(penalty, Omega):
                penalty.attach(model.recurrent)
            elif isinstance(penalty, Orthogonality):
                penalty(model.recurrent)  # refuses a network that has no such matrix
            elif isinstance(penalty, Flossing):
                _check_count(penalty, model)

    def terms(self, x: Any, states: States | None, every: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what is added to the loss of a window, by word: `every` holds its states (L, T, B, W), by name."""
        terms = {}
        for word, penalty in self.made.items():
            if isinstance(penalty, Omega):
                continue
            terms[word] = self._term(penalty, x, states, every)
            value = float(terms[word].detach())
            self.found[word] = {
                "value": value / penalty.weight if penalty.weight else None,
                "weight": penalty.weight,
                "acted": value != 0,
            }
        return terms

    def _term(
        self,
        penalty: Flossing | NormStabiliser | Orthogonality,
        x: Any,
        states: States | None,
        every: Mapping[str, Tensor],
    ) -> Tensor:
        model = self._model[0]
        if isinstance(penalty, Orthogonality):
            return penalty(model.recurrent)
        if isinstance(x, Inputs) and x.lengths_B is not None:
            raise OptionError(
                f"--penalty {type(penalty).__name__.lower()} looks at every step, and sequences of unequal length "
                "are filled up: leave it away, or give sequences of one length"
            )
        if isinstance(penalty, NormStabiliser):
            h_LTBW = every[model.recurrent.state_names[0]]
            return torch.stack([penalty(h_TBW) for h_TBW in h_LTBW]).sum()
        return penalty(model.recurrent, model.embedding(x).detach(), states)

    def after_backward(self) -> None:
        """Add the gradient of Ω, which is worked out from the backward pass that has just run."""
        for word, penalty in self.made.items():
            if isinstance(penalty, Omega):
                record = penalty()
                self.found[word] = {
                    "value": record.value,
                    "weight": record.weight,
                    "acted": record.added and record.weight > 0,
                    "spread": {name.rpartition(".")[2]: spread for name, spread in record.spread.items()},
                }

    def state_dict(self) -> dict[str, Any]:
        """Return the counts of those that have any, by word."""
        return {word: one.state_dict() for word, one in self.made.items() if isinstance(one, Omega)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        for word, penalty in self.made.items():
            if isinstance(penalty, Omega) and word in state:
                penalty.load_state_dict(state[word])


def _check_count(penalty: Flossing, model: Network) -> None:
    """Refuse more exponents than a layer has directions."""
    states = [state for state in model.recurrent.zero_states(1) if state.is_floating_point()]
    most = sum(state.shape[-1] for state in states)
    if penalty.count is not None and penalty.count > most:
        raise OptionError(
            f"flossing asks for {penalty.count} exponents, and a layer of this network has {most}: give fewer"
        )
