"""A system of equations is a key: equal ones are one, whichever process made them."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

from unvanish.cells import CATALOGUE

ELSEWHERE = (
    "import pickle, sys; from unvanish.cells import CATALOGUE; system = CATALOGUE['lstm'].system(); hash(system); "
    "sys.stdout.buffer.write(pickle.dumps(system))"
)


def test_equations_from_another_process_are_those_of_this_one() -> None:
    """The hash of a text is another in every process, so a kept one would find nothing here."""
    system = CATALOGUE["lstm"].system()
    for seed in "01":
        given = subprocess.run(
            [sys.executable, "-c", ELSEWHERE], env={"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, check=True
        )
        assert {system: "found"}[pickle.loads(given.stdout)] == "found"


def test_equal_equations_have_one_hash_and_others_another() -> None:
    one, other = CATALOGUE["lstm"].system(), CATALOGUE["gru"].system()
    assert hash(copy.deepcopy(one)) == hash(one)
    assert copy.deepcopy(one) == one
    assert hash(one) != hash(other)
    assert hash(CATALOGUE["lstm"].system(bias=False)) != hash(one)
