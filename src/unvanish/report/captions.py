"""The one sentence under each picture, for a reader who has never seen such a picture."""

LOSS = (
    "How wrong each next character was, on the text it learns from and on text it has never seen: lower is "
    "better, and a widening gap between the two means that it learns by heart."
)
FLOW = (
    "A recurrent network learns from the past through a gradient that travels backwards, one step at a time. "
    "How much of it is left after so many steps decides how far back the network can learn from."
)
HEAT = (
    "Each row is one moment of training, each column one step further into the past: bright where all of the "
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
    "(dotted: at the first); the steps on the left feel what happens later only through the gradient that "
    "reaches them."
)
LOSS_NORMS_AGAIN = "The same for this layer, on the same scale."
GRADIENT_NORM = (
    "How large the gradient of all parameters was: a spike is a batch that pulled much harder than usual."
)
PARAMETER_NORM = (
    "How large the parameters are: it should rise smoothly and level off; a jump means that one step went too far."
)
CLIPPED = (
    "How often the gradient was cut back for being too large: near 100 %, the limit and not the gradient "
    "sets the size of the steps."
)
REMEDIES = (
    "What was done against a gradient that vanishes or explodes, how often it acted, and how far the gradient "
    "reached."
)
REMEDIES_AT_START = (
    "Measured once, before the first step: the same network without it → with it, from the same random numbers."
)
REMEDIES_NOISE = " What draws random numbers is measured as it is in training."
REMEDIES_IN_TRAINING = (
    "Measured on the network alone, without clip and penalty: when it began to act → at the last measurement. What "
    "lies between is all of the training, not this remedy alone."
)

OVERVIEW = (
    "Below, how much of the gradient is left after so many steps back: where a curve falls under the dotted "
    "1 % line, that layer no longer learns from what it saw (its dashed line marks the place). Above, how "
    "strongly the data themselves depend on what lies so far back: filled points stand out from chance, hollow "
    "ones and the grey band do not. A curve has to stay over 1 % up to the line of the needed lag."
)
OVERVIEW_WITHOUT_DATA = (
    "How much of the gradient is left after so many steps back: where a curve falls under the dotted 1 % "
    "line, that layer no longer learns from what it saw (its dashed line marks the place); it has to stay "
    "over 1 % up to the line of the needed lag."
)
OVERVIEW_WITHOUT_PROFILES = (
    "How strongly the data depend on what lies so many steps back: filled points stand out from chance, hollow "
    "ones and the grey band do not, and the network has to learn from as far back as the line of the needed lag."
)
GROWS = " Over 100 % the gradient grows on its way back."
PART_PROFILE = (
    "How much of the gradient is left after so many steps back, in all and in each of the layer's states: "
    "past the point where the thick curve falls below the dotted 1 % line, it hardly learns from what it saw."
)
SPECTRUM = (
    "Each point is one way in which the layer's state can change: inside the circle it shrinks in a step, "
    "outside it grows, and the points nearest to the circle are what can be remembered for long."
)
EXPONENTS = (
    "How fast small differences between two states grow (above zero) or die out (below) in the long run, the "
    "slowest to die out first: a bar at −0.1 loses a tenth in every step, one near zero remembers."
)
SATURATION = (
    "How often each activation sits where it is flat, so that hardly any gradient passes through it, and how "
    "steep it is in the mean, where 100 % is as steep as it can be."
)
MEMORIES = (
    "For how many steps a state holds on to what it has, if nothing is written to it: after so many steps a "
    "third of it is left, and it should be about as long as the needed lag."
)
SPLIT = (
    "What makes the gradient shrink (left of zero) or grow (right) in a step: the matrices it is multiplied "
    "with, and the activations that are flatter than they could be; the two add up to the rate."
)
PULL = (
    "How strongly the loss of this batch pulls at the state of each time step: steps on the left feel what "
    "happens later only through the gradient that reaches them."
)
