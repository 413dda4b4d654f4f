"""Which matrices of a user's own step take the state, and how they are made orthogonal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from unvanish.diagnosis.remedying.remedy import Remedy, parameter
from unvanish.flow.finding.calls import Made
from unvanish.flow.finding.trace import Loop

PRODUCTS = frozenset(["linear", "matmul", "__matmul__", "mm", "addmm"])


@dataclass(frozen=True)
class Block:
    """A part of a matrix that takes a state: `width` numbers from `first` on, along `axis`."""

    name: str
    axis: int
    first: int
    width: int
    whole: bool

    @property
    def code(self) -> str:
        """Fill it, square by square."""
        matrix, at = parameter(self.name), f"{self.first}:{self.first + self.width}"
        part = matrix if self.whole else f"{matrix}[:, {at}]" if self.axis else f"{matrix}[{at}]"
        squares = f"{part}.split({self.width}{'' if self.axis else ', 1'})"
        return f"    for square in {squares}:\n        torch.nn.init.orthogonal_(square)"


def taken_by(model: nn.Module, loop: Loop) -> set[str]:
    """The names of the parameters that a step takes."""
    names = {id(value): name for name, value in model.named_parameters()}
    return {names[id(one)] for call in loop.calls[-1] for one in call.taken if id(one) in names}


def known_cells(model: nn.Module, taken: set[str]) -> list[str]:
    """The cells of torch that own some of these parameters."""
    owners = dict.fromkeys(name.rpartition(".")[0] for name in sorted(taken))
    return [name for name in owners if isinstance(model.get_submodule(name), nn.RNNCellBase)]


def orthogonal(model: nn.Module, loop: Loop, zero: bool) -> Iterator[Remedy]:
    """Square blocks that take a state, orthogonal; where nothing else keeps it, with biases of zero."""
    blocks, biases = _blocks(model, loop)
    if not blocks:
        return
    named = dict(model.named_parameters())
    lines = ["with torch.no_grad():", *(block.code for block in blocks)]
    text = "begin with orthogonal matrices where they take the state: no direction shrinks or grows by them"
    set_too = biases if zero else []
    if set_too:
        lines += [f"    {parameter(name)}.zero_()" for name in set_too]
        text += "; and with biases of zero"
    frozen = [name for name in [*(b.name for b in blocks), *set_too] if not named[name].requires_grad]
    refusal = f"{', '.join(frozen)} must not change: requires_grad is False" if frozen else None
    yield Remedy("orthogonal", text, "\n".join(lines), refusal=refusal)


def _blocks(model: nn.Module, loop: Loop) -> tuple[list[Block], list[str]]:
    """The blocks of matrices that take the state in a step, and the biases of the step's products."""
    step, before = loop.calls[-1], loop.states[-2]
    names = {id(value): (name, False) for name, value in model.named_parameters()}
    from_state, spans = {id(state) for state in before}, dict[int, list[tuple[int, int]]]()
    blocks, biases = dict[tuple[str, int], Block](), dict[str, None]()
    for call in step:
        if call.name in ("T", "t", "mT", "transpose") and call.taken and id(call.taken[0]) in names:
            name, turned = names[id(call.taken[0])]
            names[id(call.given[0])] = name, not turned
        if call.name in PRODUCTS:
            biases |= dict.fromkeys(names[id(one)][0] for one in call.taken if id(one) in names and one.dim() == 1)
        fed = [one for one in call.taken if id(one) in from_state]
        if not fed:
            continue
        if call.name in ("cat", "concat", "concatenate"):
            spans[id(call.given[0])] = _spans(call, from_state)
        for block in _blocks_of(call, fed[0], names, spans):
            blocks[block.name, block.first] = block
        from_state |= {id(one) for one in call.given}
    return list(blocks.values()), list(biases)


def _spans(call: Made, from_state: set[int]) -> list[tuple[int, int]]:
    """Where in the last axis of what was put side by side the state lies: first, width."""
    found, at = list[tuple[int, int]](), 0
    if call.given[0].shape[-1] != sum(one.shape[-1] for one in call.taken):
        return []
    for one in call.taken:
        if id(one) in from_state:
            found.append((at, one.shape[-1]))
        at += one.shape[-1]
    return found


def _blocks_of(
    call: Made, state: Tensor, names: dict[int, tuple[str, bool]], spans: dict[int, list[tuple[int, int]]]
) -> Iterator[Block]:
    for number, one in enumerate(call.taken):
        if id(one) not in names or one.dim() != 2:
            continue
        name, turned = names[id(one)]
        of_cell = call.name.endswith("_cell") and name.endswith("weight_hh")
        if call.name not in PRODUCTS and not of_cell:
            continue
        # linear(x, W) and W @ h meet the state with columns, h @ W with rows.
        axis = int(call.name == "linear" or of_cell or number == 0) ^ int(turned)
        size = one.shape[axis ^ int(turned)]
        for first, width in spans.get(id(state), [(0, size)]):
            others = one.shape[(1 - axis) ^ int(turned)]
            if 1 < width <= size and others % width == 0:
                yield Block(name, axis, first, width, width == size)
