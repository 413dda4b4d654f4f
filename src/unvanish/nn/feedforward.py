"""Feed-forward networks for depth: plain, residual, dense, highway. `flow.depth` finds their layers.

Shapes: B rows (all leading dimensions of the input), I input, H hidden, O output, D layers.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from unvanish.checks import flag, whole_number
from unvanish.errors import OptionError, nearest
from unvanish.nn.init.arrays import ArrayInitialiser
from unvanish.nn.init.timescales import LayerInitialiser
from unvanish.nn.initialise import Init, apply, known, resolve

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
}


class FeedForward(nn.Module):
    """A stack of layers of one width, in `layers`, between what reads the input and what gives the output.

    Abstract: a subclass says what a layer is.

    Args:
        input_size, hidden_size, output_size: widths.
        num_layers: how many layers stand in the stack, as `flow.depth` counts them.
        activation: tanh, sigmoid or relu.
        layer_norm, batch_norm: whether torch.nn.LayerNorm, or BatchNorm1d, stands before each activation.
        init: an initialiser for every matrix (identity, sparse and radius for those from hidden to hidden), a
            mapping from parameter names or patterns to initialisers (`{"layers.*.bias": 0.0}`), or several of these
            in turn. Default: as torch.nn.Linear.
        device, dtype: as in torch.nn.Linear.

    Raises:
        OptionError: an invalid argument.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        num_layers: int,
        activation: str = "tanh",
        norm: str | None = None,
        init: Init = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        layer_norm: bool = False,
        batch_norm: bool = False,
        **unknown: object,
    ) -> None:
        super().__init__()
        for name in unknown:
            raise OptionError(f"{type(self).__name__} takes no keyword '{name}': {nearest(name, _keywords(self))}")
        self.input_size = whole_number(input_size, "input_size")
        self.hidden_size = whole_number(hidden_size, "hidden_size")
        self.output_size = whole_number(output_size, "output_size")
        self.num_layers = whole_number(num_layers, "num_layers")
        self.activation, self.init = activation, init
        self.layer_norm, self.batch_norm = flag(layer_norm, "layer_norm"), flag(batch_norm, "batch_norm")
        if activation not in ACTIVATIONS:
            raise OptionError(f"unknown activation {activation!r}: {nearest(str(activation), ACTIVATIONS)}")
        if norm is not None:
            self._take_norm(norm)
        if self.layer_norm and self.batch_norm:
            raise OptionError("layer_norm and batch_norm are both set: each would undo the other; give one of them")
        self._kind: dict[str, Any] = {"device": device, "dtype": dtype}
        self.entry = self._entry()
        self.layers = nn.ModuleList(self._layer(index) for index in range(self.num_layers))
        self.readout = self._linear(self._read_out_of(), self.output_size)
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Run the network: (…, I) -> (…, O)."""
        if x.shape[-1:] != (self.input_size,):
            raise OptionError(f"the input has shape {tuple(x.shape)}: its last width must be {self.input_size}")
        x_BH = self.entry(x.reshape(-1, self.input_size))
        y_BO: Tensor = self.readout(self._through(x_BH))
        return y_BO.view(*x.shape[:-1], self.output_size)

    def reset_parameters(self) -> None:
        """Fill all parameters anew: as torch's modules do, then `init`."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.LayerNorm | nn.BatchNorm1d):
                module.reset_parameters()
        for module in self.modules():
            if isinstance(module, HighwayLayer):
                nn.init.constant_(module.gate.bias, module.gate_bias)
        _fill(self, self.init)

    def extra_repr(self) -> str:
        """Say what the network is."""
        norm = ", layer_norm=True" if self.layer_norm else ", batch_norm=True" if self.batch_norm else ""
        return f"{self.input_size}, {self.hidden_size}, {self.output_size}, activation={self.activation}{norm}"

    def _take_norm(self, norm: str) -> None:
        if norm not in ("batch", "layer"):
            raise OptionError(f"norm is {norm!r}: give layer_norm=True or batch_norm=True")
        warnings.warn(
            f"norm={norm!r} is spelled {norm}_norm=True, as in Recurrent; norm= goes away in the next version",
            DeprecationWarning,
            stacklevel=3,
        )
        setattr(self, f"{norm}_norm", True)

    def _entry(self) -> nn.Module:
        """What brings the input to the width of the layers."""
        return self._linear(self.input_size, self.hidden_size)

    def _layer(self, index: int) -> nn.Module:
        raise NotImplementedError

    def _read_out_of(self) -> int:
        """How wide that is which the output is read out of."""
        return self.hidden_size

    def _through(self, x_BH: Tensor) -> Tensor:
        for layer in self.layers:
            x_BH = layer(x_BH)
        return x_BH

    def _linear(self, columns: int, rows: int) -> nn.Linear:
        return nn.Linear(columns, rows, **self._kind)

    def _active(self, width: int) -> Active:
        norm = nn.LayerNorm if self.layer_norm else nn.BatchNorm1d if self.batch_norm else None
        return Active(self.activation, None if norm is None else norm(width, **self._kind))


