"""The one sentence under each picture, for a reader who has never seen such a picture."""

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
# Which gradient the profiles are of, by what a diagnosis says of it.
MEASURED = {
    "random directions": (
        " It is a gradient that starts in random directions of the layer's last state: it says what the recurrence "
        "lets through, whatever the loss asks of it."
    ),
    "the loss": (
        " It is the gradient of the loss by the steps of the input, relative to its median: no recurrence can be "
        "seen."
    ),
}
GAIN = (
    "How much of what comes next is predicted with so many steps of context, in data that were held out, with the "
    "standard error as a band: the needed lag is where the curve has all but 1 % of its height."
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
    "How strongly the loss of this batch pulls at the state of each time step: those on the left feel what "
    "happens later only through the gradient that reaches them."
)
