"""Sizes for which the memory does not do, told in a line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from conveyor.errors import BadInput

# What PyTorch and NumPy say of sizes past the memory, or past what a number can count; they have no one type for it.
TOO_LARGE = (
    "allocate memory",
    "out of memory",
    "calculation overflow",
    "multiplication overflow",
    "array is too big",
    "Maximum allowed dimension",
    "Overflow when unpacking",
    "index-sized integer",
)


@contextmanager
def enough(cure: str) -> Iterator[None]:
    """Inside, what does not fit into the memory is BadInput, with its cure."""
    try:
        yield
    except BadInput:
        raise
    except (MemoryError, RuntimeError, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, MemoryError) or any(words in str(error) for words in TOO_LARGE):
            raise BadInput(f"not enough memory for these sizes: {cure} ({_first_line(error)})") from error
        raise


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