class Active(nn.Module):
    """A normalisation, where there is one, and an activation."""

    def __init__(self, activation: str, norm: nn.Module | None) -> None:
        super().__init__()
        self.activation, self.norm = activation, norm

    def forward(self, x_BH: Tensor) -> Tensor:
        """(B, H) -> (B, H)."""
        return ACTIVATIONS[self.activation](x_BH if self.norm is None else self.norm(x_BH))

    def extra_repr(self) -> str:
        """Name the activation."""
        return self.activation


class PlainLayer(nn.Module):
    """y = f(N(W x + b))."""

    def __init__(self, linear: nn.Linear, active: Active) -> None:
        super().__init__()
        self.linear, self.active = linear, active

    def forward(self, x_BH: Tensor) -> Tensor:
        """(B, I) -> (B, H)."""
        y_BH: Tensor = self.active(self.linear(x_BH))
        return y_BH


class ResidualLayer(nn.Module):
    """`pre`: y = x + W₂ f(N(W₁ f(N(x)))); `post`: y = f(x + N(W₂ f(N(W₁ x)))). Biases are left out here."""

    def __init__(self, first: nn.Linear, second: nn.Linear, actives: list[Active], order: str) -> None:
        super().__init__()
        self.first, self.second, self.order = first, second, order
        self.actives = nn.ModuleList(actives)

    def forward(self, x_BH: Tensor) -> Tensor:
        """(B, H) -> (B, H)."""
        before, after = cast(list[Active], list(self.actives))
        if self.order == "pre":
            inner_BH: Tensor = self.second(after(self.first(before(x_BH))))
            return x_BH + inner_BH
        inner_BH = self.second(before(self.first(x_BH)))
        inner_BH = inner_BH if after.norm is None else after.norm(inner_BH)
        return ACTIVATIONS[after.activation](x_BH + inner_BH)


class HighwayLayer(nn.Module):
    """y = g * f(N(W x + b)) + (1 - g) * x,  g = sigmoid(M x + d)."""

    def __init__(self, plain: PlainLayer, gate: nn.Linear, gate_bias: float) -> None:
        super().__init__()
        self.plain, self.gate, self.gate_bias = plain, gate, gate_bias

    def forward(self, x_BH: Tensor) -> Tensor:
        """(B, H) -> (B, H)."""
        g_BH = torch.sigmoid(self.gate(x_BH))
        y_BH: Tensor = g_BH * self.plain(x_BH) + (1 - g_BH) * x_BH
        return y_BH


class MLP(FeedForward):
    """A plain feed-forward network: y = f(N(W x + b)), layer after layer. Arguments as of `FeedForward`.

    Every layer multiplies a gradient with Wᵀ diag(f′), whose norm is under 1/4 ‖W‖ for sigmoid: it vanishes with
    depth.

    >>> from unvanish import flow
    >>> flow.depth(MLP(4, 16, 2, num_layers=20, activation="sigmoid"), torch.randn(8, 4)).reach < 5
    True
    """

    def _entry(self) -> nn.Module:
        return nn.Identity()

    def _layer(self, index: int) -> nn.Module:
        columns = self.hidden_size if index else self.input_size
        return PlainLayer(self._linear(columns, self.hidden_size), self._active(self.hidden_size))


