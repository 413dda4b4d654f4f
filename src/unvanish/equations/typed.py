"""What somebody meant who typed equations as they stand on paper: signs of print, products without a sign."""

from __future__ import annotations

import re
from collections.abc import Collection

# Signs of papers, with what the language has for them.
ELEMENTWISE, EITHER = "⊙∘⊗◦⨀", "·⋅∙×•"
OTHERS = {"−": "-", "–": "-", "÷": "/", "∗": "*", "≤": "<=", "≥": ">=", "′": "", "ᵀ": ""}
MATRIX_FIRST = "a matrix stands left of what it multiplies"
_NAME = r"[A-Za-z]\w*"
_OPERAND = rf"{_NAME}(?:\[[^\[\]]*\])?"
_SIDE_BY_SIDE = re.compile(rf"((?<!\w){_OPERAND}|(?<!\w)\d+(?:\.\d*)?|\))[ \t]+({_OPERAND}|\()")
_STEP = re.compile(r"([A-Za-z]\w*?)_(?:t(?:_?(?:m|minus)?_?([1-9]\d*))?|(prev|previous|last|old))\Z")
_GLUED = re.compile(r"([xhc])t(?:m?([1-9]))?()\Z")
_SUBSCRIPT = re.compile(rf"(?<!\w)({_NAME}?)_\{{\s*(t\s*(?:-\s*\w+)?)\s*\}}")


def meant(source: str, after: int) -> tuple[str, str, int] | None:
    """Say what is wrong with a line that is not an equation, how to write it, and at which column.

    Args:
        source: the line.
        after: where its right side begins: a name that stands before `=` is no factor.

    >>> meant("h[t] = tanh(W_x x[t] + b)", 6)
    ('nothing stands between W_x and x[t]', 'a matrix product is written W_x @ x[t]', 13)
    >>> meant("h[t] = f ⊙ h[t-1]", 6)[1]
    'an elementwise product is written *'
    >>> meant("h[t] = 1 - h[t-1]", 6)
    """
    source = source.partition("#")[0]
    for column, sign in enumerate(source, 1):
        if (mend := _for_sign(sign)) is not None:
            return f"the sign {sign} is not part of the language", mend, column
    subscript = _SUBSCRIPT.search(source)
    if subscript is not None:
        name, index = subscript[1] or "h", subscript[2].replace(" ", "")
        return "a step is not written as a subscript", f"write {name}[{index}]", subscript.start() + 1
    beside = _SIDE_BY_SIDE.search(source, after)
    if beside is None:
        return None
    left, right = beside[1], beside[2]
    what = f"nothing stands between {left} and {right}"
    shown = f"{left} {{}} {'(…)' if right == '(' else right}" if left != ")" else f"(…) {{}} {right}"
    if is_matrix(left):
        return what, f"a matrix product is written {shown.format('@')}", beside.start() + 1
    return what, f"an elementwise product is written {shown.format('*')}", beside.start() + 1


def step_meant(name: str, signals: Collection[str]) -> str | None:
    """Say which step of which signal a name stands for on paper, None where it stands for itself.

    >>> [step_meant(name, ["x", "h"]) for name in ("x_t", "h_tm1", "h_t_2", "h_prev", "ht", "b_t")]
    ['x[t]', 'h[t-1]', 'h[t-2]', 'h[t-1]', 'h[t]', None]
    """
    found = _STEP.match(name) or _GLUED.match(name)
    if found is None or found[1] not in signals:
        return None
    back = "1" if found[3] else found[2]
    return f"{found[1]}[t-{back}]" if back else f"{found[1]}[t]"


def is_matrix(name: str) -> bool:
    """Whether a name is written as papers write a matrix.

    >>> is_matrix("W_x"), is_matrix("f"), is_matrix("x[t]")
    (True, False, False)
    """
    return name[:1].isupper() and name.isidentifier()


def _for_sign(sign: str) -> str | None:
    if sign in ELEMENTWISE:
        return "an elementwise product is written *"
    if sign in EITHER:
        return "an elementwise product is written *, and a matrix product @"
    if sign in OTHERS:
        return f"write {OTHERS[sign]}" if OTHERS[sign] else "give it a name of its own, of letters and digits"
    return None
