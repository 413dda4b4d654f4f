"""A cell of your own, from its equations to a trained network: the minimal gated unit of Zhou et al. (2016)."""

import tempfile
from pathlib import Path

from unvanish import Cell
from unvanish.record import RunRecord
from unvanish.report import write_report
from unvanish.train import TrainSettings, train

mgu = Cell(
    name="mgu",
    equations="""
        f    = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)
        n    = tanh(W_n @ x[t] + U_n @ (f * h[t-1]) + b_n)
        h[t] = (1 - f) * h[t-1] + f * n
    """,
)
folder = Path(tempfile.mkdtemp())
text = folder / "text.txt"
text.write_text("the gradient of the last step reaches the first step, if the gate lets it. " * 400)
settings = TrainSettings(str(text), hidden=32, layers=1, length=40, batch_size=16, epochs=3, probes=2)
train(settings, folder / "mgu", cell=mgu)
print(write_report(folder / "mgu"))

# The text repeats itself after 75 characters: a network that has learnt it is hardly surprised any more.
losses = [line["loss"] for line in RunRecord.open(folder / "mgu").read("valid")]
assert losses[-1] < 0.3 < losses[0], losses
