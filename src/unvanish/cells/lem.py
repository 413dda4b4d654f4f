"""Long expressive memory: two states, each of whose units moves with a time step that is learnt and changes.

Equation (3) of the paper, where h is called y, the time steps are called Δt and Δt with a bar, and W stands at the
state, V at the input.
"""

from unvanish.equations import Cell

LEM = Cell(
    name="lem",
    class_name="LEM",
    equations="""
        dt_z = dt * sigmoid(W_dz @ x[t] + U_dz @ h[t-1] + b_dz)
        dt_h = dt * sigmoid(W_dh @ x[t] + U_dh @ h[t-1] + b_dh)
        z[t] = (1 - dt_z) * z[t-1] + dt_z * tanh(W_z @ x[t] + U_z @ h[t-1] + b_z)
        h[t] = (1 - dt_h) * h[t-1] + dt_h * tanh(W_h @ x[t] + V_h @ z[t] + b_h)
    """,
    numbers={"dt": 1.0},
    cite="Rusch, T. K., Mishra, S., Erichson, N. B., Mahoney, M. W. (2022). Long expressive memory for sequence "
    "modeling. ICLR 2022.",
    note="Two states on many time scales at once, from a discretised system of differential equations.",
)
