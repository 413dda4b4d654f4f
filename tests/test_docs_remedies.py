"""The page on remedies: its code runs, and it has every word that there is."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from unvanish import cells, clip, errors, init, penalty
from unvanish.nn.connect import CONNECTIONS
from unvanish.nn.constrain import CONSTRAINTS
from unvanish.remedies.clip.parse import WORDS as CLIPS
from unvanish.remedies.penalty.parse import WORDS as PENALTIES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "remedies.md").read_text(encoding="utf-8")
SECTIONS = {part.split("\n", 1)[0]: part for part in PAGE.split("\n## ")[1:]}
WORDS = {
    "Initialisers": [*init.WORDS],
    "Clipping": [*CLIPS, "none"],
    "Penalties": [*PENALTIES, "none"],
    "Connections": [*CONNECTIONS],
    "Constraints": [*CONSTRAINTS],
    "Cells that are remedies": [name for name in cells if name != "rnn"],
}

OPTIONS = (
    *("clip", "penalty", "init", "connect", "layer-norm", "skips", "constrain", "cell", "length"),
    *("recurrent-dropout", "zoneout", "weight-drop", "dropout"),
)


def in_code(text: str) -> set[str]:
    """All words that stand in `code` on a stretch of the page."""
    return {word for code in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"[\w-]+", code)}


def test_all_code_of_the_page_runs_in_its_order() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) > 8
    torch.manual_seed(0)
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/remedies.md", "exec"), namespace)


@pytest.mark.parametrize("section", WORDS)
def test_every_word_is_on_the_page(section: str) -> None:
    assert set(WORDS[section]) <= in_code(SECTIONS[section])


@pytest.mark.parametrize(("room", "section"), [(clip, "Clipping"), (penalty, "Penalties")])
def test_every_object_is_on_the_page(room: ModuleType, section: str) -> None:
    known = {"Bias", "Clip", "ClipRecord", "Suggestion", "Flossed", "OmegaRecord"}  # what remedies return, or are
    objects = {name for name in room.__all__ if isinstance(getattr(room, name), type)}
    assert len(objects - known) > 3
    assert objects - known <= in_code(SECTIONS[section])


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_on_the_page_and_on_the_command_line(option: str) -> None:
    main = pytest.importorskip("typer.main")
    from unvanish.cli.app import app

    assert f"--{option}" in PAGE
    train = main.get_command(app).commands["train"]
    assert f"--{option}" in {name for parameter in train.params for name in parameter.opts}


def test_words_in_the_tables_are_understood() -> None:
    """What stands in the first column, as a user would type it."""
    for section, read in (("Initialisers", init.from_word), ("Clipping", clip.parse), ("Penalties", penalty.parse)):
        rows = re.findall(r"^\| (`[^|]*) \|", SECTIONS[section], re.MULTILINE)
        words = [word for row in rows for word in re.findall(r"`([^`]+)`", row)]
        assert len(words) > 5
        for word in words:
            read(word)


def test_a_word_that_is_not_one_is_not_understood() -> None:
    with pytest.raises(errors.OptionError):
        init.from_word("chronos:784")


def test_there_is_a_place_for_the_measured_table() -> None:
    text = (ROOT / "docs" / "remedies.md").read_text(encoding="utf-8")
    assert text.count("<!-- remedies: begin -->") == text.count("<!-- remedies: end -->") == 1
    assert text.index("<!-- remedies: begin -->") < text.index("<!-- remedies: end -->")
