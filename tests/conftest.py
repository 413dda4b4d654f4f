"""What all tests share: the same random numbers in every run, and examples that do not race a clock."""

from __future__ import annotations

import signal

import hypothesis
import pytest
import torch

from unvanish.engine.native import build

hypothesis.settings.register_profile("laws", deadline=None, derandomize=True, print_blob=False, max_examples=60)
hypothesis.settings.load_profile("laws")
# The arrays are small, and threads that spin for work make two test runs on one machine wait for each other.
torch.set_num_threads(1)
# Most tests ask whether kernels are right, not how fast; tests/engine/test_native.py has the flags as shipped.
SHIPPED_FLAGS = build.FLAGS
build.FLAGS = ("-O1", *build.FLAGS[1:])
# What a shell starts in the background ignores Ctrl-C, and hands that on to all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(20)
