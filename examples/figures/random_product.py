"""A product of n random numbers of mean 0 and variance v has variance v^n; so each must have v^(1/n) to keep v."""

import numpy as np
from drawing import folder, write

DRAWS, LONGEST = 400_000, 8
random = np.random.default_rng(0)


def draw(variance: float, count: int) -> np.ndarray:
    """Products of 1 … count factors, uniform in ±sqrt(3 · variance)."""
    edge = np.sqrt(3 * variance)
    return random.uniform(-edge, edge, (DRAWS, count)).cumprod(1)


def error(variance: float, n: int) -> float:
    """The standard error of a measured variance v^n: the fourth moment of a uniform number is 9/5 v²."""
    return variance**n * np.sqrt(1.8**n / DRAWS)


n = np.arange(1, LONGEST + 1)
measured = {v: draw(v, LONGEST).var(0) for v in (0.5, 1.0, 1.5)}
for v, variances in measured.items():
    for count in n:
        assert abs(variances[count - 1] - v**count) < 5 * error(v, count), (v, count)
wanted = 0.7
kept = np.asarray([draw(wanted ** (1 / count), count)[:, -1].var() for count in n])
for count in n:
    assert abs(kept[count - 1] - wanted) < 5 * error(wanted ** (1 / count), count), count
print(f"v = 0.5: {measured[0.5][-1]:.5f} after {LONGEST} factors, v^n = {0.5**LONGEST:.5f}; ", end="")
print(f"with {wanted}^(1/n) each: {kept.min():.3f} to {kept.max():.3f}, wanted {wanted}")

out = folder()
if out is not None:
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    for v, variances in measured.items():
        figure.add_trace(Scatter(x=n, y=variances, mode="markers", name=f"v = {v}, measured"))
        figure.add_trace(Scatter(x=n, y=v**n, mode="lines", line_dash="dot", name=f"{v}^n"))
    figure.add_trace(Scatter(x=n, y=kept, mode="lines+markers", name=f"v = {wanted}^(1/n) each"))
    figure.update_xaxes(title="n, factors", dtick=1)
    figure.update_yaxes(title="variance of the product", type="log", exponentformat="power")
    write(figure, out, "random_product", "The variance of a product of n random numbers")
