"""Leaky units: each keeps a share of its old value, and so its own time scale of about 1/(1 - alpha) steps.

Jaeger et al. (2007) write the leak as the share let in; here alpha is the share kept.
"""

from unvanish.equations import Cell, Drawn

_CITE = (
    "Jaeger, H., Lukoševičius, M., Popovici, D., Siewert, U. (2007). Optimization and applications of echo "
    "state networks with leaky-integrator neurons. Neural Networks 20, 335-352."
)

LEAKY_RNN = Cell(
    name="leaky_rnn",
    class_name="LeakyRNN",
    equations="""
        h[t] = alpha * h[t-1] + (1 - alpha) * nonlinearity(W_h @ x[t] + U_h @ h[t-1] + b_h)
    """,
    numbers={"alpha": Drawn(0.5, 0.99)},
    functions={"nonlinearity": "tanh"},
    cite=_CITE,
    note="Leaky units with fixed shares alpha, drawn once from a range or given.",
)

TRAINED_LEAKY_RNN = Cell(
    name="trained_leaky_rnn",
    class_name="TrainedLeakyRNN",
    equations="""
        alpha = sigmoid(a)
        h[t]  = alpha * h[t-1] + (1 - alpha) * nonlinearity(W_h @ x[t] + U_h @ h[t-1] + b_h)
    """,
    initial={"a": 2.2},  # sigmoid(2.2) = 0.9, a memory of ten steps
    functions={"nonlinearity": "tanh"},
    cite=_CITE,
    note="Leaky units whose shares alpha = sigmoid(a) are trained.",
)
