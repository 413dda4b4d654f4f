"""The peer in JAX: the peephole LSTM as a jitted scan, with the gradients of all parameters.

The input product is hoisted out of time, all gates share one product a step, and the output's cotangent is pulled
back by `jax.vjp` inside the same jitted function. The kernels lie as (input, gates), as JAX libraries keep them.

Shapes: T time, B batch, I input, H hidden, G all gates side by side.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from compare import Case, Peer
from peers import PEEPHOLE
from torch import Tensor

KERNELS = ("weight_ih", "weight_hh")


def _load() -> Any:
    """Import JAX so that it uses as many threads as torch: it reads that once, when it is loaded."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["NPROC"] = os.environ["PJRT_NPROC"] = str(torch.get_num_threads())
    import jax

    return jax


def _step(jax: Any) -> Any:
    """Return the jitted training step: (parameters, x, cotangent) -> (output, gradients)."""
    jnp, sigmoid = jax.numpy, jax.nn.sigmoid

    def run(a: dict[str, Any], x_TBI: Any) -> Any:
        input_TBG = x_TBI @ a["weight_ih"] + a["bias"]
        p_i, p_f, p_o = jnp.split(a["peephole"], 3)

        def step(state: Any, gates_BG: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(gates_BG + h @ a["weight_hh"], 4, axis=1)
            c = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * jnp.tanh(g)
            h = sigmoid(o + p_o * c) * jnp.tanh(c)
            return (h, c), h

        zero_BH = jnp.zeros((x_TBI.shape[1], a["weight_hh"].shape[0]), x_TBI.dtype)
        return jax.lax.scan(step, (zero_BH, zero_BH), input_TBG)[1]

    def training_step(a: dict[str, Any], x_TBI: Any, cotangent_TBH: Any) -> Any:
        output_TBH, pull = jax.vjp(lambda parameters: run(parameters, x_TBI), a)
        return output_TBH, pull(cotangent_TBH)[0]

    return jax.jit(training_step)


class JaxSide:
    """One jitted training step, run to its end."""

    def __init__(self, case: Case, arrays: dict[str, Tensor]) -> None:
        self.jax = _load()
        self.step = _step(self.jax)
        kept = {name: array.t() if name in KERNELS else array for name, array in arrays.items()}
        parameters = {name: self._array(array) for name, array in kept.items()}
        self.given = parameters, self._array(case.x_TBI), self._array(case.cotangent_TBH)

    def _array(self, array: Tensor | None) -> Any:
        assert array is not None
        return self.jax.numpy.array(array.contiguous().numpy())

    def run(self) -> Any:
        return self.jax.block_until_ready(self.step(*self.given))

    def result(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the output and the gradients as torch keeps them."""
        output_TBH, slopes = self.run()
        found = {name: torch.from_numpy(self.jax.device_get(slope).copy()) for name, slope in slopes.items()}
        found |= {name: found[name].t() for name in KERNELS}
        return torch.from_numpy(self.jax.device_get(output_TBH).copy()), found


PEEPHOLE_SCAN = Peer("JAX scan", PEEPHOLE, JaxSide, "jax")
