"""The sources of an export to C."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from conveyor.errors import BadInput
from conveyor.exporting.c.numbers import Numbers
from conveyor.exporting.exported import Exported
from conveyor.targets.step import plan
from conveyor.targets.step.plan import Plan
from conveyor.targets.step.run import text


@dataclass(frozen=True)
class Sources:
    """The text of each file, the weights where they are in a file, and where in its memory each state begins."""

    files: Mapping[str, str]
    weights: bytes | None
    state_bytes: int
    states: Mapping[str, int]


def sources(exported: Exported, weights: str, inline: bool) -> Sources:
    """The sources of a network, with its matrices in `weights`; `inline`: the weights are in the source."""
    made = plan(exported.graph, torch.float32, weights)
    name, body = exported.name, _body(made)
    numbers = Numbers(exported, made, inline)
    starts = itertools.accumulate((exported.states[each] for each in made.states), initial=0)
    files = {
        f"{name}.h": _header(exported, made, numbers),
        f"{name}.c": _source(exported, made, numbers, body),
        "main.c": _example(exported, numbers),
        "Makefile": _makefile(name),
    }
    return Sources(
        files,
        None if inline else numbers.file(body),
        4 * (made.memory + 1),
        dict(zip(made.states, starts, strict=False)),
    )


def _body(made: Plan) -> str:
    """What computes a step, whose sizes are in the text."""
    body = text(made).replace('_Pragma("omp simd")', "").replace('_Pragma("omp simd reduction(+ : s)")', "")
    return "\n".join(line for line in body.splitlines() if line.strip())


def _size(dims: tuple[int, ...]) -> int:
    return int(torch.Size(dims).numel())


def _given_name(name: str) -> str:
    """What a stream or constant of the user is called: by its end no word of C or C++, and none of the text's own."""
    return f"{_in_ascii(name)}_in"


def _made_name(name: str) -> str:
    """What a further output of the user is called."""
    return f"{_in_ascii(name)}_out"


def _in_ascii(name: str) -> str:
    return "".join(c if c.isascii() else f"u{ord(c):04x}" for c in name.replace(".", "_"))


def _given(exported: Exported) -> list[tuple[str, str, int]]:
    """What is given at each step: its name, its type in C, and how many there are of it."""
    first = ("token", "int32_t", 1) if exported.tokens else ("x", "float", _size(exported.streams["x"]))
    rest = [(_given_name(n), "float", _size(dims)) for n, dims in exported.streams.items() if n != "x"]
    return [first, *rest]


def _made(exported: Exported) -> list[tuple[str, int]]:
    """What is given back at each step: its name, and how many numbers it is."""
    further = {name: dims for name, dims in exported.outputs.items() if name != "output"}
    made = [(_made_name(name), _size(dims)) for name, dims in further.items()]
    return [("output", _size(exported.outputs["output"])), *made]


def _sizes(exported: Exported) -> dict[str, int]:
    """How many numbers there are of each that a function is given or gives, by its name.

    Raises BadInput for two names that would be one.
    """
    sizes = [(each, count) for each, _, count in _given(exported)] + _made(exported)
    sizes += [(_given_name(n), _size(dims)) for n, dims in exported.constants.items()]
    for each, count in Counter(name.upper() for name, _ in sizes).items():
        if count > 1:
            names = " and ".join(sorted(name for name, _ in sizes if name.upper() == each))
            raise BadInput(f"in C, {names} would both have the size {exported.name.upper()}_{each}_SIZE: rename one")
    return dict(sizes)


def _declarations(exported: Exported, numbers: Numbers) -> dict[str, str]:
    """The functions, without what they do."""
    name = exported.name
    state = f"{name}_state *state{numbers.parameter}"
    constants = "".join(f", const float *{_given_name(n)}" for n in exported.constants)
    given = "".join(f", const {kind} *{each}" for each, kind, _ in _given(exported))
    made = "".join(f", float *{each}" for each, _ in _made(exported))
    return {
        "reset": f"void {name}_reset({state}{constants})",
        "step": f"void {name}_step({state}{given}{made})",
        "run": f"void {name}_run({state}, size_t steps{given}{made})",
    }


def _header(exported: Exported, made: Plan, numbers: Numbers) -> str:
    name, functions = exported.name, _declarations(exported, numbers)
    sizes = _sizes(exported).items()
    defines = "".join(f"#define {name.upper()}_{each.upper()}_SIZE {count}\n" for each, count in sizes)
    tokens = f"#define {name.upper()}_TOKENS {exported.tokens}\n" if exported.tokens else ""
    constants = "".join(
        f" `{_given_name(n)}`: {list(dims)}, constant over the sequence." for n, dims in exported.constants.items()
    )
    listed = "".join(
        f"\n   `{each}`: {count} {kind}{'' if count == 1 else 's'} in;" for each, kind, count in _given(exported)
    )
    listed += "".join(
        f"\n   `{each}`: {count} float{'' if count == 1 else 's'} out;" for each, count in _made(exported)
    )
    counted = "\n\n   It takes the number of a step, which is right for 2^24 steps: then a state must be reset."
    counted = counted if exported.graph.inputs("step") else ""
    token = "\n   A token outside 0 to TOKENS - 1 is taken as 0." if exported.tokens else ""
    return f"""/* {name}: a recurrent network, step by step.

   The functions allocate nothing and keep nothing but what is in the state, of which there may be any number, each used
   by one thread at a time. A state may be copied, kept and taken up again, by a program that was built the same
   way.{counted} */
#ifndef {name.upper()}_H
#define {name.upper()}_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

{tokens}{defines}
typedef struct {{
  float memory[{made.memory}]; /* the first {made.state_size} are the states of the network */
  uint32_t steps; /* that it has done */
}} {name}_state;

#define {name.upper()}_STATE_BYTES {4 * (made.memory + 1)}

{numbers.declared}/* Brings a state to the beginning of a sequence. It must be called first.{constants} */
{functions["reset"]};

/* One step:{listed}{token} */
{functions["step"]};

/* `steps` steps, one after the other: each array holds what `{name}_step` takes or gives, once for each step. */
{functions["run"]};

#ifdef __cplusplus
}}
#endif

#endif
"""


