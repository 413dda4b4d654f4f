"""What the commands show, and that it is the truth."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import platformdirs
import pytest
import torch

from tests.support.runs import make_text, small, straight
from unvanish import Cell, Recurrent, cells
from unvanish.cli import main
from unvanish.cli.app import app
from unvanish.cli.show import console
from unvanish.cli.summary import summary
from unvanish.engine import ENGINES
from unvanish.engine.native.build import compiler
from unvanish.errors import OptionError
from unvanish.record import RunRecord
from unvanish.record.reaching import held_back

COMMANDS = sorted(command.name or "" for command in app.registered_commands)
Capture = pytest.CaptureFixture[str]


def shown(capsys: Capture, *arguments: str) -> str:
    """Run a command that must succeed and return what it prints."""
    assert main(list(arguments)) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run, whose text has characters that a terminal would treat in ways of its own."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "odd.txt").write_text("\t:smile: [b]\x0c\x08\x1b\r\xa0x\u2028\n" * 30, encoding="utf-8")
    return straight(small(folder, source=str(folder / "odd.txt"), epochs=1, probes=0), folder / "run")


# -- train ---------------------------------------------------------------------------------------------

LINE = re.compile(
    r"epoch (\d+)/2  step ([\d,]+)  loss (\S+) nats  (\S+) bits/char  perplexity (\S+)  ([\d,]+) chars/s  "
    r"reach l0 (≥ )?(\d+), l1 (≥ )?(\d+) steps"
)


def test_train_in_a_pipe_tells_one_line_a_validation_then_the_result(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "text.txt").write_text(make_text(420), encoding="utf-8")
    arguments = [
        "--hidden",
        "8",
        "--length",
        "12",
        "--batch-size",
        "4",
        "--epochs",
        "2",
        "--valid-every",
        "3",
        "--probes",
        "2",
        "--device",
        "cpu",
    ]
    out = shown(capsys, "train", str(tmp_path / "text.txt"), *arguments, "--out", str(tmp_path / "run"))
    lines, record = out.splitlines(), RunRecord.open(tmp_path / "run")
    told = [LINE.fullmatch(line) for line in lines if line.startswith("epoch")]
    valid = list(record.read("valid"))
    assert len(told) == len(valid) == 6
    begins = ["data ", "netwo", "run  ", "need ", *["epoch"] * 6, "cell "]
    assert [line[:5] for line in lines[:11]] == begins, "nothing else is said in between"
    source, config = tmp_path / "text.txt", record.config
    assert lines[0] == (
        f"data     {source}: {config['data']['sizes']['train']:,} characters to train on, "
        f"{config['data']['sizes']['valid']:,} to validate on, vocabulary {config['data']['vocabulary_size']}"
    )
    assert lines[1] == f"network  lstm, 2 × 8 units, {config['parameters']:,} parameters, on cpu (1 thread)"
    assert lines[2] == f"run      {tmp_path / 'run'}: 2 epochs of 8 steps"
    for match, line in zip(told, valid, strict=True):
        assert match is not None
        epoch, step, nats, bits, perplexity, speed = match.groups()[:6]
        assert (int(epoch), int(step)) == (line["epoch"] + 1, line["step"])
        assert float(nats) == pytest.approx(line["loss"], abs=5e-4)
        assert float(bits) == pytest.approx(line["loss"] / math.log(2), abs=5e-4)
        assert float(perplexity) == pytest.approx(math.exp(line["loss"]), abs=5e-3)
        assert int(speed.replace(",", "")) > 0
        for part, marked, steps in (("l0", *match.groups()[6:8]), ("l1", *match.groups()[8:])):
            assert (int(steps), marked is not None) == (
                line["reach"][part]["steps"],
                line["reach"][part]["censored"],
            )
    last, best = valid[-1], min(line["loss"] for line in valid)
    table = {line[:16].strip(): line[16:].strip() for line in lines}
    assert table["cell"] == f"lstm, {record.config['parameters']:,} parameters"
    assert table["validation loss"] == f"{last['loss']:.3f} nats = {last['bits']:.3f} bits per character"
    assert table["perplexity"] == f"{last['perplexity']:.2f}"
    assert table["best"].startswith(f"{best:.3f} nats at step")
    assert table["reach of l1"].startswith(
        f"{'≥ ' * last['reach']['l1']['censored']}{last['reach']['l1']['steps']}"
    )
    (need,) = record.read("need")
    assert table["needed"] == f"{'≥ ' * need['censored']}{need['lag']} steps of context"
    assert table["reach of l1"].endswith(
        held_back(last["reach"]["l1"]["steps"], 12, need["lag"], censored=last["reach"]["l1"]["censored"])
    )
    (sample,) = record.read("sample")
    assert f"\n{sample['prompt']}{sample['text']}\n" in out
    assert lines[-1] == f"report  {tmp_path / 'run' / 'report.html'}"
    assert (tmp_path / "run" / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_train_keeps_a_run_in_a_folder_of_its_own_unless_told(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(make_text(420), encoding="utf-8")
    arguments = ["--cell", "gru", "--hidden", "8", "--length", "12", "--batch-size", "4", "--epochs", "1"]
    shown(capsys, "train", "text.txt", *arguments)
    (folder,) = Path("runs").iterdir()
    assert re.fullmatch(r"gru-\d{8}-\d{6}", folder.name)
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "records.jsonl",
        "report.html",
    ]


# -- generate ------------------------------------------------------------------------------------------


def test_generate_writes_the_length_asked_for_and_the_same_for_the_same_seed(run: Path, capsys: Capture) -> None:
    def written(*arguments: str) -> str:
        return shown(capsys, "generate", str(run), "--prompt", "smile", "--length", "300", *arguments)

    one = written("--seed", "7")
    assert one.startswith("smile")
    assert one.endswith("\n")
    assert len(one) == len("smile") + 300 + 1
    assert written("--seed", "7") == one
    assert written("--seed", "8") != one
    assert written() != written(), "without a seed every text is another"
    likeliest = written("--temperature", "0", "--seed", "1")
    assert likeliest == written("--temperature", "0")
    assert likeliest != one


def test_generate_can_begin_and_end_with_nothing(run: Path, capsys: Capture) -> None:
    assert len(shown(capsys, "generate", str(run), "--length", "50")) == 51
    assert shown(capsys, "generate", str(run), "--prompt", "x", "--length", "0") == "x\n"


def test_generate_writes_every_character_as_it_is(run: Path, capsys: Capture) -> None:
    text = shown(capsys, "generate", str(run), "--length", "3000", "--temperature", "3", "--seed", "1")
    assert set(text) == set("\t:smile: [b]\x0c\x08\x1b\r\xa0x\u2028\n")
    assert shown(capsys, "generate", str(run), "--prompt", ":smile: [b]", "--length", "0") == ":smile: [b]\n"


# -- cells, env, help ----------------------------------------------------------------------------------


def test_cells_has_one_row_for_every_cell(capsys: Capture) -> None:
    rows = shown(capsys, "cells").splitlines()[1:]
    assert [row.split()[0] for row in rows] == list(cells)
    for row, cell in zip(rows, cells.values(), strict=True):
        assert row.rstrip().endswith(cell.note)


def test_cells_in_a_narrow_terminal_cut_nothing_off(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "width", 60)
    out = shown(capsys, "cells")
    assert max(map(len, out.splitlines())) <= 60
    told = " ".join(out.split())
    assert all(f"{name} {' '.join(cell.note.split()[:3])}" in told for name, cell in cells.items())
    assert all(cell.note.split()[-1] in told for cell in cells.values())
    assert "…" not in out


def test_a_pipe_gets_whole_paths_and_no_escape_sequences(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["a-folder-with-a-name-that-is-as-long-as-sixty-characters-are"] * 6)
    folder.mkdir(parents=True)
    narrow = {**os.environ, "XDG_CACHE_HOME": str(folder), "COLUMNS": "60", "TERM": "xterm-256color"}
    for line in ("env", "cells", "nonsense", "--help"):
        found = subprocess.run(
            [sys.executable, "-m", "unvanish", line], env=narrow, capture_output=True, text=True, check=False
        )
        assert "\x1b" not in found.stdout + found.stderr
        if line == "env":
            assert f"kernels       0 in {folder / 'unvanish' / 'kernels'}, 0.0 MB" in found.stdout


TORCHS_OWN = {"aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu"}


def what_runs(layer: Recurrent) -> str | None:
    """The back end that runs a layer, as the profiler sees it; None where the layer is refused."""
    try:
        with torch.autograd.profiler.profile(use_kineto=False) as profile:
            layer(torch.zeros(3, 2, layer.input_size))
    except OptionError:
        return None
    seen = {event.name for event in profile.function_events}
    return "native" if "NativePass" in seen else "builtin" if seen & TORCHS_OWN else "reference"


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_cells_names_an_engine_where_it_runs_the_cell(capsys: Capture, engine: str) -> None:
    for row in shown(capsys, "cells").splitlines()[1:]:
        cell = cells[row.split()[0]]
        named = engine in row.removesuffix(cell.note).replace(",", " ").split()
        assert what_runs(Recurrent(cell, 2, 8, engine=engine)) == (engine if named else None), cell.name


@pytest.mark.parametrize("name", list(cells))
def test_cells_shows_equations_parameters_options_and_citation(capsys: Capture, name: str) -> None:
    cell, text = cells[name], shown(capsys, "cells", name)
    assert text.startswith(f"{name}: {cell.note}\n")
    for line in cell.equations.strip().splitlines():
        assert line.strip() in text
    listed = {line.split()[0] for line in text.splitlines() if line.strip()}
    assert {parameter.name for parameter in cell.system().parameters} | set(cell.options) <= listed
    assert cell.cite in text


def as_json(capsys: Capture, *arguments: str) -> Any:
    """What a command prints with --json: one document on one line, nothing beside it."""
    out = shown(capsys, *arguments, "--json")
    assert out.count("\n") == 1
    return json.loads(out, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


def test_cells_as_json_are_all_that_the_catalogue_knows(capsys: Capture) -> None:
    listed = as_json(capsys, "cells")
    assert [one["name"] for one in listed] == list(cells)
    for one in listed:
        cell = cells[one["name"]]
        made = Cell(
            cell.name,
            "\n".join(one["equations"]),
            **{
                name: getattr(cell, name)
                for name in ("scalars", "numbers", "delays", "functions", "widths", "slower_to_faster")
            },
            output=one["output"],
            initial=one["initial"],
        )
        system = made.system()
        assert [state.name for state in system.states] == one["states"]
        assert [dataclasses.asdict(parameter) for parameter in system.parameters] == one["parameters"]
        assert list(one["options"]) == list(cell.options)
        assert (one["note"], one["cite"]) == (cell.note, cell.cite)
        assert as_json(capsys, "cells", cell.name) == one
    lstm = next(one for one in listed if one["name"] == "lstm")
    assert (lstm["engines"], lstm["states"]) == (["native", "builtin", "reference"], ["h", "c"])


def test_env_as_json_is_of_this_machine(capsys: Capture) -> None:
    found = as_json(capsys, "env")
    assert (found["torch"], found["threads"]) == (torch.__version__, torch.get_num_threads())
    assert (found["python"], found["cores"]) == (platform.python_version(), os.cpu_count())
    assert found["compiler"] is None or found["compiler"]["command"] == list(compiler().command)  # type: ignore[union-attr]
    assert len(found["gpus"]) == torch.cuda.device_count()
    assert found["cache_folder"] == platformdirs.user_cache_dir("unvanish")


def test_env_names_what_matters_on_this_machine(capsys: Capture) -> None:
    text = shown(capsys, "env")
    table = {line[:12].strip(): line[12:].strip() for line in text.splitlines()}
    assert table["torch"].startswith(f"{torch.__version__}, {torch.get_num_threads()} threads")
    assert table["python"].startswith(platform.python_version())
    assert str(os.cpu_count()) in table["processor"]
    assert table["cache folder"] == platformdirs.user_cache_dir("unvanish")
    assert ("none" in table["GPU"]) == (not torch.cuda.is_available())
    assert table["compiler"]


def test_env_finds_the_compiler_that_is_asked_for(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "my-c++"
    real, version = shutil.which("c++"), 'case "$1" in --version) echo my compiler 7.1; exit;; esac'
    fake.write_text(f'#!/bin/sh\n{version}\nexec {real} "$@"\n', encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.setenv("CXX", str(fake))
    try:
        compiler.cache_clear()
        assert "my compiler 7.1" in shown(capsys, "env")
        monkeypatch.delenv("CXX")
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setitem(sys.modules, "ziglang", None)
        compiler.cache_clear()
        assert "none found: pip install 'unvanish[compiler]'" in shown(capsys, "env")
    finally:
        compiler.cache_clear()


def test_version_tells_package_torch_and_python_in_a_line(capsys: Capture) -> None:
    beside = f"torch {torch.__version__}, python {platform.python_version()}"
    assert shown(capsys, "--version") == f"unvanish {version('unvanish')} ({beside})\n"


LIGHT = """
import sys
from unvanish.cli import main
HEAVY = {"torch", "sympy", "lightning", "numpy", "polars", "scipy", "yaml", "matplotlib"}
for line in ("--version", "--help"):
    assert main([line]) == 0
    assert not (HEAVY | {"pydantic"}) & set(sys.modules), line
