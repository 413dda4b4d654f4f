"""Initialisers by word, number, pattern or callable are really applied, and only where they are meant."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from unvanish import Cell, Drawn, Recurrent, cells
from unvanish.errors import OptionError
from unvanish.flow.finding.parts import parts_of
from unvanish.nn import init
from unvanish.nn.init import WORDS, LayerInitialiser, from_word

from .layers import each_cell, made

SUFFIXES = ("l0", "l0_reverse", "l1", "l1_reverse")
H = 8


def lstm(init: Any = None, **options: Any) -> Recurrent:
    return Recurrent("lstm", H, H, 2, bidirectional=True, init=init, **options)


def radius_of(a: Tensor) -> float:
    return float(torch.linalg.eigvals(a.double()).abs().max())


def eye(a: Tensor) -> Tensor:
    return torch.eye(*a.shape, dtype=a.dtype)


def orthonormal(a: Tensor) -> bool:
    short = a if a.shape[0] <= a.shape[1] else a.T
    return torch.allclose(short @ short.T, torch.eye(short.shape[0], dtype=a.dtype), atol=1e-5)


LOOKS: dict[str, Callable[[Tensor], bool]] = {
    "zeros": lambda a: bool((a == 0).all()),
    "ones": lambda a: bool((a == 1).all()),
    "0.25": lambda a: bool((a == 0.25).all()),
    "normal": lambda a: 0.005 < float(a.std()) < 0.02,
    "scaled:0.3": lambda a: 0.15 < float(a.std()) < 0.6,
    "uniform:0.2": lambda a: 0.12 < float(a.abs().max()) <= 0.2,
    "xavier": lambda a: 0.7 < float(a.abs().max()) / math.sqrt(6 / sum(a.shape)) <= 1,
    "xavier_uniform:2": lambda a: 0.7 < float(a.abs().max()) / math.sqrt(24 / sum(a.shape)) <= 1,
    "xavier_normal": lambda a: 0.5 < float(a.std()) / math.sqrt(2 / sum(a.shape)) < 2,
    "he": lambda a: 0.7 < float(a.abs().max()) / math.sqrt(6 / a.shape[1]) <= 1,
    "he_uniform": lambda a: 0.7 < float(a.abs().max()) / math.sqrt(6 / a.shape[1]) <= 1,
    "he_normal": lambda a: 0.5 < float(a.std()) / math.sqrt(2 / a.shape[1]) < 2,
    "orthogonal:1": orthonormal,
    "orthogonal:0.5": lambda a: orthonormal(2 * a),
    "identity": lambda a: torch.equal(a, eye(a)),
    "identity:0.5": lambda a: torch.equal(a, eye(a) / 2),
    "sparse:3": lambda a: bool(((a != 0).sum(1) == 3).all()) and abs(radius_of(a) - 1.1) < 1e-3,
    "sparse:2:0.7": lambda a: bool(((a != 0).sum(1) == 2).all()) and abs(radius_of(a) - 0.7) < 1e-3,
    "radius:0.9": lambda a: abs(radius_of(a) - 0.9) < 1e-3,
    "depth:0.01:2": lambda a: 0.5 < float(a.std()) / math.sqrt(0.1 / a.shape[1]) < 2,
}
OF_RECURRENCES = ("identity", "sparse", "radius")
OF_LAYERS: dict[str, tuple[float, float]] = {  # a word, and the shares that a state may keep in a step
    "forget": (1 / (1 + math.exp(-1)),) * 2,
    "forget:2": (1 / (1 + math.exp(-2)),) * 2,
    "chrono:50": (0.5, 1 - 1 / 50),
    "leaks:2:100": (math.exp(-1 / 2), math.exp(-1 / 100)),
}


def test_every_word_is_looked_at() -> None:
    assert {word.split(":")[0] for word in LOOKS | OF_LAYERS if word in WORDS or ":" in word} == set(WORDS)


@pytest.mark.parametrize("word", LOOKS)
def test_a_word_fills_every_matrix_that_it_is_for_in_every_layer_and_direction(word: str) -> None:
    torch.manual_seed(0)
    layer, about_time = lstm(word), word.split(":")[0] in OF_RECURRENCES
    usual = 1 / math.sqrt(H)
    for suffix in SUFFIXES:
        for gate in "ifgo":
            assert LOOKS[word](layer[f"U_{gate}_{suffix}"].detach())
            W = layer[f"W_{gate}_{suffix}"].detach()
            assert 0.8 * usual < float(W.abs().max()) <= usual if about_time else LOOKS[word](W)
        assert 0 < layer[f"b_f_{suffix}"].abs().max() <= usual  # vectors keep what they have


@each_cell
@pytest.mark.parametrize("word", LOOKS)
def test_every_word_of_arrays_holds_for_every_cell_or_is_refused(name: str, word: str) -> None:
    torch.manual_seed(1)
    kind = word.split(":")[0]
    about_time, of_the_whole = kind in OF_RECURRENCES, kind in ("orthogonal", "sparse", "radius")
    system = made(name).system
    meant = [p.name for p in system.parameters if p.columns and (p.role == "recurrent" or not about_time)]
    if not meant or (of_the_whole and set(meant) & set(cells[name].slower_to_faster)):
        with pytest.raises(OptionError, match=name):
            made(name, init=word)
        return
    layer = made(name, init=word)
    assert all(LOOKS[word](layer[parameter].detach()) for parameter in meant)


def kept(layer: Recurrent) -> dict[str, Tensor]:
    """What each unit of each state keeps of itself in a step with all matrices zero: ∂s[t]/∂s[t-1], measured."""
    for parameter in layer.system.parameters:
        if parameter.columns is not None or parameter.name.startswith("p_"):  # peepholes read the state as well
            layer[parameter.name].data.zero_()
    part = parts_of(layer, torch.zeros(1, 1, layer.input_size, dtype=torch.float64))["l0"]
    s_1N = torch.zeros(1, sum(part.widths.values()), dtype=torch.float64)
    jacobian_NN = torch.func.jacrev(part.step(0))(s_1N)[0, :, 0]
    return {state: jacobian_NN[place, place].diagonal() for state, place in part.slices().items()}


@each_cell
@pytest.mark.parametrize("word", OF_LAYERS)
def test_every_word_of_layers_holds_for_every_cell_or_is_refused(name: str, word: str) -> None:
    torch.manual_seed(2)
    low, high = OF_LAYERS[word]
    plain = made(name)
    biases = [plain[p.name].data for p in plain.system.parameters if p.role == "bias"]
    for bias_H in biases:
        bias_H.fill_(0.123)
    before = kept(plain)
    try:
        layer = made(name, init=word)
    except OptionError:
        for bias_H in biases:  # none of them is a gate's
            bias_H.add_(0.01)
        assert all(torch.equal(before[state], share_H) for state, share_H in kept(plain).items())
        return
    after = kept(layer)
    changed = [state for state in after if not torch.allclose(before[state], after[state])]
    assert changed
    for state in changed:
        assert ((after[state] > low - 1e-9) & (after[state] < high + 1e-9)).all()
        assert (after[state].unique().numel() > 1) == (high > low)


def test_a_gate_that_lets_in_gets_the_same_draw_turned_round_and_second_biases_are_zero() -> None:
    layer = lstm("chrono:100")
    for suffix in SUFFIXES:
        assert torch.equal(layer[f"b_i_{suffix}"], -layer[f"b_f_{suffix}"])
        assert (layer[f"bh_f_{suffix}"] == 0).all()
        assert (layer[f"bh_i_{suffix}"] == 0).all()
        assert layer[f"b_f_{suffix}"].unique().numel() == H
    assert not torch.equal(layer["b_f_l0"], layer["b_f_l1"])


def test_a_word_of_layers_for_one_bias_leaves_all_others() -> None:
    torch.manual_seed(0)
    plain = lstm()
    torch.manual_seed(0)
    layer = lstm({"b_f": "chrono:200"})
    assert ((layer["b_f_l1"] >= 0) & (layer["b_f_l1"] <= math.log(199))).all()
    assert layer["b_f_l1"].unique().numel() == H
    for parameter in layer.system.parameters:
        assert torch.equal(layer[parameter.name], plain[parameter.name]) == (parameter.name != "b_f")
    assert (Recurrent("mgu", 2, 3, init={"b_f": "chrono:200"})["b_f"] <= 0).all()
    torch.manual_seed(0)
    other = lstm({"b_i": "chrono:200"})
    assert (other["b_i"] <= 0).all()
    assert torch.equal(other["b_f"], plain["b_f"])


def test_fixed_numbers_are_filled_by_name() -> None:
    assert (Recurrent("leaky_rnn", 2, 5, 2, init={"alpha": 0.75}).alpha_l1 == 0.75).all()
    layer = Recurrent("leaky_rnn", 2, 500, init={"alpha": "leaks:10:100"})
    assert 10 <= float((-1 / layer.alpha_l0.log()).min()) < 11
    assert 90 < float((-1 / layer.alpha_l0.log()).max()) <= 100.001
    everything = Recurrent("leaky_rnn", 2, 5, init={"*": 0.0})  # a pattern that meets parameters leaves numbers
    assert (everything.alpha_l0 >= 0.5).all()


def test_several_are_applied_in_turn_and_the_later_win() -> None:
    layer = lstm(["orthogonal", {"b_*": 0.0}, "chrono:784", {"U_o": 3.0}])
    assert orthonormal(layer["U_i_l1"].detach())
    assert (layer["b_g_l1"] == 0).all()
    assert (layer["b_f_l1"] >= 0).all()
    assert (layer["b_f_l1"] > 1).any()
    assert (layer["U_o_l1"] == 3).all()
    assert (lstm(())["U_o"].abs() <= 1 / math.sqrt(H)).all()


def test_gates_are_found_in_cells_of_ones_own() -> None:
    text = """
        pre  = W_k @ x[t] + U_k @ h[t-1] - b_k
        lost = 0.5 * sigmoid(pre + 1)
        h[t] = (1 - lost) * h[t-1] + lost * tanh(W_n @ x[t] + b_n)
    """
    own = Cell("own", text)
    share_H = kept(Recurrent(own, 2, 50, dtype=torch.float64, init="chrono:100"))["h"]
    assert ((share_H >= 0.75) & (share_H <= 0.99)).all()  # half of half is lost at most
    assert (Recurrent(own, 2, 3, init="forget:2")["b_k"] == 3.0).all()  # 1 - sigmoid(-3 + 1) = sigmoid(2)
    with pytest.raises(OptionError, match="outside 0 … 1"):
        Recurrent(own, 2, 50, init="leaks:0.5:1")
    with pytest.raises(OptionError, match="give 'chrono:8' or more"):
        Recurrent(own, 2, 50, init="chrono:3")


def test_gates_that_turn_round_multiply_or_are_no_gates() -> None:
    turned = Cell("turned", "f = sigmoid(-(W @ x[t] + b_k))\nh[t] = f * h[t-1] + tanh(V @ x[t])")
    assert (Recurrent(turned, 2, 3, init="forget:2")["b_k"] == -2.0).all()
    two = Cell("two", "f = sigmoid(W @ x[t] + b_f)\nk = sigmoid(b_k)\nh[t] = f * k * h[t-1] + tanh(V @ x[t])")
    layer = Recurrent(two, 2, 3, init="forget:2")
    assert [bool((layer[name] == 2).all()) for name in ("b_f", "b_k")] == [True, True]
    with pytest.raises(OptionError, match="what h keeps is said by more than f, k alone"):
        Recurrent(two, 2, 3, init="chrono:9")
    hump = Cell("hump", "f = sigmoid(W @ x[t] + b_f)\nh[t] = f * (1 - f) * h[t-1] + tanh(V @ x[t])")
    with pytest.raises(
        OptionError, match="h keeps by f, no gate or leak"
    ):  # neither more nor less of it keeps more
        Recurrent(hump, 2, 3, init="forget")
    direct = Cell("direct", "h[t] = a * h[t-1] + (1 - a) * tanh(W @ x[t] + b_h)")
    share_H = kept(Recurrent(direct, 2, 9, dtype=torch.float64, init="leaks:10:20"))["h"]
    assert ((share_H > math.exp(-1 / 10)) & (share_H < math.exp(-1 / 20))).all()
    lines = "\n".join(f"g{n} = g{n - 1} * g{n - 1} + f" for n in range(1, 40))  # written out, 2⁴⁰ long
    long = Cell("long", f"f = sigmoid(W @ x[t] + b_f)\ng0 = f\n{lines}\nh[t] = g39 * h[t-1] + tanh(V @ x[t])")
    with pytest.raises(OptionError, match="'chrono:9'"):
        Recurrent(long, 2, 3, init="chrono:9")


def test_it_is_the_same_for_the_same_seed_in_any_type_and_nothing_on_meta() -> None:
    for word in [*LOOKS, *OF_LAYERS]:
        made_twice = []
        for _ in range(2):
            torch.manual_seed(3)
            made_twice.append(lstm(word, dtype=torch.float64).state_dict())
        assert all(torch.equal(a, b) for a, b in zip(*(d.values() for d in made_twice), strict=True))
        assert lstm(word, device="meta")["U_f"].is_meta
        assert made_twice[0]["weight_hh_l0"].dtype == torch.float64
        assert lstm(word, dtype=torch.bfloat16)["U_f"].dtype == torch.bfloat16
    assert Recurrent("leaky_rnn", 2, 3, device="meta", init="leaks:1:10").alpha_l0.is_meta
    with pytest.raises(OptionError, match="square"):
        Recurrent("rnn", 2, 3, device="meta", init={"W_h": "radius:1"})


def test_objects_are_what_words_are_and_can_be_pickled() -> None:
    for word, found in {
        "sparse:4:0.9": init.sparse(4, 0.9),
        "orthogonal:2": init.orthogonal(2.0),
        "chrono:30": init.chrono(30),
        "leaks:1:9": init.leaks(1, 9),
        "he_normal": init.he(normal=True),
        "depth:0.5:20": init.depth(0.5, 20),
    }.items():
        assert found.word == from_word(word).word == word
        layers = []
        for one in (word, found, pickle.loads(pickle.dumps(found))):
            torch.manual_seed(0)
            layers.append(lstm(one).state_dict())
        assert all(torch.equal(layers[0][k], other[k]) for k in layers[0] for other in layers[1:])
    assert isinstance(init.forget_bias(), LayerInitialiser)
    linear = torch.nn.Linear(5, 5)  # an array is an array, whoever holds it
    init.radius(0.5)(linear.weight)
    assert abs(radius_of(linear.weight.detach()) - 0.5) < 1e-5


def test_a_number_and_a_callable_fill_what_their_patterns_meet() -> None:
    layer = lstm({"b_f": 1.5, "U_*": lambda a: a.copy_(2 * torch.eye(H)), "W_?": lambda a: 3 * torch.ones_like(a)})
    for suffix in SUFFIXES:
        assert (layer[f"b_f_{suffix}"] == 1.5).all()
        assert (layer[f"b_i_{suffix}"].abs() < 0.5).all()
        for gate in "ifgo":
            assert torch.equal(layer[f"U_{gate}_{suffix}"], 2 * torch.eye(H))
            assert (layer[f"W_{gate}_{suffix}"] == 3).all()


def test_later_patterns_win() -> None:
    layer = lstm({"*": 0.0, "b_*": 1.0, "b_f": 2.0})
    assert [layer[f"{name}_l1"].flatten()[0].item() for name in ("U_f", "b_i", "b_f")] == [0.0, 1.0, 2.0]


def test_the_layers_initialiser_wins_over_the_cells() -> None:
    assert (Recurrent("peephole_lstm", 2, 3)["b_f"] == 1.0).all()
    assert (Recurrent("peephole_lstm", 2, 3, init={"b_*": 0.25})["b_f"] == 0.25).all()


@each_cell
def test_what_a_cell_says_of_its_parameters_is_done(name: str) -> None:
    for parameter, value in cells[name].initial.items():
        assert (made(name)[parameter] == value).all()


def test_a_pattern_of_the_cell_holds_without_biases_too() -> None:
    cell = Cell("set", "h[t] = tanh(W_h @ x[t] + U_h @ h[t-1] + b_h)", initial={"U_*": 2.0, "b_*": 1.0})
    assert (Recurrent(cell, 2, 3, bias=False)["U_h"] == 2.0).all()
    layer = Recurrent(cell, 2, 3)
    assert (layer["U_h"] == 2.0).all()
    assert (layer["b_h"] == 1.0).all()


def test_parameters_are_filled_anew_on_request() -> None:
    layer = lstm({"b_f": 1.0})
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(9.0)
    layer.reset_parameters()
    assert (layer["b_f_l1"] == 1.0).all()
    assert (layer["U_f_l1"].abs() <= 1 / math.sqrt(H)).all()


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("orthogonl", "unknown initialiser 'orthogonl': did you mean 'orthogonal'"),
        ({"U_f": "orthogonl"}, "did you mean 'orthogonal'"),
        ({"U_q": 1.0}, "init names 'U_q', which is not a parameter: did you mean 'U_"),
        ({"Q_*": 1.0}, "init names 'Q_*', which is not a parameter"),
        ({"b_f": "orthogonal"}, "'orthogonal' is for matrices, b_f is a vector"),
        ({"b_f": float("nan")}, "nan is not an initialiser"),
        ({"b_f": None}, "None is not an initialiser"),
        ({"b_f": True}, "True is not an initialiser"),
        ([[1.0]], "is not an initialiser"),
        ("chrono", "'chrono' has 0 numbers after its name: write 'chrono:steps'"),
        ("chrono:x", "wants plain numbers"),
        ("sparse:1:2:3", "write 'sparse:incoming:radius', of which 2 may be left out"),
        ("zeros:1", "'zeros:1' has 1 numbers after its name: write 'zeros'"),
        ("sparse:9", "they come from 8 units"),
        ("sparse:1.5", "whole number"),
        ("radius:-1", "a positive number"),
        ("radius:nan", "a positive number"),
        ("chrono:1", "from 2 steps on"),
        ("leaks:10:1", "shortest time scale first"),
        ("depth:1:0", "from 1 on"),
        ({"b_g": "chrono:9"}, "b_g of lstm does not say what a state keeps"),
        ({"b_i": "forget"}, "give it to b_f"),
        ({"U_f": "chrono:9"}, "give it to b_f or b_i"),
    ],
)
def test_what_is_no_initialiser_or_no_parameter_is_refused(init: Any, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        lstm(init)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("cell", "options", "message"),
    [
        ("lstm", {"bias": False, "init": "forget"}, "the gate f has no bias to set, for the layer has bias=False"),
        ("rnn", {"init": "chrono:9"}, "rnn has no gate that keeps a state"),
        ("leaky_rnn", {"init": "forget"}, "h keeps by alpha, which is not a gate with a bias"),
        ("leaky_rnn", {"init": "leaks:1:9", "alpha": 0.5}, "alpha was given to the layer"),
        ("leaky_rnn", {"init": {"alpha": 0.5}, "alpha": 0.5}, "alpha was given to the layer"),
        ("cornn", {"init": "leaks:1:9"}, "z keeps by dt, epsilon, no gate or leak"),
        ("rnn", {"init": {"W_h": "radius:0.9"}}, "W_h is (3, 2)"),
        ("rnn", {"init": "sparse:2", "proj_size": 2}, "is for square matrices"),
        ("lem", {"init": "chrono:9", "dt": 0.1}, "give 'chrono:40' or more"),
    ],
)
def test_what_cannot_be_honoured_is_refused(cell: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        Recurrent(cell, 2, 3, **options)
    assert message in str(caught.value)


def test_a_leak_that_is_one_number_for_all_units_is_refused() -> None:
    text = "h[t] = k * h[t-1] + (1 - k) * tanh(W @ x[t])"
    with pytest.raises(OptionError, match="one number for all units"):
        Recurrent(Cell("one", text, numbers={"k": 0.9}), 2, 3, init="leaks:1:9")
    layer = Recurrent(Cell("each", text, numbers={"k": Drawn(0.5, 0.6)}), 2, 3, init="leaks:10:20")
    assert (layer.k_l0 > 0.9).all()
