"""Remedies for layers and cells that are known: their matrices, their gates, another layer in their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from unvanish.cells import CATALOGUE
from unvanish.diagnosis.findings import PartFinding
from unvanish.diagnosis.remedying.remedy import Remedy, arrays, exchanged, literal, read, unsettable
from unvanish.flow.finding.convert import as_ours
from unvanish.flow.finding.observe import Seen
from unvanish.layer_options import LAYER_OPTIONS
from unvanish.nn import Recurrent
from unvanish.nn.named import CLASSES

SHORT = ("borderline", "vanishing")  # verdicts on a gradient that does not come far enough


def for_module(
    part: PartFinding, name: str, module: nn.Module, ill: dict[str, PartFinding], need: int
) -> Iterator[Remedy]:
    """What can be set in a known layer or cell that keeps its place, for all of its parts that are ill."""
    ours, path, suffixes = as_ours(module), read(name), list(ill)
    matrices = _named(ours, "recurrent", matrices=True)
    gates = any(memory.gate for memory in part.saturation.memories)
    quiet = _named(ours, "input", "bias", "hidden_bias")
    if gates and part.verdict in SHORT:
        yield gates_that_hold([name], need, unsettable(module, path, ("bias",)))
    if matrices:
        hold = chrono(need) if gates and part.verdict in SHORT else None
        yield _orthogonal(path, suffixes, ours, hold, module)
    if matrices and part.verdict not in SHORT:
        grown = [suffix for suffix, one in ill.items() if one.verdict not in SHORT]
        yield _scaled(path, grown, matrices, module)
    if _is_saturated(part) and not gates:
        yield _calmer(path, [suffix for suffix, one in ill.items() if _is_saturated(one)], quiet, module)


def _is_saturated(part: PartFinding) -> bool:
    return max((found.saturated for found in part.saturation.activations), default=0.0) > 0.1


def _named(ours: Recurrent, *roles: str, matrices: bool = False) -> list[str]:
    return [p.name for p in ours.system.parameters if p.role in roles and (p.columns is not None or not matrices)]


def chrono(need: int) -> str:
    """The initialiser that lets gates hold for so many steps."""
    return f"unvanish.init.chrono({max(need, 3)})"  # a range of one number would hold nothing open


def _set(path: str, suffixes: Sequence[str], lines: Sequence[tuple[Sequence[str], str]]) -> str:
    """Write the code that changes arrays in place, some in one way and some in another."""
    code = f"layer = unvanish.flow.as_ours({path})  # shares its parameters\nwith torch.no_grad():"
    for names, line in lines:
        code += f"\n    for name in {_listed(names, suffixes)}:\n        {line}"
    return code


def _listed(names: Sequence[str], suffixes: Sequence[str]) -> str:
    """Write the names of arrays in all these parts.

    >>> _listed(["U_z", "U_n"], ["l0"]), _listed(["U_z"], ["l0", "l1"])
    ("['U_z_l0', 'U_n_l0']", "[f'{array}_{part}' for part in ['l0', 'l1'] for array in ['U_z']]")
    """
    if len(suffixes) == 1:
        return repr([f"{one}_{suffixes[0]}" for one in names])
    return f"[f'{{array}}_{{part}}' for part in {list(suffixes)!r} for array in {list(names)!r}]"


def _orthogonal(path: str, suffixes: Sequence[str], ours: Recurrent, hold: str | None, module: nn.Module) -> Remedy:
    """Orthogonal matrices, with gates that hold, or else with biases of zero: these bend every step alike."""
    lines = [(_named(ours, "recurrent", matrices=True), "unvanish.init.orthogonal()(layer[name])")]
    text = "begin with orthogonal recurrent matrices: no direction shrinks or grows by them"
    biases = [] if hold else _named(ours, "bias", "hidden_bias")
    if biases:
        lines.append((biases, "layer[name].zero_()"))
        text += "; and with biases of zero"
    code = _set(path, suffixes, lines)
    if hold:
        code += f"\n{hold}.fill(layer)"
        text += "; and with gates that hold"
    kinds = ("weight_hh", "bias") if hold or biases else ("weight_hh",)
    return Remedy("orthogonal", text, code, refusal=unsettable(module, path, kinds))


def _scaled(path: str, suffixes: Sequence[str], matrices: list[str], module: nn.Module) -> Remedy:
    line = "layer[name].div_(torch.linalg.eigvals(layer[name]).abs().max())"
    text = "scale the recurrent matrices to the spectral radius 1"
    code = _set(path, suffixes, [(matrices, line)])
    return Remedy("radius 1", text, code, refusal=unsettable(module, path, ("weight_hh",)))


def _calmer(path: str, suffixes: Sequence[str], quiet: list[str], module: nn.Module) -> Remedy:
    text = "scale the input's matrices and the biases down tenfold"
    code = _set(path, suffixes, [(quiet, "layer[name].div_(10)")])
    return Remedy("calmer input", text, code, refusal=unsettable(module, path, ("weight_ih", "bias")))


def gates_that_hold(names: Sequence[str], need: int, refusal: str | None) -> Remedy:
    """Set the gates of known layers or cells so that they hold."""
    text = f"gates that hold for up to {need} steps (chrono initialisation; Tallec, Ollivier 2018)"
    lines = [f"{chrono(need)}.fill(unvanish.flow.as_ours({read(name)}))  # shares its parameters" for name in names]
    return Remedy("chrono", text, "\n".join(lines), refusal=refusal)


def exchanges(model: nn.Module, seen: Seen, part: PartFinding, need: int) -> Iterator[Remedy]:
    """Another layer in its place, with the same input and output: of its own cell with skips, or of another."""
    module, path = seen.module, read(seen.name)
    assert isinstance(module, Recurrent | nn.RNNBase)
    cell = as_ours(module).cell
    # Along a skip of d steps the gradient takes one step where it took d, and each leaves a seventh or so of it at
    # the start: two of them are what is to reach, and they end at the needed lag or one step before it.
    delay = max(2, need // 2)
    own = repr(cell.name) if CATALOGUE.get(cell.name) is cell else f"{path}.cell"
    skips: tuple[int, ...] = (*(getattr(module, "skips", ())), delay)
    hold = f"chrono:{max(need, 3)}"
    choices: list[tuple[str, str, dict[str, Any], str]] = [
        ("skips", own, {"skips": skips}, f"its own cell, with connections that skip {delay} steps"),
        ("lstm", "'lstm'", {"init": hold}, "an LSTM in its place, with gates that hold"),
        ("gru", "'gru'", {"init": hold}, "a GRU in its place, with gates that hold"),
        (
            "leaky_rnn",
            "'leaky_rnn'",
            {"alpha": round(1 - 1 / max(need, 2), 6)},
            f"a leaky recurrence in its place, with a time constant of {need} steps",
        ),
    ]
    places = [name for name, one in model.named_modules(remove_duplicate=False) if one is module]
    for name, cell_code, options, text in choices:
        if name != cell.name:
            words = _words(module, path, options, keeps_cell=name == "skips")
            new = f"unvanish.Recurrent({cell_code}, {words})" + ("" if module.training else ".eval()")
            code, refusal = _exchange(places, new), _refusal(seen.name, module)
            yield Remedy(name, text, code, changes_steps=True, refusal=refusal, exchanges=seen.name)


def _exchange(places: Sequence[str], new: str) -> str:
    if len(places) == 1:
        return exchanged(places[0], new)
    return "\n".join([f"layer = {new}", *(exchanged(place, "layer") for place in places)])


def _words(module: Recurrent | nn.RNNBase, path: str, options: dict[str, Any], keeps_cell: bool) -> str:
    """Write the arguments of a layer as the old one has them."""
    words = [str(module.input_size), str(module.hidden_size)]
    weight = next(module.parameters())
    if weight.device != torch.get_default_device():
        words.append(f"device={str(weight.device)!r}")
    if weight.dtype != torch.get_default_dtype():
        words.append(f"dtype={weight.dtype}")
    for name, option in LAYER_OPTIONS.items():
        value = getattr(module, name, option.usual)
        useless = name == "dropout" and module.num_layers == 1
        if value != option.usual and not useless and name not in ("init", "device", "dtype", *options):
            words.append(f"{name}={literal(value, f'{path}.{name}')}")
    if keeps_cell:
        of_cell = as_ours(module).options
        words += [f"{name}={literal(value, f'{path}.options[{name!r}]')}" for name, value in of_cell.items()]
    return ", ".join([*words, *(f"{name}={value!r}" for name, value in options.items())])


def _refusal(name: str, module: nn.Module) -> str | None:
    """Say why another layer cannot take a layer's place, None if it can."""
    path = read(name)
    if name.rpartition(".")[2] == "_orig_mod":
        return f"{path} is compiled by itself: exchange the layer before torch.compile"
    kind = type(module)
    if kind not in (nn.RNN, nn.LSTM, nn.GRU, Recurrent, *CLASSES.values()):
        made = [one for one in arrays(module) if one not in module._parameters]
        return (made and unsettable(module, path, ("weight", "bias"))) or (
            f"{path} is a {kind.__name__}, a class of its own: another layer would lose what that adds"
        )
    return unsettable(module, path, ("weight", "bias"))
