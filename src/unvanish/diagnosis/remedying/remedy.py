"""A remedy is the text of its code: what is tried on a copy of the model is what the user is shown."""

from __future__ import annotations

import ast
import keyword
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import unvanish
from unvanish.flow.finding.convert import KNOWN
from unvanish.flow.finding.observe import Observation
from unvanish.nn import Recurrent

MADE = (
    "{names} of {path} {are} recomputed in each forward pass (a parametrisation, a weight drop): set what {it} "
    "computed from"
)


@dataclass(frozen=True)
class Patient:
    """A model that is ill, and what was seen of it.

    Attributes:
        run: runs the model, or a copy of it, and returns its loss.
        inputs, cells: the tensors of the batch, and the names of cells that were given, as `observe` takes them.
        say: is told what is being tried.
    """

    model: nn.Module
    run: Callable[[nn.Module], Tensor]
    observation: Observation
    need: int
    inputs: Sequence[Tensor] = ()
    cells: Sequence[str] = ()
    say: Callable[[str], None] = field(default=lambda _: None, repr=False)


@dataclass(frozen=True)
class Remedy:
    """One thing to try.

    Attributes:
        name, text: which, and what it does.
        code: the lines that do it to `model`, with `torch` and `unvanish` imported.
        changes_steps: whether a step costs another time afterwards.
        refusal: why it is not tried at all.
        exchanges: the name of the layer in whose place it puts another, None if in none.
    """

    name: str
    text: str
    code: str
    changes_steps: bool = False
    refusal: str | None = None
    exchanges: str | None = None


def carry_out(code: str, model: nn.Module) -> nn.Module:
    """Execute the code of a remedy, and return the model: another one, where the layer is the whole of it.

    >>> model = nn.Sequential(nn.Linear(1, 1))
    >>> carry_out("with torch.no_grad():\\n    model.get_submodule('0').bias.fill_(3)", model)[0].bias.item()
    3.0
    """
    names: dict[str, Any] = {"model": model, "torch": torch, "unvanish": unvanish}
    exec(compile(code, "<remedy>", "exec"), names)
    changed: nn.Module = names["model"]
    return changed


def is_plain(name: str) -> bool:
    """Whether a module of that name can be written with dots."""
    return all(one.isidentifier() and not keyword.iskeyword(one) for one in name.split("."))


def read(name: str) -> str:
    """Write how a module of `model` is read.

    >>> read("encoder.rnn"), read("layers.0.rnn"), read("")
    ('model.encoder.rnn', "model.get_submodule('layers.0.rnn')", 'model')
    """
    if not name:
        return "model"
    return f"model.{name}" if is_plain(name) else f"model.get_submodule({name!r})"


def exchanged(name: str, new: str) -> str:
    """Write how another module is put in the place of one.

    >>> exchanged("encoder.rnn", "layer"), exchanged("layers.0", "layer")
    ('model.encoder.rnn = layer', "model.set_submodule('layers.0', layer)")
    """
    if not name or is_plain(name):
        return f"{read(name)} = {new}"
    return f"model.set_submodule({name!r}, {new})"


def parameter(name: str) -> str:
    """Write how a parameter of `model` is read.

    >>> parameter("cell.u.weight"), parameter("cells.0.weight")
    ('model.cell.u.weight', "model.get_parameter('cells.0.weight')")
    """
    return f"model.{name}" if is_plain(name) else f"model.get_parameter({name!r})"


def literal(value: Any, otherwise: str) -> str:
    """Write a value, or where that is not a literal of Python the expression that reads it."""
    try:
        same = bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError, TypeError, RuntimeError):
        same = False
    return repr(value) if same else otherwise


def unsettable(module: nn.Module, path: str, kinds: tuple[str, ...]) -> str | None:
    """Say why arrays whose names begin so cannot be set in a known recurrent module, None if they can."""
    names = [name for name in arrays(module) if name.startswith(kinds)]
    made = [name for name in names if name not in module._parameters]
    if made:
        are, it = ("are", "they are") if len(made) > 1 else ("is", "it is")
        return MADE.format(names=", ".join(made), path=path, are=are, it=it)
    frozen = [name for name in names if not module._parameters[name].requires_grad]  # type: ignore[union-attr]
    return f"{', '.join(frozen)} of {path} must not change: requires_grad is False" if frozen else None


def arrays(module: nn.Module) -> list[str]:
    """The names that the parameters of a known recurrent module have in torch."""
    assert isinstance(module, KNOWN)
    if isinstance(module, Recurrent | nn.RNNBase):
        return list(module._flat_weights_names)
    biases = ["bias_ih", "bias_hh"] if module.bias else []
    return ["weight_ih", "weight_hh", *biases]
