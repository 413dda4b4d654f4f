"""A long training takes no more memory than a short one: make test-memory runs 20,000 steps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.runs import make_text

QUICK, LONG = 900, 20_000
TRAIN = """
import sys
from pathlib import Path
from unvanish.train import TrainSettings, train
from unvanish.train.module import NetworkModule

folder, steps = Path(sys.argv[1]), int(sys.argv[2])
held, step = [], NetworkModule.training_step

def memory():  # what is the process's own, also where the system has put it aside
    lines = [line.split() for line in open("/proc/self/status")]
    return sum(int(line[1]) for line in lines if line[0] in ("RssAnon:", "VmSwap:"))

def counted(self, *given):
    held.append(memory())
    return step(self, *given)

NetworkModule.training_step = counted
# 100 windows an epoch, so that validations, checkpoints and probes come around often enough.
settings = TrainSettings(
    source=str(folder / "text.txt"), hidden=8, layers=1, length=12, batch_size=4, epochs=steps // 100, probes=2,
    valid_every=500, device="cpu", clip="norm:1",
)
train(settings, folder / "run", say=lambda line: None)
print(len(held), held[steps // 3], held[-1])
"""


def growth(folder: Path, steps: int) -> float:
    """Train for so many steps and return how much more memory there is at the end than after a third."""
    (folder / "text.txt").write_text(make_text(5_400), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(folder), str(steps)], stdout=subprocess.PIPE, text=True, check=True
    )
    count, early, late = map(int, done.stdout.split())
    assert count >= steps
    return late / early - 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the memory of a process so")
def test_memory_is_flat_over_many_steps(tmp_path: Path) -> None:
    assert growth(tmp_path, QUICK) < 0.02


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        found = growth(Path(folder), LONG)
    sys.stdout.write(f"memory grew by {100 * found:.2f} % over {LONG:,} steps\n")
    sys.exit(found >= 0.02)
