"""Which back ends of the engine can run a system: told by its equations alone, without torch."""

from __future__ import annotations

from unvanish.equations.recognise import recognise
from unvanish.equations.system import Rowwise, System


def unsupported_by_native(system: System) -> str | None:
    """Return why the C++ kernels cannot run a system, or None."""
    if any(isinstance(line, Rowwise) and line.function == "batchnorm" for line in system.statements):
        return "batch normalisation joins the rows of a batch, which the kernels share out"
    return None if system.states or system.uses_time else "nothing depends on an earlier step"


def unsupported_by_builtin(system: System) -> str | None:
    """Return why torch's fused RNN, LSTM and GRU cannot run a system, or None."""
    if system.masks:
        return "torch's fused kernels take no masks"
    return None if recognise(system) else "torch has no fused kernel for these equations"


def back_ends(system: System) -> tuple[str, ...]:
    """Return the names of the back ends that can run a system, in the order in which `auto` tries them.

    >>> from unvanish.cells import find
    >>> back_ends(find("lstm").system()), back_ends(find("peephole_lstm").system())
    (('native', 'builtin', 'reference'), ('native', 'reference'))
    """
    asked = {"native": unsupported_by_native, "builtin": unsupported_by_builtin}
    return (*(name for name, unsupported in asked.items() if unsupported(system) is None), "reference")
