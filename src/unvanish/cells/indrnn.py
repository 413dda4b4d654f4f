"""Units that are independent of each other in time: each sees its own past alone, through one weight.

The gradient along k steps is, unit by unit, u^k times the slopes of the nonlinearity, so that the bound
|u| <= 2^(1/T) of the paper keeps it from exploding over T steps. Units meet in the layer above: stack two or more.
"""

from unvanish.equations import Cell

INDRNN = Cell(
    name="indrnn",
    class_name="IndRNN",
    equations="""
        h[t] = nonlinearity(W_h @ x[t] + u_h * h[t-1] + b_h)
    """,
    # The authors draw u from (0, 1), and begin at 1 where the last output alone counts. Here every unit begins
    # with the longest memory; init={"u_h": torch.nn.init.uniform_} draws.
    initial={"u_h": 1.0},
    functions={"nonlinearity": "relu"},
    cite="Li, S., Li, W., Cook, C., Zhu, C., Gao, Y. (2018). Independently recurrent neural network (IndRNN): "
    "building a longer and deeper RNN. CVPR 2018, 5457-5466.",
    note="Each unit has one recurrent weight of its own, whose powers are the gradient along time.",
)
