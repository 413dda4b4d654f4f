"""The gated recurrent units: with the update gate alone, with the reset after the product (torch's), and before it.

Here z keeps the old state, as in Cho et al. (2014) and in torch; some texts let the update gate take in the
new one, h[t] = z * n + (1 - z) * h[t-1], which is the same cell with z and 1 - z exchanged.
"""

from unvanish.equations import Cell

SIMPLE_GRU = Cell(
    name="simple_gru",
    class_name="SimpleGRU",
    equations="""
        z    = sigmoid(W_z @ x[t] + U_z @ h[t-1] + b_z)
        n    = tanh(W_n @ x[t] + U_n @ h[t-1] + b_n)
        h[t] = (1 - z) * n + z * h[t-1]
    """,
    cite="Cho, K. et al. (2014). Learning phrase representations using RNN encoder-decoder. EMNLP 2014, "
    "1724-1734 (without the reset gate).",
    note="The GRU with its update gate alone.",
)

GRU = Cell(
    name="gru",
    class_name="GRU",
    equations="""
        r    = sigmoid(W_r @ x[t] + b_r + U_r @ h[t-1] + bh_r)
        z    = sigmoid(W_z @ x[t] + b_z + U_z @ h[t-1] + bh_z)
        n    = tanh(W_n @ x[t] + b_n + r * (U_n @ h[t-1] + bh_n))
        h[t] = (1 - z) * n + z * h[t-1]
    """,
    cite="Cho, K. et al. (2014). On the properties of neural machine translation: encoder-decoder "
    "approaches. SSST-8, 103-111; the variant of cuDNN and torch.nn.GRU.",
    note="The GRU of torch: the reset gate acts after the product, so one product serves all gates.",
)

GRU_RESET_BEFORE = Cell(
    name="gru_reset_before",
    class_name="GRUResetBefore",
    equations="""
        r    = sigmoid(W_r @ x[t] + U_r @ h[t-1] + b_r)
        z    = sigmoid(W_z @ x[t] + U_z @ h[t-1] + b_z)
        n    = tanh(W_n @ x[t] + U_n @ (r * h[t-1]) + b_n)
        h[t] = (1 - z) * n + z * h[t-1]
    """,
    cite="Cho, K. et al. (2014). Learning phrase representations using RNN encoder-decoder. EMNLP 2014, 1724-1734.",
    note="The GRU as published: the reset gate acts before the product.",
)
