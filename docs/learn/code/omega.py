"""Ω: a penalty that asks the gradient to keep its norm from step to step."""

# --8<-- [start:task]
import matplotlib.pyplot as plt
import torch

import unvanish

STEPS, HIDDEN, BATCH = 60, 50, 32


def first_symbol(generator):
    """What was the first of sixty symbols? The others say nothing."""
    x = torch.randint(2, (STEPS, BATCH), generator=generator)
    return torch.nn.functional.one_hot(x, 2).float(), x[0]


def trained(weight, updates=300):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    rnn, out = unvanish.RNN(2, HIDDEN, init="orthogonal"), torch.nn.Linear(HIDDEN, 2)
    omega = unvanish.penalty.Omega(weight).attach(rnn)
    optimizer = torch.optim.Adam([*rnn.parameters(), *out.parameters()], 1e-3)
    clip = unvanish.clip.ByNorm(1.0)
    probe = first_symbol(torch.Generator().manual_seed(1))[0]
    reaches = []
    for update in range(updates):
        x, y = first_symbol(generator)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(out(rnn(x)[0][-1]), y)
        loss.backward()
        if weight:
            omega()
        clip(optimizer)
        optimizer.step()
        if update % 20 == 0:
            found = unvanish.flow.profile(rnn, probe, generator=torch.Generator().manual_seed(1))
            reaches.append(found.reach)
    return reaches, float(loss.detach())


found = {weight: trained(weight) for weight in (0.0, 2.0)}
for weight, (reaches, loss) in found.items():
    print(f"Ω weight {weight}: reach at the start {reaches[0]}, at the end {reaches[-1]}, loss {loss:.3f}")
# --8<-- [end:task]


# --8<-- [start:figure]
for weight, (reaches, _) in found.items():
    plt.plot(range(0, 20 * len(reaches), 20), reaches, "o-", label=f"weight {weight}")
plt.axhline(STEPS - 1, color="0.6", linestyle=":")
plt.xlabel("updates")
plt.ylabel("reach, steps")
plt.legend()
plt.show()
# --8<-- [end:figure]


# --8<-- [start:asserts]
assert found[2.0][0][-1] > found[0.0][0][-1]
# --8<-- [end:asserts]
