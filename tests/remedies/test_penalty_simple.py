"""The norm stabiliser, soft orthogonality, and the words of the command line."""

from __future__ import annotations

import math

import pytest
import torch

import unvanish
from unvanish import flow, penalty
from unvanish.errors import DataError, OptionError

# -- the norm stabiliser ------------------------------------------------------------------------------------------


def test_the_stabiliser_is_the_mean_squared_change_of_the_norm() -> None:
    h_TBH = torch.randn(6, 4, 5, dtype=torch.float64)
    norms = [[math.sqrt(sum(float(v) ** 2 for v in h_TBH[t, b])) for b in range(4)] for t in range(6)]
    by_row = [sum((norms[t][b] - norms[t - 1][b]) ** 2 for t in range(1, 6)) / 5 for b in range(4)]
    expected = 50 * sum(by_row) / 4
    assert float(penalty.NormStabiliser()(h_TBH)) == pytest.approx(expected)
    assert float(penalty.NormStabiliser()(h_TBH.transpose(0, 1), batch_first=True)) == pytest.approx(expected)
    begun = [by_row[b] * 5 / 6 + norms[0][b] ** 2 / 6 for b in range(4)]
    assert float(penalty.NormStabiliser(1.0)(h_TBH, torch.zeros(4, 5))) == pytest.approx(sum(begun) / 4)


@pytest.mark.parametrize("batch_first", [False, True])
def test_what_lies_past_a_rows_end_does_not_count(batch_first: bool) -> None:
    h_TBH, lengths = torch.randn(6, 3, 4, dtype=torch.float64), [4, 6, 1]
    given = (h_TBH.transpose(0, 1) if batch_first else h_TBH).clone().requires_grad_()
    stabiliser = penalty.NormStabiliser(1.0)
    found = stabiliser(given, lengths=lengths, batch_first=batch_first)
    rows = [stabiliser(h_TBH[:4, :1]), stabiliser(h_TBH[:, 1:2])]  # a row of one step has no change
    assert found.item() == pytest.approx((sum(rows) / 2).item())  # type: ignore[union-attr]
    found.backward()
    gradient_TBH = given.grad.transpose(0, 1) if batch_first else given.grad  # type: ignore[union-attr]
    assert not gradient_TBH[4:, 0].any()
    assert not gradient_TBH[:, 2].any()
    assert gradient_TBH[:4, 0].any()
    mask_TB = torch.arange(6)[:, None] < torch.tensor(lengths)
    mask = mask_TB.t() if batch_first else mask_TB
    assert stabiliser(given, mask=mask, batch_first=batch_first).item() == pytest.approx(found.item())


def test_with_an_initial_state_the_first_step_of_a_short_row_counts() -> None:
    h_TBH, initial = torch.randn(3, 2, 4), torch.randn(2, 4)
    found = penalty.NormStabiliser(1.0)(h_TBH, initial, lengths=[1, 3])
    first = (h_TBH[0, 0].norm() - initial[0].norm()) ** 2
    second = penalty.NormStabiliser(1.0)(h_TBH[:, 1:], initial[1:])
    torch.testing.assert_close(found, (first + second) / 2)


def test_following_the_stabiliser_makes_norms_constant() -> None:
    layer = unvanish.RNN(2, 10, nonlinearity="relu", init={"U_h": "identity:1.1"})
    optimizer = torch.optim.Adam(layer.parameters(), 0.01)
    x, spreads = torch.randn(20, 8, 2), []
    for _ in range(100):
        output = layer(x)[0]
        norms_TB = output.detach().norm(dim=-1)
        spreads.append(float(norms_TB[5:].std(0).mean() / norms_TB[5:].mean()))
        optimizer.zero_grad()
        penalty.NormStabiliser()(output).backward()
        optimizer.step()
    assert spreads[-1] < 0.2 * spreads[0]


