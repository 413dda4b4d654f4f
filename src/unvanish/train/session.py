"""What a training is made of, and what `config.yaml` says of it."""

from __future__ import annotations

import datetime
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch

from unvanish.errors import OptionError
from unvanish.nn.named import class_name
from unvanish.record import RunRecord
from unvanish.record.config import FORMAT
from unvanish.train.checkpoint import Checkpoints
from unvanish.train.module import NetworkModule
from unvanish.train.questions import Material, Question
from unvanish.train.settings import TrainSettings
from unvanish.train.sharing import ALONE, Share


@dataclass(frozen=True)
class Session:
    """What a training is made of; `state` is the verified training state to go on from, None at the beginning."""

    record: RunRecord
    checkpoints: Checkpoints
    module: NetworkModule
    material: Material
    accelerator: str
    state: dict[str, Any] | None = None
    share: Share = ALONE

    @property
    def settings(self) -> TrainSettings:
        """What the run was asked to do."""
        return self.module.settings


def choose_device(name: str) -> tuple[torch.device, str]:
    """Return the device and what Lightning calls it; `auto` takes CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise OptionError(f"--device {name} is not known: write auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise OptionError("--device cuda: torch sees no GPU on this machine; use --device cpu")
    return torch.device(name), name


def configuration(folder: Path, module: NetworkModule, material: Material) -> dict[str, Any]:
    """Return what `config.yaml` says of a run that begins (see `record.config.Config`)."""
    settings, model = module.settings, module.model
    layer, cell = model.recurrent, model.recurrent.cell
    return {
        "format": FORMAT,
        "name": os.path.basename(os.path.abspath(folder)),  # noqa: PTH100, PTH119  (it may be named . or ..)
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seed": settings.seed,
        "versions": {
            "unvanish": _version(),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "lightning": lightning.__version__,
            "platform": platform.platform(),
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
            "device": str(choose_device(settings.device)[0]),
        },
        # The run is resumed from wherever one stands.
        "settings": settings.to_dict() | {"source": settings.source and os.path.abspath(settings.source)},  # noqa: PTH100
        "chosen": settings.chosen,
        "cell": {
            "name": cell.name,
            "title": class_name(cell),
            "equations": cell.equations,
            "latex": list(cell.latex),
            "cite": cell.cite,
            "parameters": sum(p.numel() for p in layer.parameters()),
            "definition": cell.to_dict(),
        },
        "data": {**material.kept(), "digest": material.digest, **_kept(material.question)},
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _kept(question: Question) -> dict[str, Any]:
    if question.kind == "text":
        return question.kept()
    return {"question": {"kind": question.kind, **question.kept()}}


def _version() -> str:
    from importlib.metadata import version

    return version("unvanish")
