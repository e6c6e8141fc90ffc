"""Which way layers run: by kernels or by the loop, as `conveyor.backend` says; and what is told of a fallback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from conveyor import errors
from conveyor.eager import Step, place
from conveyor.targets import CannotBuild

BACKENDS = ("auto", "compiled", "eager")
_backend: ContextVar[str | None] = ContextVar("backend", default=None)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Inside, layers run as `name` says; outside, as the environment's CONVEYOR_BACKEND does.

        with conveyor.backend("eager"):
            output, state = rnn(x)

    "auto", the default: by a kernel, and where none can be made by the eager loop, with a warning. "compiled": by a
    kernel, and where none can be made an error. "eager": by the loop over `step`.
    Raises ValueError for another name.
    """
    token = _backend.set(_checked(name, "the backend"))
    try:
        yield
    finally:
        _backend.reset(token)


def _checked(name: str, what: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{what} is {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}, not {name!r}")
    return name


def chosen() -> str:
    return _backend.get() or _checked(os.environ.get("CONVEYOR_BACKEND") or "auto", "CONVEYOR_BACKEND")


class NotCompiled(RuntimeError):
    """The backend is "compiled", and there is no kernel: why, where, and what to do."""


_warned: set[str] = set()


def warn(cell: Step, error: Exception) -> None:
    """Once for each reason."""
    if isinstance(error, CannotBuild):
        text = f"there are no kernels, and layers run slowly, in the eager loop: {error}"
    else:
        text = f"{place(cell)}: it runs slowly, in the eager loop: {error}"
    reason = "CannotBuild" if isinstance(error, CannotBuild) else text  # a compiler fails for each kernel in its way
    if reason not in _warned:
        _warned.add(reason)
        errors.warn(text, RuntimeWarning)
