"""What can only be known with a GPU: whether the kernels are right on it, and how fast they are.

    python benchmarks/gpu.py --minutes 12 --json gpu.json       # writes gpu.json, and the same as a table

Each check is tried by itself: what fails is written down, and the next one begins. No check begins when the time is up.
The first checks are whether the numbers are right; a time is only worth something after that.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import conveyor
from conveyor.layer import delegation
from conveyor.targets import registry
from conveyor.targets.cuda import CUDA, nvrtc
from conveyor.targets.cuda.plan import Schedule
from conveyor.zoo import CELLS

Facts = dict[str, Any]
ROUNDED = 1e-5  # how far a kernel in float32 may be from the loop in float64, relative to the largest value or 1
SCHEDULES = (None, *Schedule)


def target(schedule: Schedule | None, device: str) -> CUDA:
    """The target of kernels in CUDA C, with this schedule where a part carries a state."""
    return CUDA(device=device, schedule=schedule)


class Checks:
    """What is checked on a device, each until the time is up."""

    def __init__(self, device: str, minutes: float, small: bool):
        self.device, self.small = device, small
        self.end = time.monotonic() + 60 * minutes
        self.results: list[Facts] = []

    def use(self, schedule: Schedule | None) -> None:
        """Has kernels run by this schedule from here on, and not PyTorch's own functions in their place."""
        registry.TARGETS = (target(schedule, self.device),)
        delegation.DEVICES = set()

    def check(self, name: str, body: Callable[[], Facts]) -> None:
        """One check, whose failure is a result."""
        if time.monotonic() > self.end:
            self.add(name, {"left out": "the time is up"})
            return
        start = time.monotonic()
        try:
            found = body()
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            found = {"failed": f"{type(error).__name__}: {error}"[:400]}
        self.add(name, {**found, "s": round(time.monotonic() - start, 2)})

    def add(self, name: str, found: Facts) -> None:
        """A result, printed when it is there."""
        self.results.append({"check": name, **found})
        print(f"| {name} | {', '.join(f'{what} {value}' for what, value in found.items())} |", flush=True)

    def wait(self) -> None:
        """Until the device has done all."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def layer(self, cell: str, inputs: int, units: int) -> torch.nn.Module:
        """A layer of a cell of the zoo; of the LSTM too, which torch.nn's would be otherwise."""
        torch.manual_seed(0)
        return conveyor.Recurrent(CELLS[cell], inputs, units).to(self.device)

    # --- right ---

    def facts(self) -> Facts:
        """The machine."""
        found: Facts = {"torch": torch.__version__, "nvrtc": ".".join(map(str, nvrtc.version()))}
        if self.device == "cuda":
            about = torch.cuda.get_device_properties(0)
            found |= {"gpu": about.name, "capability": f"{about.major}.{about.minor}", "cuda": torch.version.cuda}
            found |= {"multiprocessors": about.multi_processor_count, "GiB": round(about.total_memory / 2**30)}
        return found

    def is_right(self, cell: str, schedule: Schedule | None) -> Facts:
        """A cell in float32 against its loop in float64, and against itself, forward and every gradient."""
        self.use(schedule)
        layer = self.layer(cell, 12, 36)
        x = torch.randn(6, 9, 12, device=self.device, requires_grad=True)
        first, again = (gradients(layer, x, "compiled") for _ in range(2))
        exact = gradients(layer.double(), x.detach().double().requires_grad_(), "eager")
        off = max(distance(one, other) for one, other in zip(first, exact, strict=True))
        same = all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
        return {"off by": f"{off:.1e}", "the same bits twice": same, "right": off < ROUNDED and same}

    def is_right_beyond_31_bits(self) -> Facts:
        """The last sequence of a batch with more than 2^31 elements in a stream, against that sequence alone."""
        self.use(None)
        free = torch.cuda.mem_get_info()[0] if self.device == "cuda" else 0
        if free < 60 * 2**30:
            return {"left out": "it takes 60 GiB of memory"}
        steps, batch, units = 16, 70_000, 512
        layer = self.layer("lstm", 8, units)
        x = torch.randn(steps, batch, 8, device=self.device)
        with torch.no_grad(), conveyor.backend("compiled"):
            return {"off by": distance(layer(x)[0][:, -1:].contiguous(), layer(x[:, -1:].contiguous())[0])}

    def is_captured(self) -> Facts:
        """A user's CUDA graph, played twice."""
        self.use(Schedule.LAUNCHES)
        layer, x = self.layer("gru", 8, 64), torch.randn(20, 4, 8, device=self.device)
        with torch.no_grad(), conveyor.backend("compiled"):
            layer(x)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                captured = layer(x)[0]
            x.copy_(torch.randn_like(x))
            graph.replay()
            return {"off by": distance(captured, layer(x)[0])}

    def is_compiled(self) -> Facts:
        """torch.compile of a whole layer."""
        self.use(None)
        layer, x = self.layer("lstm", 8, 64), torch.randn(20, 4, 8, device=self.device)
        with torch.no_grad(), conveyor.backend("compiled"):
            found = torch.compile(layer, fullgraph=True)(x)[0]
            return {"off by": distance(found, layer(x)[0])}

    def on_both(self) -> Facts:
        """Two GPUs in one process."""
        if torch.cuda.device_count() < 2:
            return {"left out": "there is one GPU"}
        self.use(None)
        found = []
        for device in ("cuda:0", "cuda:1"):
            layer = self.layer("lstm", 8, 64).to(device)
            torch.manual_seed(1)
            with torch.no_grad(), conveyor.backend("compiled"):
                found.append(layer(torch.randn(9, 4, 8).to(device))[0].cpu())
        return {"off by": distance(*found)}

    def sanitized(self, tool: str, cell: str) -> Facts:
        """Every access of a cell's kernels, by NVIDIA's own tool."""
        found = shutil.which("compute-sanitizer")
        if found is None:
            return {"left out": "there is no compute-sanitizer"}
        words = [found, "--tool", tool, "--error-exitcode", "9", sys.executable, __file__, "--only", cell]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        return {"ended with": done.returncode, "said": done.stdout.strip().splitlines()[-1:]}

    # --- fast ---

    def step_time(self, schedule: Schedule) -> Facts:
        """A step in which nearly all is waiting: two barriers, or launches."""
        self.use(schedule)
        layer, x = self.layer("rnn", 4, 8), torch.randn(100 if self.small else 2000, 1, 4, device=self.device)
        with torch.no_grad(), conveyor.backend("compiled"):
            return {"us a step": round(1000 * self.median(lambda: layer(x)) / len(x), 2)}

    def speed(self, cell: str, steps: int, batch: int, units: int) -> Facts:
        """Forward and backward in ms, by each schedule, by the loop, and by torch.nn where it has the cell."""
        layer = self.layer(cell, units, units)
        x = torch.randn(steps, batch, units, device=self.device, requires_grad=True)
        found: Facts = {}
        for schedule in SCHEDULES:
            self.use(schedule)
            try:
                time_of = self.median(lambda: gradients(layer, x, "compiled"))
                found[schedule or "as chosen"] = round(time_of, 2)
            except (RuntimeError, conveyor.NotCompiled) as error:
                found[schedule or "as chosen"] = f"failed: {error}"[:200]
        found["loop"] = round(self.median(lambda: gradients(layer, x, "eager"), runs=2), 2)
        if cell == "lstm":
            found["delegated"] = round(self.median(lambda: gradients(layer, x, "delegated")), 2)
            theirs = torch.nn.LSTM(units, units).to(self.device)
            found["torch.nn"] = round(self.median(lambda: gradients(theirs, x, "eager")), 2)
        return found

    def median(self, run: Callable[[], Any], runs: int = 5) -> float:
        """Of a few runs, in ms."""
        run()
        times = []
        for _ in range(runs):
            self.wait()
            start = time.perf_counter()
            run()
            self.wait()
            times.append(1000 * (time.perf_counter() - start))
        return statistics.median(times)

    def all(self) -> Iterator[tuple[str, Callable[[], Facts]]]:
        """The checks, in order."""
        cells = ["lstm", "gru", "mut1"] if self.small else list(CELLS)
        yield "machine", self.facts
        for k, cell in enumerate(cells):
            schedule = SCHEDULES[k % len(SCHEDULES)]
            yield f"right: {cell}, {schedule or 'as chosen'}", lambda c=cell, s=schedule: self.is_right(c, s)
        for schedule in Schedule:
            yield f"right: lstm, {schedule}", lambda s=schedule: self.is_right("lstm", s)
        if self.device == "cuda":
            yield "right: beyond 2^31 elements", self.is_right_beyond_31_bits
            yield "right: in a CUDA graph", self.is_captured
            yield "right: under torch.compile", self.is_compiled
            yield "right: on two GPUs", self.on_both
            for tool in ("memcheck", "racecheck"):
                yield f"{tool}: lstm", lambda t=tool: self.sanitized(t, "lstm")
        for schedule in Schedule:
            yield f"time of a step: {schedule}", lambda s=schedule: self.step_time(s)
        sizes = [(4, 2, 8)] if self.small else [(100, b, h) for h in (64, 256, 512, 1024) for b in (1, 32, 256)]
        for steps, batch, units in sizes:
            for cell in ("lstm", "mut1"):
                name = f"ms: {cell}, T={steps}, B={batch}, H={units}"
                yield name, lambda c=cell, t=steps, b=batch, h=units: self.speed(c, t, b, h)


def gradients(layer: torch.nn.Module, x: Tensor, backend: str) -> list[Tensor]:
    """The output and every gradient of a layer, by this backend."""
    with conveyor.backend(backend):
        output = layer(x)[0]
        named = torch.autograd.grad(output.sin().sum(), [x, *layer.parameters()])
    return [output.detach(), *named]


def distance(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the largest value or 1."""
    return (one.double() - other.double()).abs().max().item() / max(1.0, other.abs().max().item())


def main(words: list[str] | None = None) -> int:
    """1 if something failed or is not right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="few cells and sizes")
    parser.add_argument("--only", help="run this cell once, forward and backward, and nothing else")
    given = parser.parse_args(words)
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here")
    checks = Checks(given.device, given.minutes, given.small)
    if given.only:
        return int(not checks.is_right(given.only, None)["right"])
    print("| check | found |\n|---|---|")
    for name, body in checks.all():
        checks.check(name, body)
        given.json.write_text(json.dumps(checks.results, indent=1, default=str), encoding="utf-8")
    wrong = [one["check"] for one in checks.results if "failed" in str(one) or one.get("right") is False]
    print(f"\n{len(wrong)} of {len(checks.results)} failed{': ' + '; '.join(wrong) if wrong else ''}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
