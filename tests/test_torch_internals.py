"""Each private name of torch that we use does what we use it for."""

from __future__ import annotations

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import clip_grad
from torch.utils._python_dispatch import TorchDispatchMode

from unvanish import torch_internals as internals


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_jit_trace_is_noticed() -> None:
    seen = []

    def traced(x: torch.Tensor) -> torch.Tensor:
        seen.append(internals.by_example())
        return x + 1

    assert not internals.by_example()
    torch.jit.trace(traced, torch.ones(2), check_trace=False)
    assert seen[0]


def test_modes_graphs_and_subclasses_are_noticed() -> None:
    x, seen = torch.ones(2), []

    def looked_at(x: torch.Tensor) -> torch.Tensor:
        seen.append((internals.sees_operators(x), internals.has_numbers(x)))
        return x + 1

    assert not internals.sees_operators(x)
    assert internals.has_numbers(x)
    make_fx(looked_at, tracing_mode="fake")(x)
    assert seen == [(True, False)]
    assert not internals.has_numbers(torch.ones(2, device="meta"))
    assert internals.is_subclass(torch.ones(2).as_subclass(Marked)) is False  # it wraps nothing
    with torch._subclasses.FakeTensorMode():
        assert internals.is_subclass(torch.ones(2))


class Marked(torch.Tensor):
    """A subclass that takes no operations itself."""


def test_function_transforms_are_noticed() -> None:
    def seen(x: torch.Tensor) -> torch.Tensor:
        assert internals.inside_vmap_or_grad()
        return x.sum()

    assert not internals.inside_vmap_or_grad()
    torch.func.grad(seen)(torch.ones(3))
    assert not internals.inside_forward_mode()
    with torch.autograd.forward_ad.dual_level():
        assert internals.inside_forward_mode()


def test_a_batch_in_disguise_is_noticed() -> None:
    seen = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append(internals.is_batched(x))
        return x

    torch.vmap(look)(torch.ones(2, 3))
    look(torch.ones(2))
    x = torch.ones(3, requires_grad=True)
    y = x * 1
    y.register_hook(
        lambda gradient: (
            look(gradient) and None if gradient.dim() == 0 else seen.append(internals.is_batched(gradient))
        )
    )
    torch.autograd.grad(y, x, torch.eye(3), is_grads_batched=True)
    assert seen == [True, False, True]


def test_nested_tensors_are_taken_apart_and_put_together() -> None:
    nested = {"a": [torch.ones(1), (2, None)]}
    leaves, shape = internals.pytree.tree_flatten(nested)
    assert leaves[1:] == [2, None]
    assert internals.pytree.tree_unflatten(leaves, shape) == nested


def test_modes_are_put_aside() -> None:
    class Counter(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            self.count += 1
            return func(*args, **(kwargs or {}))

    with Counter() as counter:
        with internals.without_modes():
            torch.ones(2)
        assert counter.count == 0
        torch.ones(2)
    assert counter.count == 1


def test_autograd_sees_into_an_operator() -> None:
    @torch.library.custom_op("unvanish_tests::graph", mutates_args=())
    def graph(x: torch.Tensor) -> torch.Tensor:
        with internals.graph_recorded():
            leaf = x.detach().requires_grad_()
            return torch.autograd.grad((leaf**2).sum(), leaf)[0].clone()

    assert graph(torch.full((2,), 3.0)).tolist() == [6.0, 6.0]


def test_changes_in_place_are_counted_through_a_detached_twin() -> None:
    x = torch.ones(2)
    twin, before = x.detach(), internals.changes(x)
    x.add_(1)
    assert internals.changes(twin) == before + 1


def test_callback_comes_after_the_whole_backward_pass() -> None:
    order: list[str] = []
    x = torch.ones(2, requires_grad=True)
    y = x * 2
    y.register_hook(lambda _: internals.after_backward(lambda: order.append("end")))
    x.register_hook(lambda _: order.append("leaf"))
    y.sum().backward()
    assert order == ["leaf", "end"]


def test_holders_of_memory_are_counted() -> None:
    block = torch.UntypedStorage(64)
    assert internals.holders(block) == 1
    view = torch.empty(0).set_(block, 0, (4,), (1,))
    assert internals.holders(block) == 2
    del view
    assert internals.holders(block) == 1


def test_onednn_multiplies_with_the_transposed() -> None:
    x_NI, weight_JI = torch.randn(5, 3), torch.randn(4, 3)
    try:
        found = internals.onednn_product(x_NI, weight_JI)
    except (AttributeError, RuntimeError):
        pytest.skip("this build of torch has no oneDNN")
    torch.testing.assert_close(found, x_NI @ weight_JI.T)


def test_operations_on_lists_change_each_in_place() -> None:
    members = [torch.tensor([3.0, -4.0]), torch.tensor([1.0])]
    assert [float(norm) for norm in internals.foreach_norm(members, 2)] == [5.0, 1.0]
    internals.foreach_mul_(members, 2.0)
    internals.foreach_clamp_min_(members, -5.0)
    internals.foreach_clamp_max_(members, 4.0)
    assert [member.tolist() for member in members] == [[4.0, -5.0], [2.0]]


def test_code_of_torchs_clipping_functions_is_their_own() -> None:
    code = internals.code_of(clip_grad.clip_grad_norm_)
    assert "max_norm" in code.co_varnames
    assert "clip_value" in internals.code_of(clip_grad.clip_grad_value_).co_varnames
    assert "grad_tensors" in internals.code_of(torch.autograd.backward).co_varnames


@pytest.mark.filterwarnings("ignore")
def test_lightning_validates_inside_a_training_that_ends() -> None:
    pl = pytest.importorskip("lightning.pytorch")

    class Module(pl.LightningModule):  # type: ignore[misc, name-defined]
        validated = 0

        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
            loss: torch.Tensor = self.layer(batch).sum()
            return loss

        def validation_step(self, batch: torch.Tensor, index: int) -> None:
            self.validated += 1

        def on_train_end(self) -> None:
            internals.validate_now(self.trainer)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module, data = Module(), torch.utils.data.DataLoader(torch.ones(2, 1))
    trainer = pl.Trainer(
        max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=1, accelerator="cpu",
        val_check_interval=1000, check_val_every_n_epoch=None,
    )  # fmt: skip
    trainer.fit(module, data, data)
    assert module.validated == 1


def test_a_scan_is_a_loop_in_a_graph_and_runs_for_any_length() -> None:
    class Sums(torch.nn.Module):
        def forward(self, x_TB: torch.Tensor) -> tuple[torch.Tensor, ...]:
            def body(total_B: torch.Tensor, x_B: torch.Tensor, factor: torch.Tensor) -> tuple[torch.Tensor, ...]:
                new_B = total_B + x_B * factor
                return new_B, new_B.clone()

            return internals.scan(body, [torch.zeros_like(x_TB[0])], [x_TB], [torch.full_like(x_TB[0], 2.0)])

    dims = ({0: torch.export.Dim("time")},)
    program = torch.export.export(Sums(), (torch.ones(4, 2),), dynamic_shapes=dims)
    x_TB = torch.randn(7, 2)
    total_B, sums_TB = program.module()(x_TB)
    torch.testing.assert_close(sums_TB, 2 * x_TB.cumsum(0))
    torch.testing.assert_close(total_B, 2 * x_TB.sum(0))
