"""A series of hours that depends on itself a day and a week ago: the need is found, and a window has to be as long.

Half of the series is a daily wave, which any window shows. The other half is that of a week ago with a little new,
so that nothing of the last days tells it. `unvanish.train.fit` measures that 168 steps are needed; a window of 100
hours cannot see them, and the run says so; one of 200 solves it. Both networks have a connection that skips from
the last hour of a forecast to what was a week before it: a plain LSTM would have to learn to keep 168 numbers apart.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from unvanish.train import fit

WEEK, WEEKS, HORIZON = 168, 30, 6
rng = np.random.default_rng(1)
hours = np.arange(WEEK * WEEKS)
weekly = rng.normal(size=len(hours))
for hour in range(WEEK, len(hours)):
    weekly[hour] = 0.97 * weekly[hour - WEEK] + 0.24 * weekly[hour]
series = pl.DataFrame({"t": hours, "y": np.sin(2 * np.pi * hours / 24) + weekly})

errors = {}
for window in (100, 200):
    said: list[str] = []
    found = fit(
        series,
        time="t",
        target=["y"],
        horizon=HORIZON,
        length=window,
        skips=[WEEK - HORIZON],
        hidden=32,
        layers=1,
        epochs=250,
        lr=1e-2,
        likelihood="point",
        device="cpu",
        say=said.append,
    )
    (need,) = (line for line in said if line.startswith("need"))
    print(f"window {window}: {need}")
    assert ("cut that off" in need) == (window < WEEK)
    assert found.measured.need is not None
    assert (found.measured.need.lag or 0) >= WEEK - HORIZON
    errors[window] = found.measured.metrics["mae"] or 0.0
print(f"mean absolute error on what was held back: {errors[100]:.2f} with 100 hours, {errors[200]:.2f} with 200")
assert errors[200] < 0.5 * errors[100]
