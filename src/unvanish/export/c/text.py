"""Expressions of the language as C99, number by number, and the functions that they call.

Names of the equations stand behind a prefix, so that they meet no word of C: `v_f` is a value, of the unit at hand.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unvanish.equations.expression import LAYERNORM_EPSILON, Binary, Call, Compare, Expr, Negate, Number, Phase, Ref
from unvanish.equations.words import SURROGATES

# What C has by itself, under another name or by an operator.
_IN_C = {"identity": "({})", "exp": "expf({})", "log": "logf({})", "sqrt": "sqrtf({})", "abs": "fabsf({})"}
_IN_C |= {"sin": "sinf({})", "cos": "cosf({})", "erf": "erff({})", "tanh": "tanhf({})", "where": "({} ? {} : {})"}
_IN_C |= {f"heaviside_{name}": "(({}) > 0.0f ? 1.0f : 0.0f)" for name in SURROGATES}

# Functions of one unit, by their names in the language. NaN goes through all of them, as it does in torch.
_OF_A_UNIT = {
    "sigmoid": "return 1.0f / (1.0f + expf(-a));",
    "relu": "return a < 0.0f ? 0.0f : a;",
    "softplus": "return a > 20.0f ? a : log1pf(expf(a));",
    "gelu": "return 0.5f * a * erfcf(-0.70710678f * a);",
    "gelu_tanh": "return 0.5f * a * (1.0f + tanhf(0.79788456f * (a + 0.044715f * a * a * a)));",
    "silu": "return a / (1.0f + expf(-a));",
    "elu": "return a > 0.0f ? a : expm1f(a);",
    "softsign": "return a / (1.0f + fabsf(a));",
    "leaky_relu": "return a > 0.0f ? a : 0.01f * a;",
    "hardsigmoid": "return a <= -3.0f ? 0.0f : a >= 3.0f ? 1.0f : (a + 3.0f) / 6.0f;",
}
_OF_TWO = {
    "minimum": "return a != a || a < b ? a : b;",
    "maximum": "return a != a || a > b ? a : b;",
}
_OF_TIME = """static float NAME(unsigned long time, float period)
{
    const double rest = fmod((double)time, (double)period);
    return (float)(rest != 0.0 && period < 0.0f ? rest + (double)period : rest);
}
"""
# Functions of all units of a row, in place.
_OF_A_ROW = {
    "layernorm": f"""    float mean = 0.0f, variance = 0.0f;
    for (int u = 0; u < units; u++) mean += row[u];
    mean /= (float)units;
    for (int u = 0; u < units; u++) variance += (row[u] - mean) * (row[u] - mean);
    variance = sqrtf(variance / (float)units + {LAYERNORM_EPSILON}f);
    for (int u = 0; u < units; u++) row[u] = (row[u] - mean) / variance;
""",
    "softmax": """    float most = row[0], sum = 0.0f;
    for (int u = 1; u < units; u++) most = row[u] > most ? row[u] : most;
    for (int u = 0; u < units; u++) row[u] = expf(row[u] - most);
    for (int u = 0; u < units; u++) sum += row[u];
    for (int u = 0; u < units; u++) row[u] /= sum;
""",
}
FUNCTIONS = {*_IN_C, *_OF_A_UNIT, *_OF_TWO, *_OF_A_ROW}


class Functions:
    """The functions that a file calls, each written once, under the prefix of the file."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.used: dict[str, str] = {}

    def __call__(self, function: str) -> str:
        """Return what a function of the language is called in the file."""
        name = f"{self.prefix}of_{function}"
        if function in _OF_A_ROW:
            head, body = f"static void {name}(float *row, int units)", _OF_A_ROW[function].rstrip()
        else:
            two = function in _OF_TWO
            head = f"static float {name}(float a, float b)" if two else f"static float {name}(float a)"
            body = f"    {(_OF_TWO if two else _OF_A_UNIT)[function]}"
        self.used[function] = f"{head}\n{{\n{body}\n}}\n"
        return name

    def phase(self) -> str:
        """Return what gives t % period."""
        name = f"{self.prefix}of_time"
        self.used["phase"] = _OF_TIME.replace("NAME", name)
        return name

    def text(self) -> str:
        """The functions, one after the other."""
        return "\n".join(self.used.values())


def number(value: float) -> str:
    """Write a number in single precision, as torch reads it beside a tensor.

    >>> number(0.1), number(1), number(-1e300)
    ('0.1f', '1.0f', '(-HUGE_VALF)')
    """
    with np.errstate(over="ignore"):
        single = np.float32(value)
    if np.isinf(single):
        return "HUGE_VALF" if single > 0 else "(-HUGE_VALF)"
    return f"{single!s}f" if single >= 0 else f"({single!s}f)"


def expression(expr: Expr, read: Callable[[Ref], str], functions: Functions) -> str:
    """Write an elementwise expression; `read` says where a value is."""

    def write(expr: Expr) -> str:
        match expr:
            case Number(value):
                return number(value)
            case Ref():
                return read(expr)
            case Negate(operand):
                return f"(-{write(operand)})"
            case Binary("**", left, right):
                return f"powf({write(left)}, {write(right)})"
            case Binary(op, left, right) | Compare(op, left, right):
                return f"({write(left)} {op} {write(right)})"
            case Call(function, args) if function in _IN_C:
                return _IN_C[function].format(*map(write, args))
            case Call(function, args):
                return f"{functions(function)}({', '.join(map(write, args))})"
            case Phase(period):
                return f"{functions.phase()}(s->time, {write(period)})"
        raise AssertionError(expr)  # pragma: no cover  (the parser makes nothing else)

    return write(expr)
