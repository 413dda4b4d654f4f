"""Our clips in somebody's loop are seen as torch's are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unvanish import clip
from unvanish.diagnosis.watch.trace import trace_step


@pytest.mark.parametrize(
    ("made", "kind"), [(clip.ByNorm(0.01), "norm"), (clip.ByValue(0.001), "value"), (clip.PerLayer(0.01), "other")]
)
def test_a_clip_of_ours_is_seen(made: clip.Clip, kind: str) -> None:
    layer, x_TBI = nn.LSTM(3, 4), torch.randn(5, 2, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)

    def step() -> None:
        optimizer.zero_grad()
        layer(x_TBI)[0].sum().backward()
        made(layer)
        optimizer.step()

    trace = trace_step(layer, optimizer, step)
    (seen,) = trace.clips
    assert (seen.kind, seen.threshold, seen.backwards_before) == (kind, made.threshold, 1)
    assert seen.gradients & trace.stepped
    layer(x_TBI)[0].sum().backward()
    assert seen.norm == pytest.approx(float(torch.cat([p.grad.flatten() for p in layer.parameters()]).norm()))
