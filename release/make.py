"""Make what is published: a source archive, and a wheel with kernels for each machine, tried in a bare environment.

    python release/make.py [--machines x86_64 aarch64] [--cells lstm]

Nothing is uploaded. The version stands in src/unvanish/__init__.py; CHANGELOG.md has to have its section.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from elftools.elf.elffile import ELFFile

ROOT = Path(__file__).parents[1]
SOURCE, DIST = ROOT / "src" / "unvanish", ROOT / "dist"
READY = SOURCE / "engine" / "native" / "ready"
# Kernels ask for no version of any library: the oldest name that pip still knows will do.
PLATFORM = "manylinux_2_17"


def run(*command: str | Path, **environment: str) -> None:
    """Run a command in the root of the repository, shown as it is run."""
    print("$", *command, flush=True)  # noqa: T201
    subprocess.run([str(word) for word in command], check=True, cwd=ROOT, env=os.environ | environment)


def version() -> str:
    """Return the version, of which the changelog tells."""
    found = re.search(r'^__version__ = "(.+)"$', (SOURCE / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    if f"## [{found[1]}]" not in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"):
        raise SystemExit(
            f"CHANGELOG.md has no section of {found[1]}: write down what changed since the last version"
        )
    return found[1]


def wheel(machine: str, cells: list[str]) -> Path:
    """Build the kernels of a machine and the wheel that brings them, named for the systems that it runs on."""
    chosen = ["--cells", *cells] if cells else []
    run(sys.executable, ROOT / "release" / "kernels.py", "--machine", machine, *chosen)
    for path in READY.rglob("*.so"):
        assert not libraries(path), f"{path} needs {libraries(path)}"
    target = f"{PLATFORM}_{machine}"
    here = machine == platform.machine()
    # auditwheel judges wheels for the machine that it runs on only; what it would look at is looked at above.
    name = {} if here else {"UNVANISH_PLATFORM": target}
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", DIST / "raw", **name)
    (raw,) = (DIST / "raw").glob(f"*_{machine}.whl")
    if here:
        run("auditwheel", "repair", "--exclude", "libgomp.so.1", "--plat", target, "--wheel-dir", DIST, raw)
    else:
        raw.rename(DIST / raw.name)
    (made,) = DIST.glob(f"*manylinux*_{machine}.whl")
    return made


def libraries(path: Path) -> list[str]:
    """Return the libraries that a library asks for by name."""
    with path.open("rb") as stream:
        dynamic = ELFFile(stream).get_section_by_name(".dynamic")
        return [tag.needed for tag in dynamic.iter_tags("DT_NEEDED")]


def main() -> None:
    """Make all of it, and try the wheel of this machine."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--machines", nargs="+", default=["x86_64", "aarch64"])
    parser.add_argument("--cells", nargs="+", default=[], help="kernels of these cells only, to try a release")
    asked = parser.parse_args()
    number = version()
    shutil.rmtree(DIST, ignore_errors=True)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    try:
        wheels = {machine: wheel(machine, asked.cells) for machine in asked.machines}
    finally:
        shutil.rmtree(READY, ignore_errors=True)
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", DIST)
    shutil.rmtree(DIST / "raw")
    here = wheels.get(platform.machine())
    if here is not None:
        run(sys.executable, ROOT / "release" / "tried.py", here)
    print(f"unvanish {number}:", *sorted(path.name for path in DIST.iterdir()), sep="\n  ")  # noqa: T201


if __name__ == "__main__":
    main()
