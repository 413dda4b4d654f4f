"""What the remedies of a run did: to the profile at its start, and to the gradient from line to line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from unvanish.equations import Cell
from unvanish.layer_options import TRAINED
from unvanish.remedies.clip import ClipRecord, PerStep
from unvanish.train.measure import along_depth, measure, plain_profiles, probe_seed
from unvanish.train.model import Network
from unvanish.train.module import NetworkModule
from unvanish.train.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Asked:
    """A remedy that was asked for.

    Attributes:
        name: the setting that it stands in.
        word: what it says.
        without: the settings of the same run without it; None for a remedy that does not change the network.
        noise: whether it acts in training alone.
    """

    name: str
    word: str
    without: TrainSettings | None = None
    noise: bool = False


def asked(settings: TrainSettings) -> Iterator[Asked]:
    """Yield every remedy that a run was asked for.

    >>> [(one.name, one.word) for one in asked(TrainSettings(init=("orthogonal", "forget:2"), skips=(5, 25)))]
    [('init', 'orthogonal'), ('init', 'forget:2'), ('skips', '5, 25'), ('clip', 'norm:5')]
    """
    for place, word in enumerate(settings.init):
        others: dict[str, Any] = {"init": [*settings.init[:place], *settings.init[place + 1 :]]}
        yield Asked("init", word, dataclasses.replace(settings, **others))
    for name, option in sorted(TRAINED.items(), key=lambda one: one[1].draws):
        value = getattr(settings, name)
        if name != "init" and option.title and value and value != option.usual:
            without = dataclasses.replace(settings, **{name: option.usual})
            yield Asked(name, _word(value), without, noise=option.draws)
    if settings.clip != "none":
        yield Asked("clip", settings.clip)
    for word in settings.pace:
        yield Asked("pace", word)
    for word in settings.penalty:
        if word != "none":
            yield Asked("penalty", word)


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(one) for one in value)
    return "yes" if value is True else str(value)


def lines_at_start(ours: NetworkModule, x: Any) -> Iterator[dict[str, Any]]:
    """Yield what the record says of each remedy before the first step; no random number of the training is drawn.

    The profile of the network as it is, and, of what changes the network, that of the same network without it,
    made from the same seed; of what joins layers the profile along depth as well. What draws noise is measured as
    in training, the others as in evaluation.
    """
    settings, known = ours.settings, dict[bool, dict[str, Any]]()
    for one in asked(settings):
        if one.noise not in known:
            known[one.noise] = _profiles(ours.model, settings, x, one.noise)
        line: dict[str, Any] = {"name": one.name, "asked": one.word, "profiles": known[one.noise], "without": None}
        if one.without is not None:
            other = made(ours, one.without)
            line["without"] = _profiles(other, settings, x, one.noise)
            if one.name == "connect":
                ways = {"with": settings, "without": one.without}
                line["depth"] = {way: _depth(ours, said, x) for way, said in ways.items()}
        yield line


def made(ours: NetworkModule, settings: TrainSettings, cell: Cell | None = None) -> Network:
    """Make another network for the same question from the seed of the run."""
    with torch.random.fork_rng([]):
        torch.manual_seed(settings.seed)
        network = ours.question.network(cell or ours.model.recurrent.cell, settings)
    return network.to(ours.model.device, settings.dtype)


def _depth(ours: NetworkModule, settings: TrainSettings, x: Any) -> dict[str, Any]:
    return along_depth(made(ours, settings), x, settings.seed)


def _profiles(model: Network, settings: TrainSettings, x: Any, noise: bool) -> dict[str, Any]:
    device = model.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        return plain_profiles(measure(model, x, probe_seed(settings.seed, 0), draws_noise=noise))


@dataclass
class Tally:
    """Sums what the clip and the penalties did since the last line of the record.

    Attributes:
        steps: how many steps there were.
        clipped: how many of them were clipped.
        factors: the sum of what the gradient was multiplied with in those.
        adjoints: of a clip inside the backward pass, how many adjoints it saw, and how many it clipped.
        penalised: how often each penalty acted.
    """

    steps: int = 0
    clipped: int = 0
    factors: float = 0.0
    adjoints: list[int] = field(default_factory=lambda: [0, 0])
    penalised: dict[str, int] = field(default_factory=dict)

    def add(self, ours: NetworkModule, record: ClipRecord) -> None:
        """Take in the step that has just been made."""
        self.steps += 1
        self.clipped += record.acted
        self.factors += record.factor if record.acted else 0.0
        if isinstance(ours.clip, PerStep):
            seen, clipped, _ = ours.clip.adjoints
            self.adjoints = [self.adjoints[0] + seen, self.adjoints[1] + clipped]
        for word, found in ours.penalties.found.items():
            self.penalised[word] = self.penalised.get(word, 0) + bool(found["acted"])

    def line(self, ours: NetworkModule) -> dict[str, Any]:
        """Return what a `step` line says of it, and begin anew."""
        said: dict[str, Any] = {"clipped": self.clipped, "steps": self.steps}
        within = isinstance(ours.clip, PerStep)
        if ours.clip is not None and not within:
            said["factor"] = self.factors / self.clipped if self.clipped else None
        if within:
            said["adjoints"] = self.adjoints
        if ours.pace is not None:
            said["paced"] = {str(rate): count for rate, count in ours.pace.updates.items()}
        if ours.penalties.found:
            said["penalties"] = {
                word: {**found, "acted": self.penalised.get(word, 0)}
                for word, found in ours.penalties.found.items()
            }
        self.load_state_dict(dataclasses.asdict(Tally()))
        return said

    def state_dict(self) -> dict[str, Any]:
        """Return the sums."""
        return dataclasses.asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the sums in again."""
        vars(self).update(state)
