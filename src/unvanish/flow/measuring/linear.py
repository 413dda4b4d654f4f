"""A linear recurrence h[t] = W h[t-1]: what becomes of a vector on its way forward, of a gradient on its way back.

Shapes: N units, K steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from unvanish.checks import whole_number
from unvanish.errors import FlowError, OptionError
from unvanish.record.result import Result

# Rounding parts the eigenvalues of a Jordan block by about the root of the precision, and so its eigenvectors
# come out with a condition number of some 1e8. Under this limit a sum over components keeps nine digits.
DEFECTIVE = 1e7
# Over this one it has lost three of its sixteen digits.
BAD = 1e3


@dataclass(frozen=True, eq=False)
class Course(Result):
    """One vector sent through K steps: its norm by repeated products, and by its components along eigenvectors.

    The logarithms are kept, since the norms may grow past any number.

    Attributes:
        log_norms: log of the norm after k = 0 … K steps, from products with the matrix.
        log_closed: the same in closed form, from the sum over components; NaN if the matrix is defective.
        log_components: log of the size of every component, (K + 1, N); NaN if the matrix is defective.
    """

    shown_as: ClassVar[str] = "course"

    log_norms: NDArray[np.float64]
    log_closed: NDArray[np.float64]
    log_components: NDArray[np.float64]

    @property
    def norms(self) -> NDArray[np.float64]:
        """The norms, ∞ where they are too large for a number."""
        return _exp(self.log_norms)

    @property
    def closed(self) -> NDArray[np.float64]:
        """The norms in closed form."""
        return _exp(self.log_closed)

    @property
    def error(self) -> float:
        """The largest relative difference between the two; NaN if the matrix is defective."""
        there = np.isfinite(self.log_norms)
        return float(np.abs(np.expm1(self.log_closed[there] - self.log_norms[there])).max(initial=0.0))

    def to_dict(self) -> dict[str, Any]:
        """Return the logarithms and the error as plain data."""
        logs = {name: getattr(self, name).tolist() for name in ("log_norms", "log_closed", "log_components")}
        return logs | {"error": self.error}

    def __repr__(self) -> str:
        first, last = self.log_norms[[0, -1]]
        return f"Course({len(self.log_norms) - 1:,} steps: log of the norm {first:+.4g} → {last:+.4g})"


@dataclass(frozen=True, eq=False)
class Linear(Result):
    """The recurrence h[t] = W h[t-1], taken apart into components that only turn and stretch.

    W = Σ_i λ_i r_i l_i with W r_i = λ_i r_i, l_i W = λ_i l_i, l_i r_j = δ_ij. So after k steps

        W^k h = Σ_i λ_i^k r_i (l_i h)    and, going back,    (W^k)ᵀ v = Σ_i λ_i^k l_iᵀ (r_iᵀ v).

    Attributes:
        matrix_NN: W.
        eigenvalues: λ_i, the largest first.
        right_NN: the right eigenvectors r_i, of norm one, as columns.
        left_NN: the left eigenvectors l_i as rows; NaN if W is defective.
        condition: the condition number of the right eigenvectors; 1 for a normal matrix whose eigenvalues differ.
        departure: Henrici's departure from normality, sqrt(‖W‖_F² − Σ|λ_i|²) (Henrici 1962).
        log_powers: log ‖W^k‖₂ for k = 0 … K.
    """

    shown_as: ClassVar[str] = "linear"

    matrix_NN: NDArray[np.float64] = field(repr=False)
    eigenvalues: NDArray[np.complex128]
    right_NN: NDArray[np.complex128]
    left_NN: NDArray[np.complex128]
    condition: float
    departure: float
    log_powers: NDArray[np.float64]

    @property
    def radius(self) -> float:
        """The spectral radius, max |λ_i|."""
        return float(np.abs(self.eigenvalues).max())

    @property
    def rate(self) -> float:
        """Log of the spectral radius: what ‖W^k‖ gains in a step in the long run, nats per step."""
        return math.log(self.radius) if self.radius > 0 else -math.inf

    @property
    def norm(self) -> float:
        """The largest singular value, ‖W‖₂: the most that one step can stretch a vector."""
        return float(np.linalg.norm(self.matrix_NN, 2))

    @property
    def powers(self) -> NDArray[np.float64]:
        """‖W^k‖₂ for k = 0 … K, ∞ where it is too large for a number."""
        return _exp(self.log_powers)

    @property
    def peak(self) -> int:
        """The step at which ‖W^k‖₂ is largest; K where it still grows."""
        # Rounding alone lets the powers of an orthogonal matrix differ.
        return int(np.argmax(self.log_powers >= self.log_powers.max() - 1e-12))

    @property
    def growth(self) -> float:
        """The largest ‖W^k‖₂ of all: over 1 with a negative rate, it is a transient growth."""
        return float(self.powers[self.peak])

    @property
    def turns(self) -> NDArray[np.float64]:
        """By what angle each component turns in a step, in radians: 0 for positive, π for negative eigenvalues."""
        return np.angle(self.eigenvalues)

    @property
    def defective(self) -> bool:
        """Whether the eigenvectors cannot be told from dependent ones: then W is not a sum over components."""
        return self.condition >= DEFECTIVE

    @property
    def word(self) -> str:
        """How far the components can be trusted: `well conditioned`, `badly conditioned` or `defective`."""
        if self.defective:
            return "defective"
        return "badly conditioned" if self.condition >= BAD else "well conditioned"

    def forward(self, k: int) -> NDArray[np.float64]:
        """|λ_i|^k: what becomes of a component of h along the right eigenvector r_i in k steps, (N,)."""
        with np.errstate(over="ignore", divide="ignore"):
            return np.abs(self.eigenvalues) ** k

    def backward(self, k: int) -> NDArray[np.float64]:
        """|λ_i|^k: what becomes of a component of a gradient along the left eigenvector l_i, k steps back, (N,).

        It is what happens on the way forward: a direction of the state that is forgotten cannot be trained.
        """
        return self.forward(k)

    def power(self, k: int) -> NDArray[np.float64]:
        """W^k as the sum over components, (N, N).

        Raises:
            FlowError: W is defective.
        """
        if self.defective:
            raise FlowError(
                f"W is defective: its eigenvectors are dependent (condition number {self.condition:.1e}), so it is "
                "no sum over components; send_forward and send_back still give the norms"
            )
        return ((self.right_NN * self.eigenvalues**k) @ self.left_NN).real

    def send_forward(self, h: ArrayLike | Tensor) -> Course:
        """Follow ‖W^k h‖ for k = 0 … K; h is (N,)."""
        h_N = self._vector(h)
        return self._course(self.matrix_NN, self.right_NN, self.left_NN @ h_N, h_N)

    def send_back(self, v: ArrayLike | Tensor) -> Course:
        """Follow ‖(W^k)ᵀ v‖ for k = 0 … K, as backpropagation through time does; v is (N,)."""
        v_N = self._vector(v)
        return self._course(self.matrix_NN.T, self.left_NN.T, self.right_NN.T @ v_N, v_N)

    def to_dict(self) -> dict[str, Any]:
        """Return what was found as plain data, without the matrix and its eigenvectors."""
        names = ("radius", "rate", "norm", "peak", "growth", "condition", "departure", "word")
        pairs = [[value.real, value.imag] for value in self.eigenvalues.tolist()]
        found = {"eigenvalues": pairs, "log_powers": self.log_powers.tolist()}
        return found | {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        size, told = len(self.eigenvalues), f"rate {self.rate:+.4f} nats per step"
        return (
            f"Linear({size} × {size}: {told}, ‖W‖ {self.norm:.4g}, largest ‖W^k‖ {self.growth:.4g} at k = "
            f"{self.peak}, {self.word})"
        )

    def _vector(self, given: ArrayLike | Tensor) -> NDArray[np.float64]:
        vector_N = _array(given)
        if vector_N.shape != (len(self.eigenvalues),):
            raise OptionError(
                f"the vector has shape {vector_N.shape}: W takes one of {len(self.eigenvalues)} numbers"
            )
        return vector_N

    def _course(
        self,
        matrix_NN: NDArray[np.float64],
        vectors_NN: NDArray[np.complex128],
        amounts_N: NDArray[np.complex128],
        start_N: NDArray[np.float64],
    ) -> Course:
        steps = np.arange(len(self.log_powers))
        scale = self.radius or 1.0  # so that no power leaves the range of numbers
        turned_KN = amounts_N * (self.eigenvalues / scale) ** steps[:, None]
        logs_K = steps * math.log(scale)
        with np.errstate(divide="ignore"):
            log_closed = np.log(np.linalg.norm(turned_KN @ vectors_NN.T, axis=1)) + logs_K
            lengths_N = np.linalg.norm(vectors_NN, axis=0)
            log_components = np.log(np.abs(turned_KN) * lengths_N) + logs_K[:, None]
        return Course(_log_norms(matrix_NN, start_N[:, None], steps[-1]), log_closed, log_components)


def linear(W: ArrayLike | Tensor, steps: int = 100) -> Linear:
    """Take the recurrence h[t] = W h[t-1] apart: how fast it forgets or explodes, forward and backward alike.

    The one recurrence that can be worked out on paper. Its gradient goes back through Wᵀ, which has the eigenvalues
    of W: a component is multiplied by λ^k in k steps in both directions (Goodfellow, Bengio, Courville 2016, eq.
    10.36 to 10.39). Where W is not normal, ‖W^k‖ may first grow although all |λ| < 1; `growth` and `peak` say so.

    Args:
        W: a real square matrix, (N, N).
        steps: K, how many powers are looked at.

    Raises:
        OptionError: W is not real and square, or steps is under 1.
        FlowError: W holds a NaN or an infinity.

    >>> found = linear([[0.9, 4.0], [0.0, 0.5]])
    >>> round(found.rate, 4), found.peak, round(found.growth, 2)
    (-0.1054, 3, 6.09)
    >>> found.send_back([1.0, 1.0]).error < 1e-12
    True
    >>> linear([[0.9, 1.0], [0.0, 0.9]]).word
    'defective'
    """
    W_NN = _array(W)
    if W_NN.ndim != 2 or W_NN.shape[0] != W_NN.shape[1] or not W_NN.size:
        raise OptionError(f"W has shape {W_NN.shape}: a recurrence needs a square matrix, (N, N)")
    whole_number(steps, "steps")
    if not np.isfinite(W_NN).all():
        raise FlowError("W holds a NaN or an infinity, so it has no eigenvalues: look where the weights became so")
    values_N, vectors_NN = np.linalg.eig(W_NN)
    order = np.lexsort((-values_N.imag, -np.abs(values_N)))
    eigenvalues, right_NN = values_N[order].astype(np.complex128), vectors_NN[:, order].astype(np.complex128)
    condition = float(np.linalg.cond(right_NN))
    left_NN = np.full_like(right_NN, np.nan)
    if condition < DEFECTIVE:
        left_NN[:] = np.linalg.inv(right_NN)
    return Linear(
        W_NN,
        eigenvalues,
        right_NN,
        left_NN,
        condition,
        _departure(W_NN, eigenvalues, right_NN, condition),
        _log_norms(W_NN, np.eye(len(W_NN)), steps),
    )


def _array(given: ArrayLike | Tensor) -> NDArray[np.float64]:
    array: NDArray[Any]
    array = given.detach().cpu().numpy() if isinstance(given, torch.Tensor) else np.asarray(given)
    if array.dtype.kind not in "fiub":
        raise OptionError(f"the array is of type {array.dtype}: give real numbers")
    return array.astype(np.float64)


def _departure(
    W_NN: NDArray[np.float64],
    eigenvalues: NDArray[np.complex128],
    right_NN: NDArray[np.complex128],
    condition: float,
) -> float:
    if condition < DEFECTIVE:
        # In the basis of the orthogonalised eigenvectors W is triangular, and what lies over the diagonal is the
        # departure. The difference of squares would lose half of the digits for a matrix that is nearly normal.
        basis_NN = np.linalg.qr(right_NN)[0]
        return float(np.linalg.norm(np.triu(basis_NN.conj().T @ W_NN @ basis_NN, 1)))
    return math.sqrt(max(float((W_NN**2).sum() - (np.abs(eigenvalues) ** 2).sum()), 0.0))


def _log_norms(W_NN: NDArray[np.float64], start_NM: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """Log of the spectral norm of W^k · start for k = 0 … steps; what is multiplied is kept at norm one."""
    logs_K, so_far, value_NM = np.full(steps + 1, -np.inf), 0.0, start_NM
    for k in range(steps + 1):
        norm = float(np.linalg.norm(value_NM, 2))
        if norm == 0:
            break
        so_far += math.log(norm)
        logs_K[k], value_NM = so_far, W_NN @ (value_NM / norm)
    return logs_K


def _exp(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.exp(logs)
