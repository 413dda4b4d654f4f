"""Words of the command line."""

from __future__ import annotations

import pytest

from unvanish.errors import OptionError
from unvanish.remedies import clip


@pytest.mark.parametrize(
    ("text", "kind", "threshold"),
    [
        ("norm:1", clip.ByNorm, 1.0),
        ("5", clip.ByNorm, 5.0),
        (" 1e-3 ", clip.ByNorm, 1e-3),
        ("value:0.5", clip.ByValue, 0.5),
        ("layer:1", clip.PerLayer, 1.0),
        ("unit:0.01", clip.UnitWise, 0.01),
        ("step:10", clip.PerStep, 10.0),
        ("step-norm:10", clip.PerStep, 10.0),
        ("random:1", clip.RandomStep, 1.0),
    ],
)
def test_words(text: str, kind: type[clip.Clip], threshold: float) -> None:
    found = clip.parse(text)
    assert type(found) is kind
    assert found.threshold == threshold


def test_words_of_adaptive_clips_and_none() -> None:
    percentile, zscore = clip.parse("percentile:20"), clip.parse("zscore:3")
    assert isinstance(percentile, clip.Percentile)
    assert percentile.percentile == 20
    assert isinstance(zscore, clip.ZScore)
    assert zscore.z_threshold == 3
    assert clip.parse("none") is None
    by = [
        found.by for found in (clip.parse("step:1"), clip.parse("step-norm:1")) if isinstance(found, clip.PerStep)
    ]
    assert by == ["value", "norm"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nrom:1", "did you mean 'norm'"),
        ("steps:1", "did you mean 'step'"),
        ("zscore", "it has no number: write zscore:1"),
        ("quantum:1", "known: layer, none, norm"),
        (":1", "unknown clip ''"),
        ("norm:", "no number"),
        ("norm:one", "'one' is not a number"),
        ("norm:nan", "'nan' is not a number"),
        ("norm:1:2", "'1:2' is not a number"),
        ("", "unknown clip ''"),
        ("NORM:1", "did you mean 'norm'"),
        ("norm:-1", "positive number"),
        ("value:inf", "positive number"),
        ("percentile:200", "at most 100"),
        ("0", "positive number"),
    ],
)
def test_what_cannot_be_meant_so(text: str, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        clip.parse(text)