def _source(exported: Exported, made: Plan, numbers: Numbers, body: str) -> str:
    name, functions = exported.name, _declarations(exported, numbers)
    constants = ", ".join(_given_name(key.name) for key in made.constants)
    unread = [_given_name(n) for n in exported.constants if n not in {key.name for key in made.constants}]
    return f"""/* {name}: see {name}.h. */
#include "{name}.h"

typedef float real;
typedef ptrdiff_t idx;

{body}

{numbers.defined(body)}
{functions["reset"]} {{
{"".join(f"  (void){each};{chr(10)}" for each in unread)}  const real *const in[] = {{{constants or "0"}}};
  memset(state, 0, sizeof *state);
  memcpy(state->memory, {numbers.at("first")}, sizeof(real) * {made.state_size});
  begin((const char *){numbers.at("weights")}, state->memory, in, 1);
}}

{functions["step"]} {{
{_step(exported, made, numbers)}}}

{functions["run"]} {{
  for (size_t i = 0; i < steps; i++)
    {name}_step(state{", weights" if numbers.parameter else ""}, {_each(exported)});
}}
"""


def _each(exported: Exported) -> str:
    sizes = [(each, count) for each, _, count in _given(exported)] + _made(exported)
    return ", ".join(f"{each} + i * {count}" for each, count in sizes)


def _step(exported: Exported, made: Plan, numbers: Numbers) -> str:
    ins = [_given_name(key.name) if key.name != "x" else "row" if exported.tokens else "x" for key in made.streams]
    outs = [_made_name(key.name) if key.name != "output" else "output" for key in made.outputs]
    named = [each for each, _, _ in _given(exported)]
    unread = [each for each in named if each not in ins and not (each == "token" and "row" in ins)]
    text = "".join(f"  (void){each};\n" for each in unread)
    if "row" in ins:
        width = exported.embedding.shape[1] if exported.embedding is not None else 0
        text += f"  const idx known = *token >= 0 && *token < {exported.tokens} ? *token : 0;\n"
        text += f"  const real *row = {numbers.at('embedding')} + known * {width};\n"
    return (
        f"{text}  const real *const in[] = {{{', '.join(ins) or '0'}}};\n  real *const out[] = {{{', '.join(outs)}}};\n"
        f"  step((const char *){numbers.at('weights')}, state->memory, in, out, (real)state->steps, 1);\n"
        "  state->steps++;\n"
    )


def _example(exported: Exported, numbers: Numbers) -> str:
    name, given, made = exported.name, _given(exported), _made(exported)
    read = "%d" if exported.tokens else "%f"
    arrays = "".join(f"  static {kind} {each}[{count}];\n" for each, kind, count in given)
    arrays += "".join(f"  static float {each}[{count}];\n" for each, count in made)
    arrays += "".join(f"  static float {_given_name(n)}[{_size(dims)}];\n" for n, dims in exported.constants.items())
    constants = "".join(f", {_given_name(n)}" for n in exported.constants)
    first, _, count = given[0]
    what = "a token" if exported.tokens else f"{count} numbers"
    value = f"({'int *' if exported.tokens else 'float *'})&{first}[i]"
    weights = "" if numbers.inline else ", weights"
    return f"""/* Reads {what} a step from the standard input, and prints the output of each. */
#include "{name}.h"

#include <stdio.h>

int main(void) {{
  static {name}_state state;
{arrays}{"" if numbers.inline else _read(name)}  {name}_reset(&state{weights}{constants});
  for (;;) {{
    for (int i = 0; i < {count}; i++)
      if (scanf("{read}", {value}) != 1) return 0;
    {name}_step(&state{weights}, {", ".join([each for each, _, _ in given] + [each for each, _ in made])});
    for (int i = 0; i < {made[0][1]}; i++) printf(i ? " %.6g" : "%.6g", (double){made[0][0]}[i]);
    printf("\\n");
  }}
}}
"""


def _read(name: str) -> str:
    """How the example reads the file of weights."""
    size = f"{name.upper()}_WEIGHTS_BYTES"
    return f"""  static uint32_t weights[{size} / 4 + 1]; /* one more, to see a file that is longer */
  FILE *file = fopen("{name}.bin", "rb");
  size_t size = file ? fread(weights, 1, sizeof weights, file) : 0;
  if (file) fclose(file);
  if ({name}_check(weights, size)) {{
    fprintf(stderr, "{name}.bin is not there, or not of this network\\n");
    return 1;
  }}
"""


def _makefile(name: str) -> str:
    return f"""CFLAGS = -std=c99 -Wall -Wextra -Wpedantic -O3 -march=native \\
	-ffp-contract=fast -fno-math-errno -fno-trapping-math

main: main.c {name}.c {name}.h
	$(CC) $(CFLAGS) main.c {name}.c -o main -lm

clean:
	rm -f main

.PHONY: clean
"""
