"""The progress of a training run: a bar on a terminal, lines in a file or pipe, a curve in a notebook, or nothing."""

from __future__ import annotations

import base64
import contextlib
import html
import math
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichBar

from conveyor.figures import figure, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Progress:
    """Prints nothing; base class of the others."""

    def __init__(self, unit: str = "token"):
        self.unit = unit  # of the speed: units per second

    def note(self, text: str) -> None:
        """Prints a message."""

    def begin(self, done: int, steps: int) -> None:
        """Called when the training starts, after `done` of `steps` steps."""

    def stepped(self, step: int, loss: float, amount: int) -> None:
        """Called after each step, on `amount` units."""

    def validated(self, step: int, figures: str, best: bool) -> None:
        """Called after each validation; `figures` is the text of the metrics."""

    def end(self) -> None:
        """Called when the training ends."""


class Lines(Progress):
    """A line every few seconds, on standard error."""

    def __init__(self, unit: str = "token", seconds: float = 5.0):
        super().__init__(unit)
        self.seconds, self.steps, self.amount = seconds, 0, 0
        self.last = time.monotonic()

    def note(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a closed pipe should not end the training
            print(text, file=sys.stderr, flush=True)

    def begin(self, done: int, steps: int) -> None:
        self.steps, self.last = steps, time.monotonic()

    def stepped(self, step: int, loss: float, amount: int) -> None:
        self.amount += amount
        passed = time.monotonic() - self.last
        if passed >= self.seconds or step == self.steps:
            speed = self.amount / max(passed, 1e-9)
            self.note(f"step {step}/{self.steps}  loss {loss:.3f}  {speed:,.0f} {self.unit}s/s")
            self.amount, self.last = 0, time.monotonic()

    def validated(self, step: int, figures: str, best: bool) -> None:
        self.note(validation_line(step, figures, best))


class Bar(Progress):
    """A progress bar on standard error."""

    def __init__(self, unit: str = "token"):
        super().__init__(unit)
        self.bar = RichBar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  {task.fields[speed]:,.0f} " + f"{unit}s/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.task = self.bar.add_task("training", total=None, visible=False, loss=math.nan, speed=0.0)
        self.amount, self.began = 0, time.monotonic()

    def note(self, text: str) -> None:
        with contextlib.suppress(OSError):  # as above
            self.bar.console.print(text, highlight=False, markup=False)

    def begin(self, done: int, steps: int) -> None:
        self.began = time.monotonic()
        self.bar.reset(self.task, total=steps, completed=done, visible=True)
        self.bar.start()

    def stepped(self, step: int, loss: float, amount: int) -> None:
        self.amount += amount
        speed = self.amount / max(time.monotonic() - self.began, 1e-9)
        self.bar.update(self.task, completed=step, loss=loss, speed=speed)

    def validated(self, step: int, figures: str, best: bool) -> None:
        self.note(validation_line(step, figures, best))

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self.bar.stop()


class Curve(Progress):
    """A curve of the loss in a notebook, which grows while the training runs.

    curve = Curve()                             # curve.begin(0, 600); curve.stepped(step, loss, rows) in a loop
    """

    def __init__(self, unit: str = "token", seconds: float = 1.0):
        super().__init__(unit)
        self.seconds, self.last, self.steps = seconds, 0.0, 0
        self.losses: list[tuple[int, float]] = []
        self.notes: list[str] = []
        self.shown: Any = None

    def note(self, text: str) -> None:
        self.notes = [*self.notes[-4:], text]
        self._show()

    def begin(self, done: int, steps: int) -> None:
        self.steps = steps

    def stepped(self, step: int, loss: float, amount: int) -> None:
        self.losses.append((step, float(loss)))
        if time.monotonic() - self.last >= self.seconds or step == self.steps:
            self._show()

    def validated(self, step: int, figures: str, best: bool) -> None:
        self.note(validation_line(step, figures, best))

    def end(self) -> None:
        self._show()

    def _show(self) -> None:
        from IPython.display import HTML, display

        self.last = time.monotonic()
        picture = base64.b64encode(png(self._figure())).decode()
        text = html.escape("\n".join(self.notes))
        image = f'<img width="560" alt="the loss over the steps" src="data:image/png;base64,{picture}">'
        made = HTML(f"{image}<pre>{text}</pre>")
        if self.shown is None:
            self.shown = display(made, display_id=True)
        else:
            self.shown.update(made)

    def _figure(self) -> Figure:
        drawn = figure(7, 3)
        axes = drawn.subplots()
        every = max(1, len(self.losses) // 2000)  # more points than pixels cost time only
        if self.losses:
            axes.plot(*zip(*self.losses[::every], strict=True), linewidth=1)
        axes.set(xlabel="step", ylabel="loss", xlim=(0, self.steps) if self.steps else None)
        axes.grid(alpha=0.3)
        return drawn


def in_notebook() -> bool:
    """Whether a notebook's kernel runs this."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def validation_line(step: int, figures: str, best: bool) -> str:
    """The message about a validation."""
    return f"step {step}: {figures}{', the best so far' if best else ''}"


def for_terminal(unit: str = "token") -> Progress:
    """A curve in a notebook, a bar on a terminal, or lines; nothing in processes other than the first."""
    if os.environ.get("RANK", "0") != "0":
        return Progress(unit)
    if in_notebook():
        return Curve(unit)
    return Bar(unit) if sys.stderr is not None and sys.stderr.isatty() else Lines(unit)
