"""The network of a run as the parts that are exported: embedding, layers, a head that is run at every step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.errors import ExportError
from unvanish.train.load import Loaded
from unvanish.train.model import Readout, Steps, TiedHead
from unvanish.train.questions.forecast import ForecastHead, ForecastQuestion


def parts_of_run(loaded: Loaded) -> SimpleNamespace:
    """Return `embedding`, `recurrent` and `head` of a trained network, as `unvanish.export` takes them.

    A run that knows columns beforehand has `ahead` too: how many steps, and how many columns. One that is reset at
    each document has the `mark`.

    Raises:
        ExportError: its head is not a linear map.
    """
    model = loaded.model
    embedding: nn.Module | None = model.embedding
    if isinstance(embedding, Steps):
        embedding = _one_hot(embedding) if len(embedding.categories) else None
    question, ahead = loaded.question, None
    if isinstance(question, ForecastQuestion) and question.known:
        ahead = question.horizon, len(question.known)
    head = _head(loaded, model.head)
    mark = getattr(model, "mark", None)
    return SimpleNamespace(embedding=embedding, recurrent=model.recurrent, head=head, ahead=ahead, mark=mark)


def _one_hot(steps: Steps) -> nn.Linear:
    """What reads numbers and words as a linear map of the numbers and, for each word that can be, a 1 in its place.

    The first place of each column of words is that of a missing, or unknown, one.
    """
    tables = [one.weight.detach() for one in steps.categories if isinstance(one, nn.Embedding)]
    numbers = steps.width - sum(table.shape[1] for table in tables)
    blocks = [torch.eye(numbers, dtype=tables[0].dtype, device=tables[0].device), *(table.T for table in tables)]
    weight: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight = nn.Parameter(weight)
    return linear


def _head(loaded: Loaded, head: nn.Module) -> nn.Module:
    if isinstance(head, nn.Linear):
        return head
    if isinstance(head, TiedHead):
        weight = loaded.model.embedding.weight
        assert isinstance(weight, torch.Tensor)
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight.detach(), "bias": head.bias.detach()})
        return linear
    if isinstance(head, Readout | ForecastHead):
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
    if isinstance(question, ForecastQuestion) and question.own:
        # Of these series not the units in `scales`, which are those of all together.
        kept = kept | {"series": {key: one._asdict() for key, one in question.own.items()}}
    told = {"kind": question.kind, "answers": answers, "question": kept}
    mark, embedding = getattr(loaded.model, "mark", None), loaded.model.embedding
    if mark is not None:
        told["document_mark"] = mark  # the file itself resets its states before it reads this symbol
    if isinstance(embedding, Steps) and len(embedding.categories):
        words = [{"name": one["name"], "places": [None, *one["levels"]]} for one in kept["encoding"]["categories"]]
        told["one_hot"] = words  # after the numbers: a 1 in the place of the word, the first if it is none of them
    if isinstance(question, ForecastQuestion) and question.known:
        # Of each step ahead the columns in this order, in the units of `input`; 0 where one is missing.
        told["ahead"] = {"steps": question.horizon, "columns": list(question.known)}
    return told