class ResidualMLP(FeedForward):
    """Layers beside an identity, so that a gradient has a way past all of them.

    Args:
        order: `pre` activates within the branch alone, so that the way past it is clean to the last layer; `post`
            activates the sum, which for sigmoid shuts the way.

    Other arguments as of `FeedForward`; a layer holds two matrices.

    Source: He, K., Zhang, X., Ren, S., Sun, J. (2016). Deep residual learning for image recognition. CVPR 2016,
    770-778, eq. 1 (`post`); Identity mappings in deep residual networks. ECCV 2016, 630-645, eq. 5 (`pre`).

    >>> from unvanish import flow
    >>> flow.depth(ResidualMLP(4, 16, 2, num_layers=20, activation="sigmoid"), torch.randn(8, 4)).reach
    19
    """

    def __init__(self, *args: Any, order: str = "pre", **keywords: Any) -> None:
        if order not in ("pre", "post"):
            raise OptionError(f"order is {order!r}: give 'pre' or 'post'")
        self.order = order
        super().__init__(*args, **keywords)

    def _layer(self, index: int) -> nn.Module:
        width = self.hidden_size
        first, second = self._linear(width, width), self._linear(width, width)
        return ResidualLayer(first, second, [self._active(width), self._active(width)], self.order)


class DenseMLP(FeedForward):
    """Every layer, and the output, sees the input and what all earlier layers gave, side by side.

    Arguments as of `FeedForward`. Matrices grow with depth: the last layer reads I + (D - 1) H numbers.

    Source: Huang, G., Liu, Z., van der Maaten, L., Weinberger, K. Q. (2017). Densely connected convolutional
    networks. CVPR 2017, 4700-4708, eq. 2.

    >>> from unvanish import flow
    >>> flow.depth(DenseMLP(4, 16, 2, num_layers=20, activation="sigmoid"), torch.randn(8, 4)).reach
    19
    """

    def _entry(self) -> nn.Module:
        return nn.Identity()

    def _layer(self, index: int) -> nn.Module:
        columns = self.input_size + index * self.hidden_size
        return PlainLayer(self._linear(columns, self.hidden_size), self._active(self.hidden_size))

    def _read_out_of(self) -> int:
        return self.input_size + self.num_layers * self.hidden_size

    def _through(self, x_BH: Tensor) -> Tensor:
        seen = [x_BH]
        for layer in self.layers:
            seen.append(layer(torch.cat(seen, -1)))
        return torch.cat(seen, -1)


class HighwayMLP(FeedForward):
    """Layers with a gate that says how much of them is taken, and how much of their input is carried past.

    Args:
        gate_bias: where the gates' biases begin; the further below 0, the more is carried.

    Other arguments as of `FeedForward`.

    Source: Srivastava, R. K., Greff, K., Schmidhuber, J. (2015). Training very deep networks. NIPS 28, 2377-2385,
    eq. 3, with its bias of -2 and below for deep networks.

    >>> from unvanish import flow
    >>> flow.depth(HighwayMLP(4, 16, 2, num_layers=20, activation="sigmoid"), torch.randn(8, 4)).reach
    19
    """

    def __init__(self, *args: Any, gate_bias: float = -2.0, **keywords: Any) -> None:
        self.gate_bias = float(gate_bias)
        super().__init__(*args, **keywords)

    def _layer(self, index: int) -> nn.Module:
        width = self.hidden_size
        plain = PlainLayer(self._linear(width, width), self._active(width))
        return HighwayLayer(plain, self._linear(width, width), self.gate_bias)


def _keywords(network: FeedForward) -> set[str]:
    """The keywords that a network takes."""
    kinds = (FeedForward, type(network))
    found = {name for kind in kinds for name in inspect.signature(kind.__init__).parameters}
    return found - {"self", "args", "keywords", "unknown", "norm"}


def _fill(network: FeedForward, init: Init) -> None:
    """Fill the parameters of a network as `init` says; see `FeedForward`."""
    parameters = dict(network.named_parameters())
    for one in init if isinstance(init, list | tuple) else () if init is None else (init,):
        if not isinstance(one, Mapping):
            found = known(one)
            square = isinstance(found, ArrayInitialiser) and found.recurrent
            one = {name: found for name, p in parameters.items() if _is_meant(p, square, network)}
            if not one:
                raise OptionError(f"no matrix leads from hidden to hidden, for {found!r}: name the one it is for")
        for name, initialiser in resolve(one, parameters).items():
            if isinstance(initialiser, LayerInitialiser):
                raise OptionError(
                    f"'{initialiser.word}' is about what a state keeps in time, and a feed-forward network has none"
                )
            apply(initialiser, name, parameters[name])


def _is_meant(parameter: Tensor, square: bool, network: FeedForward) -> bool:
    hidden = (network.hidden_size, network.hidden_size)
    return parameter.dim() == 2 and (not square or tuple(parameter.shape) == hidden)
