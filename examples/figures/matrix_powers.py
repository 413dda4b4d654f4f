"""Powers of a matrix: a vector going forward and a gradient going back shrink, or grow, at the same rate."""

import math

import numpy as np
from drawing import COLOURS, folder, write

from unvanish.flow import linear

STEPS = 60
start = np.asarray([1.0, 1.0])
turn = 0.3
cases = {
    "|λ| = 0.9": 0.9 * np.asarray([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]),
    "|λ| = 1.1": np.asarray([[1.1, 0.0], [0.3, 0.6]]),
    "|λ| = 0.9, not normal": np.asarray([[0.9, 4.0], [0.0, 0.7]]),
}
found = {name: linear(W, STEPS) for name, W in cases.items()}
courses = {name: (one.send_forward(start), one.send_back(start)) for name, one in found.items()}

for name, radius in zip(cases, (0.9, 1.1, 0.9), strict=True):
    assert abs(found[name].rate - math.log(radius)) < 1e-12
    for course in courses[name]:
        assert course.error < 1e-9  # the closed form, Σ λ^k r (l h), is the product
        slope = np.polyfit(range(STEPS // 2, STEPS + 1), course.log_norms[STEPS // 2 :], 1)[0]
        assert abs(slope - math.log(radius)) < 0.01
normal, odd = found["|λ| = 0.9"], found["|λ| = 0.9, not normal"]
assert normal.growth == 1
assert odd.growth > 5  # it ends as the first does, but it grows before
print(", ".join(f"{name}: {one.rate:+.3f} nats per step" for name, one in found.items()), end="; ")
print(f"the last one grows {odd.growth:.1f}-fold in {odd.peak} steps before it shrinks")

out = folder()
if out is not None:
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    for (name, both), colour in zip(courses.items(), COLOURS, strict=False):
        for course, way, dash in zip(both, ("forward", "back"), ("solid", "dot"), strict=True):
            line = {"color": colour, "dash": dash}
            figure.add_trace(Scatter(y=course.norms, name=f"{name}, {way}", line=line))
    figure.update_xaxes(title="k, steps")
    figure.update_yaxes(title="‖W^k h‖ (solid), ‖(W^k)ᵀ v‖ (dotted)", type="log", exponentformat="power")
    write(figure, out, "matrix_powers", "Powers of a matrix, forward and back")
