"""What draws is imported when it is asked to; what is missing is told; pyplot is used where it is what shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

START = """
import sys
from unvanish.record import Result

class Found(Result):
    shown_as = "profile"
    def to_dict(self):
        norms = [0.9**lag for lag in range(50)]
        fit = {"rate": -0.1, "level": 0.0, "reach": 43, "censored": False}
        return {"part": "l0", "lags": list(range(50)), "norms": {"all": norms, "h": norms}, **fit}

found = Found()
assert "torch" not in sys.modules
"""
IN_A_NOTEBOOK = """
import types
shell = types.SimpleNamespace(kernel=object(), events=types.SimpleNamespace(register=lambda *_: None))
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell, version_info=(9, 0))
"""


def run(code: str) -> None:
    """Run code in a process of its own, with the profile `found`."""
    subprocess.run([sys.executable, "-W", "error", "-c", START + code], check=True, env=ENVIRONMENT)


ENVIRONMENT = {"PYTHONPATH": ":".join(sys.path), "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}


def test_a_result_that_is_neither_drawn_nor_tabled_imports_nothing_for_it() -> None:
    run("""
import unvanish.figures
repr(found), found.to_dict()
assert not {"matplotlib", "polars"} & {*sys.modules}
found.to_frame()
assert "matplotlib" not in sys.modules
found.plot()
assert "matplotlib.pyplot" not in sys.modules
""")


@pytest.mark.parametrize(
    ("library", "calls"),
    [("matplotlib", ["plot()", "save('x.svg')", "plot(object())"]), ("polars", ["to_frame()"])],
)
def test_a_missing_library_is_told_with_the_line_to_install_it(library: str, calls: list[str]) -> None:
    for call in calls:
        run(f"""
sys.modules["{library}"] = None
from unvanish.errors import MissingExtraError
try:
    found.{call}
except MissingExtraError as fault:
    assert "{library}: pip install 'unvanish[figures]'" in str(fault), fault
else:
    raise AssertionError
""")


def test_without_matplotlib_a_notebook_shows_the_tables_and_files_of_data_are_written() -> None:
    run("""
import pathlib, tempfile
sys.modules["matplotlib"] = sys.modules["polars"] = None
page = found._repr_html_()
assert "<table>" in page and "<img" not in page
folder = pathlib.Path(tempfile.mkdtemp())
found.save(folder / "x.csv"), found.save(folder / "x.json")
assert len([*folder.iterdir()]) == 2
""")


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        (IN_A_NOTEBOOK, 1),
        ("import matplotlib; matplotlib.interactive(True)", 1),
        (IN_A_NOTEBOOK + "shell = None; import matplotlib.pyplot", 0),
    ],
)
def test_pyplot_has_the_figure_where_it_is_what_shows(before: str, kept: int) -> None:
    run(f"""
{before}
import matplotlib
settings = dict(matplotlib.rcParams)
axes = found.plot()
from matplotlib import pyplot
assert len(pyplot.get_fignums()) == {kept}, pyplot.get_fignums()
assert not {kept} or pyplot.gcf() is axes.figure
assert not [name for name in settings if name != "backend" and settings[name] != matplotlib.rcParams[name]]
""")


def test_what_a_notebook_sets_when_it_makes_its_first_figure_stays(tmp_path: Path) -> None:
    """Its back end turns on the interactive mode, without which no later figure would be shown."""
    backend = "import matplotlib; matplotlib.interactive(True)\nfrom matplotlib.backends.backend_agg import *\n"
    (tmp_path / "inlined.py").write_text(backend, encoding="utf-8")
    run(f"""
sys.path.insert(0, {str(tmp_path)!r})
{IN_A_NOTEBOOK}
import matplotlib
matplotlib.rcParams["backend"] = "module://inlined"
found.plot()
assert matplotlib.is_interactive()
""")
