"""Initialisers of one array: by variance, by structure, by spectral radius.

Shapes: R rows (the units that an array leads to), C columns (the units that it comes from).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unvanish.checks import finite, positive
from unvanish.errors import OptionError

_TRIES = 100  # of a sparse matrix without a cycle, whose eigenvalues are all zero


@dataclass(frozen=True, slots=True)
class ArrayInitialiser:
    """What fills one array in place, and returns it.

    Attributes:
        word: as `init=` takes it.
        function: what fills.
        vectors: whether it makes sense for a vector; else it is for matrices.
        square: whether it makes sense for square matrices alone.
        recurrent: whether, alone for a whole layer, it goes to the recurrent matrices and leaves the others.
        whole: whether what it claims is lost where entries of the matrix are masked out.
    """

    word: str
    function: Callable[[Tensor], object]
    vectors: bool = False
    square: bool = False
    recurrent: bool = False
    whole: bool = False

    @torch.no_grad()
    def __call__(self, array: Tensor, name: str = "the array") -> Tensor:
        """Fill an array. Raises `OptionError` where its shape is none for this initialiser."""
        self.check(array, name)
        if not array.is_meta:
            self.function(array)
        return array

    def check(self, array: Tensor, name: str = "the array") -> None:
        """Refuse a shape for which this initialiser means nothing."""
        if array.dim() < 2 and not self.vectors:
            raise OptionError(
                f"'{self.word}' is for matrices, {name} is a vector: give a number, 'zeros', 'scaled' or 'uniform'"
            )
        if self.square and array.shape[0] != array.shape[1]:
            raise OptionError(
                f"'{self.word}' is for square matrices, which have a spectral radius; {name} is "
                f"{tuple(array.shape)}: name the recurrent matrices, {{'U_*': '{self.word}'}}"
            )

    def __repr__(self) -> str:
        return f"<initialiser {self.word}>"


def constant(value: float) -> ArrayInitialiser:
    """Every entry the same.

    >>> constant(0.5)(torch.empty(2))
    tensor([0.5000, 0.5000])
    """
    return ArrayInitialiser(
        f"{finite(value, 'constant'):g}", functools.partial(nn.init.constant_, val=float(value)), vectors=True
    )


def scaled(std: float = 0.01) -> ArrayInitialiser:
    """Gaussian: w ~ N(0, std²), whatever the width.

    >>> bool(scaled(0.01)(torch.empty(50, 50)).abs().max() < 0.1)
    True
    """
    return ArrayInitialiser(
        f"scaled:{positive(std, 'std'):g}", functools.partial(nn.init.normal_, std=float(std)), vectors=True
    )


def uniform(bound: float) -> ArrayInitialiser:
    """Uniform in [-bound, bound].

    >>> bool(uniform(0.1)(torch.empty(50)).abs().max() <= 0.1)
    True
    """
    function = functools.partial(nn.init.uniform_, a=-positive(bound, "bound"), b=float(bound))
    return ArrayInitialiser(f"uniform:{bound:g}", function, vectors=True)


def xavier(gain: float = 1.0, *, normal: bool = False) -> ArrayInitialiser:
    """Keep the variance of signals and gradients alike: Var w = 2 gain² / (R + C).

    Source: Glorot, X., Bengio, Y. (2010). Understanding the difficulty of training deep feedforward neural
    networks. AISTATS 2010, 249-256, eq. 12 and 16.

    >>> W = xavier()(torch.empty(100, 50))
    >>> bool(W.abs().max() <= math.sqrt(6 / 150))
    True
    """
    fill = nn.init.xavier_normal_ if normal else nn.init.xavier_uniform_
    word = "xavier_normal" if normal else "xavier"
    function = functools.partial(fill, gain=positive(gain, "gain"))
    return ArrayInitialiser(_word(word, gain), function)


def he(*, normal: bool = False) -> ArrayInitialiser:
    """Keep the variance of a signal behind relu: Var w = 2 / C.

    Source: He, K., Zhang, X., Ren, S., Sun, J. (2015). Delving deep into rectifiers: surpassing human-level
    performance on ImageNet classification. ICCV 2015, 1026-1034, eq. 10.

    >>> W = he()(torch.empty(100, 50))
    >>> bool(W.abs().max() <= math.sqrt(6 / 50))
    True
    """
    fill = nn.init.kaiming_normal_ if normal else nn.init.kaiming_uniform_
    return ArrayInitialiser("he_normal" if normal else "he", fill)


def orthogonal(gain: float = 1.0) -> ArrayInitialiser:
    """Random with all singular values equal to `gain`: a linear recurrence keeps a gradient's norm for ever.

    Source: Saxe, A. M., McClelland, J. L., Ganguli, S. (2014). Exact solutions to the nonlinear dynamics of
    learning in deep linear neural networks. ICLR 2014.

    >>> U = orthogonal()(torch.empty(4, 4))
    >>> torch.allclose(U @ U.T, torch.eye(4), atol=1e-6)
    True
    """
    function = functools.partial(_fill_orthogonal, gain=positive(gain, "gain"))
    return ArrayInitialiser(_word("orthogonal", gain), function, whole=True)


def identity(scale: float = 1.0) -> ArrayInitialiser:
    """The unit matrix times `scale`: with relu and zero biases a recurrence that sums up what comes in.

    Of a matrix that is not square the main diagonal is filled, as torch does. Alone for a layer it goes to the
    recurrent matrices.

    Source: Le, Q. V., Jaitly, N., Hinton, G. E. (2015). A simple way to initialize recurrent networks of rectified
    linear units. arXiv:1504.00941.

    >>> identity(0.5)(torch.empty(2, 2))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]])
    """
    function = functools.partial(_fill_identity, scale=finite(scale, "scale"))
    return ArrayInitialiser(_word("identity", scale), function, recurrent=True)


def sparse(incoming: int = 15, radius: float = 1.1) -> ArrayInitialiser:
    """Gaussian, with just so many weights that are not zero into every unit, scaled to a spectral radius.

    Alone for a layer it goes to the recurrent matrices.

    Source: Martens, J., Sutskever, I. (2011). Learning recurrent neural networks with Hessian-free optimization.
    ICML 2011, 1033-1040; the radius from Sutskever, I., Martens, J., Dahl, G., Hinton, G. (2013). On the importance
    of initialization and momentum in deep learning. ICML 2013, 1139-1147.

    >>> U = sparse(incoming=3)(torch.empty(20, 20))
    >>> (U != 0).sum(1).unique().tolist(), round(float(torch.linalg.eigvals(U).abs().max()), 4)
    ([3], 1.1)
    """
    if incoming != int(finite(incoming, "incoming")) or incoming < 1:
        raise OptionError(f"incoming is {incoming!r}: give a whole number of weights into a unit, from 1 on")
    positive(radius, "radius")
    function = functools.partial(_fill_sparse, incoming=int(incoming), radius=radius)
    return ArrayInitialiser(f"sparse:{int(incoming)}:{radius:g}", function, square=True, recurrent=True, whole=True)


def radius(value: float = 0.95) -> ArrayInitialiser:
    """Gaussian, with a spectral radius of exactly `value`: the rate of a linear recurrence is its logarithm.

    Alone for a layer it goes to the recurrent matrices.

    Source: Jaeger, H. (2001). The "echo state" approach to analysing and training recurrent neural networks. GMD
    report 148.

    >>> U = radius(0.9)(torch.empty(20, 20))
    >>> round(float(torch.linalg.eigvals(U).abs().max()), 4)
    0.9
    """
    function = functools.partial(_fill_radius, radius=positive(value, "radius"))
    return ArrayInitialiser(f"radius:{value:g}", function, square=True, recurrent=True, whole=True)


def depth(variance: float = 1.0, layers: int = 1) -> ArrayInitialiser:
    """Scale the variance of a signal by `variance` over so many linear layers, or steps: Var w = v^(1/n) / C.

    Source: the condition of Glorot, Bengio (2010), eq. 10, with v for 1 after n layers.

    >>> round(float(depth(0.01, 2)(torch.empty(400, 400)).var() * 400), 1)
    0.1
    """
    if layers != int(finite(layers, "layers")) or layers < 1:
        raise OptionError(f"layers is {layers!r}: give a whole number of layers or steps, from 1 on")
    share = positive(variance, "variance") ** (1 / layers)
    function = functools.partial(_fill_by_fan_in, variance=share)
    return ArrayInitialiser(f"depth:{variance:g}:{int(layers)}", function)


# -- how they fill -----------------------------------------------------------------------------------------------


def _fill_orthogonal(array: Tensor, gain: float) -> None:
    # torch has no QR of half precision.
    single = array.dtype in (torch.float16, torch.bfloat16)
    drawn = torch.empty_like(array, dtype=torch.float32 if single else array.dtype)
    array.copy_(nn.init.orthogonal_(drawn, gain))


def _fill_identity(array: Tensor, scale: float) -> None:
    nn.init.eye_(array)
    array.mul_(scale)


def _fill_by_fan_in(array: Tensor, variance: float) -> None:
    array.normal_(0.0, math.sqrt(variance / array.shape[1]))


def _fill_radius(array: Tensor, radius: float) -> None:
    drawn_RC = torch.randn_like(array, dtype=torch.float64)
    array.copy_(drawn_RC * (radius / _spectral_radius(drawn_RC)))


def _fill_sparse(array: Tensor, incoming: int, radius: float) -> None:
    if incoming > array.shape[1]:
        raise OptionError(
            f"sparse wants {incoming} weights into every unit, and they come from {array.shape[1]} units: give at "
            f"most that, 'sparse:{array.shape[1]}'"
        )
    for _ in range(_TRIES):
        chosen_RC = torch.rand_like(array, dtype=torch.float64).argsort(1).argsort(1) < incoming
        drawn_RC = torch.randn_like(array, dtype=torch.float64) * chosen_RC
        found = _spectral_radius(drawn_RC)
        if found > 0:
            array.copy_(drawn_RC * (radius / found))
            return
    raise OptionError("no sparse matrix with a spectral radius above 0 was drawn")  # pragma: no cover


def _spectral_radius(square: Tensor) -> float:
    return float(torch.linalg.eigvals(square.cpu()).abs().max())


def _word(name: str, value: float) -> str:
    return name if value == 1 else f"{name}:{value:g}"
