"""Remedies for a plain recurrence whose gradient is lost: each is measured, then Ω holds one in training."""

import torch

import unvanish
from unvanish import clip, flow, penalty

torch.manual_seed(0)
x = torch.randn(120, 4, 2)


def reach(layer: unvanish.Recurrent) -> int:
    """How many steps 1 % of the gradient's norm goes back."""
    return flow.profile(layer, x).reach


flossed = unvanish.RNN(2, 16)
done = penalty.Flossing(count=4, rows=2).prepare(flossed, x[:25], steps=40, lr=0.03)
layers = {
    "as it is": unvanish.RNN(2, 16),
    "orthogonal": unvanish.RNN(2, 16, init={"U_h": "orthogonal"}),
    "skips": unvanish.RNN(2, 16, skips=(10, 40)),
    "flossed": flossed,
    "LSTM, chrono": unvanish.LSTM(2, 16, init="chrono:30"),
}
found = {name: reach(layer) for name, layer in layers.items()}
print(done, found, sep="\n")
assert all(steps > 2 * found["as it is"] for name, steps in found.items() if name != "as it is")

# In training: Ω beside a clip, on the question which sign the first number had.
layer, out = unvanish.RNN(1, 16, init={"U_h": "normal:0.4"}), torch.nn.Linear(16, 1)
omega, clipper = penalty.Omega(2.0).attach(layer), clip.ByNorm(1.0)
parameters = [*layer.parameters(), *out.parameters()]
optimizer = torch.optim.Adam(parameters, 3e-3)
records = []
for _ in range(300):
    sequence = torch.randn(15, 32, 1)
    optimizer.zero_grad()
    answer = out(layer(sequence)[0][-1]).squeeze(-1)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(answer, (sequence[0, :, 0] > 0).float())
    loss.backward()
    records.append(omega())  # adds its gradient, before the clip
    clipper(parameters)
    optimizer.step()
first, last = records[0], records[-1]
print(f"Ω {first.value:.2f} → {last.value:.2f}, spread of the norm ratios {first.spread['l0']:.2f} → ", end="")
print(f"{last.spread['l0']:.2f}; {clipper!r}")
assert last.value < 0.5 * first.value, (first, last)
