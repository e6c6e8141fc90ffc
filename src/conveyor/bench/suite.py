"""Runs a plan in one process for each number of threads, and collects the results."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from conveyor.bench.machine import Machine
from conveyor.bench.plan import Plan
from conveyor.bench.results import Results, Row
from conveyor.errors import BadInput


def run(plan: Plan, results: Results, note: Callable[[str], None]) -> None:
    """Measures everything in the plan into `results`, which holds partial results if this is interrupted.

        results = Results()
        run(Plan(cells=("gru",)), results, note=print)

    `note` is called with a description of each measurement. Raises BadInput if a measuring process fails.
    """
    tasks = list(plan.tasks())
    done = 0
    results.load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    for threads in plan.threads:
        order = {
            "tasks": [asdict(task) for task in tasks],
            "contenders": plan.against,
            "seconds": plan.seconds,
            "threads": threads,
        }
        # In a session of its own the process does not receive Ctrl-C, so it does not print over the results.
        with subprocess.Popen(
            [sys.executable, "-m", "conveyor.bench.worker"],
            env=environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        ) as process:
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                with contextlib.suppress(BrokenPipeError):  # it has ended already: see its exit code
                    process.stdin.write(json.dumps(order))
                    process.stdin.close()
                for line in process.stdout:
                    message = json.loads(line)
                    if "begun" in message:
                        done += 1
                        note(f"{done} of {len(tasks) * len(plan.threads)}: {message['begun']}, {thread_count(threads)}")
                    collect(message, results)
                code = process.wait()
            finally:
                process.kill()
        if code:
            how = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
            raise BadInput(f"the measuring process {how}: use smaller shapes if it ran out of memory")
    results.complete = True


def collect(message: dict[str, Any], results: Results) -> None:
    """Adds a message of the measuring process to the results."""
    if "machine" in message:
        results.machines.append(Machine(**message["machine"]))
    if "row" in message:
        results.rows.append(Row.from_dict(message["row"]))
    results.absent |= message.get("absent", {})
    results.compilation |= {name: times for name, times in message.get("compilation", {}).items() if times}


def environment(threads: int) -> dict[str, str]:
    """The environment that sets the number of threads, for libraries that read it from there."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    flags = os.environ.get("XLA_FLAGS", "")
    if threads == 1:
        flags += " --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return os.environ | dict.fromkeys(names, str(threads)) | {"XLA_FLAGS": flags.strip(), "JAX_PLATFORMS": "cpu"}


def thread_count(threads: int) -> str:
    """The number of threads in words."""
    return f"{threads} thread{'s' if threads != 1 else ''}"
