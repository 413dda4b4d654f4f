"""Causes: numbers that are none, and where the first of them was made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from unvanish.diagnosis.facts import Facts
from unvanish.diagnosis.findings import Cause
from unvanish.flow.finding.lost import Lost
from unvanish.torch_internals import pytree


def numbers(facts: Facts) -> Iterator[Cause]:
    gradients = [gradient for gradient in facts.observation.gradients.values() if gradient is not None]
    sound = all(bool(torch.isfinite(one).all()) for one in [facts.observation.loss, *gradients])
    for name, value in _named_tensors(facts.batch):
        places = _non_finite(value)
        if len(places) and not (sound and _is_meant(value)):
            where = ", ".join(str(int(index)) for index in places[0])
            kind = "NaN" if value[tuple(places[0])].isnan() else "infinite"
            text = f"{name} has {len(places):,} numbers that are not finite; the first, {kind}, at index ({where})"
            yield Cause("non-finite input", name, text, len(places), "numbers", "drop or fill them before training")
    lost = not bool(torch.isfinite(facts.observation.loss).all())
    for name, parameter in facts.model.named_parameters():
        if not (parameter.requires_grad or lost):  # a frozen -inf is a mask
            continue
        count = int((~torch.isfinite(parameter.detach())).sum())
        if count:
            text = f"the parameter {name} has {count:,} numbers that are not finite"
            advice = "go back to a checkpoint from before, and clip the gradient by norm"
            yield Cause("non-finite parameter", name, text, count, "numbers", advice)
    if facts.observation.lost is not None:
        yield _lost(facts.observation.lost)


def _lost(lost: Lost) -> Cause:
    """Where the first number that is none was made, or came in from outside the model."""
    where = "outside the model, in the loss," if lost.module is None else f"in {lost.module or 'the model itself'}"
    if lost.how == "ignored":
        text = f"all labels are ignored: every one is {lost.value}, which {lost.function} leaves out"
        return Cause("labels ignored", "", text, 1.0, "of the labels", "give each batch labels that count")
    if lost.how == "target":
        text = f"the target is not finite: {lost.function} takes {lost.count:,} such numbers from outside the model"
        return Cause(
            "non-finite target", "", text, lost.count, "numbers", "drop or fill the targets that are missing"
        )
    if lost.how == "overflow":
        text = f"the state of {lost.part} grows until it overflows: it is not finite from step {lost.step:,} on"
        advice = (
            "keep the state bounded: smaller recurrent matrices, a tanh or a norm in the step; exponential gates "
            "need a stabiliser"
        )
        return Cause("overflow", lost.part, text, lost.step, "steps", advice)
    text = f"{lost.function} {where} makes the first number that is not finite, of numbers that are"
    advice = "bound what it takes: a clamp, an epsilon under a root, a logarithm or a quotient"
    return Cause("non-finite inside", lost.module or "", text, lost.count, "numbers", advice)


def _named_tensors(batch: Any) -> Iterator[tuple[str, Tensor]]:
    leaves = [(path, leaf) for path, leaf in pytree.tree_flatten_with_path(batch)[0] if isinstance(leaf, Tensor)]
    for number, (path, leaf) in enumerate(leaves):
        label = pytree.keystr(path)
        yield ("the input" if len(leaves) == 1 else f"input {label or number}"), leaf


def _is_meant(value: Tensor) -> bool:
    """Whether numbers that are not finite may be meant: gaps that the model fills by itself, or a mask of −∞."""
    infinite = value.isinf()
    return not bool(infinite.any()) or not bool((value[~infinite] != 0).any())


def _non_finite(value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value.new_zeros(0, value.dim(), dtype=torch.long)
    return (~torch.isfinite(value)).nonzero()
