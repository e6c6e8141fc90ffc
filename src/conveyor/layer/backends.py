"""`conveyor.backend`: whether layers run by kernels or by the eager loop; and the warning for a fallback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from conveyor import errors
from conveyor.cell.loop import Step, location
from conveyor.targets import CannotBuild

DELEGATED = "delegated"
BACKENDS = ("auto", "compiled", DELEGATED, "eager")
KERNELS = "kernels"  # what `only_kernels` sets
_backend: ContextVar[str | None] = ContextVar("backend", default=None)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Sets the backend of layers within this context. Outside, the environment variable CONVEYOR_BACKEND sets it.

        with conveyor.backend("eager"):
            output, state = rnn(x)

    "auto", the default, uses a kernel, and falls back to the eager loop with a warning if there is none. "compiled"
    uses a kernel, and raises NotCompiled if there is none. "delegated" uses PyTorch's own RNN, LSTM or GRU, and raises
    NotCompiled, with the reason, for a layer that is none of them; on CUDA, ROCm and MPS "auto" and "compiled" use
    them, too, before anything else. "eager" uses the loop over `step`.
    Raises ValueError for another name.
    """
    token = _backend.set(_checked(name, "the backend"))
    try:
        yield
    finally:
        _backend.reset(token)


@contextmanager
def only_kernels() -> Iterator[None]:
    """Within this context NotCompiled is raised where "auto" falls back to the loop: the caller knows another way."""
    token = _backend.set(KERNELS)
    try:
        yield
    finally:
        _backend.reset(token)


def _checked(name: str, what: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{what} must be {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}, not {name!r}")
    return name


def chosen() -> str:
    """The name of the current backend. Raises ValueError if CONVEYOR_BACKEND is not one."""
    return _backend.get() or _checked(os.environ.get("CONVEYOR_BACKEND") or "auto", "CONVEYOR_BACKEND")


class NotCompiled(RuntimeError):
    """The backend is "compiled" but there is no kernel, or "delegated" but the layer is none of PyTorch's own.

    The message says why, where, and what to do.
    """


_warned: set[str] = set()


def warn(cell: Step, error: Exception, how: str = "slowly, in the eager loop") -> None:
    """Warns that a cell runs without a kernel, and `how`, once for each reason."""
    if isinstance(error, CannotBuild):
        text = f"there are no kernels, and layers run {how}: {error}"
    else:
        text = f"{location(cell)}: it runs {how}: {error}"
    # The messages of a C compiler differ from kernel to kernel.
    reason = "CannotBuild" if isinstance(error, CannotBuild) else text
    if reason not in _warned:
        _warned.add(reason)
        errors.warn(text, RuntimeWarning)
