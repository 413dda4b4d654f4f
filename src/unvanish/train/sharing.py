"""A training that several processes share, each with some rows of every batch, as if it were one.

Every process has the same weights and runs its own rows. Its loss is weighted by how many values it answers for, so
that the gradient, summed over all of them, is that of the whole batch; then each clips it and makes the same step.

Shapes: B rows.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as distributed
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from unvanish.errors import OptionError
from unvanish.nn import Recurrent
from unvanish.remedies import clip as clips
from unvanish.remedies import penalty as penalties
from unvanish.train.answering import add
from unvanish.train.questions import Sums
from unvanish.train.settings import TrainSettings


@dataclass(frozen=True)
class Share:
    """Which of so many processes this is; `port` is where the first of them listens."""

    rank: int = 0
    world: int = 1
    port: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process keeps the run."""
        return self.rank == 0

    def part(self) -> None:
        """Leave the others: what comes is for one process."""
        if self.world > 1 and distributed.is_initialized():
            distributed.destroy_process_group()

    def total(self, values: Tensor) -> Tensor:
        """Sum numbers over all processes."""
        if self.world > 1:
            distributed.all_reduce(values)
        return values

    def any(self, flag: object, device: torch.device) -> bool:
        """Whether something holds in one of them."""
        return bool(flag) if self.world == 1 else bool(self.total(torch.tensor(float(bool(flag)), device=device)))

    def all(self, mine: Any) -> list[Any]:
        """Gather what each has, by rank."""
        if self.world == 1:
            return [mine]
        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, mine)
        return found

    def sums(self, mine: Sums) -> Sums:
        """Add up what metrics are made of."""
        if self.world == 1:
            return mine
        found: Sums = {}
        for one in self.all({name: value.cpu() for name, value in mine.items()}):
            add(found, one)
        return found

    def joined(self, layer: Recurrent, states: list[Tensor]) -> list[Tensor]:
        """Put the carried states of all rows together."""
        if self.world == 1 or not states:
            return states
        parts = self.all([state.cpu() for state in states])
        return [torch.cat(one, axis) for one, axis in zip(zip(*parts, strict=True), _axes(layer), strict=True)]

    def own(self, layer: Recurrent, states: list[Tensor]) -> list[Tensor]:
        """Take the carried states of this process's rows."""
        if self.world == 1 or not states:
            return states
        return [state.chunk(self.world, axis)[self.rank] for state, axis in zip(states, _axes(layer), strict=True)]


ALONE = Share()


def _axes(layer: Recurrent) -> list[int]:
    """Along which axis each state has its rows."""
    pairs = zip(layer.zero_states(1), layer.zero_states(2), strict=True)
    return [next(axis for axis, size in enumerate(one.shape) if size != other.shape[axis]) for one, other in pairs]


def check_shared(settings: TrainSettings, given: bool) -> None:
    """Refuse what several processes cannot share.

    Raises:
        OptionError: it is named.
    """
    if settings.strategy == "fsdp":
        raise OptionError(
            "--strategy fsdp cuts parameters up among processes, and clips, checkpoints and measurements here look "
            "at whole ones: use ddp"
        )
    if settings.devices == 1:
        return
    if given:
        raise OptionError("devices=2 or more reads the data in each process: give a file, not arrays")
    if not distributed.is_available():
        raise OptionError("this torch has no torch.distributed: use --devices 1")
    wrong = next((word for word in settings.penalty if not _of_weights(word)), None)
    if wrong is not None:
        raise OptionError(f"--penalty {wrong} looks at the rows of one process: use --devices 1 with it")
    if isinstance(clips.parse(settings.clip), clips.PerStep | clips.RandomStep):
        raise OptionError(f"--clip {settings.clip} looks at the rows of one process: use --devices 1 with it")
    there = torch.cuda.device_count()
    if settings.device != "cpu" and there and settings.devices > there:
        raise OptionError(f"--devices {settings.devices}: this machine has {there} GPU{'s' * (there > 1)}")


def _of_weights(word: str) -> bool:
    made = penalties.parse(word)
    return made is None or isinstance(made, penalties.Orthogonality)


class Environment(ClusterEnvironment):
    """Tells Lightning that the processes are there already."""

    def __init__(self, share: Share) -> None:
        super().__init__()
        self.share = share

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning is to start none."""
        return True

    @property
    def main_address(self) -> str:
        """Where the first process is."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """Where it listens."""
        return self.share.port

    @staticmethod
    def detect() -> bool:
        """It is given, not looked for."""
        return False

    def world_size(self) -> int:
        """How many processes there are."""
        return self.share.world

    def set_world_size(self, size: int) -> None:
        """It stays."""

    def global_rank(self) -> int:
        """Which of them this is."""
        return self.share.rank

    def set_global_rank(self, rank: int) -> None:
        """It stays."""

    def local_rank(self) -> int:
        """Which of them this is, on this machine."""
        return self.share.rank

    def node_rank(self) -> int:
        """There is one machine."""
        return 0


def strategy_of(share: Share, settings: TrainSettings, accelerator: str) -> Any:
    """What Lightning is given as its strategy."""
    if share.world == 1:
        return "auto"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return DDPStrategy(
        cluster_environment=Environment(share),
        process_group_backend="nccl" if accelerator == "cuda" else "gloo",
        # Of an adaptive softmax a batch may leave the clusters of rare symbols out.
        find_unused_parameters=settings.softmax == "adaptive",
    )
