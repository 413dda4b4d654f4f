"""The functions of the language, one row each: how many arguments, slopes, LaTeX, what is known of saturation.

A row is read by whoever meets a function: the parser (arity), the derivatives and the kernels (slopes), LaTeX, the
measurements (how steep it can be). Two things stand elsewhere, under the same name: what torch calls it
(`engine/words.py`), and its vector form in C++ (`name_` in `engine/native/runtime.h`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """One elementwise function.

    Attributes:
        slopes: the derivative by each argument as text of the language, where `y` is the value and `a`, `b` are the
            arguments. By the value where that is at hand and keeps its digits.
        latex: the operator; empty for its name in roman.
        costly: whether the kernels keep its value, so that the backward pass does not compute it again.
        gates: the same derivatives where a condition decides whether anything is sent: nothing is multiplied with
            a zero then, not even an infinite upstream gradient. A tie, and NaN, are torch's.
        steepest: the largest slope of an activation that saturates or dies, else 0.
        surrogate: whether its slope stands in for one that is zero.
        spoken: whether equations may call it; the others appear only in derivatives.
    """

    slopes: tuple[str, ...]
    latex: str = ""
    costly: bool = False
    gates: tuple[str, ...] = ()
    steepest: float = 0.0
    surrogate: bool = False
    spoken: bool = True

    @property
    def arity(self) -> int:
        """How many arguments it takes."""
        return len(self.slopes)


_TIE = "where(a == b, 0.5, 1)"
# gelu_tanh is a · sigmoid(root): 2 √(2/π) (a + 0.044715 a³), with a in ±20, past which it is 0 or a
_BOUNDED = "minimum(maximum(a, -20), 20)"
_ROOT = f"1.5957691216057308 * ({_BOUNDED} + 0.044715 * {_BOUNDED} * {_BOUNDED} * {_BOUNDED})"
_ROOT_SLOPE = f"1.5957691216057308 * (1 + 0.134145 * {_BOUNDED} * {_BOUNDED})"
_HALF = "exp(0.5 * minimum(a, 0))"
# The slope that `heaviside(a, NAME(b))` pretends to have, where it has none.
SURROGATES = {
    "sigmoid": "b * sigmoid(b * a) * sigmoid(-(b * a))",
    "fast_sigmoid": "1 / ((1 + b * abs(a)) * (1 + b * abs(a)))",  # Zenke and Ganguli 2018, equation 5
    "arctan": "0.5 * b / (1 + 2.4674011002723395 * b * b * a * a)",  # Fang et al. 2021: (π/2)²
    "triangle": "maximum(1 - abs(b * a), 0)",  # Bellec et al. 2018, without their damping
}
WORDS: dict[str, Word] = {
    "sigmoid": Word(("y * (1 - y)",), r"\sigma", costly=True, steepest=0.25),
    "tanh": Word(("1 - y * y",), r"\tanh", costly=True, steepest=1.0),
    "relu": Word(("positive(a)",), r"\operatorname{ReLU}", gates=("where(y <= 0, 0, 1)",), steepest=1.0),
    "identity": Word(("1",)),
    "exp": Word(("y",), r"\exp", costly=True),
    "log": Word(("1 / a",), r"\log", costly=True),
    # as torch has it, whose softplus is the argument itself past 20
    "softplus": Word(("maximum(sigmoid(a), positive(a - 20))",), costly=True),
    "sqrt": Word(("0.5 / y",), costly=True),
    "abs": Word(("sign(a)",)),
    "sin": Word(("cos(a)",), r"\sin", costly=True),
    "cos": Word(("0 - sin(a)",), r"\cos", costly=True),
    "erf": Word(("1.1283791670955126 * exp(-(a * a))",), costly=True),  # 2/√π
    # Hendrycks and Gimpel 2016: a Φ(a), and its approximation by tanh; torch's gelu and gelu(approximate="tanh")
    "gelu": Word(
        ("0.5 * erfc(-0.7071067811865476 * a) + 0.3989422804014327 * a * exp(-0.5 * a * a)",),
        r"\operatorname{GELU}",
        costly=True,
        steepest=1.1289,
    ),
    "gelu_tanh": Word(
        (f"sigmoid({_ROOT}) * (1 + {_BOUNDED} * sigmoid(-({_ROOT})) * {_ROOT_SLOPE})",),
        r"\operatorname{GELU}",
        costly=True,
        steepest=1.1290,
    ),
    # σ(a) (1 + a σ(-a)), with σ(a) = exp(a/2)² σ(|a|) where a is negative: it is 0 long before the whole is
    "silu": Word(
        (f"{_HALF} * (1 + a * sigmoid(-a)) * {_HALF} * sigmoid(abs(a))",),
        r"\operatorname{SiLU}",
        costly=True,
        steepest=1.0998,
    ),
    "elu": Word(("exp(minimum(a, 0))",), r"\operatorname{ELU}", costly=True, steepest=1.0),
    "softsign": Word(("1 / ((1 + abs(a)) * (1 + abs(a)))",), costly=True, steepest=1.0),
    "leaky_relu": Word(
        ("maximum(positive(a), 0.01)",),
        r"\operatorname{LeakyReLU}",
        gates=("where(a > 0, 1, 0.01)",),
        steepest=1.0,
    ),
    "hardsigmoid": Word(
        ("positive(a + 3) * positive(3 - a) / 6",),
        gates=("where(a <= -3, 0, where(a >= 3, 0, 0.16666666666666666))",),
        steepest=1 / 6,
    ),
    "minimum": Word(
        ("half_step(b - a)", "half_step(a - b)"),
        r"\min",
        gates=(f"where(a > b, 0, {_TIE})", f"where(a < b, 0, {_TIE})"),
    ),
    "maximum": Word(
        ("half_step(a - b)", "half_step(b - a)"),
        r"\max",
        gates=(f"where(a < b, 0, {_TIE})", f"where(a > b, 0, {_TIE})"),
    ),
    # the first argument is a comparison, through which nothing is differentiated; see `calculus`
    "where": Word(("0", "", "")),
    **{
        f"heaviside_{name}": Word((slope, "0"), r"\Theta", surrogate=True, spoken=False)
        for name, slope in SURROGATES.items()
    },
    "sign": Word(("0",), spoken=False),
    "positive": Word(("0",), spoken=False),  # 1 where the argument is positive, else 0
    "half_step": Word(("0",), spoken=False),  # 1, 1/2 or 0 by sign
    "erfc": Word(("-1.1283791670955126 * exp(-(a * a))",), spoken=False),
}
SPOKEN: dict[str, int] = {name: word.arity for name, word in WORDS.items() if word.spoken}
GATES = ("where", *(name for name, word in WORDS.items() if word.gates))
COSTLY = tuple(name for name, word in WORDS.items() if word.costly)
ROWWISE = ("layernorm", "softmax")  # these couple all units of a row
