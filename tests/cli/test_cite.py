"""What is cited is the paper of the cell, and this package as its own file says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.support.runs import small, straight
from unvanish.cells import CATALOGUE
from unvanish.cli import main

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


def keys(text: str) -> list[str]:
    return re.findall(r"^@\w+\{(\w+),$", text, re.MULTILINE)


def test_the_package_is_cited_as_its_file_says(capsys: Capture) -> None:
    assert main(["cite"]) == 0
    out = capsys.readouterr().out
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert f"title = {{{{{cited['title']}}}}}" in out
    assert f"version = {{{cited['version']}}}" in out
    assert f"year = {{{cited['date-released'][:4]}}}" in out
    assert cited["authors"][0]["name"] in out


def test_every_cell_has_an_entry_of_its_own_unless_two_are_of_one_paper(capsys: Capture) -> None:
    assert main(["cite", *CATALOGUE]) == 0
    found = keys(capsys.readouterr().out)
    assert len(found) == len(set(found)), "BibTeX refuses two entries of one key"
    assert len(found) == len({re.findall(r"(.*?\(\d{4}\)\. [^.]+)", cell.cite)[0] for cell in CATALOGUE.values()})
    assert all(re.fullmatch(r"[a-z]+\d{4}[a-z]+", key) for key in found)


def test_a_run_is_cited_by_its_cell(tmp_path: Path, capsys: Capture) -> None:
    folder = straight(small(tmp_path, epochs=1, probes=0), tmp_path / "run")
    assert main(["cite", str(folder), "lstm"]) == 0
    assert len(keys(capsys.readouterr().out)) == 1
    assert main(["cite", "lstn"]) == 2
    assert "did you mean 'lstm'" in capsys.readouterr().err
