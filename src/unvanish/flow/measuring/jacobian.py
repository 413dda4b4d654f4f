"""The Jacobian of a step, of several steps; how fast directions grow or shrink in the long run; and why.

Shapes: T time, B batch, N full state, K directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unvanish.errors import FlowError
from unvanish.flow.finding.parts import Hx, SteppedPart, chosen, identity, parts_of
from unvanish.record import Result


@dataclass(frozen=True, eq=False)
class Jacobian(Result):
    """∂s_t/∂s_{t-span} of one part, for every row of the batch.

    Attributes:
        part: `l0`, `l1_reverse`, …
        matrix_BNN: the Jacobian; a row of it is what one number of s_t feels.
        states: where each state lies in the full state.
        span: how many steps lie between.
    """

    shown_as: ClassVar[str] = "jacobian"
    part: str
    matrix_BNN: NDArray[np.float64]
    states: Mapping[str, slice]
    span: int

    @property
    def eigenvalues(self) -> NDArray[np.complex128]:
        """The eigenvalues, (B, N)."""
        return np.linalg.eigvals(self.matrix_BNN).astype(np.complex128)

    @property
    def singular_values(self) -> NDArray[np.float64]:
        """The singular values, largest first, (B, N)."""
        return np.asarray(np.linalg.svd(self.matrix_BNN, compute_uv=False), dtype=np.float64)

    @property
    def radius(self) -> float:
        """The spectral radius: the largest |eigenvalue|, in the mean over the batch."""
        return float(np.abs(self.eigenvalues).max(1).mean())

    @property
    def norm(self) -> float:
        """The spectral norm: the largest singular value, in the mean over the batch."""
        return float(self.singular_values[:, 0].mean())

    def block(self, of: str, by: str) -> NDArray[np.float64]:
        """∂(one state)/∂(another), (B, W, W'): `block("c", "c")` is an LSTM's memory path."""
        return self.matrix_BNN[:, self.states[of], self.states[by]]

    def to_dict(self) -> dict[str, Any]:
        """What is known of it by row of the batch, as plain numbers; the matrix itself is left out."""
        found = self.eigenvalues
        return {
            "part": self.part,
            "span": self.span,
            "states": {name: [place.start, place.stop] for name, place in self.states.items()},
            "radius": float(np.abs(found).max(1).mean()),
            "norm": self.norm,
            "eigenvalues": np.stack([found.real, found.imag], -1).tolist(),
            "singular_values": self.singular_values.tolist(),
        }

    def __repr__(self) -> str:
        size = self.matrix_BNN.shape[-1]
        return f"Jacobian({self.part}: {size} × {size} over {self.span} steps, spectral radius {self.radius:.4g})"


def jacobian(
    layer: nn.Module, x: Tensor, hx: Hx = None, *, part: str | None = None, at: int = -1, span: int = 1
) -> Jacobian:
    """Measure ∂s_t/∂s_{t-span}, the product of the Jacobians of `span` steps, with the input held fixed.

    Args:
        layer: a `Recurrent`, or torch.nn.RNN, LSTM or GRU.
        x, hx: the input, and states to start from, as the layer takes them.
        part: which layer of the stack, which direction; the topmost if None.
        at: the step t, as an index of the input.
        span: how many steps back.

    The Jacobian of the full state: an LSTM's is of (h, c), and so 2H × 2H.

    >>> import unvanish
    >>> layer = unvanish.RNN(2, 3)
    >>> found = jacobian(layer, torch.zeros(5, 1, 2), torch.zeros(1, 1, 3), at=0)
    >>> found.matrix_BNN.shape
    (1, 3, 3)
    """
    return jacobian_of(chosen(parts_of(layer, x, hx), part), at, span)


def jacobian_of(part: SteppedPart, at: int = -1, span: int = 1) -> Jacobian:
    """Measure the Jacobian of a part (see `jacobian`)."""
    last = at + part.steps if at < 0 else at
    if not 0 <= last < part.steps or not 1 <= span <= last + 1:
        raise FlowError(f"no {span} steps end at step {at} of {part.steps}: give at and span inside the input")
    exact = part.double()
    s_TBN = exact.trajectory()
    product_BNN = identity(s_TBN[0])
    for t in range(last - span + 1, last + 1):
        product_BNN = exact.push(t, s_TBN[t], product_BNN)
    return Jacobian(part.name, product_BNN.detach().cpu().numpy(), part.slices(), span)


@dataclass(frozen=True, eq=False)
class Lyapunov(Result):
    """The Lyapunov exponents of one part, in nats per step, largest first.

    Attributes:
        exponents: the mean over time and rows; -inf for a direction that is lost at once.
        errors: the standard error over rows, NaN for a single row.
        steps: over how many steps the mean was taken.
    """

    shown_as: ClassVar[str] = "lyapunov"
    part: str
    exponents: NDArray[np.float64]
    errors: NDArray[np.float64]
    steps: int

    @property
    def largest(self) -> float:
        """The largest exponent: over 0 is chaos, and gradients that explode; far under 0, that vanish."""
        return float(self.exponents[0])

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and lists."""
        lists = {"exponents": self.exponents.tolist(), "errors": self.errors.tolist()}
        return {"part": self.part, **lists, "steps": self.steps}

    def __repr__(self) -> str:
        shown = ", ".join(f"{value:+.4f}" for value in self.exponents[:3])
        more = ", …" if len(self.exponents) > 3 else ""
        return f"Lyapunov({self.part}: {shown}{more} nats per step over {self.steps} steps)"


def lyapunov(
    layer: nn.Module,
    x: Tensor,
    hx: Hx = None,
    *,
    part: str | None = None,
    count: int | None = None,
    skip: int | None = None,
    generator: torch.Generator | None = None,
) -> Lyapunov:
    """Measure the Lyapunov spectrum: the rates at which directions of the state grow along the trajectory.

    Q_t R_t = J_t Q_{t-1},   λ_i = mean over t of log |R_t[i, i]|

    (Benettin, Galgani, Giorgilli, Strelcyn 1980; for recurrent networks Engelken, Wolf, Abbott 2023.)

    Args:
        layer, x, hx, part: as for `jacobian`.
        count: how many of the largest exponents; all if None, which takes N directions through every step.
        skip: steps that are run before the mean begins, so that Q finds its directions; a quarter if None.
        generator: source of the first directions.

    For a linear recurrence they are the logarithms of the eigenvalues' magnitudes:

    >>> import unvanish
    >>> cell = unvanish.Cell("linear", "h[t] = U @ h[t-1]")
    >>> layer = unvanish.Recurrent(cell, 1, 2, init=lambda U: U.copy_(torch.diag(torch.tensor([0.9, 0.5]))))
    >>> lyapunov(layer, torch.zeros(100, 1, 1))
    Lyapunov(l0: -0.1054, -0.6931 nats per step over 75 steps)
    """
    return lyapunov_of(chosen(parts_of(layer, x, hx), part), count, skip, generator)


def lyapunov_of(
    part: SteppedPart,
    count: int | None = None,
    skip: int | None = None,
    generator: torch.Generator | None = None,
) -> Lyapunov:
    """Measure the Lyapunov spectrum of a part (see `lyapunov`)."""
    size = sum(part.widths.values())
    count, skip = size if count is None else count, part.steps // 4 if skip is None else skip
    if not 1 <= count <= size or not 0 <= skip < part.steps:
        raise FlowError(
            f"{count} exponents of {size}, after {skip} of {part.steps} steps: give numbers inside these"
        )
    exact = part.double()
    s_TBN = exact.trajectory()
    rows = s_TBN.shape[1]
    first_BNK = torch.randn(rows, size, count, generator=generator, dtype=torch.float64, device="cpu").to(
        s_TBN.device
    )
    q_BNK = torch.linalg.qr(first_BNK)[0]
    sums_BK = torch.zeros(rows, count, dtype=torch.float64, device=s_TBN.device)
    for t in range(part.steps):
        q_BNK, r_BKK = torch.linalg.qr(exact.push(t, s_TBN[t], q_BNK).detach())
        if t >= skip:
            sums_BK += r_BKK.diagonal(dim1=-2, dim2=-1).abs().log()
    means_BK = (sums_BK / (part.steps - skip)).cpu().numpy()
    order = np.argsort(-means_BK.mean(0))
    with np.errstate(invalid="ignore"):
        errors = means_BK.std(0, ddof=1) / np.sqrt(rows) if rows > 1 else np.full(count, np.nan)
    return Lyapunov(part.name, means_BK.mean(0)[order], errors[order], part.steps - skip)
