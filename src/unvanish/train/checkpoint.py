"""The checkpoints of a run: folders that appear whole or not at all, are verified when read, two of them at a time.

    checkpoints/step-1080/state.ckpt             training state, read only by torch's `weights_only` reader
    checkpoints/step-1080/weights.safetensors    the network's weights
    checkpoints/step-1080/SHA256SUMS             their checksums, as `sha256sum --check` reads them

A checkpoint is written into a temporary folder, which is then renamed: this is the moment from which it counts. So
state and weights are always of the same step. The one before is kept, and taken where a file of the latest does not
have its checksum. Runs of version 0.1 have one `state.ckpt` in `checkpoints/` itself, without a checksum.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from unvanish.errors import RunError
from unvanish.record.files import remove_leftovers, sync_folder, write_atomically, write_through
from unvanish.record.run import BEST

CHECKPOINTS, STATE, WEIGHTS, SUMS = "checkpoints", "state.ckpt", "weights.safetensors", "SHA256SUMS"
MODEL_PREFIX = "model."
KEPT = 2
_NAME = re.compile(r"step-(\d{1,15})\Z")


def model_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the network's weights in a training state, under the network's own names."""
    return {name.removeprefix(MODEL_PREFIX): array for name, array in state["state_dict"].items()}


def checkpoint_name(step: int) -> str:
    """Return the name of the folder of the checkpoint after a step."""
    return f"step-{step}"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files have been verified."""

    path: Path
    state: bytes
    weights: bytes | None

    def read_state(self) -> Any:
        """Return the training state; nothing in it is executed.

        Raises:
            RunError: it is not one that torch's reader of plain data and tensors takes.
        """
        try:
            return torch.load(io.BytesIO(self.state), map_location="cpu", weights_only=True)
        except Exception as fault:  # torch raises many kinds for a damaged or a foreign file
            raise RunError(f"{self.path} is not a checkpoint of a run: {_first_line(fault)}; restore it") from fault

    def read_weights(self) -> Any:
        """Return the network's weights by name.

        Raises:
            RunError: they cannot be read.
        """
        if self.weights is None:  # version 0.1 wrote the weights after the state: these are never older
            state = self.read_state()
            try:
                return model_weights(state)
            except (KeyError, TypeError, AttributeError) as fault:
                raise RunError(
                    f"{self.path} is not a checkpoint of a run: it has no weights; restore it"
                ) from fault
        try:
            return load(self.weights)
        except SafetensorError as fault:
            raise RunError(f"{self.path} does not hold weights: {_first_line(fault)}; restore it") from fault


class Checkpoints:
    """The checkpoints in a run's folder."""

    def __init__(self, run: Path) -> None:
        self.run, self.folder = run, run / CHECKPOINTS
        self._kept: list[Path] = []

    def found(self) -> list[Path]:
        """Return the paths of all checkpoints, the latest first; whether they are intact is another question."""
        try:
            names = [path for path in self.folder.iterdir() if _NAME.match(path.name)]
        except FileNotFoundError:
            return []
        latest_first = sorted(names, key=_step, reverse=True)
        older = self.folder / STATE
        return [*latest_first, older] if older.is_file() else latest_first

    def latest(self, say: Callable[[str], None]) -> Checkpoint:
        """Return the latest checkpoint that is intact; say so where it is not the latest of all.

        Raises:
            RunError: there is none, or none of them is intact.
        """
        damaged: list[str] = []
        for path in self.found():
            try:
                found = _verified(path)
            except (FileNotFoundError, NotADirectoryError) as fault:
                # A run that goes on may have removed it under our eyes, after having written a newer one.
                if not path.exists():
                    return self.latest(say)
                damaged.append(f"{path} is damaged: it has no {Path(fault.filename).name}")
            except ValueError as fault:
                damaged.append(str(fault))
            else:
                if damaged:
                    say(f"{damaged[0]}; the checkpoint before it is used, {path.name}")
                self._kept = [path]
                return found
        if damaged:
            raise RunError(f"{damaged[0]}, and no other checkpoint is intact: restore {self.folder}")
        raise RunError(f"{self.run} has no checkpoint: restore {self.folder}, or start a new run")

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep a training state and its weights, and of those before only the last."""
        path = self.folder / checkpoint_name(state["global_step"])
        if path in self._kept:  # a run that was killed after its last step ends with the state that it began with
            return
        self.folder.mkdir(exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=self.folder, prefix=f".{path.name}."))
        try:
            _write(temporary, state)
            if path.exists():  # a damaged one, or it would be among those that we keep
                shutil.rmtree(path)
            temporary.replace(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(self.folder)
        sync_folder(self.run)
        self._kept = [path, *self._kept][:KEPT]
        self._prune()

    def _prune(self) -> None:
        for path in self.found():
            if path not in self._kept:
                _remove(path)
        if self.folder / STATE not in self._kept:
            _remove(self.folder / WEIGHTS)  # of version 0.1

    def clean(self) -> None:
        """Remove what a kill left half-written."""
        if self.folder.is_dir():
            names = {path.name.split(".")[1] for path in self.folder.glob(".*.*")}
            remove_leftovers(self.folder, *names)


def _write(folder: Path, state: Mapping[str, Any]) -> None:
    weights = {name: array.detach().cpu().contiguous() for name, array in model_weights(state).items()}
    # Into memory first: torch's own writer turns a full disk into an error that says nothing of it.
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    contents = {STATE: buffer.getvalue(), WEIGHTS: save(weights)}
    contents[SUMS] = _sums(contents)
    folder.chmod(0o755)
    for name, content in contents.items():
        with (folder / name).open("wb") as stream:
            write_through(stream, content)
    sync_folder(folder)


def _sums(contents: Mapping[str, bytes]) -> bytes:
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in contents.items()]
    return "".join(lines).encode()


def _verified(path: Path) -> Checkpoint:
    """Read a checkpoint; ValueError where the checksums of its files are not those in it, bit by bit."""
    if path.name == STATE:
        return Checkpoint(path, _content(path), None)
    contents = {name: _content(path / name) for name in (STATE, WEIGHTS)}
    kept = _content(path / SUMS)
    if kept != _sums(contents):
        wrong = [
            line.partition("  ")[2] for line in _sums(contents).decode().splitlines() if line.encode() not in kept
        ]
        raise ValueError(f"{path} is damaged: {wrong[0] if wrong else SUMS} does not have its checksum")
    return Checkpoint(path, contents[STATE], contents[WEIGHTS])


def _content(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise ValueError(f"{path.parent} is damaged: {path.name} is not a file")
    return path.read_bytes()


def _remove(path: Path) -> None:
    """Remove a checkpoint; one that is half removed by a kill is not intact, and is removed by the next."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _step(path: Path) -> int:
    found = _NAME.match(path.name)
    assert found is not None
    return int(found[1])


def _first_line(fault: Exception) -> str:
    return (str(fault) or type(fault).__name__).strip().splitlines()[0]


def keep_best(run: Path, model: nn.Module) -> None:
    """Keep the weights of the best validation so far."""
    weights = {name: array.detach().cpu().contiguous() for name, array in model.state_dict().items()}
    write_atomically(run / BEST, save(weights))


def best_weights(run: Path) -> dict[str, Tensor] | None:
    """Return the weights of the best validation; None where none were kept.

    Raises:
        RunError: they cannot be read.
    """
    try:
        return load((run / BEST).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError) as fault:
        raise RunError(f"{run / BEST} does not hold weights: {_first_line(fault)}; restore it") from fault


class SafeCheckpoints(TorchCheckpointIO):
    """Hands Lightning the state that has been verified, and keeps its states with `Checkpoints`."""

    def __init__(self, checkpoints: Checkpoints, verified: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._checkpoints, self._verified = checkpoints, verified

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Keep a training state; where is decided by its step."""
        self._checkpoints.save(checkpoint)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Return the state that has been verified: what was checked is what is loaded."""
        assert self._verified is not None
        return self._verified
