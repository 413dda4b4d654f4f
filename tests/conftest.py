"""What all tests share: the same random numbers in every run, and examples that do not race a clock."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from tests.support.compilers import forget
from tests.support.whole import WHOLE

hypothesis.settings.register_profile("laws", deadline=None, derandomize=True, print_blob=False, max_examples=60)
hypothesis.settings.load_profile("laws")
# The arrays are small, and threads that spin for work make two test runs on one machine wait for each other.
torch.set_num_threads(1)
# KERNELS=shipped (make test-full) compiles all kernels with the flags that users get, where some of them always
# are; so does a compiler that is asked for.
if os.environ.get("KERNELS") != "shipped" and "CXX" not in os.environ:
    os.environ["CXX"] = str(Path(__file__).parent / "support" / "quick-c++")
# What a shell starts in the background ignores Ctrl-C, and hands that on to all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def as_shipped() -> Iterator[None]:
    """Compile with the flags that users get."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CXX", raising=False)
        forget()
        yield
    forget()


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(20)


@pytest.fixture(autouse=True)
def _hears_ctrl_c() -> None:
    """Let Ctrl-C be heard, whatever the test before has left."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Rooms whose tests are tried on many parameters: of these CI takes a quarter, others for each SEED.
BATTERIES = (
    "engine",
    "nn",
    "cells",
    "flow",
    "remedies",
    "outside",
    "data",
    "export",
    "figures",
    "train",
    "diagnosis",
    "estimators",
    "report",
    "cli",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out three of four parameters of the batteries, unless all are asked for (`make test-full`), or few."""
    if WHOLE or len(items) < 1000:
        return
    seed = getattr(config.option, "randomly_seed", 0)
    left, kept = [], []
    for item in items:
        room = item.nodeid.split("/")[1] if item.nodeid.startswith("tests/") else ""
        out = hashlib.sha256(f"{seed}:{item.nodeid}".encode()).digest()[0] % 4 >= 1
        (left if room in BATTERIES and "[" in item.nodeid and out else kept).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left)
