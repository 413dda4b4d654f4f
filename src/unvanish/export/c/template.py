"""The frame of a file of C, for inputs that are numbers and for inputs that are symbols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Template

_FRAME = """/* $name: one step of a trained network per call. Written by unvanish; there is nothing to edit in it.
 *
 *   $cell
 *
 *   ${name}_state s;              what is carried from step to step
 *   float y[${upper}_OUTPUT];     $output numbers
 *   ${name}_init(&s);             before the first step of a sequence
 *   ${name}_step(&s, x, ${gives}y);       $says
$says_ahead$says_mark *
 * As a part of a program:   cc -std=c99 -O2 -c $name.c        (linked with -lm)
 * To time a step:           cc -std=c99 -O2 -D${upper}_MAIN $name.c -lm -o $name && ./$name
 *
 * It needs <math.h> and <string.h>, and allocates nothing. Each sequence has a state of its own.
 */
#include <math.h>
#include <string.h>

#define ${upper}_INPUT $input
#define ${upper}_OUTPUT $output
$size
typedef struct {
$fields
    unsigned long time; /* steps since ${name}_init */
} ${name}_state;

void ${name}_init(${name}_state *s);
$result ${name}_step(${name}_state *s, $takes, ${known}float *y);

$arrays
$functions
void ${name}_init(${name}_state *s)
{
    memset(s, 0, sizeof *s);
}

$result ${name}_step(${name}_state *s, $takes, ${known}float *y)
{
$check$lines
    memcpy(y, $operand, sizeof(float) * $output);
    s->time++;
$end}

#ifdef ${upper}_MAIN
#include <stdio.h>
#include <time.h>

int main(void)
{
    static ${name}_state s;
    static float y[${upper}_OUTPUT];
    long steps = 0;
    clock_t spent;
    const clock_t begin = clock();
$example$blank
    ${name}_init(&s);
    do {
        for (int i = 0; i < 100; i++) ${name}_step(&s, x, ${gives}y);
        steps += 100;
        spent = clock() - begin;
    } while (spent < CLOCKS_PER_SEC);
    printf("%.0f ns per step (output %g)\\n", 1e9 * (double)spent / CLOCKS_PER_SEC / (double)steps, (double)y[0]);
    return 0;
}
#endif
"""


@dataclass(frozen=True)
class Frame:
    """What differs by what an input is."""

    takes: str
    says: str
    result: str
    check: str
    end: str
    example: str

    def fill(self, values: Mapping[str, object]) -> str:
        """Return the file."""
        more = AHEAD if values["ahead"] else dict.fromkeys(AHEAD, "")
        more = more | {"says_mark": "" if values["mark"] is None else MARK}
        own = {name: Template(text).substitute(values) for name, text in {**vars(self), **more}.items()}
        return Template(_FRAME).substitute(values, **own)


# What stands in the file where a step reads what is known beforehand.
AHEAD = {
    "gives": "ahead, ",
    "known": "const float *ahead, ",
    "says_ahead": " *                                 ahead: $ahead numbers known beforehand, step by step\n",
    "size": "#define ${upper}_AHEAD $ahead\n",
    "blank": "\n    static float ahead[${upper}_AHEAD];",
}
MARK = " *                                 $mark begins a document: the state is reset before it is read\n"
NUMBERS = Frame(
    takes="const float *x",
    says="x: $input numbers",
    result="void",
    check="",
    end="",
    example="""    static float x[${upper}_INPUT];
    for (int i = 0; i < ${upper}_INPUT; i++) x[i] = i % 2 ? 0.5f : -0.5f;""",
)
SYMBOLS = Frame(
    takes="int x",
    says="x: a symbol from 0 to $input - 1; returns -1 for others, and does nothing",
    result="int",
    check="    if (x < 0 || x >= ${upper}_INPUT) return -1;\n",
    end="    return 0;\n",
    example="    const int x = ${upper}_INPUT / 2;",
)
