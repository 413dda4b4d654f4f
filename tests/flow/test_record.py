"""Recording: the norms are those of the gradients at the boundaries between steps.

Shapes: T time, B batch, I input, H hidden, S states.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import unvanish
from unvanish import flow
from unvanish.errors import FlowError

T, B, I, H = 9, 3, 4, 5


def unrolled_norms(cell: nn.LSTMCell, x_TBI: Tensor, weight_T: Tensor) -> Tensor:
    """‖∂L/∂h_t‖, ‖∂L/∂c_t‖ of a hand-written loop, by autograd at the outputs of each call, (T, S)."""
    h = c = torch.zeros(B, H, dtype=x_TBI.dtype)
    outputs, loss = [], torch.zeros((), dtype=x_TBI.dtype)
    for step in range(T):
        h, c = (state.view_as(state) for state in cell(x_TBI[step], (h, c)))  # the boundary: c apart from h
        outputs += [h, c]
        loss = loss + weight_T[step] * h.pow(2).sum()
    gradients = torch.autograd.grad(loss, outputs, allow_unused=True)
    norms = [torch.zeros(()) if g is None else g.norm() for g in gradients]
    return torch.stack(norms).view(T, 2)


@pytest.fixture
def lstm() -> nn.LSTM:
    torch.manual_seed(0)
    return nn.LSTM(I, H).double()


@pytest.fixture
def x_TBI() -> Tensor:
    return torch.randn(T, B, I, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def weight_T() -> Tensor:
    return torch.linspace(0.1, 1.0, T, dtype=torch.float64)


def cell_of(lstm: nn.LSTM) -> nn.LSTMCell:
    cell = nn.LSTMCell(I, H).double()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in lstm.state_dict().items()})
    return cell


def test_norms_of_torch_layer_equal_a_hand_written_loop(lstm: nn.LSTM, x_TBI: Tensor, weight_T: Tensor) -> None:
    wanted = unrolled_norms(cell_of(lstm), x_TBI, weight_T)
    with flow.record(lstm) as recording:
        output_TBH, _ = lstm(x_TBI)
        (weight_T[:, None, None] * output_TBH.pow(2)).sum().backward()
    assert recording["l0"].states == ("h", "c")
    torch.testing.assert_close(recording["l0"].norms, wanted, rtol=1e-12, atol=1e-14)
    assert recording[lstm] is recording["l0"]


def test_norms_of_our_layer_equal_those_of_torchs(lstm: nn.LSTM, x_TBI: Tensor) -> None:
    ours = unvanish.LSTM(I, H, dtype=torch.float64)
    ours.load_state_dict(lstm.state_dict())
    norms = []
    for layer in (lstm, ours):
        with flow.record(layer) as recording:
            layer(x_TBI)[0][-1].sum().backward()
        norms.append(recording["l0"].norms)
    torch.testing.assert_close(norms[0], norms[1], rtol=1e-12, atol=1e-14)


def test_norms_of_cells_called_once_a_step(lstm: nn.LSTM, x_TBI: Tensor, weight_T: Tensor) -> None:
    cell = cell_of(lstm)
    wanted = unrolled_norms(cell, x_TBI, weight_T)

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = cell

        def forward(self, x_TBI: Tensor) -> Tensor:
            h = c = x_TBI.new_zeros(B, H)
            outputs = []
            for x_BI in x_TBI:
                h, c = self.cell(x_BI, (h, c))
                outputs.append(h)
            return torch.stack(outputs)

    model = Loop()
    with flow.record(model) as recording:
        (weight_T[:, None, None] * model(x_TBI).pow(2)).sum().backward()
    torch.testing.assert_close(recording["cell"].norms, wanted, rtol=1e-12, atol=1e-14)


def test_users_own_cell_is_recorded_when_named(x_TBI: Tensor) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(I + H, H).double()

        def forward(self, x_BI: Tensor, h_BH: Tensor) -> dict[str, Tensor]:
            return {"state": torch.tanh(self.mix(torch.cat([x_BI, h_BH], 1)))}

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = Own()

        def forward(self, x_TBI: Tensor) -> Tensor:
            h_BH = x_TBI.new_zeros(B, H)
            for x_BI in x_TBI:
                h_BH = self.own(x_BI, h_BH)["state"]
            return h_BH

    model = Loop()
    with pytest.raises(FlowError, match="name the modules"), flow.record(model):
        pass
    with flow.record(model, cells=["own"]) as recording:
        model(x_TBI).sum().backward()
    norms_T = recording["own"].norms[:, 0]
    assert norms_T.shape == (T,)
    assert norms_T[-1] == pytest.approx((B * H) ** 0.5)
    assert bool((norms_T[:-1] > 0).all())


def test_recording_leaves_the_model_as_it_was(lstm: nn.LSTM, x_TBI: Tensor) -> None:
    before = lstm(x_TBI)[0]
    gradients = []
    for recorded in (False, True):
        lstm.zero_grad()
        if recorded:
            with flow.record(lstm):
                output = lstm(x_TBI)[0]
                output.sum().backward()
            torch.testing.assert_close(output, before, rtol=1e-12, atol=1e-14)
        else:
            lstm(x_TBI)[0].sum().backward()
        gradients.append([parameter.grad.clone() for parameter in lstm.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-11, atol=1e-13)
    assert "forward" not in vars(lstm)
    with pytest.raises(ZeroDivisionError), flow.record(lstm):
        raise ZeroDivisionError
    assert "forward" not in vars(lstm)


def test_stack_in_two_directions_has_a_track_a_part(x_TBI: Tensor) -> None:
    model = nn.ModuleDict({"encoder": nn.GRU(I, H, 2, bidirectional=True).double()})
    with flow.record(model) as recording:
        model["encoder"](x_TBI)[0].sum().backward()
    assert list(recording) == [f"encoder.l{k}{end}" for k in range(2) for end in ("", "_reverse")]
    with pytest.raises(FlowError, match="several parts"):
        recording["encoder"]
    with pytest.raises(FlowError, match="ran no step"):
        recording["decoder"]


def test_no_gradient_says_so(lstm: nn.LSTM, x_TBI: Tensor) -> None:
    with flow.record(lstm) as recording:
        lstm(x_TBI)
    with pytest.raises(FlowError, match="backward"):
        recording["l0"].norms  # noqa: B018


def test_steps_that_no_gradient_reaches_are_zero(lstm: nn.LSTM, x_TBI: Tensor) -> None:
    with flow.record(lstm) as recording:
        lstm(x_TBI)[0][4].sum().backward()
    norms_TS = recording["l0"].norms
    assert bool((norms_TS[5:] == 0).all())
    assert bool((norms_TS[:4] > 0).all())
