"""Which class, or which number: of a whole sequence, or at each of its steps.

Shapes: T time, B batch, K classes, G targets, N steps of all sequences.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from unvanish.data.batches import Rows, SequenceBatches
from unvanish.data.dependency import dependency
from unvanish.data.encoding import Column, Encoding, spread
from unvanish.data.sequences import Sequences, Target
from unvanish.equations import Cell
from unvanish.errors import DataError, UnvanishError, printable
from unvanish.train.model import Inputs, Network, Readout, Steps, make_layers, output_width
from unvanish.train.questions.question import Batches, Material, Need, Question, Sums, long_ones, unfit
from unvanish.train.settings import TrainSettings

PROBE_ROWS, PROBE_STEPS = 8, 1000
NEED_SEQUENCES, NEED_STEPS = 500, 40_000
NEED_LEVELS = 20
SHOWN = 5  # names of classes


class LabelQuestion(Question):
    """Which class, or which number?

    Args:
        scales: of numbers, what is taken off each target and what it is divided by.
    """

    kind = "labels"

    def __init__(
        self,
        encoding: Encoding,
        asked: str,
        per: str,
        names: tuple[str, ...],
        levels: tuple[str, ...] = (),
        scales: tuple[Column, ...] = (),
        step: str | None = None,
        marks: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.encoding, self.asked, self.per = encoding, asked, per
        self.names, self.levels, self.scales = names, levels, scales
        self.unit, self.step, self.marks = per, step, marks

    @property
    def outputs(self) -> int:
        """How many numbers an answer has."""
        return len(self.levels) if self.asked == "class" else len(self.names)

    def network(self, cell: Cell, settings: TrainSettings) -> Network:
        """Make a network that answers it."""
        steps = Steps(self.encoding.width, [len(one.levels) for one in self.encoding.categories])
        layers = make_layers(cell, steps.width, settings)
        per = "step" if self.per == "step" else settings.pool
        return Network(
            steps, layers, Readout(output_width(settings), self.outputs, per, 2 if settings.bidirectional else 1)
        )

    def check(self, weights: Mapping[str, Any], settings: TrainSettings) -> str:
        """Say what in weights cannot be of a network of this question."""
        return unfit(weights, "head.linear.weight", (self.outputs, output_width(settings)))

    def example(self) -> Inputs:
        """Return a sequence of one step."""
        return Inputs(
            torch.zeros(1, 1, self.encoding.width),
            torch.zeros(1, 1, len(self.encoding.categories), dtype=torch.long),
        )

    def inputs(self, data: Sequences) -> Rows:
        """Return sequences as a network reads them, with nothing that is wanted."""
        nothing = np.zeros((len(data), 0), np.float32)
        return Rows(
            self.encoding.numbers(data), self.encoding.codes(data), data.starts_B, data.lengths_B, nothing, False
        )

    def wanted(self, target: Target) -> NDArray[Any]:
        """Return what is to be predicted, classes by their numbers here, numbers in units of their spread.

        Raises:
            DataError: a class that was not there in training.
        """
        if self.asked == "class":
            number = {level: code for code, level in enumerate(self.levels)}
            table = np.array([*(number.get(level, -1) for level in target.levels), -1])
            codes: NDArray[Any] = table[target.values]
            new = np.unique(target.values[(codes < 0) & (target.values >= 0)])
            if len(new):
                listed = ", ".join(printable(target.levels[code]) for code in new[:SHOWN])
                raise DataError(
                    f"there are classes that were not there in training: {listed}; leave these rows out"
                )
            return codes
        centres, scales = (np.array([getattr(one, name) for one in self.scales]) for name in ("centre", "scale"))
        scaled: NDArray[Any] = ((target.values - centres) / scales).astype(np.float32)
        return scaled

    def loss(self, network: Network, answer: Tensor, y: Tensor) -> Tensor:
        """Return the cross-entropy in nats, or the squared error in units of the targets' variance."""
        known = self._known(y)
        if self.asked == "class":
            found = F.cross_entropy(answer.flatten(0, -2), y.flatten(), ignore_index=-1, reduction="sum")
        else:
            found = torch.where(known, (answer - torch.where(known, y, 0)) ** 2, 0).sum()
        return found / known.sum().clamp_min(1)

    def answered(self, y: Tensor) -> Tensor:
        """Count the labels, or the numbers, that are known."""
        return self._known(y).sum()

    def _known(self, y: Tensor) -> Tensor:
        return y >= 0 if self.asked == "class" else torch.isfinite(y)

    def judge(self, network: Network, answer: Tensor, y: Tensor) -> Sums:
        """Return the summed loss, and how often each class was taken for each, or the errors of each target."""
        known = self._known(y)
        count = known.sum()
        sums = {"loss": self.loss(network, answer, y) * count, "count": count}
        if self.asked == "class":
            pairs = (y[..., 0] * self.outputs + answer.argmax(-1))[known[..., 0]]
            sums["taken"] = torch.bincount(pairs, minlength=self.outputs**2).double()
            return sums
        return sums | self._errors(answer.flatten(0, -2), y.flatten(0, -2))

    def _errors(self, answer_NG: Tensor, y_NG: Tensor) -> Sums:
        known_NG = torch.isfinite(y_NG)
        y_NG = torch.where(known_NG, y_NG, 0).double()
        error_NG = torch.where(known_NG, answer_NG.double() - y_NG, 0)
        return {
            "known": known_NG.sum(0).double(),
            "absolute": error_NG.abs().sum(0),
            "squared": (error_NG**2).sum(0),
            "total": y_NG.sum(0),
            "square": (y_NG**2).sum(0),
        }

    def metrics(self, sums: Sums) -> dict[str, float]:
        """Return the loss with accuracy and macro F1, or with RMSE, MAE and R², of numbers in their own units."""
        loss = float(sums["loss"]) / max(float(sums["count"]), 1.0)
        if self.asked == "class":
            return {"loss": loss} | class_metrics(sums["taken"].view(self.outputs, self.outputs))
        there_G = sums["known"].cpu() > 0  # of a target that is nowhere known nothing is to be told
        scale_G = torch.tensor([one.scale for one in self.scales], dtype=torch.float64)[there_G]
        names = ("known", "squared", "absolute", "square", "total")
        known_G, squared_G, absolute_G, square_G, total_G = (sums[name].cpu()[there_G] for name in names)
        spread_G = square_G - total_G**2 / known_G
        explained_G = 1 - squared_G / spread_G.clamp_min(1e-300)
        found = {
            "loss": loss,
            "rmse": float((squared_G / known_G).sqrt().mul(scale_G).mean()),
            "mae": float((absolute_G / known_G).mul(scale_G).mean()),
        }
        varies = bool((spread_G > 1e-12 * square_G).all())  # without a spread nothing can be explained
        return found | ({"r2": float(explained_G.mean())} if varies else {})

    def line(self, metrics: Mapping[str, float]) -> str:
        """Say the metrics in few words."""
        if self.asked == "class":
            return f"loss {metrics['loss']:.3f} nats  accuracy {metrics['accuracy']:.2%}  F1 {metrics['f1']:.3f}"
        return f"loss {metrics['loss']:.4f}  RMSE {metrics['rmse']:.4g}  MAE {metrics['mae']:.4g}" + (
            f"  R² {metrics['r2']:.3f}" if "r2" in metrics else ""
        )

    def count(self, x: Inputs) -> int:
        """Count the steps of a batch, without what only fills it up."""
        return x.steps

    def at_steps(self, network: Network, answer: Tensor, y: Tensor) -> Tensor | None:
        """Return the loss at every time step and row, (T, B), where each step is judged."""
        if self.per != "step":
            return None
        if self.asked == "class":
            return F.cross_entropy(answer.permute(0, 2, 1), y[..., 0], ignore_index=-1, reduction="none")
        return torch.where(torch.isfinite(y), (answer - y) ** 2, 0).sum(-1)

    def kept(self) -> dict[str, Any]:
        """Return what `config.yaml` keeps of it."""
        return {
            "asked": self.asked,
            "per": self.per,
            "names": list(self.names),
            "levels": list(self.levels),
            "scales": [vars(one) for one in self.scales],
            "encoding": self.encoding.to_dict(),
            "step": self.step,
            "marks": dict(self.marks),
        }

    @classmethod
    def of_kept(cls, plain: Mapping[str, Any]) -> LabelQuestion:
        """Make it of what `kept` returned."""
        scales = tuple(Column(**one) for one in plain["scales"])
        encoding = Encoding.from_dict(plain["encoding"])
        names, levels = tuple(plain["names"]), tuple(plain["levels"])
        marks = tuple(plain.get("marks", {}).items())
        return cls(encoding, plain["asked"], plain["per"], names, levels, scales, plain.get("step"), marks)


