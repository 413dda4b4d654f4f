"""Every figure asserts its own numbers, says one line, and is drawn where it is asked for."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "figures"
SHARED = "drawing"
FIGURES = sorted(path for path in FOLDER.glob("*.py") if path.stem != SHARED)


@pytest.fixture(autouse=True)
def _as_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a script find what lies beside it, as Python does for one that it is given."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, SHARED, raising=False)


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.stem)
def test_figure(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(path)])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.count("\n") == 1
    assert not list(tmp_path.iterdir())

    monkeypatch.setattr(sys, "argv", [str(path), "--out", str(tmp_path / "pages")])
    runpy.run_path(str(path), run_name="__main__")
    page = (tmp_path / "pages" / f"{path.stem}.html").read_text(encoding="utf-8")
    assert "Plotly.newPlot" in page
    assert page.count('"title"') >= 3  # the figure's and those of its axes
    assert "prefers-color-scheme: dark" in page


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.stem)
def test_figure_is_short(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") <= 60


def test_there_is_a_page_for_every_classic() -> None:
    names = {path.stem for path in FIGURES}
    assert names >= {"activations", "matrix_powers", "random_product", "cliff", "depth", "bounded", "terms"}
