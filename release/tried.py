"""Try a wheel as someone who has no compiler: a bare environment, and the first recipe of the README.

python release/tried.py dist/unvanish-….whl      in an environment of its own
python release/tried.py --here                   in the one that runs this
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = """
import torch
import unvanish

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = unvanish.LSTM(4, 32), torch.nn.Linear(32, 2)
    def forward(self, x):
        return self.head(self.layer(x)[0][-1])

def make():
    torch.manual_seed(0)
    x, label = torch.randn(120, 16, 4), torch.randint(0, 2, (16,))
    return Net(), x, lambda scores: torch.nn.functional.cross_entropy(scores, label)
"""
SWIFT = """
import sys, time, torch, unvanish
from unvanish.engine.native import build
begin = time.perf_counter()
for name in sys.argv[1:]:
    unvanish.Recurrent(unvanish.cells[name], 4, 32, engine="native")(torch.randn(9, 8, 4))[0].sum().backward()
assert not build.COMPILED and "sympy" not in sys.modules
print(f"{len(sys.argv) - 1} cells ran on kernels of the package, in {time.perf_counter() - begin:.2f} s")
"""


def installed(wheel: Path, folder: Path) -> Path:
    """Return the programs of a new environment that has the wheel, and what it asks for."""
    venv.create(folder, with_pip=True)
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    command = [str(folder / "bin" / "pip"), "install", "--quiet", *constraints, f"{wheel.resolve()}[app]"]
    subprocess.run(command, check=True)
    return folder / "bin"


def main() -> None:
    """Run both with nothing but the environment's own programs to be found."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = sys.argv[1]
        programs = Path(sys.executable).parent if given == "--here" else installed(Path(given), folder / "env")
        (folder / "my_code.py").write_text(CODE, encoding="utf-8")
        alone = {key: value for key, value in os.environ.items() if key not in ("CXX", "PYTHONPATH")}
        alone |= {"PATH": str(programs), "XDG_CACHE_HOME": str(folder / "cache")}

        def run(*command: str, statuses: tuple[int, ...] = (0,)) -> None:
            program, *words = command
            done = subprocess.run([str(programs / program), *words], cwd=folder, env=alone)
            if done.returncode not in statuses:
                raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")

        run("unvanish", "env")
        run("python", "-c", SWIFT, "lstm", "gru", "rnn")
        run(
            "unvanish", "diagnose", "my_code:make", "--need", "100", "--out", "verdict.html", statuses=(1,)
        )  # it vanishes
        assert (folder / "verdict.html").stat().st_size > 1000


if __name__ == "__main__":
    main()
