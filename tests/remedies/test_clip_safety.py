"""NaN, infinity, overflow, half precision, sparse gradients, scalers, several processes: nothing slips through."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import unvanish
from tests.support.whole import whole_only
from unvanish.errors import NonFiniteError, OptionError
from unvanish.remedies import clip

KINDS: dict[str, Callable[..., clip.Clip]] = {
    "ByNorm": lambda **options: clip.ByNorm(1.0, **options),
    "ByValue": lambda **options: clip.ByValue(0.5, **options),
    "PerLayer": lambda **options: clip.PerLayer(1.0, **options),
    "UnitWise": lambda **options: clip.UnitWise(0.01, **options),
    "Percentile": lambda **options: clip.Percentile(10, **options),
    "ZScore": lambda **options: clip.ZScore(2.5, warmup=2, **options),
    "RandomStep": lambda **options: clip.RandomStep(1.0, seed=1, **options),
    "PerStep": lambda **options: clip.PerStep(1.0, **options).attach(unvanish.RNN(1, 1)),
}
FIXED = ["ByNorm", "ByValue", "PerLayer", "RandomStep"]


def network(bad: float | None = None) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    for parameter in model.parameters():
        parameter.grad = 5 * torch.randn(parameter.shape)
    if bad is not None:
        model[1].weight.grad[1, 2] = bad
    return model


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_skip_leaves_the_optimiser_as_it_was(kind: str, bad: float) -> None:
    model, found = network(), KINDS[kind]()
    optimiser = torch.optim.Adam(model.parameters())
    optimiser.step()
    before = str((model.state_dict(), optimiser.state_dict()))
    model[1].weight.grad[0, 0] = bad
    record = found(model)
    optimiser.step()
    assert str((model.state_dict(), optimiser.state_dict())) == before
    assert record.nonfinite
    assert not math.isfinite(record.norm)
    assert (record.factor, record.acted) == (0.0, False)
    assert (found.calls, found.acted, found.nonfinite, found.skipped) == (1, 0, 1, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_zero_clips_the_rest_as_usual(kind: str, bad: float) -> None:
    torch.manual_seed(3)
    model, found = network(bad), KINDS[kind](nonfinite="zero")
    torch.manual_seed(3)
    mended, twin = network(0.0), KINDS[kind](nonfinite="zero")
    record, wanted = found(model), twin(mended)
    for ours, theirs in zip(model.parameters(), mended.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    assert record.nonfinite
    assert (record.norm, record.factor, record.acted) == (wanted.norm, wanted.factor, wanted.acted)
    assert (found.nonfinite, found.skipped) == (1, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_raise_names_the_parameters_and_changes_nothing(kind: str) -> None:
    model, found = network(math.nan), KINDS[kind](nonfinite="raise")
    before = str([parameter.grad for parameter in model.parameters()])
    with pytest.raises(NonFiniteError, match=r"1 of 4 .* 1\.weight \(2, 4\)"):
        found(model)
    assert str([parameter.grad for parameter in model.parameters()]) == before
    with pytest.raises(NonFiniteError, match=r"parameter 2 \(2, 4\)"):
        found(list(model.parameters()))
    with pytest.raises(NonFiniteError, match=r"parameter 2 of group 0 \(2, 4\)"):
        found(torch.optim.SGD(model.parameters(), lr=1.0))
    assert (found.calls, found.nonfinite, found.skipped) == (3, 3, 0)


def test_the_message_names_the_first_few() -> None:
    model = nn.Sequential(*[nn.Linear(1, 1) for _ in range(5)])
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, math.inf)
    with pytest.raises(NonFiniteError, match=r"10 of 10 .* 0\.weight .* and 7 more"):
        clip.ByNorm(1.0, nonfinite="raise")(model)


@pytest.mark.parametrize("size", [1e19, 1e30, 3e38])
@pytest.mark.parametrize("kind", FIXED)
def test_a_sum_of_squares_that_overflows_is_no_nan(kind: str, size: float) -> None:
    model, found = network(), KINDS[kind]()
    for parameter in model.parameters():
        parameter.grad.fill_(size)
    record = found(model)
    entries = sum(parameter.numel() for parameter in model.parameters())
    assert record.norm == pytest.approx(size * math.sqrt(entries), rel=1e-6)
    assert (record.acted, record.nonfinite) == (True, False)
    after = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).double()
    if kind in ("ByNorm", "RandomStep"):
        assert float(after.norm()) == pytest.approx(1.0, rel=1e-5)
    assert record.factor == pytest.approx(float(after.norm()) / record.norm, rel=1e-5)


@pytest.mark.parametrize("size", [1e-25, 1e-38, 1e-43])
def test_squares_that_vanish_are_still_measured(size: float) -> None:
    weight = nn.Parameter(torch.zeros(4))
    weight.grad = torch.full((4,), size)
    exact = float(weight.grad[0]) * 2
    record = clip.ByNorm(0.25 * size)([weight])
    assert record.norm == pytest.approx(exact, rel=1e-6)
    assert record.acted
    assert float(weight.grad.double().norm()) == pytest.approx(0.25 * size, rel=1e-6, abs=1e-44)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["ByNorm", "PerLayer", "UnitWise", "ByValue"])
def test_half_precision_is_measured_in_single(kind: str, dtype: torch.dtype) -> None:
    """The norm of 2000 entries of 300 is 13,416, and its square is beyond half precision."""
    weight, twin = (nn.Parameter(torch.ones(1, 2000, dtype=kind_of)) for kind_of in (dtype, torch.float64))
    weight.grad, twin.grad = torch.full((1, 2000), 300.0, dtype=dtype), torch.full((1, 2000), 300.0).double()
    record, wanted = KINDS[kind]()([weight]), KINDS[kind]()([twin])
    assert record.norm == pytest.approx(wanted.norm, rel=1e-3)
    assert record.factor == pytest.approx(wanted.factor, rel=1e-2)
    torch.testing.assert_close(weight.grad.double(), twin.grad, rtol=1e-2, atol=0.0)


@pytest.mark.parametrize("kind", [clip.ByNorm, clip.PerLayer])
def test_a_factor_keeps_its_digits_where_the_gradient_has_few(kind: type[clip.Clip]) -> None:
    """Half precision knows multiples of 6e-8 there, the factor is 7.5e-8; in single precision 1e-46 is zero."""
    weight = nn.Parameter(torch.zeros(2000, dtype=torch.float16))
    weight.grad = torch.full((2000,), 300.0, dtype=torch.float16)
    kind(1e-3)([weight])  # type: ignore[call-arg]
    assert float(weight.grad.double().norm()) == pytest.approx(1e-3, rel=1e-2)
    wide = nn.Parameter(torch.zeros(1, 4))
    wide.grad = torch.full((1, 4), 1e38)
    clip.UnitWise(1e-5)([wide])
    assert float(wide.grad.norm()) == pytest.approx(1e-8, rel=1e-5)


@pytest.mark.parametrize("kind", [*FIXED, "UnitWise"])
def test_a_sparse_gradient_is_its_stored_values(kind: str) -> None:
    sparse, dense = nn.Embedding(6, 3, sparse=True), nn.Embedding(6, 3)
    dense.load_state_dict(sparse.state_dict())
    words = torch.tensor([1, 4, 4, 4])
    for model in (sparse, dense):
        (1e3 * model(words)).sum().backward()
    if kind == "RandomStep":
        record = KINDS[kind]()(sparse)
        assert float(sparse.weight.grad.to_dense().norm()) == pytest.approx(1.0, rel=1e-6)
    else:
        record, wanted = KINDS[kind]()(sparse), KINDS[kind]()(dense)
        assert record.norm == pytest.approx(wanted.norm)
        torch.testing.assert_close(sparse.weight.grad.to_dense(), dense.weight.grad)
    assert sparse.weight.grad.is_sparse
    torch.optim.SGD(sparse.parameters(), lr=0.1).step()
    assert record.acted


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_clip(kind: str) -> None:
    found = KINDS[kind]()
    for given in ([], nn.Linear(2, 2), nn.ReLU(), [nn.Parameter(torch.zeros(0))]):
        record = found(given)
        assert (record.norm, record.factor, record.acted, record.nonfinite) == (0.0, 1.0, False, False)
    weight, empty = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(0, 2))
    for parameter in (weight, empty):
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(4):
        record = found([weight, empty])
    assert (record.norm, record.factor, record.acted) == (0.0, 1.0, False)
    assert torch.equal(weight.grad, torch.zeros(3))


@pytest.mark.parametrize("kind", ["ByNorm", "PerLayer", "ByValue", "UnitWise", "RandomStep"])
def test_mixed_types_and_frozen_parameters_are_clipped_together(kind: str) -> None:
    dtypes = [torch.float64, torch.float16, torch.float32, torch.bfloat16, torch.float32]
    parameters = [nn.Parameter(torch.ones(3, 2, dtype=dtype)) for dtype in dtypes]
    for parameter in parameters[:-1]:
        parameter.grad = torch.full((3, 2), 4.0, dtype=parameter.dtype)
    before = math.sqrt(4 * 6 * 16)
    record = KINDS[kind]()(iter(parameters))
    after = torch.cat([parameter.grad.double().flatten() for parameter in parameters[:-1]])
    assert record.norm == pytest.approx(before, rel=1e-3)
    assert float(after.norm()) == pytest.approx(record.factor * before, rel=1e-2)
    assert parameters[-1].grad is None
    if kind in ("ByNorm", "RandomStep"):
        assert float(after.norm()) == pytest.approx(1.0, rel=1e-2)


def test_a_parameter_that_is_given_twice_counts_once() -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    assert clip.ByNorm(1.0)([weight, weight]).norm == 5.0
    assert clip.ByNorm(1.0)(weight).norm == pytest.approx(1.0)


def test_what_is_no_parameter_is_refused() -> None:
    weight = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    weight.grad = torch.ones(2, dtype=torch.complex64)
    with pytest.raises(OptionError, match=r"parameter 0 \(2,\) is complex"):
        clip.ByNorm(1.0)([weight])
    for given in (3, ["weight"], nn.Linear(1, 1).named_parameters()):
        with pytest.raises(OptionError, match="is not a parameter"):
            clip.ByNorm(1.0)(given)  # type: ignore[arg-type]


def test_a_gradient_with_a_graph_is_clipped() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    (weight.grad,) = torch.autograd.grad((weight**2).sum(), weight, create_graph=True)
    assert weight.grad.requires_grad
    assert clip.ByNorm(1.0)([weight]).norm == pytest.approx(10.0)
    assert float(weight.grad.detach().norm()) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["ByNorm", "Percentile"])
def test_a_scaler_and_a_clip_skip_the_same_steps(kind: str) -> None:
    weight, found = nn.Parameter(torch.tensor([1.0])), KINDS[kind]()
    optimiser = torch.optim.SGD([weight], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120, growth_interval=1000)
    moved, scales = [], []
    for slope in (1.0, 1e3, 1.0):  # 1e3 · 2^120 overflows single precision
        optimiser.zero_grad()
        before = weight.detach().clone()
        scaler.scale((slope * weight).sum()).backward()
        scaler.unscale_(optimiser)
        record = found([weight])
        scaler.step(optimiser)
        scaler.update()
        moved.append(not torch.equal(before, weight.detach()))
        scales.append(scaler.get_scale())
        assert record.nonfinite == (slope > 1)
        assert record.nonfinite or record.norm == pytest.approx(1.0)
    assert moved == [True, False, True]
    assert scales == [2.0**120, 2.0**119, 2.0**119]


WORKER = """
import sys, torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from unvanish.errors import OptionError
from unvanish.remedies import clip