def test_a_state_of_zero_has_a_gradient() -> None:
    h_TBH = torch.zeros(3, 2, 4, requires_grad=True)
    penalty.NormStabiliser()(h_TBH).backward()
    assert h_TBH.grad is not None
    assert bool(torch.isfinite(h_TBH.grad).all())


def test_what_the_stabiliser_refuses() -> None:
    stabiliser, h_TBH = penalty.NormStabiliser(), torch.randn(3, 2, 4)
    with pytest.raises(OptionError, match="weight of NormStabiliser"):
        penalty.NormStabiliser(-1.0)
    with pytest.raises(OptionError, match="all steps of a batch"):
        stabiliser(h_TBH[0])
    with pytest.raises(OptionError, match="give one of them"):
        stabiliser(h_TBH, lengths=[3, 3], mask=torch.ones(3, 2, dtype=torch.bool))
    with pytest.raises(OptionError, match="each of 2 rows"):
        stabiliser(h_TBH, lengths=[3])
    with pytest.raises(OptionError, match="truth values"):
        stabiliser(h_TBH, mask=torch.ones(3, 2))
    with pytest.raises(OptionError, match="truth values"):
        stabiliser(h_TBH, mask=torch.ones(2, 3, dtype=torch.bool), batch_first=True)
    with pytest.raises(OptionError, match="initial state"):
        stabiliser(h_TBH, torch.zeros(4))
    with pytest.raises(DataError, match="one step"):
        stabiliser(h_TBH[:1])
    with pytest.raises(DataError, match="no row"):
        stabiliser(h_TBH, lengths=[1, 1])


# -- orthogonality ------------------------------------------------------------------------------------------------


def test_orthogonality_is_what_the_singular_values_say() -> None:
    layer = unvanish.LSTM(2, 5, 2, bidirectional=True, dtype=torch.float64)
    expected = 0.0
    for part in ("l0", "l0_reverse", "l1", "l1_reverse"):
        for gate in "ifgo":
            sigmas = torch.linalg.svdvals(layer[f"U_{gate}_{part}"].detach())
            expected += float(((sigmas**2 - 1) ** 2).sum())
    assert penalty.Orthogonality(0.5)(layer).item() == pytest.approx(0.5 * expected)
    alone = sum(
        float(((torch.linalg.svdvals(layer[f"U_f_{part}"].detach()) ** 2 - 1) ** 2).sum())
        for part in ("l0", "l0_reverse", "l1", "l1_reverse")
    )
    assert penalty.Orthogonality(1.0, "U_f")(layer).item() == pytest.approx(alone)
    assert penalty.Orthogonality(1.0, "U_[f]*")(torch.nn.Sequential(layer)).item() == pytest.approx(alone)


def test_the_gradient_of_orthogonality_is_its_closed_form() -> None:
    """∂‖UᵀU - I‖²/∂U = 4 U (UᵀU - I); other parameters have none."""
    layer = unvanish.RNN(2, 4, dtype=torch.float64)
    penalty.Orthogonality(3.0)(layer).backward()
    U = layer["U_h"].detach()
    torch.testing.assert_close(layer.weight_hh_l0.grad, 3 * 4 * U @ (U.T @ U - torch.eye(4, dtype=U.dtype)))
    assert layer.weight_ih_l0.grad is None


def test_following_orthogonality_brings_singular_values_to_one_and_the_rate_to_zero() -> None:
    cell = unvanish.Cell("linear", "h[t] = U @ h[t-1] + W @ x[t]")
    layer = unvanish.Recurrent(cell, 2, 10, init={"U": "normal:0.2"})
    x = torch.randn(60, 4, 2)
    before = flow.profile(layer, x)
    optimizer = torch.optim.SGD(layer.parameters(), 0.05)
    for _ in range(400):
        optimizer.zero_grad()
        penalty.Orthogonality(1.0)(layer).backward()
        optimizer.step()
    sigmas = torch.linalg.svdvals(layer["U"].detach())
    assert float((sigmas - 1).abs().max()) < 0.02
    after = flow.profile(layer, x)
    assert before.rate < -0.1
    assert abs(after.rate) < 0.01
    assert after.censored


