"""What all tests share: the same random numbers in every run, and examples that do not race a clock."""

from __future__ import annotations

import signal

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("laws", deadline=None, derandomize=True, print_blob=False, max_examples=60)
hypothesis.settings.load_profile("laws")
# The arrays are small, and threads that spin for work make two test runs on one machine wait for each other.
torch.set_num_threads(1)
# What a shell starts in the background ignores Ctrl-C, and hands that on to all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(20)


@pytest.fixture(autouse=True)
def _hears_ctrl_c() -> None:
    """Let Ctrl-C be heard, whatever the test before has left."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
