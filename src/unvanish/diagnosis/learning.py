"""Causes: what does not learn, in the recurrences and elsewhere in the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

from unvanish.diagnosis.facts import Facts
from unvanish.diagnosis.findings import Cause, PartFinding
from unvanish.flow.finding.graph import GraphPart
from unvanish.flow.finding.observe import Seen

STARVED = 1e-7  # of the largest gradient of any module: less is rounding in single precision


def _arrives(part: PartFinding) -> bool:
    return any(norm for norms in part.loss_norms.values() for norm in norms)


def named(seen: Seen) -> str:
    """What a recurrence is called in a sentence."""
    return seen.name or "the layer"


def parameters(facts: Facts) -> Iterator[Cause]:
    """What does not learn in the recurrences: frozen matrices, modules and directions that no gradient reaches."""
    for seen in facts.observation.seen.values():
        own = list(seen.module.named_parameters(prefix=seen.name if seen.path is None else seen.path))
        matrices = [(name, p) for name, p in own if p.dim() == 2]
        frozen = [name for name, p in matrices if not p.requires_grad]
        if frozen:
            text = f"{len(frozen)} matrices of {named(seen)} are frozen ({frozen[0]}, …): they do not learn"
            yield Cause("frozen", seen.name, text, len(frozen), "matrices", "set requires_grad_(True)")
        trained = [name for name, p in own if p.requires_grad]
        found = [facts.observation.gradients.get(name) for name in trained]
        if trained and all(gradient is None or not gradient.any() for gradient in found):
            text = f"no gradient of the loss arrives at {named(seen)}: nothing in it learns"
            advice = "use its output in the loss, without detach(), no_grad() or weights of zero after it"
            yield Cause("disconnected", seen.name, text, 0, "gradient", advice)
            continue
        of_module = [part for part in facts.parts if part.module == seen.name]
        for part in of_module:
            if not _arrives(part) and any(_arrives(other) for other in of_module):
                text = f"no gradient of the loss arrives at {part.name}: its share of the output is never read"
                advice = "read it (both halves of a bidirectional output), or take it away"
                yield Cause("disconnected", part.name, text, 0, "gradient", advice)


def elsewhere(facts: Facts) -> Iterator[Cause]:
    """What does not learn before or after the recurrences: frozen tables, layers to which next to nothing comes."""
    for name, module in facts.model.named_modules():
        if isinstance(module, nn.Embedding) and not any(p.requires_grad for p in module.parameters()):
            text = f"the embedding {name} is frozen: what it was filled with is all that the recurrence gets to see"
            advice = "set requires_grad_(True), unless it was trained before"
            yield Cause("frozen", name, text, 1, "matrices", advice)
    sizes = _gradients(facts)
    yield from _shut(sizes, _opens(facts))
    sizes = {name: size for name, size in sizes.items() if size}
    largest = max(sizes.values(), default=0.0)
    starved = [name for name, size in sizes.items() if size < STARVED * largest]
    if starved and facts.verdict not in ("exploding", "non-finite"):  # then all is small beside what explodes
        name = next((one for one in starved if one in facts.observation.seen), starved[0])
        text = (
            f"the gradient of {name or 'the model'} is {sizes[name] / largest:.1g} of the largest in the model: "
            f"the layers between take it away, and {len(starved)} of {len(sizes)} modules hardly learn"
        )
        advice = (
            "use fewer layers, residual connections or relu between the loss and there (flow.depth shows where)"
        )
        yield Cause("starved", name, text, sizes[name] / largest, "of the largest", advice)


def _gradients(facts: Facts) -> dict[str, float]:
    """The size of the gradient of each module; of those inside a recurrence together, by its name."""
    inside = {name: _modules_of(facts, seen) for name, seen in facts.observation.seen.items()}
    sizes: dict[str, float] = {}
    for name, module in facts.model.named_modules():
        own = module.named_parameters(prefix=name, recurse=False)
        gradients = [facts.observation.gradients.get(one) for one, _ in own]
        norms = [float(g.norm()) for g in gradients if g is not None]
        if norms:
            place = next((part for part, modules in inside.items() if name in modules), name)
            sizes[place] = max(*norms, sizes.get(place, 0.0))
    return sizes


def _modules_of(facts: Facts, seen: Seen) -> set[str]:
    """The names of the modules that a recurrence consists of."""
    part = facts.observation.parts.get(seen.name)
    if isinstance(part, GraphPart):
        return {call.module for call in part.loop.calls[-1]} if part.loop is not None else set()
    return {seen.name, *(f"{seen.name}.{name}" for name, _ in seen.module.named_modules())}


def _opens(facts: Facts) -> bool:
    """Whether a matrix or a factor begins with zeros and gets a gradient, as at the end of residual branches."""
    for name, parameter in facts.model.named_parameters():
        gradient = facts.observation.gradients.get(name)
        if gradient is None or (parameter.dim() < 2 and parameter.numel() > 1):
            continue
        if bool(gradient.any()) and not bool(parameter.any()):
            return True
    return False


def _shut(sizes: Mapping[str, float], opens: bool) -> Iterator[Cause]:
    """Modules that get a gradient of zero where others get one; not where the next step opens the way."""
    shut = [name for name, size in sizes.items() if not size]
    if shut and any(sizes.values()) and not opens:  # of recurrences that get none, the verdict says so
        text = (
            f"the gradient of {shut[0] or 'the model'} is zero ({len(shut)} of {len(sizes)} modules get none): "
            "what comes after it lets nothing through, such as a relu of negative numbers only, or a clamp"
        )
        advice = "look at what comes after it: begin with biases of zero, smaller steps, another activation"
        yield Cause("starved", shut[0], text, 0.0, "of the largest", advice)
