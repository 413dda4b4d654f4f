"""“The cat, which the dogs saw, was full”: the verb agrees with a noun far before it."""

# --8<-- [start:sentences]
import matplotlib.pyplot as plt
import torch
from torch.nn.functional import cross_entropy

import unvanish
from unvanish.tasks.agreement import WORDS

task = unvanish.tasks.Agreement(distance=30, attractors=1)
print(task.draw(1, seed=0).text()[0])
print(f"the verb needs its subject {task.needed} steps before it; guessing is right in {task.chance:.0%}")
# --8<-- [end:sentences]


# --8<-- [start:train]
def trained(init, updates=400):
    torch.manual_seed(0)
    words, lstm = torch.nn.Embedding(len(WORDS), 32), unvanish.LSTM(32, 64, init=init)
    out = torch.nn.Linear(64, len(WORDS))
    optimizer = torch.optim.Adam([*words.parameters(), *lstm.parameters(), *out.parameters()], 1e-2)
    probe = words(task.draw(16, seed=10**6).codes_TB[:-1]).detach()
    profile = unvanish.flow.profile(lstm, probe, generator=torch.Generator().manual_seed(1), draws=4)
    clip, right = unvanish.clip.ByNorm(1.0), []
    for update in range(updates):
        sentences = task.draw(32, seed=update)
        logits = out(lstm(words(sentences.codes_TB[:-1]))[0])
        loss = cross_entropy(logits[sentences.verb - 1], sentences.codes_TB[sentences.verb])
        optimizer.zero_grad()
        loss.backward()
        clip(optimizer)
        optimizer.step()
        right.append(task.accuracy(logits.detach(), sentences))
    return right, profile


found = {"as usual": trained(None), "gates begun for 30 steps": trained("chrono:30")}
for name, (right, profile) in found.items():
    late = sum(right[-50:]) / 50
    print(f"{name:26} reach at the start {profile.reach:2}; right in {late:.0%} of the last sentences")
# --8<-- [end:train]


# --8<-- [start:figure]
for name, (right, _) in found.items():
    mean = torch.tensor(right).unfold(0, 25, 1).mean(1)
    plt.plot(range(25, 25 + len(mean)), mean, label=name)
plt.axhline(0.5, color="0.6", linestyle=":")
plt.xlabel("updates")
plt.ylabel("right verbs, mean of 25")
plt.legend()
plt.show()
# --8<-- [end:figure]


# --8<-- [start:asserts]
late = {name: sum(right[-50:]) / 50 for name, (right, _) in found.items()}
assert late["as usual"] < 0.7 < 0.95 < late["gates begun for 30 steps"]
# --8<-- [end:asserts]