def class_metrics(taken_KK: Tensor) -> dict[str, float]:
    """Return accuracy and macro F1 of how often each class (rows) was taken for each (columns).

    F1 is the mean over the classes that occur.

    >>> class_metrics(torch.tensor([[3.0, 1.0], [0.0, 4.0]]))
    {'accuracy': 0.875, 'f1': 0.873015873015873}
    """
    taken_KK = taken_KK.double().cpu()
    right_K, true_K, said_K = taken_KK.diagonal(), taken_KK.sum(1), taken_KK.sum(0)
    f1_K = 2 * right_K / (true_K + said_K).clamp_min(1e-300)
    return {
        "accuracy": float(right_K.sum() / taken_KK.sum().clamp_min(1)),
        "f1": float(f1_K[true_K > 0].mean()) if bool((true_K > 0).any()) else 0.0,
    }


@dataclass
class LabelMaterial(Material):
    """Labelled sequences: by part, cut to the window; and those to train on as they are, to measure their need."""

    question: LabelQuestion
    rows: dict[str, Rows]
    whole: Rows

    @classmethod
    def of(
        cls,
        parts: Mapping[str, Sequences],
        settings: TrainSettings,
        digest: str,
        question: LabelQuestion | None = None,
    ) -> LabelMaterial:
        """Take parts `train`, `valid` and, where there is one, `test`; `question` is that of a run that goes on."""
        train = parts["train"]
        question = question or question_of(train, settings)
        whole = {}
        for name, part in parts.items():
            assert part.target is not None
            wanted, per_step = question.wanted(part.target), part.target.per == "step"
            whole[name] = dataclasses.replace(question.inputs(part), wanted=wanted, per_step=per_step)
        rows = {name: found.cut(settings.length) for name, found in whole.items()}
        told = (*train.told, *_told(rows, settings, train))
        return cls(question, settings, train.source, digest, told, rows, whole["train"])

    def batches(self, part: str, seed: int | None = None) -> SequenceBatches:
        """Return the batches of a part, in its order or in one that is drawn for each epoch."""
        rows = self.rows[part]

        def make(places: NDArray[np.int64]) -> tuple[Inputs, Tensor]:
            numbers, codes, lengths, wanted = rows.padded(places)
            return Inputs(numbers, codes, lengths), wanted

        return SequenceBatches(rows.lengths_B, self.settings.rows, make, seed=seed, epoch=self.epoch)

    def train(self) -> Batches:
        """Return the batches of an epoch, in an order of their own."""
        return self.batches("train", self.settings.seed)

    def valid(self) -> Batches:
        """Return the batches to validate on."""
        return self.batches("valid")

    def test(self) -> Batches | None:
        """Return the batches to test on."""
        return self.batches("test") if "test" in self.rows else None

    def probe(self) -> Inputs:
        """Return some of the longest sequences, cut to the shortest of these."""
        rows = self.rows["valid"]
        longest = long_ones(rows.lengths_B, PROBE_ROWS)
        steps = min(int(rows.lengths_B[longest].min()), PROBE_STEPS)
        numbers, codes, _, _ = rows.padded(longest)
        return Inputs(numbers[:steps].contiguous(), codes[:steps].contiguous())

    def need(self) -> Need | None:
        """Measure how much context a sample of the sequences needs, of numbers and words as columns."""
        rows, order = self.whole, np.random.default_rng(0).permutation(len(self.whole))
        steps = 0
        taken: list[int] = []
        for row in order[:NEED_SEQUENCES]:
            if taken and steps + rows.lengths_B[row] > NEED_STEPS:
                break
            taken.append(int(row))
            steps += int(rows.lengths_B[row])
        columns = _columns(rows, self.question.encoding)
        places = [slice(int(rows.starts_B[row]), int(rows.starts_B[row] + rows.lengths_B[row])) for row in taken]
        try:
            found = dependency(
                [columns[place] for place in places], target=self._targets(rows, taken, places), kind="numbers"
            )
        except UnvanishError:
            return None
        return Need(found.needed, found.censored, steps, found.note)

    def _targets(self, rows: Rows, taken: list[int], places: list[slice]) -> Any:
        wanted = rows.wanted if self.question.asked == "class" else np.nan_to_num(rows.wanted)
        if rows.per_step:
            return [wanted[place, 0] for place in places]
        return wanted[taken, 0]

    def baselines(self) -> Iterable[tuple[str, dict[str, float]]]:
        """Yield what the commonest class, or the mean, of the training part comes to on what is validated on."""
        train, valid = (_flat(self.rows[name]) for name in ("train", "valid"))
        if self.question.asked == "class":
            counts_K = np.bincount(train[train >= 0], minlength=self.question.outputs) + 1.0
            share_K, known = counts_K / counts_K.sum(), valid[valid >= 0]
            taken = np.zeros((self.question.outputs, self.question.outputs))
            np.add.at(taken[:, int(share_K.argmax())], known, 1)
            loss = float(-np.log(share_K[known]).mean()) if len(known) else 0.0
            yield "always the commonest class", {"loss": loss} | class_metrics(torch.from_numpy(taken))
            return
        y = torch.from_numpy(np.atleast_2d(valid))
        count = torch.isfinite(y).sum()
        sums = self.question._errors(torch.zeros_like(y), y)
        yield "always the mean", self.question.metrics(sums | {"loss": sums["squared"].sum(), "count": count})

    def describe(self) -> str:
        """Say in a line what there is to train on."""
        sizes = ", ".join(
            f"{len(self.rows[part]):,} to {verb}"
            for part, verb in (("train", "train on"), ("valid", "validate on"), ("test", "test on"))
            if part in self.rows
        )
        rows, asked = self.rows["train"], self.question
        low, high = int(rows.lengths_B.min()), int(rows.lengths_B.max())
        steps = f"{high:,}" if low == high else f"{low:,} to {high:,}"
        what = f"{len(asked.levels)} classes" if asked.asked == "class" else "a number"
        names = ", ".join(map(printable, asked.names))
        return f"{self.source}: sequences, {sizes}, of {steps} steps; {what} per {asked.per} ({names})"

    def kept(self) -> dict[str, Any]:
        """Return what `config.yaml` says of the data."""
        sizes = {part: len(rows) for part, rows in self.rows.items()}
        return {"source": self.source, "sizes": sizes}


