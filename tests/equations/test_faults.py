"""Every fault in a cell is told with its place, what is wrong and how to mend it.

In the texts below `¦` stands just before the fault; it is taken out, and the error must point there. A text
without it has a fault that no place in the text can be given for.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from unvanish import Cell, Drawn, Grouped
from unvanish.errors import CellError, OptionError

GOOD = "h[t] = tanh(W @ x[t] + U @ h[t-1])"
WORDS = [
    # what stands where it may not
    ("h[t] = ¦tanhh(W @ x[t] + U @ h[t-1])", "unknown function 'tanhh'", "did you mean 'tanh'"),
    ("h[t] = ¦frobnicate(W @ x[t])", "unknown function 'frobnicate'", "softmax"),
    ("h[t] = ¦tanh(W @ x[t], U @ h[t-1])", "tanh takes 1 argument", "just those"),
    ("h[t] = W @ x[t] + ¦minimum(h[t-1])", "minimum takes 2 arguments", "just those"),
    ("h[t] = W @ x[t] + ¦where(h[t-1] > 0)", "where takes 3 arguments", "just those"),
    ("h[t] = ¦softmax(h[t-1], W @ x[t])", "softmax takes 1 argument", "just those"),
    ("h[t] = ¦tanh(x[t], slope=1)", "tanh takes 1 argument", "just those"),
    ("h[t] = tanh(¦*x[t])", "Starred", "functions of the language"),
    ("h[t] = ¦tanh + x[t]", "'tanh' is a function", "tanh("),
    ("h[t] = ¦2 * W @ x[t]", "left side of @ is not the name of a matrix", "a * (M @ v)"),
    ("h[t] = W @ x[t] + ¦h[t-1] @ x[t]", "left side of @ is not the name of a matrix", "parentheses"),
    ("h[t] = W @ x[t] + ¦t", "t stands only in an index", "t % p == 0"),
    ("h[t] = W @ x[t] + (¦t % 2) * h[t-1]", "operator Mod", "inside where"),
    ("h[t] = W @ x[t] + (¦h[t-1] > 0)", "a comparison stands alone", "where(condition"),
    ("h[t] = W @ x[t] + where(¦h[t-1], 1, 2)", "one comparison", "where(a < b"),
    ("h[t] = W @ x[t] + where(¦0 < h[t-1] < 1, 1, 2)", "one comparison", "where(a < b"),
    ("h[t] = ¦W @ x[t] // h[t-1]", "operator FloorDiv", "use + - * /"),
    ("h[t] = W @ x[t] + h[t-1] ** ¦9", "an exponent is a whole number from 1 to 8", "sqrt"),
    ("h[t] = W @ x[t] + h[t-1] ** ¦0.5", "an exponent is a whole number", "sqrt"),
    ("h[t] = W @ x[t] + h[t-1] ** ¦-9", "an exponent is a whole number", "sqrt"),
    ("h[t] = W @ x[t] + h[t-1] ** ¦p", "an exponent is a whole number", "sqrt"),
    ("h[t] = W @ x[t] + (¦((h[t-1] ** 8) ** 8) ** 2)", "exponents multiply to more than 64", "scale"),
    ("h[t] = W @ x[t] + ¦1e31 * h[t-1]", "a number is larger than 1e+30", "scale"),
    ("h[t] = W @ x[t] + ¦1e999 * h[t-1]", "a number is larger than 1e+30", "scale"),
    ("h[t] = W @ x[t] + ¦1j * h[t-1]", "complex is not a number", "plain number"),
    ("h[t] = W @ x[t] + ¦True * h[t-1]", "bool is not a number", "plain number"),
    ("h[t] = W @ x[t] + ¦1e30 ** 8 * 1e30 ** 8", "has no finite value", "that has"),
    ("h[t] = W @ x[t] + ¦h[t-1] / (1 - 1)", "division by zero", "not always 0"),
    ("h[t] = W @ (¦x[t] / 0)", "division by zero", "not always 0"),
    ("h[t] = W @ x[t] + U @ h[¦t+1]", "an index is t, t-1", "name[t-1]"),
    ("h[t] = W @ x[t] + U @ h[¦0]", "an index is t, t-1", "name[t-1]"),
    ("h[t] = W @ x[t] + U @ h[¦t-0]", "an index is t, t-1", "name[t-1]"),
    ("h[t] = W @ x[t] + U @ h[¦t-1000001]", "an index is t, t-1", "name[t-1]"),
    ("h[t] = ¦'W' @ x[t]", "str is not a number", "plain number"),
    ("h[t] = W @ x[t] + ¦x.real", "Attribute is not part of the language", "names, numbers"),
    ("h[t] = W @ x[t] + (¦lambda: 1)", "Lambda is not part of the language", "names, numbers"),
    ("h[t] = W @ x[t] + ¦f'{x}'", "JoinedStr is not part of the language", "names, numbers"),
    ("h[t] = W @ x[t] + ¦[y for y in x]", "ListComp is not part of the language", "names, numbers"),
    ("h[t] = W @ x[t] + (¦y := 1)", "NamedExpr is not part of the language", "names, numbers"),
    ("h[t] = W @ x[t] + (¦a if b else c)", "IfExp is not part of the language", "names, numbers"),
    ("h[t] = W @ x[t] + (¦a and b)", "BoolOp is not part of the language", "names, numbers"),
    ("h[t] = W @ x[t] + ¦~h[t-1]", "UnaryOp is not part of the language", "names, numbers"),
    ("h[t] = W @ x[t] + ¦x.abs()", "only the functions of the language can be called", "directly"),
    ("h[t] = W @ x[t] + ¦_p * h[t-1]", "'_p' is not a name", "a letter first"),
    ("h[t] = W @ x[t] + ¦é * h[t-1]", "'é' is not a name", "ASCII"),
    ("¦import os", "not an assignment", "name = expression"),
    ("¦h[t]", "not an assignment", "name[t] = expression"),
    ("¦h[t] = c[t] = W @ x[t]", "not an assignment", "name[t] = expression"),
    ("¦h[t] += W @ x[t]", "not an assignment", "name[t] = expression"),
    ("¦h[t]: x = W @ x[t]", "not an assignment", "name[t] = expression"),
    ("¦h, c = W @ x[t]", "left side is not a name", "name = "),
    ("¦h[t-1] = W @ x[t]", "a line defines the present step", "h[t] = "),
    ("¦tanh = W @ x[t]", "'tanh' cannot be defined", "another name"),
    ("¦x[t] = W @ h[t-1]", "'x' cannot be defined", "another name"),
    ("h[t] = W @ ¦x[t] U", "nothing stands between x[t] and U", "written x[t] * U"),
    ("h[t] = ¦(W @ x[t]", "not an equation", "name = expression"),
    # what is no recurrence
    ("h[t] = W @ x[t] + V @ ¦q[t-1]", "state 'q' is read but no line updates it", "q[t] = "),
    ("h[t] = W @ ¦u[t] + U @ h[t-1]", "state 'u' is read", "u[t] = …; the input is called x: write x[t]"),
    ("h[t] = tanh(¦x[t] @ W_n)", "not the name of a matrix", "write W_n @ x[t]: a matrix stands left of what it"),
    ("h[t] = tanh(W @ x[t] + ¦h[t-1] @ U)", "not the name of a matrix", "write U @ h[t-1]: a matrix"),
    ("h[t] = tanh(W @ x[t] + (¦2 * h[t-1]) @ U)", "not the name of a matrix", "write U @ (…): a matrix"),
    ("h[t] = tanh(¦x @ W_n)", "'x' stands left of @", "write W_n @ x[t]: a matrix stands left of"),
    (
        "f = tanh(W @ x[t] + U @ ¦h[t])\nh[t] = f * h[t-1]",
        "'h' is used before",
        "read h[t-1], the step before: h it",
    ),
    (
        "f = tanh(W @ x[t] + ¦n)\nn = f\nh[t] = n",
        "'n' is used before",
        "define it as n[t] = … and read n[t-1], the st",
    ),
    (
        "f = W @ x[t] + ¦c[t]\nc[t] = h[t-1]\nh[t] = f",
        "'c' is used",
        "c[t-1] if the step before is meant, or move line 2",
    ),
    # steps as papers write them, which would be learnt
    ("h[t] = tanh(W @ ¦x_t + U @ h[t-1])", "not written as a subscript", "write x[t]"),
    ("h[t] = tanh(W @ x[t] + U @ ¦h_prev)", "not written as a subscript", "write h[t-1]"),
    ("h[t] = tanh(W @ x[t] + U @ ¦h_tm1)", "not written as a subscript", "write h[t-1]"),
    ("h[t] = tanh(W @ x[t] + U @ ¦h_t_2)", "not written as a subscript", "write h[t-2]"),
    ("h[t] = tanh(W @ ¦xt + U @ h[t-1])", "not written as a subscript", "write x[t]"),
    ("h[t] = tanh(W @ x[t] + U @ ¦c_t)", "not written as a subscript", "write c[t]"),
    ("h[t] = tanh(W @ ¦x_tm1 + U @ h[t-1])", "not written as a subscript", "past[t] = x[t], then read past[t-1]"),
    ("r = W @ x[t]\nh[t] = ¦r_t * h[t-1] + r", "not written as a subscript", "write r"),
    ("h[t] = tanh(¦x_t @ W)", "not written as a subscript", "write x[t]"),
    ("h[t] = tanh(W @ ¦x_{t} + U @ h_{t-1})", "not written as a subscript", "write x[t]"),
    ("h[t] = W @ x[t] + ¦c[t] * h[t-1]\nc[t] = h[t]", "'c' is used before its definition", "c[t-1]"),
    ("h[t] = W @ x[t] + ¦c\nc = h[t-1]", "'c' is used before its definition", "move line 2 up"),
    ("h[t] = W @ x[t] + ¦h[t]", "'h' is used before its definition", "h[t-1]"),
    ("h[t] = W @ x[t]\n¦h[t] = U @ h[t-1]", "'h' is defined a second time", "of its own"),
    ("¦a = W @ x[t]\nh[t] = U @ h[t-1]", "output does not depend on 'a'", "take it out"),
    ("¦a[t] = q[t-1]\nq[t] = a[t]\nh[t] = W @ x[t]", "output does not depend on 'a'", "take it out"),
    ("h[t] = W @ ¦x[t-1]", "input is read at the present step only", "past[t] = x[t]"),
    ("h[t] = W @ ¦x", "input is read at the present step only", "write x[t]"),
    ("a = W @ x[t]\nh[t] = U @ h[t-1] + ¦a[t-1]", "'a' is not carried in time", "a[t] = "),
    ("a[t] = W @ x[t]\nh[t] = U @ h[t-1] + ¦a", "'a' has steps", "a[t] or a[t-1]"),
    ("h[t] = W @ x[t] + V @ ¦h[t-d]", "delay 'd' is not declared", "delays={'d': 2}"),
    ("h[t] = W @ x[t] + ¦x @ h[t-1]", "'x' stands left of @ but is not a matrix", "name a matrix"),
    ("a = W @ x[t]\nh[t] = ¦a @ h[t-1]", "'a' stands left of @ but is not a matrix", "name a matrix"),
    ("h[t] = W @ x[t] + ¦U @ 3", "one number, not a vector", "take a state"),
    ("h[t] = W @ x[t] + ¦softmax(1)", "argument of softmax is one number", "take a state"),
    ("a = exp(2)\nh[t] = W @ x[t] + ¦U @ a", "one number, not a vector", "take a state"),
    ("h[t] = ¦U @ U", "'U' is used as a matrix and as a vector", "two names"),
    ("h[t] = W @ x[t] + U @ h[t-1] + ¦U @ x[t]", "widths contradict", "bring the"),
    ("h[t] = W @ x[t] + where(¦x[t] > h[t-1], 1, 2)", "widths contradict", "bring the"),
    ("h[t] = W @ x[t] + ¦minimum(x[t], h[t-1])", "widths contradict", "bring the"),
    ("¦h[t] = x[t]", "widths contradict", "bring the"),
    ("c[t] = W @ x[t]", "no line defines the output h[t]", "output='…'"),
    ("h = W @ x[t]", "no line defines the output h[t]", "output='…'"),
    ("¦h[t] = 0.5", "the output is one number", "take a state"),
    ("", "there is no equation", "at least"),
    ("  \n # nothing\n", "there is no equation", "at least"),
]


def fault(text: Any, **declared: Any) -> CellError:
    with pytest.raises(CellError) as caught:
        Cell("faulty", text, **declared)
    return caught.value


def marked(text: str) -> tuple[str, tuple[int, int] | tuple[None, None]]:
    """Return a text without its mark, and the line and column of the mark."""
    before, mark, after = text.partition("¦")
    if not mark:
        return text, (None, None)
    return before + after, (before.count("\n") + 1, len(before) - before.rfind("\n"))


@pytest.mark.parametrize(("text", "what", "mend"), WORDS, ids=[row[0] or "empty" for row in WORDS])
@pytest.mark.parametrize("indent", ["", "\n\t\t", "\n        # é\n        "], ids=["flush", "tabs", "indented"])
def test_a_fault_is_told_with_its_place_in_the_text_as_given(text: str, what: str, mend: str, indent: str) -> None:
    text, (line, column) = marked(indent + text.replace("\n", f"\n{indent.rpartition(chr(10))[2]}"))
    error = fault(text)
    assert what in error.what
    assert (mend in error.mend) or re.search(r"move line \d+ up", error.mend)
    assert (error.line, error.column) == (line, column)


@pytest.mark.parametrize(
    "text",
    [
        "ｈ[t] = tanh(W @ x[t] + ¦foo(h[t-1]))",  # a wide h, which Python reads as h
        'h[t] = W @ x[t] + "ééé" ¦)',
        "h[t]\t=\tW @ x[t] +\t¦foo(h[t-1])",
        "h[t] = (W @ x[t]\n+ \\\n    U @ ¦foo(h[t-1]))",
        "a = W @ x[t]\r\nh[t] = a + ¦foo(h[t-1])",
        "a = W @ x[t]\rh[t] = a + ¦foo(h[t-1])",
        "a = W @ x[t]; h[t] = a + ¦foo(h[t-1])",
        "      a = W @ x[t]\n  h[t] = a + ¦foo(h[t-1])",
    ],
)
def test_columns_count_characters_of_the_text_as_given(text: str) -> None:
    text, _ = marked(text)
    given = re.split(r"\r\n|\r|\n", text)
    error = fault(text)
    line = next(i for i, one in enumerate(given, 1) if "foo(" in one or one.endswith(")"))
    place = given[line - 1].find("foo(")
    assert (error.line, error.column) == (line, 1 + (place if place >= 0 else given[line - 1].find(")")))


def test_the_message_shows_the_line_with_a_caret_under_the_fault() -> None:
    shown = str(fault("\th[t]\t= foo(x[t])")).splitlines()
    assert shown[0].startswith("line 1, column 9: unknown function 'foo'")
    assert shown[1].expandtabs().index("foo") == shown[2].expandtabs().index("^")


def test_a_contradiction_of_widths_shows_both_places() -> None:
    error = fault("a = U @ h[t-1]\nq = U @ x[t]\nh[t] = a + q + W @ x[t]")
    assert "x is input-wide (line 2, column 9)" in error.what
    assert "the output h is hidden-wide (line 1, column 9)" in error.what


DECLARED = [
    (GOOD, {"scalars": ("s",)}, "'s' is declared but no line uses it"),
    (GOOD, {"numbers": {"alpha": 0.5}}, "'alpha' is declared but no line uses it"),
    (GOOD, {"delays": {"d": 2}}, "'d' is declared but no line uses it"),
    (GOOD, {"functions": {"f": "tanh"}}, "'f' is declared but no line uses it"),
    (GOOD, {"widths": {"m": "memory"}}, "'m', which does not occur"),
    (GOOD, {"initial": {"Q_*": 1.0}}, "initial names 'Q_*'"),
    (GOOD, {"scalars": ("h",)}, "'h' is declared and defined"),
    (GOOD, {"delays": {"h": 2}}, "'h'"),
    (GOOD, {"scalars": ("tanh",)}, "not a free name"),
    (GOOD, {"numbers": {"x": 1.0}}, "not a free name"),
    (GOOD, {"output": "c"}, "no line defines the output c[t]"),
    (GOOD, {"widths": {"h": "input"}}, "not a new width"),
    (GOOD, {"widths": {"h": "hh"}}, "not a new width"),
    (GOOD, {"widths": {"h": 3}}, "not a new width"),
    (GOOD, {"slower_to_faster": {"V": "p"}}, "no recurrent matrix"),
    (GOOD, {"slower_to_faster": {"U": "p"}}, "no fixed number"),
    (f"{GOOD} + s", {"scalars": ("s",), "numbers": {"s": 1.0}}, "declared in scalars and in numbers"),
    (f"{GOOD} + s", {"numbers": {"s": float("nan")}}, "the fixed number s"),
    (f"{GOOD} + s", {"numbers": {"s": Drawn(1, 0)}}, "the fixed number s"),
    (f"{GOOD} + s", {"numbers": {"s": Drawn(0, 1, "log")}}, "the fixed number s"),
    (f"{GOOD} + s", {"numbers": {"s": Drawn(0, 1, "cubic")}}, "the fixed number s"),  # type: ignore[arg-type]
    (f"{GOOD} + s", {"numbers": {"s": Grouped(())}}, "the fixed number s"),
    (f"{GOOD} + d * h[t-d]", {"delays": {"d": 2}}, "the delay 'd' stands only in an index"),
    (f"{GOOD} + s @ h[t-1]", {"scalars": ("s",)}, "'s' stands left of @"),
    (f"{GOOD} + V @ (2 * s)", {"scalars": ("s",)}, "one number, not a vector"),
    ("h[t] = V @ h[t-d]", {"delays": {"d": 0}}, "the delay d is 0"),
    ("h[t] = f(h[t-1])", {"functions": {"f": "tan"}}, "did you mean 'tanh'"),
    ("h[t] = f(h[t-1])", {"functions": {"f": "softmax"}}, "not a function of the language"),
    ("f = h[t-1]\nh[t] = f(f)", {"functions": {"f": "tanh"}}, "'f' cannot be defined"),
]


@pytest.mark.parametrize(("text", "declared", "what"), DECLARED, ids=[str(row[1]) for row in DECLARED])
def test_a_faulty_declaration_is_told(text: str, declared: dict[str, Any], what: str) -> None:
    assert what in str(fault(text, **declared))


@pytest.mark.parametrize("name", ["", "3d", "a b", "class", "é", None])
def test_a_name_for_a_cell_is_an_identifier(name: Any) -> None:
    with pytest.raises(CellError, match="is not a name for a cell"):
        Cell(name, GOOD)


@pytest.mark.parametrize("text", [None, 3, b"h[t] = x[t]", ["h[t] = x[t]"]])
def test_equations_are_a_text(text: Any) -> None:
    assert "equations are a text" in fault(text).what


def test_a_name_like_a_step_is_ones_own_where_it_is_defined_or_declared() -> None:
    cell = Cell("own", "f_t = sigmoid(W @ x[t])\nh[t] = f_t * h[t-1] + b_t * h_old", scalars=("h_old",))
    assert [one.name for one in cell.system().parameters] == ["W", "b_t", "h_old"]


def test_a_cell_that_never_reads_its_input_says_so() -> None:
    with pytest.warns(UserWarning, match=r"alone: its output does not depend on the input: no line reads x\[t\]"):
        Cell("alone", "h[t] = tanh(U @ h[t-1] + b)")


def test_a_default_that_no_layer_could_be_given_is_refused_by_the_layer_too() -> None:
    cell = Cell("delayed", "h[t] = W @ x[t] + V @ h[t-d]", delays={"d": 2})
    with pytest.raises(OptionError, match=r"the delay d is 2\.5"):
        cell.system(delays={"d": 2.5})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("h[t] = tanh(W @ x[t]) ¦⊙ b", "an elementwise product is written *"),
        ("h[t] = tanh(W @ x[t]) ¦× b", "an elementwise product is written *, and a matrix product @"),
        ("h[t] = tanh(¦W x[t] + b)", "a matrix product is written W @ x[t]"),
        ("h[t] = tanh(¦W_x x[t] + b)", "a matrix product is written W_x @ x[t]"),
        ("h[t] = tanh(W @ x[t] + ¦U h[t-1])", "a matrix product is written U @ h[t-1]"),
        ("h[t] = W @ x[t] + ¦U (r * h[t-1])", "a matrix product is written U @ …"),
        ("f = sigmoid(W @ x[t])\nh[t] = ¦f h[t-1]  # f of h", "an elementwise product is written f * h[t-1]"),
        ("h[t] = W @ x[t] + (1 - z¦) h[t-1]", "an elementwise product is written (…) * h[t-1]"),
        ("h[t] = W @ x[t] + ¦h_{t-1}", "write h[t-1]"),
        ("h[t] = ¦σ(W @ x[t])", "the logistic function is written sigmoid"),
        ("h[t] = ¦W(x[t])", "a matrix product is written W @ …"),
        ("h[t] = ¦h[t-1]^2 + W @ x[t]", "a power is written **"),
        ("h[t] = W @ x[t] + h[t¦−1]", "write -"),
    ],
)
def test_what_is_typed_as_on_paper_is_told_what_to_write(text: str, mend: str) -> None:
    text, place = marked(text)
    error = fault(text)
    assert (error.mend, (error.line, error.column)) == (mend, place)
