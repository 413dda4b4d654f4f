"""LSTM whose gates see the memory: the input and forget gate the old one, the output gate the new one."""

from unvanish.equations import Cell

PEEPHOLE_LSTM = Cell(
    name="peephole_lstm",
    class_name="PeepholeLSTM",
    equations="""
        i    = sigmoid(W_i @ x[t] + U_i @ h[t-1] + p_i * c[t-1] + b_i)
        f    = sigmoid(W_f @ x[t] + U_f @ h[t-1] + p_f * c[t-1] + b_f)
        g    = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
        c[t] = f * c[t-1] + i * g
        o    = sigmoid(W_o @ x[t] + U_o @ h[t-1] + p_o * c[t] + b_o)
        h[t] = o * tanh(c[t])
    """,
    initial={"b_f": 1.0},
    cite="Gers, F. A., Schmidhuber, J. (2000). Recurrent nets that time and count. IJCNN 2000, 189-194.",
    note="LSTM for counting and timing: its gates see the memory.",
)
