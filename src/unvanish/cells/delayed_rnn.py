"""Connections through time that skip steps: beside the ordinary one, and instead of it."""

from unvanish.equations import Cell

SKIP_RNN = Cell(
    name="skip_rnn",
    class_name="SkipRNN",
    equations="""
        h[t] = nonlinearity(W_h @ x[t] + U_h @ h[t-1] + V_h @ h[t-d] + b_h)
    """,
    delays={"d": 5},
    functions={"nonlinearity": "tanh"},
    cite="Lin, T., Horne, B. G., Tiňo, P., Giles, C. L. (1996). Learning long-term dependencies in NARX "
    "recurrent neural networks. IEEE Transactions on Neural Networks 7, 1329-1338.",
    note="Adds a connection from d steps back, along which the gradient takes one step instead of d.",
)

DELAYED_RNN = Cell(
    name="delayed_rnn",
    class_name="DelayedRNN",
    equations="""
        h[t] = nonlinearity(W_h @ x[t] + V_h @ h[t-d] + b_h)
    """,
    delays={"d": 5},
    functions={"nonlinearity": "tanh"},
    cite="El Hihi, S., Bengio, Y. (1995). Hierarchical recurrent neural networks for long-term "
    "dependencies. NIPS 8, 493-499.",
    note="The connection from t-1 is deleted, only that from d steps back is left.",
)
