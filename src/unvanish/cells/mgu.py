"""The minimal gated unit: one gate says both what is forgotten before the product and how much is taken in.

The paper joins h[t-1] and x[t] into one vector, with one matrix for both; here each has its own, which is the same.
"""

from unvanish.equations import Cell

MGU = Cell(
    name="mgu",
    class_name="MGU",
    equations="""
        f    = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)
        n    = tanh(W_n @ x[t] + U_n @ (f * h[t-1]) + b_n)
        h[t] = (1 - f) * h[t-1] + f * n
    """,
    cite="Zhou, G.-B., Wu, J., Zhang, C.-L., Zhou, Z.-H. (2016). Minimal gated unit for recurrent neural "
    "networks. International Journal of Automation and Computing 13, 226-234.",
    note="One gate for the GRU's two: it shuts out the old state and lets in the new by the same share.",
)
