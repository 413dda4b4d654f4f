"""What a caller gives to an export, what the file is like, and what is refused.

Shapes: T time, B batch, I input, V symbols, W width.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import unvanish
from tests.export.together import near
from tests.nn.layers import as_tuple, random_states
from tests.support.whole import usual
from unvanish import Recurrent
from unvanish.errors import ExportError, MissingExtraError
from unvanish.export import graphs, to_c, to_onnx, to_torch

EXPORT = pytest.mark.filterwarnings(
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning",
    "ignore:# The axis name:UserWarning",
)


def session_of(path: Path) -> Any:
    return onnxruntime.InferenceSession(path)


def ran(session: Any, *arrays: Tensor) -> list[Tensor]:
    names = [given.name for given in session.get_inputs()]
    return [
        torch.from_numpy(a) for a in session.run(None, dict(zip(names, (a.numpy() for a in arrays), strict=True)))
    ]


class Speller(nn.Module):
    """Symbols to symbols, the way a training names its parts."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 5)
        self.recurrent = Recurrent("peephole_lstm", 5, 6, **options)
        self.head = nn.Linear(6, 11)

    def forward(self, x_TB: Tensor, states: Any = None) -> Tensor:
        """Logits alone."""
        logits_TBV: Tensor = self.head(self.recurrent(self.embedding(x_TB), states)[0])
        return logits_TBV


def shape_of(values: Any) -> dict[str, list[Any]]:
    return {value.name: value.shape for value in values}


def test_a_model_of_parts_has_named_inputs_and_states(tmp_path: Path) -> None:
    model = Speller(batch_first=True, dropout=0.5, num_layers=2).train()
    to_onnx(model, tmp_path / "model.onnx", lengths=True)
    assert model.training
    session, model = session_of(tmp_path / "model.onnx"), model.eval()
    state = [2, "batch", 6]
    wanted = {"input": ["batch", "time"], "h_0": state, "c_0": state, "lengths": ["batch"]}
    assert shape_of(session.get_inputs()) == wanted
    assert shape_of(session.get_outputs()) == {"output": ["batch", "time", 11], "h_n": state, "c_n": state}
    x_BT, lengths_B, states = (
        torch.randint(0, 11, (3, 7)),
        torch.tensor([7, 2, 5]),
        random_states(model.recurrent, 3),
    )
    states = tuple(state.float() for state in states)
    with torch.no_grad():
        output_BTW, final = model.recurrent(model.embedding(x_BT), states, lengths=lengths_B)
        near(ran(session, x_BT, *states, lengths_B), [model.head(output_BTW), *final])


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_step_of_a_model_of_parts_takes_symbols(batch_first: bool, tmp_path: Path) -> None:
    model = Speller(batch_first=batch_first)
    to_onnx(model, tmp_path / "model.onnx", streaming=True, example=torch.zeros(1, 1, dtype=torch.long))
    session, model = session_of(tmp_path / "model.onnx"), model.eval()
    assert shape_of(session.get_inputs())["input"] == ["batch"]
    x_TB, states, found = torch.randint(0, 11, (5, 3)), list(model.recurrent.zero_states(3)), []
    for x_B in x_TB:
        logits_BV, *states = ran(session, x_B, *states)
        found.append(logits_BV)
    time = int(batch_first)
    near(torch.stack(found, time), model(x_TB.t() if batch_first else x_TB).detach())


@EXPORT
def test_torch_itself_exports_any_model_with_layers(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    model, free = Speller().eval(), {0: torch.export.Dim("time"), 1: torch.export.Dim("batch")}
    path, x_TB = tmp_path / "model.onnx", torch.randint(0, 11, (4, 2))
    torch.onnx.export(model, (x_TB,), path, dynamo=True, verbose=False, dynamic_shapes=(free,))
    x_TB = torch.randint(0, 11, (6, 3))
    near(ran(session_of(path), x_TB), [model(x_TB).detach()])


def test_any_other_module_is_exported_as_it_is(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3), unvanish.GRU(3, 5), Last())
    to_onnx(model, tmp_path / "model.onnx", example=torch.zeros(3, 2, 4))
    x_TBI = torch.randn(6, 4, 4)
    near(ran(session_of(tmp_path / "model.onnx"), x_TBI), [model(x_TBI).detach()])


class Last(nn.Module):
    """What a layer gives at the last step."""

    def forward(self, given: tuple[Tensor, Any]) -> Tensor:
        return given[0][-1]


ALONE = """
import sys
sys.modules["unvanish"] = None  # an import of it is an error
import torch
program = torch.export.load(sys.argv[1])
given = torch.load(sys.argv[2], weights_only=True)
torch.save(program.module()(*given), sys.argv[3])
"""


