"""`t % period` is torch.remainder in the type of the layer, for every period."""

from __future__ import annotations

import pytest
import torch

from unvanish import Cell, Recurrent

STEPS, UNITS = 100, 24
PERIODS = [3.7, 0.1, 1 / 3, -3, -0.7, 1, 2, 7, 1e-3, 1e6, 123.456, 0.5, 1e30, -1e-5, 2.0000001]


@pytest.mark.parametrize(
    "start", [0, (1 << 24) - 7, (1 << 31) + 1, (1 << 53) - 100], ids=["0", "2^24", "2^31", "2^53"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("engine", ["native", "reference"])
def test_phase_is_torchs_remainder_bit_by_bit(engine: str, dtype: torch.dtype, start: int) -> None:
    cell = Cell(
        "phase", "h[t] = where(t % p < q, 1, 0) + 0 * (W @ x[t]) + 0 * h[t-1]", numbers={"p": 1.0, "q": 1.0}
    )
    period = torch.tensor((PERIODS * 2)[:UNITS], dtype=dtype)
    time_T1 = torch.arange(start, start + STEPS)[:, None].to(dtype)
    wanted = torch.remainder(time_T1, period)
    for step in (
        0,
        1,
        STEPS // 2,
        STEPS - 1,
    ):  # a bound just over one of the remainders tells it from its neighbours
        for bound in (wanted[step], torch.nextafter(wanted[step], torch.tensor(torch.inf, dtype=dtype))):
            layer = Recurrent(cell, 1, UNITS, dtype=dtype, engine=engine, p=period, q=bound)
            states = (*layer.zero_states(1)[:-1], torch.full((1, 1, 1), start))
            found, _ = layer(torch.zeros(STEPS, 1, 1, dtype=dtype), states)
            assert torch.equal(found[:, 0], (wanted < bound).to(dtype))


def test_phase_of_a_half_counts_past_what_a_half_can() -> None:
    cell = Cell("phase", "h[t] = where(t % 2 == 0, 1, 0) + 0 * (W @ x[t]) + 0 * h[t-1]")
    layer = Recurrent(cell, 1, 2, dtype=torch.bfloat16)
    found, _ = layer(torch.zeros(600, 1, 1, dtype=torch.bfloat16))
    assert found[::2].eq(1).all()
    assert found[1::2].eq(0).all()
