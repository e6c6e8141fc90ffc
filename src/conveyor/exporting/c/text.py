"""The sources of an export to C."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from conveyor.exporting.exported import Exported
from conveyor.targets.step import pack, plan
from conveyor.targets.step.plan import Plan
from conveyor.targets.step.run import text


@dataclass(frozen=True)
class Sources:
    """The text of each file, the bytes of the state, and how to read the states from its memory."""

    files: Mapping[str, str]
    state_bytes: int
    states: Callable[[Tensor], dict[str, Tensor]]


def sources(exported: Exported, weights: str) -> Sources:
    """The sources of a network, with its matrices in `weights`."""
    made = plan(exported.graph, torch.float32, weights)
    name = exported.name

    def states(memory: Tensor) -> dict[str, Tensor]:
        found, at = {}, 0
        for each in made.states:
            width = made.program.buffers[made.program.states[each]].width
            found[each] = memory[at : at + width].clone()
            at += width
        return found

    files = {
        f"{name}.h": _header(exported, made),
        f"{name}.c": _source(exported, made),
        "main.c": _example(exported),
        "Makefile": MAKEFILE.replace("NAME", name),
    }
    return Sources(files, 4 * (made.memory + 1), states)


def _size(dims: tuple[int, ...]) -> int:
    return int(torch.Size(dims).numel())


def _identifier(name: str) -> str:
    return name.replace(".", "_")


def _given(exported: Exported) -> list[tuple[str, str, int]]:
    """What is given at each step: its name, its type in C, and how many there are of it."""
    first = ("token", "int32_t", 1) if exported.tokens else ("x", "float", _size(exported.streams["x"]))
    rest = [(_identifier(n), "float", _size(dims)) for n, dims in exported.streams.items() if n != "x"]
    return [first, *rest]


def _made(exported: Exported) -> list[tuple[str, int]]:
    """What is given back at each step: its name, and how many numbers it is."""
    return [(_identifier(name), _size(dims)) for name, dims in exported.outputs.items()]


def _declarations(exported: Exported) -> dict[str, str]:
    """The functions, without what they do."""
    name = exported.name
    constants = "".join(f", const float *{_identifier(n)}" for n in exported.constants)
    given = "".join(f", const {kind} *{each}" for each, kind, _ in _given(exported))
    made = "".join(f", float *{each}" for each, _ in _made(exported))
    return {
        "reset": f"void {name}_reset({name}_state *state{constants})",
        "step": f"void {name}_step({name}_state *state{given}{made})",
        "run": f"void {name}_run({name}_state *state, size_t steps{given}{made})",
    }


def _header(exported: Exported, made: Plan) -> str:
    name, functions = exported.name, _declarations(exported)
    sizes = [(each, count) for each, _, count in _given(exported)] + _made(exported)
    sizes += [(_identifier(n), _size(dims)) for n, dims in exported.constants.items()]
    defines = "".join(f"#define {name.upper()}_{each.upper()}_SIZE {count}\n" for each, count in sizes)
    tokens = f"#define {name.upper()}_TOKENS {exported.tokens}\n" if exported.tokens else ""
    constants = "".join(
        f" `{_identifier(n)}`: {list(dims)}, constant over the sequence." for n, dims in exported.constants.items()
    )
    listed = "".join(
        f"\n   `{each}`: {count} {kind}{'' if count == 1 else 's'} in;" for each, kind, count in _given(exported)
    )
    listed += "".join(
        f"\n   `{each}`: {count} float{'' if count == 1 else 's'} out;" for each, count in _made(exported)
    )
    token = "\n   A token outside 0 to TOKENS - 1 is taken as 0." if exported.tokens else ""
    return f"""/* {name}: a recurrent network, step by step.

   The functions allocate nothing and keep nothing but what is in the state, of which there may be any number, each used
   by one thread at a time. A state may be copied, kept and taken up again, by a program that was built the same way. */
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

/* Brings a state to the beginning of a sequence. It must be called first.{constants} */
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