# typer reads the arguments of a command with pydantic
for line in ("cells", *(f"{command} --help" for command in sys.argv[1:])):
    assert main(line.split()) == 0, line
    assert not HEAVY & set(sys.modules), line
"""


def test_version_list_of_cells_and_help_do_not_wait_for_torch() -> None:
    subprocess.run([sys.executable, "-c", LIGHT, *COMMANDS], check=True, stdout=subprocess.DEVNULL)


SETTLED = """
import sys
import lightning.pytorch, torch
before = set(sys.modules)
from unvanish.train import TrainSettings
TrainSettings(source="text.txt", clip="norm:1")
assert not {"sympy", "polars", "scipy", "matplotlib", "pandas", "sklearn"} & (set(sys.modules) - before)
"""


def test_settings_of_a_training_load_little_beside_torch_and_lightning() -> None:
    subprocess.run([sys.executable, "-c", SETTLED], check=True)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_works_everywhere(capsys: Capture, command: str) -> None:
    text = shown(capsys, *([command] if command else []), "--help")
    assert f"unvanish {command}".strip() in text
    assert "--help" in text
    if not command:
        assert all(name in text for name in COMMANDS)
        assert shown(capsys) == text, "no command at all shows the same"
    assert shown(capsys, *([command] if command else []), "-h") == text


def test_report_is_written_anew(run: Path, capsys: Capture) -> None:
    (run / "report.html").unlink(missing_ok=True)
    path = Path(shown(capsys, "report", str(run)).strip())
    assert path == run / "report.html"
    assert path.stat().st_size > 1000


def opening(run: Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `report --open` where a folder has all programs that there are."""
    removed = {"BROWSER", "DISPLAY", "WAYLAND_DISPLAY"}
    without = {name: value for name, value in os.environ.items() if name not in removed}
    return subprocess.run(
        [sys.executable, "-m", "unvanish", "report", str(run), "--open"],
        env={**without, "PATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_report_opens_in_the_browser(run: Path, tmp_path: Path) -> None:
    browser, asked = tmp_path / "browser", tmp_path / "asked"
    browser.write_text(f'#!/bin/sh\necho "$1" > {asked}\n', encoding="utf-8")
    browser.chmod(0o755)
    found = opening(run, tmp_path, BROWSER=str(browser))
    assert (found.stdout, found.stderr) == (f"{run / 'report.html'}\n", "")
    assert asked.read_text(encoding="utf-8").strip() == (run / "report.html").as_uri()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system always has a browser")
def test_report_without_a_browser_is_written_all_the_same(run: Path, tmp_path: Path) -> None:
    found = opening(run, tmp_path)
    assert found.stdout == f"{run / 'report.html'}\n"
    (told,) = found.stderr.splitlines()
    assert told == (
        f"unvanish: no browser was found to open it: open {run / 'report.html'} yourself, "
        "or name a browser in $BROWSER"
    )


@pytest.mark.parametrize("patience", [0, 3])
def test_the_summary_says_where_the_best_network_is_not_the_one_that_is_kept(tmp_path: Path, patience: int) -> None:
    folder = straight(small(tmp_path, 900, epochs=1, probes=0, patience=patience), tmp_path / "run")
    record = RunRecord(folder)
    (valid,) = record.read("valid")
    assert "kept is" not in _rows(record)["best"]
    worse = {"loss": valid["loss"] + 1, "metrics": valid["metrics"] | {"loss": valid["loss"] + 1}}
    record.append("valid", valid["step"] + 7, 1.0, **{"epoch": 1, "reach": valid["reach"]} | worse)
    best = f"{valid['loss']:.3f} nats at step {valid['step']}"
    later = f"; kept is that of step {valid['step'] + 7}: --patience keeps the best"
    assert _rows(record)["best"] == best + ("" if patience else later)


def _rows(record: RunRecord) -> dict[str, str]:
    names, values = summary(record).columns
    return dict(zip(names._cells, values._cells, strict=True))  # type: ignore[arg-type]
