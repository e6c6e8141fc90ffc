"""Turns out-of-memory errors into one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from conveyor.errors import BadInput

# Parts of the messages of PyTorch and NumPy about sizes that are too large; these errors share no exception type.
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
    """Raises BadInput with this cure when the code inside runs out of memory."""
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
