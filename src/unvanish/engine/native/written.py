"""What a backward pass writes down of all steps, for a tape.

Shapes: N values of all steps, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from unvanish.engine.sequence import Told
from unvanish.equations.expression import Ref

if TYPE_CHECKING:
    from unvanish.engine.native.passes import Backward


class Written:
    """The adjoints of all steps, what came to the states from later steps, and the adjoints of the products."""

    def __init__(self, work: Backward) -> None:
        self.work, self.arrays = work, dict[tuple[Told, Ref], Tensor]()
        kinds: tuple[Told, ...] = ("adjoint", "came")
        shapes: dict[tuple[Told, Ref], int] = {
            (kind, Ref(state.name, 0)): work.binding.width(state.name)
            for kind in kinds
            for state in work.memory.states
        }
        groups = list(enumerate(work.kernel.all_groups))
        own = {n: group.products[0].target for n, group in groups if work.kernel.same_adjoint[n] == n}
        shapes |= {("products", ref): work.binding.height(work.kernel.all_groups[n]) for n, ref in own.items()}
        count = work.schedule.count
        block = work.binding.loaded.arena.take(count * sum(shapes.values()), work.x_NI)
        parts = block.split([count * width for width in shapes.values()])  # type: ignore[no-untyped-call]
        for (what, width), part in zip(shapes.items(), parts, strict=True):
            self.arrays[what] = part.view(count, width)
            kind, ref = what
            if kind != "products":
                work.point(f"{kind} of {ref.name}", part)
        self.products = {number: self.arrays["products", ref] for number, ref in own.items()}

    def point(self, first: int) -> None:
        """Let the adjoints of the products of a chunk of steps be written where those of all steps are kept."""
        for number, kept_NJ in self.products.items():
            place = kept_NJ[self.work.schedule.starts[first] :]
            self.work.point(f"adjoint {number}", place)

    def tell(self) -> None:
        work, tell = self.work, self.work.job.tell
        assert tell is not None
        for (kind, ref), values in self.arrays.items():
            tell(kind, ref, values)
        for ref in work.kernel.saved:
            meaning = f"saved {ref.name}"
            if meaning not in work.fresh:
                shape = work.schedule.count, work.binding.width(ref.name)
                tell("value", ref, work.memory.kept.view(work.block, meaning, *shape))
