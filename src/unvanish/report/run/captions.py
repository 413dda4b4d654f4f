"""The one sentence under each picture, for a reader who has never seen such a picture."""

FLOW = (
    "A recurrent network learns from the past through a gradient that travels backwards, one time step at a time. "
    "How much of it is left after k steps back, g(k) = √(E‖(∂sₜ/∂sₜ₋ₖ)ᵀv‖² / E‖v‖²) over random v, decides how far "
    "back the network can learn from."
)
HEAT = (
    "Each row is one moment of training, each column one time step further into the past: bright where all of the "
    "gradient arrives, dark where it has vanished. The white line is the reach of the full state."
)
HEAT_ABSENT = "Measured once so far: the map over training begins with the second measurement."
PROFILE = (
    "How much of the gradient is left after so many steps back: past the point where the curve falls below "
    "the dotted 1 % line, the network hardly learns from what it saw."
)
PROFILE_GREY = " Grey: at moments in between."
LOSS_NORMS = (
    "How strongly the loss of one batch pulls at the state of each time step, at the last measurement "
    "(dotted: at the first); the time steps on the left feel what happens later only through the gradient that "
    "reaches them."
)
LOSS_NORMS_AGAIN = "The same for this layer, on the same scale."
GRADIENT_NORM = (
    "How large the gradient of all parameters was: a spike is a batch that pulled much harder than usual."
)
PARAMETER_NORM = (
    "How large the parameters are: it should rise smoothly and level off; a jump means that one update went too "
    "far."
)
CLIPPED = (
    "How often the gradient was cut back for being too large: near 100 %, the limit and not the gradient "
    "sets the size of the updates."
)
STEPS = (
    "How many time steps back the data need, how long a window of training is, and how far back at least 1 % of "
    "the gradient of each layer's full state comes where no window cuts it (“≥”: it was measured no further)."
)
ANSWERS = "On data that it was not trained on, beside answers that need no network: {more} is better."
REMEDIES = (
    "What was done against a gradient that vanishes or explodes, how often it acted, and how far the gradient "
    "reached."
)
REMEDIES_AT_START = (
    "Measured once, before the first training step: the same network without it → with it, from the same random "
    "numbers."
)
REMEDIES_NOISE = " What draws random numbers is measured as it is in training."
REMEDIES_IN_TRAINING = (
    "Measured on the network alone, without clip and penalty: when it began to act → at the last measurement. What "
    "lies between is all of the training, not this remedy alone."
)
FORECAST = (
    "Forecasts of the {part} part: what was known (line), what came (dots), the median that was forecast (thick), "
    "and bands that are meant to hold 80 % and 95 % of what comes."
)
CONFUSION = "Of {whole} {unit}s of the {part} part it gets {right} right"
