"""Checkpoints: training state read only by torch's `weights_only` reader, weights as safetensors beside it.

Both are written whole or not at all, so that a kill or a full disk leaves the last good ones in place.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from safetensors.torch import save
from torch import Tensor

from unvanish.errors import RunError
from unvanish.record import write_atomically
from unvanish.train.model import CHECKPOINTS, WEIGHTS

STATE = "state.ckpt"
MODEL_PREFIX = "model."
OURS = "unvanish"  # the part of a training state that is ours, not Lightning's


def model_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the network's weights in a training state, under the network's own names."""
    return {name.removeprefix(MODEL_PREFIX): array for name, array in state["state_dict"].items()}


def checkpoint_path(folder: Path) -> Path:
    """Return where a run keeps its latest training state."""
    return folder / CHECKPOINTS / STATE


class SafeCheckpoints(TorchCheckpointIO):
    """Writes atomically; reads plain data and tensors, nothing else."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write the training state, and the network's weights beside it."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Into memory first: torch's own writer turns a full disk into an error that says nothing of it.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        weights = {name: array.detach().cpu().contiguous() for name, array in model_weights(checkpoint).items()}
        write_atomically(path, buffer.getvalue())
        write_atomically(path.with_name(WEIGHTS), save(weights))

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a training state; nothing in it is executed."""
        try:
            state: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
            missing = {"state_dict", "global_step", OURS} - set(state)
        except FileNotFoundError:
            raise RunError(f"there is no checkpoint {path}: start the run anew") from None
        except Exception as fault:  # torch raises many kinds for a damaged or a foreign file
            raise RunError(f"{path} is no checkpoint of a run: {fault}; start the run anew") from fault
        if missing:
            raise RunError(f"{path} is no checkpoint of a run: it has no {min(missing)}; start the run anew")
        return state
