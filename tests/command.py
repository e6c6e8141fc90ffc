"""Helpers: the command `conveyor`, as a real process or in this one, and what it leaves behind."""

import io
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from conveyor import cli

TEXT = "the cat sat on the mat.\n" * 300
HANGS = 300  # seconds after which a process is taken to hang

LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.executable, sys.argv[2:])
"""


def flags(**settings: Any) -> list[str]:
    """Settings as the command line has them."""
    words = []
    for name, value in settings.items():
        dashed = name.replace("_", "-")
        words += (
            [f"--{dashed}" if value else f"--no-{dashed}"] if isinstance(value, bool) else [f"--{dashed}", str(value)]
        )
    return words


SMALL = flags(hidden_size=16, window=16, batch_size=4, device="cpu", threads=1, dropout=0)


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"}


def command(*args: Any, file_limit: int | None = None) -> list[Any]:
    line = [sys.executable, "-m", "conveyor", *(arg if isinstance(arg, bytes) else str(arg) for arg in args)]
    return line if file_limit is None else [sys.executable, "-c", LIMITED, str(file_limit), *line]


def conveyor(*args: Any, cwd: Path, stdin: str = "", file_limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """The command, run to its end. `file_limit`: no file can grow longer than so many bytes, as on a full disk."""
    return subprocess.run(
        command(*args, file_limit=file_limit),
        cwd=cwd,
        input=stdin,
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=HANGS,
        check=False,
    )


def called(*args: Any, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The command, run to its end in this process, which saves the seconds in which one of its own starts."""
    out, told = io.StringIO(), io.StringIO()
    with (
        chdir(cwd),
        redirect_stdout(out),
        redirect_stderr(told),
        warnings.catch_warnings(),
        patch.object(sys, "argv", ["conveyor", *map(str, args)]),
        patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()))),
        patch.object(sys, "dont_write_bytecode", True),
    ):
        warnings.simplefilter("default")
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    return subprocess.CompletedProcess(args, code or 0, out.getvalue(), told.getvalue())


def done(*args: Any, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The same, which must be a success."""
    result = called(*args, cwd=cwd, stdin=stdin)
    assert result.returncode == 0, result.stderr
    return result


@contextmanager
def begun(line: list[Any], cwd: Path, stdin: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that runs while the block does, and is killed after it if it then still runs."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        line, cwd=cwd, env=environment(), stdin=pipe, stdout=pipe, stderr=pipe, encoding="utf-8"
    ) as process:
        process.stdin.write(stdin)
        process.stdin.close()
        process.stdin = None  # so that communicate() does not flush it again
        try:
            yield process
        finally:
            process.kill()


def wait(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    """Until the condition holds or the process has ended."""
    give_up = time.monotonic() + HANGS
    while process.poll() is None and not condition():
        assert time.monotonic() < give_up, "the process hangs"
        time.sleep(0.002)


def metrics(run: Path) -> list[dict[str, float]]:
    """The run's metrics, but for the seconds, which are another each time."""
    values = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in values]


def lines(run: Path) -> int:
    """How many lines of metrics there are; the last may be half written."""
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def checkpoint(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoint.pt", weights_only=True)


def model(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def snapshot(folder: Path) -> dict[str, str | None]:
    """Everything below the folder, with a digest of each file."""
    paths = sorted(folder.rglob("*"))
    return {str(path): sha256(path.read_bytes()).hexdigest() if path.is_file() else None for path in paths}


def same(one: Any, other: Any) -> bool:
    """Whether two nested values are equal, tensors bit for bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors of a nested value."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors(part)