def test_only_square_recurrent_matrices_count() -> None:
    """With a projection the gates' matrices are not square; skips have matrices of their own, which are."""
    with pytest.raises(OptionError, match="there is none"):
        penalty.Orthogonality()(unvanish.LSTM(2, 5, proj_size=3))
    plain, skipping = unvanish.RNN(2, 5), unvanish.RNN(2, 5, skips=(3,))
    with torch.no_grad():
        skipping["U_h"].copy_(plain["U_h"])
    extra = penalty.Orthogonality()(skipping) - penalty.Orthogonality()(plain)
    torch.testing.assert_close(extra, penalty.Orthogonality(matrices="*_skip3")(skipping))


def test_an_orthogonal_constraint_leaves_nothing_to_pay() -> None:
    layer = unvanish.GRUResetBefore(2, 5, constrain="orthogonal", dtype=torch.float64)
    assert penalty.Orthogonality(1.0)(layer).item() < 1e-20


def test_what_orthogonality_refuses() -> None:
    with pytest.raises(OptionError, match="weight of Orthogonality"):
        penalty.Orthogonality(math.inf)
    with pytest.raises(OptionError, match="there is none"):
        penalty.Orthogonality()(torch.nn.LSTM(2, 3))
    with pytest.raises(OptionError, match="there is none"):
        penalty.Orthogonality()(unvanish.IndRNN(2, 3))
    with pytest.raises(OptionError, match=r"'U_x' is none: did you mean"):
        penalty.Orthogonality(matrices="U_x")(unvanish.RNN(2, 3))
    with pytest.raises(OptionError, match="takes entries of U_h away"):
        penalty.Orthogonality()(unvanish.ClockworkRNN(2, 8))


# -- words ---------------------------------------------------------------------------------------------------------


def test_words() -> None:
    omega, paper = penalty.parse("omega:2"), penalty.parse(" omega-paper:0.5 ")
    assert isinstance(omega, penalty.Omega)
    assert isinstance(paper, penalty.Omega)
    assert (omega.weight, omega.form) == (2.0, "coded")
    assert (paper.weight, paper.form) == (0.5, "paper")
    for word, kind in (
        ("orthogonal", penalty.Orthogonality),
        ("stabilise", penalty.NormStabiliser),
        ("flossing", penalty.Flossing),
    ):
        found = penalty.parse(f"{word}:1e-2")
        assert type(found) is kind
        assert found.weight == 0.01
    assert penalty.parse("none") is None
    few = penalty.parse("flossing:2:8")
    assert isinstance(few, penalty.Flossing)
    assert (few.weight, few.count) == (2.0, 8)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("omga:2", "did you mean 'omega'"),
        ("orthogonality:1", "did you mean 'orthogonal'"),
        ("stabilize:50", "did you mean 'stabilise'"),
        ("quantum:1", "known: flossing, none, omega"),
        ("2", "unknown penalty '2'"),
        ("", "unknown penalty ''"),
        ("omega", "no weight, or too many numbers: write omega:1"),
        ("omega:", "no weight"),
        ("omega:two", "no weight"),
        ("omega:1:2", "no weight"),
        ("omega:nan", "no weight"),
        ("omega:-1", "cannot be made: the weight of Omega"),
        ("flossing:1:1.5", "no weight, or too many numbers: write flossing:1, or flossing:1:8"),
        ("flossing:1:2:3", "too many numbers"),
        ("flossing:1:0", "cannot be made: count of Flossing"),
        ("flossing:inf", "cannot be made: the weight of Flossing"),
    ],
)
def test_what_cannot_be_meant_so(text: str, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        penalty.parse(text)
