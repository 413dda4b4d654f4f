"""Groups of units with clocks of their own; slow groups speak to fast ones, never the reverse."""

from unvanish.equations import Cell, Grouped

CLOCKWORK_RNN = Cell(
    name="clockwork_rnn",
    class_name="ClockworkRNN",
    equations="""
        n    = tanh(W_h @ x[t] + U_h @ h[t-1] + b_h)
        h[t] = where(t % period == 0, n, h[t-1])
    """,
    # Exponential periods as in section 3 of the paper; groups stand from fast to slow, so that the matrix
    # is block upper triangular.
    numbers={"period": Grouped((1, 2, 4, 8, 16, 32, 64, 128))},
    slower_to_faster={"U_h": "period"},
    cite="Koutník, J., Greff, K., Gomez, F., Schmidhuber, J. (2014). A clockwork RNN. ICML 2014, 1863-1871.",
    note="A unit moves only when its period divides the time; a slow unit carries the gradient over long lags.",
)
