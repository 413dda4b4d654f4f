"""What a long text takes of memory, all in all, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MEGABYTES = 16
READ = """
import sys
from pathlib import Path
from unvanish.data.text import Vocabulary, Windows, load_corpus

def most():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024

def read(path):
    corpus = load_corpus(Path(path))
    corpus.digest()
    vocabulary = Vocabulary.of(corpus.train)
    numbers = [vocabulary.encode_compactly(text) for text in (corpus.train, corpus.valid)]
    for x_TB, y_TB in Windows(numbers[0], 50, 16):
        pass
    return corpus, numbers

read(sys.argv[1])
before = most()
kept = read(sys.argv[2])
print(most() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the most memory so far")
@pytest.mark.parametrize(("alphabet", "times"), [("", 2.6), ("".join(map(chr, range(0x4E00, 0x4F00))), 5.2)])
def test_a_long_text_takes_a_few_bytes_per_byte(tmp_path: Path, alphabet: str, times: float) -> None:
    """One for the text and one for its numbers; twice that where there are more than 256 characters."""
    line = "The moon is over the sea, and the wind is calm \N{GRINNING FACE}.\n".encode()
    (short := tmp_path / "short.txt").write_bytes(alphabet.encode() + line * 50_000)
    (long := tmp_path / "long.txt").write_bytes(alphabet.encode() + line * (MEGABYTES * 1_000_000 // len(line)))
    command = [sys.executable, "-c", READ, str(short), str(long)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < times * long.stat().st_size
