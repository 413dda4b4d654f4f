"""The network of a run as the parts that are exported: embedding, layers, a head that is run at every step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from unvanish.errors import ExportError
from unvanish.train.load import Loaded
from unvanish.train.model import Readout, Steps, TiedHead
from unvanish.train.questions.forecast import ForecastHead, ForecastQuestion


def parts_of_run(loaded: Loaded) -> SimpleNamespace:
    """Return `embedding`, `recurrent` and `head` of a trained network, as `unvanish.export` takes them.

    Raises:
        ExportError: its inputs are words beside numbers, or its head is no linear map.
    """
    model = loaded.model
    if getattr(model, "mark", None) is not None:
        raise ExportError("the run starts anew at its --document-mark, which no file does yet")
    embedding: nn.Module | None = model.embedding
    if isinstance(embedding, Steps):
        if len(embedding.categories):
            names = ", ".join(one.name for one in loaded.question.kept()["encoding"]["categories"])
            raise ExportError(f"the run reads words beside numbers ({names}): train with them left out, --ignore")
        embedding = None
    return SimpleNamespace(embedding=embedding, recurrent=model.recurrent, head=_head(loaded, model.head))


def _head(loaded: Loaded, head: nn.Module) -> nn.Module:
    if isinstance(head, nn.Linear):
        return head
    if isinstance(head, TiedHead):
        weight = loaded.model.embedding.weight
        assert isinstance(weight, torch.Tensor)
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight.detach(), "bias": head.bias.detach()})
        return linear
    if isinstance(head, Readout):
        return head.linear
    if isinstance(head, ForecastHead):
        if isinstance(loaded.question, ForecastQuestion) and loaded.question.known:
            raise ExportError("the run reads what is known beforehand beside its output, which no file takes yet")
        return head.linear
    raise ExportError(f"the head of the run is a {type(head).__name__}: train with --softmax full to export it")


def beside(loaded: Loaded) -> dict[str, Any]:
    """Return what whoever runs an exported network has to know: its symbols or scales, and what answers."""
    question, per = loaded.question, getattr(loaded.question, "per", "")
    answers = "every step"
    if question.kind == "labels" and per == "sequence":
        answers = "the mean of all steps" if loaded.settings.pool == "mean" else "the last step"
    elif question.kind == "forecast":
        answers = "the last step"
    symbols = getattr(question, "symbols", None)
    kept = symbols.to_dict() if symbols is not None else question.kept()
    return {"kind": question.kind, "answers": answers, "question": kept}
