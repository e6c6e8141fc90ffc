"""The types of an exported module, for TypeScript."""

from __future__ import annotations

from conveyor.exporting.exported import Exported

MODEL = """
/** A sequence that goes on from call to call. Numbers are in float32, those of several steps one after the other. */
export interface Stream {{
  /** One step: {output}. */
  step(x: {x}{further}): Float32Array;
  /** Some steps, from the state of the last. */
  run(chunk: {chunk}{further}): Float32Array;
  /** Before the first step of a sequence. */
  reset({reset}): void;
  /** A copy of all that goes from step to step; set it to go on from there. */
  state: State;
  /** All outputs of the last call, by name. */
  readonly outputs: Record<{outputs}, Float32Array>;
}}

export interface State {{
  /** How many steps have been taken. */
  at: number;
  values: Record<{states}, Float32Array>;
}}

/** The weights, and a stream of its own. */
export interface Model extends Stream {{
  /** Another stream with the same weights. */
  stream(): Stream;
{text}}}

/** `weights`: the address or the bytes of the file of weights, where it is not beside the module. */
export function load(weights?: string | URL | ArrayBuffer | ArrayBufferView): Promise<Model>;
"""
TEXT = """  /** The tokens of a text. Throws a RangeError for characters that the model never saw. */
  encode(text: string): number[];
  /** The text of tokens. */
  decode(tokens: ArrayLike<number>): string;
"""


def types(exported: Exported) -> str:
    """The text of the .d.ts file."""
    further = _record([name for name in exported.streams if name != "x"])
    constants = _record(exported.constants)
    shape = ", ".join(map(str, exported.outputs["output"]))
    return MODEL.format(
        output=f"the logits of the next token, [{shape}]" if exported.tokens else f"the output, [{shape}]",
        x="number" if exported.tokens else "ArrayLike<number>",
        chunk="ArrayLike<number>",
        further=f", further: {further}" if further else "",
        reset=f"constants: {constants}" if constants else "",
        outputs=_names(exported.outputs),
        states=_names(exported.states),
        text=TEXT if exported.vocabulary is not None else "",
    ).lstrip()


def _names(names: object) -> str:
    return " | ".join(f'"{name}"' for name in names)  # type: ignore[attr-defined]


def _record(names: object) -> str:
    found = "; ".join(f"{name}: ArrayLike<number>" for name in names)  # type: ignore[attr-defined]
    return f"{{ {found} }}" if found else ""