@pytest.mark.parametrize("name", usual(["clockwork_rnn"], ["lstm", "clockwork_rnn"]))
def test_a_file_of_torch_runs_in_a_process_without_this_package(name: str, tmp_path: Path) -> None:
    layer = Recurrent(name, 3, 8, bidirectional=True)
    to_torch(layer, tmp_path / "model.pt2", lengths=True)
    states = tuple(s.float() if s.is_floating_point() else s for s in random_states(layer, 4))
    given = (torch.randn(6, 4, 3), states, torch.tensor([6, 0, 3, 1]))
    torch.save(given, tmp_path / "given")
    files = [tmp_path / name for name in ("model.pt2", "given", "found")]
    subprocess.run([sys.executable, "-W", "ignore", "-c", ALONE, *files], check=True)
    x_TBI, states, lengths_B = given
    output_TBW, final = layer(x_TBI, states if len(states) > 1 else states[0], lengths=lengths_B)
    wanted = output_TBW.detach(), tuple(state.detach() for state in as_tuple(final))
    near(torch.load(tmp_path / "found", weights_only=True), wanted)
    assert str(Path.cwd()).encode() not in (tmp_path / "model.pt2").read_bytes()


@pytest.mark.parametrize("write", [to_onnx, to_torch])
def test_a_mark_cuts_rows_on_the_way_back_too(write: Callable[..., None], tmp_path: Path) -> None:
    model: Any = Speller(bidirectional=True, batch_first=True)
    model.head, model.mark = None, 3
    write(model, tmp_path / "model", lengths=True)
    x_BT, lengths_B = torch.randint(0, 11, (4, 9)), torch.tensor([9, 1, 4, 8])
    x_BT[:, 3] = 3
    with torch.no_grad():
        wanted = model.recurrent(model.embedding(x_BT), lengths=lengths_B, reset=x_BT == 3)
    states = model.recurrent.zero_states(4)
    if write is to_onnx:
        output, *final = ran(session_of(tmp_path / "model"), x_BT, *states, lengths_B)
    else:
        output, final = torch.export.load(tmp_path / "model").module()(x_BT, states, lengths_B)
    near((output, tuple(final)), wanted)


def test_a_step_is_a_file_of_torch_too(tmp_path: Path) -> None:
    layer = unvanish.LSTM(3, 4)
    to_torch(layer, tmp_path / "model.pt2", streaming=True)
    program, x_BI = torch.export.load(tmp_path / "model.pt2"), torch.randn(5, 3)
    near(program.module()(x_BI, layer.zero_states(5))[0], layer(x_BI[None])[0][0].detach())


def test_the_model_that_is_exported_stays_as_it_was(tmp_path: Path) -> None:
    layer = unvanish.RNN(3, 4, constrain="orthogonal")
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    to_torch(layer, tmp_path / "model.pt2")
    assert layer.training
    assert all(parameter.requires_grad for parameter in layer.parameters())
    assert before.keys() == layer.state_dict().keys()
    near(layer.state_dict(), before)
    layer(torch.randn(5, 2, 3))[0].sum().backward()


LAYER = unvanish.LSTM(3, 4)


@pytest.mark.parametrize(
    ("model", "options", "why"),
    [
        (unvanish.LSTM(3, 4, bidirectional=True), {"streaming": True}, "two directions"),
        (SimpleNamespace(recurrent=LAYER, head=lambda x: x), {}, "code of Python"),
        (lambda x: x, {}, "function"),
        (SimpleNamespace(recurrent=LAYER, embedding=nn.Sequential()), {}, "give example="),
        (nn.Linear(3, 4), {}, "give example="),
        (nn.Linear(3, 4), {"streaming": True}, "what a step of a Linear is"),
        (LAYER, {"streaming": True, "lengths": True}, "one step has no length"),
        (LAYER, {"example": torch.zeros(3)}, r"shape \(3,\)"),
        (LAYER, {"example": torch.zeros(2, 2, 5)}, "5 wide"),
        (LAYER, {"dynamic_shapes": ()}, "no shapes"),
    ],
)
def test_what_no_graph_can_hold_is_refused_in_one_line(
    model: Any, options: dict[str, Any], why: str, tmp_path: Path
) -> None:
    with pytest.raises(unvanish.errors.UnvanishError, match=why) as caught:
        to_torch(model, tmp_path / "model.pt2", **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_torch_cannot_export_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="torch cannot export this model") as caught:
        to_torch(SimpleNamespace(recurrent=LAYER, head=Asking()), tmp_path / "model.pt2")
    assert "\n" not in str(caught.value)


class Asking(nn.Module):
    """Looks at a number, which a graph does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else -x


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_exporter_of_old_is_refused_for_cells_that_it_has_no_loop_for(tmp_path: Path) -> None:
    model = nn.Sequential(Recurrent("mgu", 3, 4), Last())
    with pytest.raises(ExportError, match="dynamo=True"):
        torch.onnx.export(model, (torch.zeros(3, 2, 3),), tmp_path / "model.onnx", dynamo=False)


@pytest.mark.parametrize("write", [to_onnx, to_torch, to_c])
def test_a_folder_that_is_not_there_is_told_before_any_work(write: Callable[..., None], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="there is no folder"):
        write(LAYER, tmp_path / "none" / "model")


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_told_with_what_to_install(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'unvanish\[export\]'"):
        to_onnx(LAYER, tmp_path / "model.onnx")


def test_weights_that_one_file_cannot_hold_lie_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "ONE_FILE", 0)
    layer, x_TBI = unvanish.RNN(3, 40), torch.randn(5, 2, 3)
    to_onnx(layer, tmp_path / "model.onnx")
    assert len(list(tmp_path.iterdir())) == 2
    found = ran(session_of(tmp_path / "model.onnx"), x_TBI, layer.zero_states(2)[0])
    near(found[0], layer(x_TBI)[0].detach())
