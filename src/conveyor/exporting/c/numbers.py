"""Where the numbers of an export to C are: in its source, or in a file beside it."""

from __future__ import annotations

import hashlib
import struct

import torch
from torch import Tensor

from conveyor.exporting.exported import Exported
from conveyor.targets.step import pack
from conveyor.targets.step.plan import Plan

HEAD = 16  # words before the numbers in a file: the mark and the digest of the source, then zeros
MARK = 0x76796E63  # its bytes are the other way round where the file was written for another kind of machine


class Numbers:
    """The packed weights, the states before the first step, and the embedding of tokens, as words of 32 bits.

    `inline`: they are in the source. Else `parameter` is what each function takes besides its state.
    """

    def __init__(self, exported: Exported, made: Plan, inline: bool):
        first = [exported.initial[each].reshape(-1) for each in made.states]
        self.name, self.inline = exported.name, inline
        self.arrays = {
            "weights": pack(made, exported.weights).view(torch.int32),
            "first": torch.cat([*first, torch.zeros(1)]).view(torch.int32),  # an array in C has at least one number
        }
        if exported.embedding is not None:
            self.arrays["embedding"] = exported.embedding.detach().float().reshape(-1).view(torch.int32)
        self.parameter = "" if inline else ", const void *weights"

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        return 4 * (HEAD + sum(map(len, self.arrays.values())))

    def at(self, name: str) -> str:
        """The address of an array, as an expression."""
        if self.inline:
            return f"{name}.numbers"
        before = list(self.arrays)[: list(self.arrays).index(name)]
        return f"((const float *)weights + {HEAD + sum(len(self.arrays[each]) for each in before)})"

    @property
    def declared(self) -> str:
        """What the header says of them."""
        if self.inline:
            return ""
        size = f"{self.name.upper()}_WEIGHTS_BYTES"
        return f"""\
/* The size of {self.name}.bin. Each function takes its bytes as `weights`, at an address that is a multiple of 4. */
#define {size} {self.size}

/* 0 if these `size` bytes are weights of this network; 1 if there are more or fewer; 2 if they are of another network,
   or of a machine with another order of bytes. The other functions do not check. */
int {self.name}_check(const void *weights, size_t size);

"""

    def defined(self, body: str) -> str:
        """What the source has of them. `body`: the text of the step, which only these numbers fit."""
        if not self.inline:
            head = ", ".join(f"0x{word:08x}u" for word in _head(body))
            return f"""int {self.name}_check(const void *weights, size_t size) {{
  static const uint32_t head[] = {{{head}}};
  if (size != {self.name.upper()}_WEIGHTS_BYTES) return 1;
  return memcmp(weights, head, sizeof head) ? 2 : 0;
}}
"""
        arrays = "".join(_array(name, words) for name, words in self.arrays.items())
        return f"/* Numbers by their bits, so that they are exact. */\n{arrays}"

    def file(self, body: str) -> bytes:
        """The file, little-endian."""
        head = struct.pack(f"<{HEAD}I", *_head(body), *[0] * (HEAD - len(_head(body))))
        return head + b"".join(words.numpy().astype("<i4").tobytes() for words in self.arrays.values())


def _head(body: str) -> list[int]:
    return [MARK, *struct.unpack("<4I", hashlib.sha256(body.encode()).digest()[:16])]


def _array(name: str, words: Tensor) -> str:
    """An array of floats, written as words of their bits."""
    values = [f"0x{value & 0xFFFFFFFF:08x}u" for value in words.tolist()]
    lines = ",\n  ".join(", ".join(values[k : k + 10]) for k in range(0, len(values), 10))
    count = len(values)
    return f"static const union {{ uint32_t bits[{count}]; float numbers[{count}]; }} {name} = {{{{\n  {lines}}}}};\n\n"
