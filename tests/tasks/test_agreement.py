"""The verb agrees with its subject over the distance that is asked for, and nothing else in the sentence tells it.

Shapes: T steps, B sentences, V words.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from unvanish.data.dependency import dependency
from unvanish.errors import DataError, OptionError
from unvanish.tasks.agreement import BE, CODES, NOUNS, WORDS, Agreement, by_difficulty, read_agreement

SINGULAR, PLURAL = ({pair[number] for pair in NOUNS} for number in (0, 1))
EVERY = [(5, 0), (7, 1), (10, 2), (23, 0), (23, 3), (60, 4)]


@pytest.mark.parametrize(("distance", "attractors"), EVERY)
@pytest.mark.parametrize("hard", [False, True])
def test_sentences_are_as_asked_for(distance: int, attractors: int, hard: bool) -> None:
    task = Agreement(distance, attractors)
    drawn = task.draw(50, seed=3, hard=hard)
    assert drawn.codes_TB.shape == (task.steps, 50)
    for row, (text, plural) in enumerate(zip(drawn.text(), drawn.plural_B.tolist(), strict=True)):
        words = text.split()
        own, other = (PLURAL, SINGULAR) if plural else (SINGULAR, PLURAL)
        assert words[1] in own
        assert words[drawn.verb] == BE[plural]
        assert drawn.verb - 1 == distance == task.needed
        between = [word for word in words[2 : drawn.verb] if word in SINGULAR | PLURAL]
        assert len(between) == attractors
        assert not hard or set(between) <= other
        assert words[-1] == "."
        assert words[row % len(words)] in WORDS


def test_seed_decides_and_sentences_do_not_end() -> None:
    task = Agreement(14, 2)
    assert torch.equal(task.draw(20, 1).codes_TB, task.draw(20, 1).codes_TB)
    assert len(set(task.draw(500, 1).text() + task.draw(500, 2).text())) > 990


@pytest.mark.parametrize(("distance", "attractors"), [(9, 1), (14, 3)])
def test_only_the_subject_tells_the_verb(distance: int, attractors: int) -> None:
    """What the verb needs of the words before it, measured: no word between tells anything."""
    drawn = Agreement(distance, attractors).draw(1500, seed=0)
    before = drawn.codes_TB[: drawn.verb].T.numpy()
    found = dependency(before, target=drawn.plural_B.long().numpy(), draws=30)
    assert found.needed == distance - 1  # from the word before the verb
    assert found.visible == distance - 1
    assert found.lags[found.significant].tolist() == [distance - 1]


def test_accuracy_is_that_of_the_verb() -> None:
    task = Agreement(8, 1)
    drawn = task.draw(40, seed=5)
    logits_TBV = torch.zeros(task.steps, 40, len(WORDS))
    logits_TBV[drawn.verb - 1, :, CODES["were"]] = torch.where(drawn.plural_B, 1.0, -1.0)
    assert task.accuracy(logits_TBV, drawn) == 1
    assert task.accuracy(-logits_TBV, drawn) == 0
    logits_TBV[drawn.verb - 1, :, CODES["were"]] = 1.0
    assert task.accuracy(logits_TBV, drawn) == pytest.approx(float(drawn.plural_B.float().mean()))


@pytest.mark.parametrize(("distance", "attractors"), [(4, 0), (6, 1), (9, 2), (0, 0), (10, -1), (1.5, 0)])
def test_what_does_not_fit_is_refused(distance: int, attractors: int) -> None:
    with pytest.raises(OptionError):
        Agreement(distance, attractors)


HEAD = "sentence\torig_sentence\tverb_pos\tverb_index\tdistance\tn_diff_intervening\n"
ROWS = "a NN\tthe cat on the mats is full\tVBZ\t6\t4\t1\nb\tthe cats sleep\tVBP\t3\t1\t0\n"


@pytest.mark.parametrize("packed", [False, True])
def test_public_corpus_is_read(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "agr.tsv"
    content = (HEAD + ROWS).encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    one, other = read_agreement(path)
    assert one.words[one.verb] == "is"
    assert (one.plural, one.distance, one.attractors) == (False, 4, 1)
    assert other.plural
    assert other.words[other.verb] == "sleep"
    told = by_difficulty([one, other, one], np.array([True, False, False]))
    assert told == {(4, 1): (1, 2), (1, 0): (0, 1)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no rows"),
        (HEAD.encode(), "has no rows"),
        (b"a\tb\n1\t2\n", "row 2: it has no orig_sentence"),
        ((HEAD + ROWS.replace("VBZ", "VB")).encode(), "row 2: 'VB' is not understood"),
        ((HEAD + ROWS.replace("\t6\t", "\t60\t")).encode(), "row 2: word 60 of 7 cannot be the verb"),
        (b"\xff\xfe\xff", "cannot be read"),
        (b"\x1f\x8b\x00", "cannot be read"),
    ],
)
def test_damaged_corpora_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "agr.tsv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_agreement(tmp_path / "agr.tsv")
