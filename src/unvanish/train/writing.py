"""Let a network of symbols write.

Shapes: T time, B batch, V symbols.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from unvanish.data.text import Vocabulary
from unvanish.data.tokens import Symbols
from unvanish.errors import OptionError
from unvanish.nn import States
from unvanish.train.model import TextModel
from unvanish.train.settings import MAX_SEED

KEPT = 8  # symbols that say how the next one is written: with a space before it, or as the rest of a character


def generate(
    model: TextModel,
    symbols: Symbols | Vocabulary,
    prompt: str,
    length: int,
    temperature: float = 1.0,
    seed: int | None = None,
    *,
    top_k: int = 0,
    top_p: float = 1.0,
) -> str:
    """Continue a prompt by `length` symbols: see `stream`."""
    numbers = stream(model, symbols, prompt, length, temperature, seed, top_k=top_k, top_p=top_p)
    return "".join(written(symbols, prompt, numbers))


def written(symbols: Symbols | Vocabulary, prompt: str, numbers: Iterable[int]) -> Iterator[str]:
    """Yield the text of numbers as they come, so that it goes on where the prompt ends."""
    found = symbols.encode(prompt).tolist()[-KEPT:]
    shown = len(symbols.decode(found))
    for number in numbers:
        found = [*found, number]
        text = symbols.decode(found)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):  # the first bytes of a character
            yield text[shown:]
            found = found[-KEPT:]
            shown = len(symbols.decode(found))
    yield symbols.decode(found)[shown:]


def stream(
    model: TextModel,
    symbols: Symbols | Vocabulary,
    prompt: str,
    length: int,
    temperature: float = 1.0,
    seed: int | None = None,
    *,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Iterator[int]:
    """Yield the numbers of `length` symbols that continue a prompt, each as soon as it is drawn.

    Args:
        temperature: what the logits are divided by; 0 takes the most likely symbol.
        top_k: draw among so many of the most likely symbols; 0 for all.
        top_p: draw among the most likely symbols that have this probability together (Holtzman et al. 2020).

    Raises:
        OptionError: a value out of its range, or a prompt with what the run has never seen.
    """
    _check(temperature, length, seed, top_k, top_p)
    numbers = symbols.encode(prompt)
    if (numbers == 0).any():
        place = int((numbers == 0).nonzero()[0])
        unknown = symbols.cut(prompt)[place] if isinstance(symbols, Symbols) else prompt[place]
        raise OptionError(f"the run has never seen {unknown!r}: take it out of the prompt")
    numbers = numbers if len(numbers) else torch.ones(1, dtype=torch.long)
    generator = torch.Generator()
    generator.manual_seed(seed) if seed is not None else generator.seed()
    return _drawn_one_by_one(model, numbers, length, temperature, generator, top_k, top_p)


def _check(temperature: float, length: int, seed: int | None, top_k: int, top_p: float) -> None:
    if not 0 <= temperature < math.inf:
        raise OptionError(f"--temperature is {temperature}: give a finite number from 0 on")
    if length < 0:
        raise OptionError(f"--length is {length}: give the number of symbols to write, from 0 on")
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise OptionError(f"--seed is {seed}: give a whole number from 0 to {MAX_SEED}")
    if top_k < 0:
        raise OptionError(f"--top-k is {top_k}: give how many symbols to draw among, or 0 for all")
    if not 0 < top_p <= 1:
        raise OptionError(f"--top-p is {top_p}: give a probability over 0, up to 1")


@torch.no_grad()
def _drawn_one_by_one(
    model: TextModel,
    numbers: Tensor,
    length: int,
    temperature: float,
    generator: torch.Generator,
    top_k: int,
    top_p: float,
) -> Iterator[int]:
    device = model.device
    states: States | None = None
    numbers = numbers.to(device)
    was_training = model.training
    model.eval()
    try:
        for _ in range(length):
            answer, states = model(numbers[:, None], states)
            logits_V = model.logits(answer[-1:])[-1, 0, 1:].float().cpu()
            numbers = _drawn(logits_V, temperature, generator, top_k, top_p).to(device) + 1
            yield int(numbers)
    finally:
        model.train(was_training)


def _drawn(logits_V: Tensor, temperature: float, generator: torch.Generator, top_k: int, top_p: float) -> Tensor:
    if temperature == 0:
        return logits_V.argmax()[None]
    # In double precision and with the largest at 0, so that no temperature, however low, overflows.
    logits_V = (logits_V.double() - logits_V.max()) / temperature
    if 0 < top_k < len(logits_V):
        logits_V = logits_V.masked_fill(logits_V < logits_V.topk(top_k).values[-1], -math.inf)
    share_V = torch.softmax(logits_V, 0)
    if top_p < 1:
        ordered, places = share_V.sort(descending=True)
        before = ordered.cumsum(0) - ordered  # the first is always kept
        share_V[places[before >= top_p]] = 0
    return torch.multinomial(share_V, 1, generator=generator)
