"""What the pages name is there: links, pictures, commands, options, code; both READMEs say the same."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from typer.main import get_command

import unvanish
from unvanish.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (ROOT, ROOT / "docs", ROOT / "docs" / "learn", ROOT / "docs" / "zh" / "learn", ROOT / ".github")
    for path in folder.glob("*.md")
)
READMES = ("README.md", "README.zh-CN.md")
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
SVG = "{http://www.w3.org/2000/svg}"


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def indented(page: str) -> list[str]:
    """The lines of a page that are shown as a terminal's."""
    return [line.strip() for line in text_of(page).splitlines() if line.startswith("    ")]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        place, _, heading = target.partition("#")
        if "://" in place:
            continue
        found = (ROOT / page).parent / place if place else ROOT / page
        assert found.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, target


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_is_one(page: str) -> None:
    for line in indented(page):
        if not line.startswith("unvanish "):
            continue
        command, *words = shlex.split(line.split(" # ")[0].replace("…", ""))[1:]
        assert command in COMMANDS, line
        known = {
            name for parameter in COMMANDS[command].params for name in parameter.opts + parameter.secondary_opts
        }
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= known | {"--help"}, line


@pytest.mark.parametrize("page", PAGES)
def test_every_target_of_make_is_one(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    named = {line.split()[1] for line in indented(page) if line.startswith("make ")}
    named |= {code.split()[1] for code in re.findall(r"`(make [a-z][^`]*)`", text_of(page))}
    assert named <= targets


@pytest.mark.parametrize("page", ["README.md", "docs/python.md", "docs/recipes.md"])
def test_all_code_of_the_page_runs(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", text_of(page), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), {})


def test_both_readmes_show_the_same() -> None:
    english, chinese = map(text_of, READMES)
    for kind in (r"```[^`]*```", r"^    [^\n]*$", r"\]\((?!README)([^)\s]+)\)", r"^#+ "):
        translated = [found.replace("docs/zh/", "docs/") for found in re.findall(kind, chinese, re.MULTILINE)]
        assert re.findall(kind, english, re.MULTILINE) == translated
    numbers = [sorted(re.findall(r"\d+(?:[.,]\d+)*", text)) for text in (english, chinese)]
    assert numbers[0] == numbers[1]


def test_the_workflow_runs_what_anybody_can_run() -> None:
    jobs = yaml.safe_load(text_of(".github/workflows/ci.yml"))["jobs"]
    steps = [step.get("run", "") for step in jobs["whole"]["steps"]]
    assert ".ci/run" in steps
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        assert yaml.safe_load(form.read_text(encoding="utf-8"))


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load(text_of("CITATION.cff"))
    assert cited["version"] == unvanish.__version__
    assert f"## [{unvanish.__version__}] - {cited['date-released']}" in text_of("CHANGELOG.md")
    assert {"title", "authors", "message", "license", "date-released"} <= set(cited)


def drawn(path: Path) -> tuple[list[str], np.ndarray]:
    """What a picture says, and all numbers of its lines."""
    parts = list(ElementTree.parse(path).iter())
    words = ["".join(part.itertext()) for part in parts if part.tag == f"{SVG}text"]
    lines = " ".join(part.get("d", "") for part in parts if part.tag == f"{SVG}path")
    return words, np.array([float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", lines)])


def test_the_pictures_are_those_that_the_script_draws(tmp_path: Path) -> None:
    paths = runpy.run_path(str(ROOT / "docs" / "pictures" / "draw.py"))["write"](tmp_path)
    assert len(paths) == 3
    for path in paths:
        words, numbers = drawn(path)
        kept_words, kept = drawn(ROOT / "docs" / "pictures" / path.name)
        assert words == kept_words
        np.testing.assert_allclose(numbers, kept, atol=0.5)  # of a point; another processor rounds otherwise
