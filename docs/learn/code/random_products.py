"""Products of random numbers: why a variance of one per factor is what is wanted, and v^(1/n) in general."""

# --8<-- [start:product]
import matplotlib.pyplot as plt
import numpy as np

random = np.random.default_rng(0)
DRAWS, LONGEST = 400_000, 8


def factors(variance):
    """Uniform numbers of mean 0."""
    edge = np.sqrt(3 * variance)
    return random.uniform(-edge, edge, (DRAWS, LONGEST))


for v in (0.5, 1.0, 1.5):
    measured = factors(v).prod(1).var()
    print(f"v = {v}: variance of a product of {LONGEST}: {measured:.4f}, v^{LONGEST} = {v**LONGEST:.4f}")
# --8<-- [end:product]


# --8<-- [start:figure]
n = np.arange(1, LONGEST + 1)
for v in (0.5, 1.0, 1.5):
    (line,) = plt.semilogy(n, factors(v).cumprod(1).var(0), "o", label=f"v = {v}")
    plt.semilogy(n, v**n, color=line.get_color())
kept = [factors(0.7 ** (1 / count))[:, :count].prod(1).var() for count in n]
plt.semilogy(n, kept, "s", label="v = 0.7^(1/n)")
plt.xlabel("n, factors")
plt.ylabel("variance of the product")
plt.legend()
plt.show()
# --8<-- [end:figure]


# --8<-- [start:typical]
product = factors(1.0).prod(1) ** 2
largest = np.sort(product)[-DRAWS // 100 :]
print(f"mean {product.mean():.2f}, median {np.median(product):.4f}")
print(f"the largest hundredth of the products holds {largest.sum() / product.sum():.0%} of the mean")
# --8<-- [end:typical]


# --8<-- [start:asserts]
assert max(abs(one - 0.7) for one in kept) < 0.1
assert np.median(product) < 0.05
# --8<-- [end:asserts]
