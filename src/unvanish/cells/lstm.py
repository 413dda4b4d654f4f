"""The long short-term memory with a forget gate, with the biases and the gate order of torch.nn.LSTM."""

from unvanish.equations import Cell

LSTM = Cell(
    name="lstm",
    class_name="LSTM",
    equations="""
        i    = sigmoid(W_i @ x[t] + b_i + U_i @ h[t-1] + bh_i)
        f    = sigmoid(W_f @ x[t] + b_f + U_f @ h[t-1] + bh_f)
        g    = tanh(W_g @ x[t] + b_g + U_g @ h[t-1] + bh_g)
        o    = sigmoid(W_o @ x[t] + b_o + U_o @ h[t-1] + bh_o)
        c[t] = f * c[t-1] + i * g
        h[t] = o * tanh(c[t])
    """,
    cite="Gers, F. A., Schmidhuber, J., Cummins, F. (2000). Learning to forget: continual prediction with "
    "LSTM. Neural Computation 12, 2451-2471.",
    note="Input, forget and output gate around a memory; equal to torch.nn.LSTM.",
)
