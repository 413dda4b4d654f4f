"""What `unvanish diagnose` is given: a run, or a callable of a file or module that makes a model, batch, loss."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from unvanish.cli.show import note
from unvanish.errors import OptionError, UnvanishError, nearest
from unvanish.own_file import ended, import_file, raised
from unvanish.record import CONFIG

KEYS = ("model", "batch", "loss", "need", "data", "optimizer", "step", "cells")
SHOWN = 6  # callables of a module that a line has room for


def subject(target: str) -> dict[str, Any]:
    """Return the model, the batch and the loss of what is named, with what else it says.

    Raises:
        OptionError: it is neither a run nor a callable that returns them; the message says what to type.
        RunError: the folder is not a run, or is damaged.
    """
    module, colon, name = target.rpartition(":")
    path = Path(target)
    if path.is_dir():
        return _of_run(path)
    if not colon:
        raise OptionError(_how_to_name(target, path))
    given = _made(target, module, name)
    if isinstance(given, tuple) and len(given) == 3:
        given = dict(zip(KEYS, given, strict=False))
    if not isinstance(given, dict) or not {"model", "batch", "loss"} <= given.keys() <= set(KEYS):
        keys = ", ".join(KEYS[3:])
        wrong = f": it has {', '.join(map(str, given))}" if isinstance(given, dict) else ""
        if callable(getattr(given, "forward", None)):
            wrong = f": it returns a {type(given).__name__} alone, return it with a batch and a loss"
        raise OptionError(f"{target} returns no (model, batch, loss), and no dict of these with {keys}{wrong}")
    return given


def _of_run(folder: Path) -> dict[str, Any]:
    from unvanish.train.subject import subject_of

    if not (folder / CONFIG).exists():
        runs = sorted(folder.glob(f"*/{CONFIG}"), key=lambda path: path.stat().st_mtime)
        if runs:
            newest = f"unvanish diagnose {runs[-1].parent}"
            raise OptionError(f"{folder} is a folder of runs: name one of them, the newest is {newest}")
    run = subject_of(folder, say=note)
    return {"model": run.model, "batch": run.batch, "loss": run.loss, **run.need}


def _how_to_name(target: str, path: Path) -> str:
    """Say what to type instead of something that is neither a run nor MODULE:CALLABLE."""
    if path.suffix == ".py":
        return (
            f"{target} is not the folder of a run: name a callable of it that returns a model, a batch and a loss, "
            f"unvanish diagnose {target}:make"
        )
    if path.is_file():
        return (
            f"{target} is a file, and a model is diagnosed: train one with unvanish train {target} and name its "
            f"run, or give the data of a model of your own, unvanish diagnose MODULE:CALLABLE --data {target}"
        )
    return f"{target} is not the folder of a run; a callable is written MODULE:CALLABLE or FILE.py:CALLABLE"


def _made(target: str, module: str, name: str) -> Any:
    try:
        whole = _of_file(Path(module)) if module.endswith(".py") else _imported(module)
        made: Any = whole
        for part in name.split("."):
            if isinstance(made, ModuleType) and not hasattr(made, part):
                raise OptionError(f"{target}: {_callables(made, part, module if made is whole else made.__name__)}")
            made = getattr(made, part)
        return _called(target, made)
    except ModuleNotFoundError as fault:
        told = "name MODULE:CALLABLE as Python would import it from here, or FILE.py:CALLABLE"
        if module.endswith(".py"):
            told = f"{module} imports it: install it, or put it beside that file"
        raise OptionError(f"{target}: {fault}; {told}") from fault
    except UnvanishError:
        raise
    except SystemExit as fault:  # a script that ends itself, or reads the arguments of the command line
        raise OptionError(f"{target}: {ended(fault, module)}") from fault
    except Exception as fault:
        file = Path(module) if module.endswith(".py") else None
        raise OptionError(f"{target} {raised(fault, file)}") from fault


def _called(target: str, made: Any) -> Any:
    if isinstance(made, tuple | dict):
        return made
    if not callable(made):
        raise OptionError(f"{target} is {type(made).__name__}: name a function that returns (model, batch, loss)")
    if not inspect.isclass(made) and _needs_arguments(made):
        needed = inspect.signature(made)
        raise OptionError(f"{target} wants arguments, {needed}: name a function that is called without any")
    return made()


def _imported(module: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(module)


def _of_file(path: Path) -> ModuleType:
    """Import a file by its path, or say which file is meant."""
    if not path.is_file():
        others = sorted(one.name for one in path.parent.glob("*.py")) if path.parent.is_dir() else []
        near = nearest(path.name, others) if others else ""
        told = f": {near}" if near.startswith("did you mean") else ""
        raise OptionError(f"the file {path} does not exist{told or ': name a Python file, FILE.py:CALLABLE'}")
    return import_file(path)


def _callables(module: ModuleType, wanted: str, shown: str) -> str:
    """Say what a module has to be called instead: what it defines itself and needs no argument comes first."""
    own = {
        name: one
        for name, one in vars(module).items()
        if callable(one) and getattr(one, "__module__", None) == module.__name__ and not name.startswith("_")
    }
    told = f"{shown} has no callable {wanted!r}"
    if not own:
        return f"{told}, and defines none: write one that returns a model, a batch and a loss"
    near = nearest(wanted, own)
    if near.startswith("did you mean"):
        return f"{told}: {near}"
    names = sorted(own, key=lambda name: (_needs_arguments(own[name]), inspect.isclass(own[name]), name))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{told}; it has {', '.join(names[:SHOWN])}{more}"


def _needs_arguments(function: Any) -> bool:
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return True
    return False
