"""The plain recurrent network of Elman (1990), with the two biases and the parameter order of torch.nn.RNN."""

from unvanish.equations import Cell

RNN = Cell(
    name="rnn",
    class_name="RNN",
    equations="""
        h[t] = nonlinearity(W_h @ x[t] + b_h + U_h @ h[t-1] + bh_h)
    """,
    functions={"nonlinearity": "tanh"},
    cite="Elman, J. L. (1990). Finding structure in time. Cognitive Science 14, 179-211.",
    note="The plain recurrence; nonlinearity is tanh, sigmoid, relu or identity.",
)