def _source(exported: Exported, made: Plan) -> str:
    name, functions = exported.name, _declarations(exported)
    body = text(made).replace('_Pragma("omp simd")', "").replace('_Pragma("omp simd reduction(+ : s)")', "")
    body = "\n".join(line for line in body.splitlines() if line.strip())
    arrays = _array("weights", pack(made, exported.weights).view(torch.int32))
    first = torch.cat([exported.initial[each].reshape(-1) for each in made.states]) if made.states else torch.zeros(0)
    arrays += _array("first", torch.cat([first, torch.zeros(1)]).view(torch.int32))
    if exported.embedding is not None:
        arrays += _array("embedding", exported.embedding.detach().float().reshape(-1).view(torch.int32))
    constants = ", ".join(_identifier(key.name) for key in made.constants)
    unread = [_identifier(n) for n in exported.constants if n not in {key.name for key in made.constants}]
    return f"""/* {name}: see {name}.h. */
#include "{name}.h"

typedef float real;
typedef ptrdiff_t idx;

{body}

/* Numbers by their bits, so that they are exact. */
{arrays}
{functions["reset"]} {{
{"".join(f"  (void){each};{chr(10)}" for each in unread)}  const real *const in[] = {{{constants or "0"}}};
  memset(state, 0, sizeof *state);
  memcpy(state->memory, first.numbers, sizeof(real) * {made.state_size});
  begin((const char *)weights.numbers, state->memory, in, 1);
}}

{functions["step"]} {{
{_step(exported, made)}}}

{functions["run"]} {{
  for (size_t i = 0; i < steps; i++)
    {name}_step(state, {_each(exported)});
}}
"""


def _each(exported: Exported) -> str:
    sizes = [(each, count) for each, _, count in _given(exported)] + _made(exported)
    return ", ".join(f"{each} + i * {count}" for each, count in sizes)


def _step(exported: Exported, made: Plan) -> str:
    ins = ["row" if exported.tokens and key.name == "x" else _identifier(key.name) for key in made.streams]
    outs = [_identifier(key.name) for key in made.outputs]
    named = [each for each, _, _ in _given(exported)]
    unread = [each for each in named if each not in ins and not (each == "token" and "row" in ins)]
    text = "".join(f"  (void){each};\n" for each in unread)
    if "row" in ins:
        width = exported.embedding.shape[1] if exported.embedding is not None else 0
        text += f"  const idx known = *token >= 0 && *token < {exported.tokens} ? *token : 0;\n"
        text += f"  const real *row = embedding.numbers + known * {width};\n"
    return (
        f"{text}  const real *const in[] = {{{', '.join(ins) or '0'}}};\n  real *const out[] = {{{', '.join(outs)}}};\n"
        "  step((const char *)weights.numbers, state->memory, in, out, (real)state->steps, 1);\n  state->steps++;\n"
    )


def _array(name: str, words: Tensor) -> str:
    """An array of floats, written as words of their bits."""
    values = [f"0x{value & 0xFFFFFFFF:08x}u" for value in words.tolist()]
    lines = ",\n  ".join(", ".join(values[k : k + 10]) for k in range(0, len(values), 10))
    count = len(values)
    return f"static const union {{ uint32_t bits[{count}]; float numbers[{count}]; }} {name} = {{{{\n  {lines}}}}};\n\n"


def _example(exported: Exported) -> str:
    name, given, made = exported.name, _given(exported), _made(exported)
    read = "%d" if exported.tokens else "%f"
    arrays = "".join(f"  static {kind} {each}[{count}];\n" for each, kind, count in given)
    arrays += "".join(f"  static float {each}[{count}];\n" for each, count in made)
    arrays += "".join(f"  static float {_identifier(n)}[{_size(dims)}];\n" for n, dims in exported.constants.items())
    constants = "".join(f", {_identifier(n)}" for n in exported.constants)
    first, _, count = given[0]
    what = "a token" if exported.tokens else f"{count} numbers"
    value = f"({'int *' if exported.tokens else 'float *'})&{first}[i]"
    return f"""/* Reads {what} a step from the standard input, and prints the output of each. */
#include "{name}.h"

#include <stdio.h>

int main(void) {{
  static {name}_state state;
{arrays}  {name}_reset(&state{constants});
  for (;;) {{
    for (int i = 0; i < {count}; i++)
      if (scanf("{read}", {value}) != 1) return 0;
    {name}_step(&state, {", ".join([each for each, _, _ in given] + [each for each, _ in made])});
    for (int i = 0; i < {made[0][1]}; i++) printf(i ? " %.6g" : "%.6g", (double){made[0][0]}[i]);
    printf("\\n");
  }}
}}
"""


MAKEFILE = """CFLAGS = -std=c99 -Wall -Wextra -Wpedantic -O3 -march=native \\
	-ffp-contract=fast -fno-math-errno -fno-trapping-math

main: main.c NAME.c NAME.h
	$(CC) $(CFLAGS) main.c NAME.c -o main -lm

clean:
	rm -f main

.PHONY: clean
"""