torch.set_num_threads(1)
rank, place = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
torch.manual_seed(0)
model = DistributedDataParallel(nn.Linear(4, 3))
optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
clips = [clip.RandomStep(0.5, seed=7), clip.Percentile(50), clip.PerLayer(0.1), clip.UnitWise(0.1)]
torch.manual_seed(rank)
for step in range(6):
    for found in clips:
        optimiser.zero_grad()
        x_BI = torch.randn(5, 4)
        if step == 3 and rank == 1:
            x_BI[0, 0] = float("inf")  # one process alone meets it, and its gradient is everyone's
        model(x_BI).square().mean().backward()
        found(model)
        optimiser.step()
weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
assert bool(torch.isfinite(weights).all())
assert all(found.nonfinite == found.skipped == 1 for found in clips)
both = [torch.empty_like(weights) for _ in range(2)]
torch.distributed.all_gather(both, weights)
assert torch.equal(both[0], both[1])

mesh = init_device_mesh("cpu", (2,))
piece = nn.Parameter(distribute_tensor(torch.ones(4), mesh, [Shard(0)]))
piece.grad = distribute_tensor(torch.ones(4), mesh, [Shard(0)])
try:
    clip.ByNorm(1.0)([piece])
except OptionError as error:
    assert "split over processes" in str(error)
else:
    raise AssertionError("the norm of a piece was taken for that of the whole")
torch.distributed.destroy_process_group()
"""


@whole_only
def test_two_processes_stay_the_same(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", WORKER, str(rank), str(tmp_path / "meet")] for rank in range(2)]
    with contextlib.ExitStack() as stack:
        running = []
        for command in commands:
            running.append(stack.enter_context(subprocess.Popen(command, stderr=subprocess.PIPE, text=True)))
            stack.callback(running[-1].kill)  # where the other one failed; before it is waited for
        for process in running:
            _, errors = process.communicate()
            assert process.returncode == 0, errors