def question_of(train: Sequences, settings: TrainSettings) -> LabelQuestion:
    """Work out from the training part what is asked.

    Raises:
        DataError: nothing is to be predicted, or only one class.
    """
    target = train.target
    if target is None:
        raise DataError(f"{train.source} does not say what to predict: give labels beside the sequences")
    asked: dict[str, Any] = {"step": train.step, "marks": train.marks}
    how = settings.scale if settings.scale in ("standard", "robust", "none") else "standard"
    encoding = Encoding.of(train, slice(None), how)
    if target.kind == "class":
        if len(target.levels) < 2:
            raise DataError(
                f"{train.source} has one class only, {printable(target.levels[0])}: there is nothing to tell"
            )
        return LabelQuestion(encoding, "class", target.per, target.names, target.levels, **asked)
    scales = [
        Column(name, *spread(values_N, "standard"))
        for name, values_N in zip(target.names, target.values.T, strict=True)
    ]
    return LabelQuestion(encoding, "number", target.per, target.names, scales=tuple(scales), **asked)


def _columns(rows: Rows, encoding: Encoding) -> NDArray[np.float32]:
    """Numbers, and a column for each of the commoner words."""
    found = [rows.numbers_NF]
    for place, one in enumerate(encoding.categories):
        codes_N = rows.codes_NC[:, place]
        common = np.argsort(-np.bincount(codes_N, minlength=len(one.levels) + 1), kind="stable")[:NEED_LEVELS]
        found.append((codes_N[:, None] == common).astype(np.float32))
    return np.concatenate(found, 1)


def _flat(rows: Rows) -> NDArray[Any]:
    """What is wanted of all of these rows."""
    if not rows.per_step:
        return rows.wanted[:, 0] if rows.wanted.dtype.kind != "f" else rows.wanted
    places = [np.arange(start, start + length) for start, length in zip(rows.starts_B, rows.lengths_B, strict=True)]
    found: NDArray[Any] = rows.wanted[np.concatenate(places)]
    return found[:, 0] if found.dtype.kind != "f" else found


def _told(rows: Mapping[str, Rows], settings: TrainSettings, train: Sequences) -> list[str]:
    longest = int(train.lengths_B.max())
    if longest <= settings.length:
        return []
    if rows["train"].per_step:
        return [f"sequences are cut into pieces of {settings.length:,} steps, which know nothing of one another"]
    return train.only_the_last(settings.length)
