"""A linear recurrence: what is said of it is what products with its matrix do.

Shapes: N units, K steps.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from unvanish.errors import FlowError, OptionError
from unvanish.flow.measuring.linear import Linear, linear
from unvanish.flow.measuring.profile import fit_rate


def matrix(seed: int, size: int = 4, radius: float | None = None) -> NDArray[np.float64]:
    W_NN = np.random.default_rng(seed).normal(size=(size, size))
    return W_NN if radius is None else W_NN * radius / np.abs(np.linalg.eigvals(W_NN)).max()


def orthogonal(seed: int, size: int = 5) -> NDArray[np.float64]:
    return np.linalg.qr(matrix(seed, size))[0]


def explicit(W_NN: NDArray[np.float64], vector_N: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    return np.asarray([np.linalg.norm(np.linalg.matrix_power(W_NN, k) @ vector_N) for k in range(steps + 1)])


@given(st.integers(0, 10_000), st.integers(1, 6), st.floats(0.3, 1.2), st.integers(0, 40))
def test_sum_over_components_is_the_power_of_the_matrix(seed: int, size: int, radius: float, k: int) -> None:
    W_NN = matrix(seed, size, radius)
    found = linear(W_NN, steps=40)
    wanted = np.linalg.matrix_power(W_NN, k)
    assert found.power(k) == pytest.approx(wanted, abs=1e-11 * found.condition * np.linalg.norm(wanted) + 1e-300)


@given(st.integers(0, 10_000), st.integers(1, 6), st.floats(0.3, 1.2))
def test_norms_forward_and_back_are_those_of_the_products_and_of_the_closed_form(
    seed: int, size: int, radius: float
) -> None:
    W_NN, start_N = matrix(seed, size, radius), np.random.default_rng(seed + 1).normal(size=size)
    found = linear(W_NN, steps=30)
    for course, by in ((found.send_forward(start_N), W_NN), (found.send_back(start_N), W_NN.T)):
        assert course.norms == pytest.approx(explicit(by, start_N, 30), rel=1e-9)
        assert course.error < 1e-11 * found.condition
        assert course.closed == pytest.approx(course.norms, rel=1e-9 * found.condition)


def test_closed_form_keeps_nine_digits_of_a_well_conditioned_matrix() -> None:
    found = linear(matrix(3, 6, 0.97), steps=100)
    assert found.word == "well conditioned"
    assert found.send_forward(np.ones(6)).error < 1e-9
    assert found.send_back(np.ones(6)).error < 1e-9


@pytest.mark.parametrize("radius", [0.5, 0.93, 1.0, 1.1])
def test_rate_is_the_one_fitted_to_the_products(radius: float) -> None:
    found = linear(matrix(11, 5, radius), steps=400)
    assert found.rate == pytest.approx(math.log(radius), abs=1e-12)
    # Scaled by exp(-rate · k / 2) the norms stay within the digits that the fit counts with.
    half = np.arange(401) * found.rate / 2
    for logs in (found.log_powers, found.send_forward(np.ones(5)).log_norms, found.send_back(np.ones(5)).log_norms):
        assert 2 * fit_rate(np.exp(logs - half))[0] == pytest.approx(found.rate, abs=2e-3)


@pytest.mark.parametrize("index", range(4))
def test_component_along_an_eigenvector_is_multiplied_by_its_eigenvalue(index: int) -> None:
    W_NN = np.diag([0.9, -0.7, 1.1, 0.2]) + np.triu(matrix(2), 1)
    found = linear(W_NN, steps=20)
    right_N, left_N = found.right_NN[:, index].real, found.left_NN[index].real
    for k in (1, 7, 20):
        power = np.linalg.matrix_power(W_NN, k)
        assert np.linalg.norm(power @ right_N) == pytest.approx(found.forward(k)[index] * np.linalg.norm(right_N))
        assert np.linalg.norm(power.T @ left_N) == pytest.approx(found.backward(k)[index] * np.linalg.norm(left_N))
    others = np.delete(np.exp(found.send_forward(right_N).log_components[0]), index)
    assert others == pytest.approx(np.zeros(3), abs=1e-12)


def test_complex_pairs_turn() -> None:
    angle, size = 0.4, 0.95
    W_NN = size * np.asarray([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    found = linear(W_NN)
    assert found.turns == pytest.approx([angle, -angle])
    assert found.power(3)[:, 0] == pytest.approx(size**3 * np.asarray([math.cos(3 * angle), math.sin(3 * angle)]))
    assert linear([[-0.5]]).turns == pytest.approx([math.pi])


@given(st.integers(0, 10_000), st.integers(2, 4), st.floats(-2, 2))
def test_a_jordan_block_is_told_in_any_basis(seed: int, size: int, value: float) -> None:
    block_NN = value * np.eye(size) + np.eye(size, k=1)
    turn_NN = orthogonal(seed, size)
    for W_NN in (block_NN, turn_NN @ block_NN @ turn_NN.T):
        found = linear(W_NN, steps=10)
        assert found.word == "defective"
        with pytest.raises(FlowError, match="defective"):
            found.power(2)
        course = found.send_back(np.ones(size))
        assert course.norms == pytest.approx(explicit(W_NN.T, np.ones(size), 10), rel=1e-9)
        assert np.isnan(course.closed).all()
        assert np.isnan(course.error)


def test_condition_has_three_words() -> None:
    words = [linear([[0.9, 1.0], [0.0, 0.9 - gap]]).word for gap in (0.5, 1e-5, 0.0)]
    assert words == ["well conditioned", "badly conditioned", "defective"]


@given(st.integers(0, 10_000))
def test_a_normal_matrix_has_no_departure_and_no_transient(seed: int) -> None:
    Q_NN = orthogonal(seed)
    for W_NN in (0.9 * Q_NN, Q_NN @ np.diag([0.9, 0.5, 0.5, -0.3, 0.0]) @ Q_NN.T):
        found = linear(W_NN, steps=20)
        assert found.departure == pytest.approx(0, abs=1e-12)
        assert found.word == "well conditioned"
        assert (found.peak, found.growth) == (0, pytest.approx(1))
        assert found.norm == pytest.approx(found.radius)
    assert linear(0.9 * Q_NN).condition == pytest.approx(1, rel=1e-6)
    assert linear(Q_NN).peak == 0  # whatever rounding says
    assert linear(1.001 * Q_NN, steps=9).peak == 9


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_departure_is_what_henrici_says(seed: int, size: int) -> None:
    W_NN = matrix(seed, size)
    wanted = (W_NN**2).sum() - (np.abs(np.linalg.eigvals(W_NN)) ** 2).sum()
    assert linear(W_NN, steps=1).departure ** 2 == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def test_departure_of_a_defective_matrix() -> None:
    assert linear([[0.5, 3.0], [0.0, 0.5]]).departure == pytest.approx(3)


def test_transient_growth_is_the_largest_power() -> None:
    W_NN = np.asarray([[0.9, 5.0, 0.0], [0.0, 0.7, 2.0], [0.0, 0.0, 0.8]])
    found = linear(W_NN, steps=60)
    norms = [np.linalg.norm(np.linalg.matrix_power(W_NN, k), 2) for k in range(61)]
    assert found.powers == pytest.approx(norms)
    assert (found.peak, found.growth) == (int(np.argmax(norms)), pytest.approx(max(norms)))
    assert found.rate < 0 < math.log(found.growth)
    assert found.norm == pytest.approx(norms[1])
    assert found.eigenvalues == pytest.approx([0.9, 0.8, 0.7])  # the slowest first


def test_powers_beyond_all_numbers_keep_their_logarithm() -> None:
    found = linear([[3.0, 1.0], [0.0, 2.0]], steps=1000)
    assert found.log_powers[-1] == pytest.approx(1000 * math.log(3), rel=1e-3)
    assert found.growth == math.inf
    assert found.peak == 1000
    assert found.send_forward([1.0, 1.0]).error < 1e-9


def test_a_matrix_that_forgets_at_once() -> None:
    found = linear(np.zeros((2, 2)), steps=3)
    assert (found.rate, found.radius) == (-math.inf, 0)
    assert found.powers.tolist() == [1, 0, 0, 0]
    assert found.send_back([3.0, 4.0]).norms.tolist() == pytest.approx([5, 0, 0, 0])


def test_tensors_and_arrays_are_the_same() -> None:
    W_NN = torch.nn.Parameter(torch.randn(4, 4))
    found, same = linear(W_NN), linear(W_NN.detach().numpy())
    assert np.array_equal(found.eigenvalues, same.eigenvalues)
    assert found.send_back(torch.ones(4)).error < 1e-9
    assert isinstance(found, Linear)
    assert "4 × 4" in repr(found)


@pytest.mark.parametrize(
    ("W", "steps", "error", "says"),
    [
        (np.ones((2, 3)), 5, OptionError, "square"),
        (np.ones((0, 0)), 5, OptionError, "square"),
        (np.ones(3), 5, OptionError, "square"),
        (np.eye(2) * 1j, 5, OptionError, "real"),
        (np.eye(2), 0, OptionError, "steps"),
        (np.asarray([[np.nan]]), 5, FlowError, "NaN"),
    ],
)
def test_what_cannot_be_meant(W: NDArray[np.float64], steps: int, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        linear(W, steps)


def test_a_vector_must_fit() -> None:
    with pytest.raises(OptionError, match="2 numbers"):
        linear(np.eye(2)).send_forward([1.0, 2.0, 3.0])
