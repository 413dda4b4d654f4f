"""The sentence under each picture of a comparison."""

LOSS = (
    "How wrong each run was on data that it was not trained on, and, thin, on those it was trained on: lower is "
    "better."
)
LOSS_APART = " These losses are not of the same data or unit: only the shape of the curves can be compared."
PROFILES = (
    "How much of the gradient is left after so many steps back, at the last measurement of each run: the dot on a "
    "curve is its reach, where the gradient falls below the dotted 1 % line (a triangle where the true reach lies "
    "beyond what was looked at). A run learns from what the data need where its curve stays over that line up to "
    "the needed lag, and its window is longer."
)
FURTHEST = " Of each run the layer is drawn whose gradient comes furthest."
REACH = "How far back the gradient came as training went on, beside what the data need and the window."
STEPS = (
    "How many time steps back at least 1 % of the gradient comes in the layer where it comes furthest (“≥”: it was "
    "measured no further); of runs that differ only in the seed, the mean."
)
LOSSES = "The loss on data that a run was not trained on, the mean over seeds: lower is better."
SEEDS = "Lines of one colour are runs that differ only in the seed."
GROUP = "Runs that differ only in the seed, with their mean, the least and the greatest value of each figure."
