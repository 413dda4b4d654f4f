"""Coupled oscillators: h is where a unit is, z how fast it moves; gamma pulls it back, epsilon damps it.

Equation (3) of the paper, where h is called y, in its explicit version: the damping acts on z[t-1], as in the
authors' code, not on z[t].
"""

from unvanish.equations import Cell

CORNN = Cell(
    name="cornn",
    class_name="CoRNN",
    equations="""
        f    = tanh(W_f @ x[t] + U_f @ h[t-1] + V_f @ z[t-1] + b_f)
        z[t] = z[t-1] + dt * (f - gamma * h[t-1] - epsilon * z[t-1])
        h[t] = h[t-1] + dt * z[t]
    """,
    # What the authors' code takes for sequential MNIST.
    numbers={"dt": 0.042, "gamma": 2.7, "epsilon": 4.7},
    cite="Rusch, T. K., Mishra, S. (2021). Coupled oscillatory recurrent neural network (coRNN): an accurate and "
    "(gradient) stable architecture for learning long time dependencies. ICLR 2021.",
    note="A network of damped, driven oscillators; short time steps dt bound the gradient from both sides.",
)
