"""C made into functions of this process: compiled for this machine, kept by content, checked before it is loaded."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
FLAGS = ("-O3", "-fopenmp-simd", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fno-semantic-interposition")
SHARED = ("-std=gnu11", "-fPIC", "-shared", "-w")
CURE = (
    "install a C compiler (Debian: apt-get install gcc; macOS: xcode-select --install; anywhere: "
    "pip install 'conveyor[compiler]'), or set CC to one"
)


class CannotBuild(Exception):
    """No compiler, or one that fails."""


def load(source: str, double: bool) -> ctypes.CDLL:
    """The library that `source` compiles to, from the cache if it is there.

    Raises CannotBuild with the reason and the cure.
    """
    return _load(source, double, _compiler(), os.environ.get("CONVEYOR_CFLAGS", ""))


@cache
def runtime(double: bool) -> ctypes.CDLL:
    """The matrix products and threads that every kernel calls."""
    library = load((HERE / "runtime.c").read_text(encoding="utf-8"), double)
    library.outer_room.restype = library.outer_room.argtypes = None
    library.outer_room.restype, library.outer_room.argtypes = ctypes.c_ssize_t, [ctypes.c_ssize_t]
    return library


@cache
def _load(source: str, double: bool, compiler: tuple[str, ...], extra: str) -> ctypes.CDLL:
    defines = ("-DREAL=double", "-DDOUBLE") if double else ("-DREAL=float",)
    command = (*compiler, *SHARED, *FLAGS, *_machine_flags(compiler[0]), *shlex.split(extra), *defines)
    key = _digest("\n".join([source, _headers(), *command, _identity(compiler[0]), _processor()]).encode())
    for folder in _folders():
        path = folder / f"{key}.so"
        try:
            if not _is_sound(path, key):
                _compile(source, command, path, key)
            return ctypes.CDLL(str(path))
        except OSError as error:  # the folder cannot be written, or is full, or no code may run from it
            reason = error
    raise CannotBuild(f"no folder for compiled kernels can be used: {reason}; set XDG_CACHE_HOME to one that can")


@cache
def _compiler() -> tuple[str, ...]:
    """The command of a C compiler."""
    named = os.environ.get("CC")
    if named:
        words = tuple(shlex.split(named))
        found = shutil.which(words[0])
        if found:
            return (found, *words[1:])
        raise CannotBuild(f"CC names {named}, which is not there: {CURE}")
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found:
            return (found,)
    try:
        import ziglang
    except ImportError:
        raise CannotBuild(f"there is no C compiler: {CURE}") from None
    return (str(Path(ziglang.__file__).parent / "zig"), "cc")


def _machine_flags(compiler: str) -> tuple[str, ...]:
    arm = platform.machine().lower() in ("arm64", "aarch64")
    wide = ("-mprefer-vector-width=512",) if "avx512f" in _processor() else ()
    return ("-mcpu=native",) if arm else ("-march=native", *wide)


@cache
def _processor() -> str:
    """What code can be run here: two machines that share a home folder may differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        wanted = ("flags", "Features", "model name", "CPU part")
        return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.platform()}"


def _identity(compiler: str) -> str:
    """Changes when the compiler does, without running it."""
    real = Path(compiler).resolve()
    facts = real.stat()
    return f"{real} {facts.st_size} {facts.st_mtime_ns}"


@cache
def _headers() -> str:
    return "".join((HERE / name).read_text(encoding="utf-8") for name in ("runtime.h", "maths.h"))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _folders() -> list[Path]:
    """Where kernels are kept: the user's cache, or else a folder of this process's own."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(home) / "conveyor" / "kernels"
    return [folder, _temporary()] if _is_private(folder) else [_temporary()]


@cache
def _temporary() -> Path:
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="conveyor-"))
    owner = os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(folder, ignore_errors=True))
    return folder


def _is_private(folder: Path) -> bool:
    """Makes the folder. What others may write there, they could have us run."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.stat()
    except OSError:
        return False
    if not hasattr(os, "geteuid"):
        return True
    return facts.st_uid == os.geteuid() and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _is_sound(path: Path, key: str) -> bool:
    """Whether the file is ours and whole: at its end is the digest of the rest."""
    try:
        content = path.read_bytes()
        facts = path.stat()
    except FileNotFoundError:
        return False
    mine = not hasattr(os, "geteuid") or facts.st_uid == os.geteuid()
    return mine and content[-64:] == _digest(content[:-64] + key.encode()).encode()


def _compile(source: str, command: tuple[str, ...], path: Path, key: str) -> None:
    """Compiles beside the place and moves there in one step, so that nobody ever sees half a file."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="making-") as folder:
        text, made = Path(folder, "kernel.c"), Path(folder, "kernel.so")
        text.write_text(source, encoding="utf-8")
        # The libraries come last: a linker looks for what it has been asked for before.
        words = [*command, f"-I{HERE}", str(text), "-o", str(made), "-lm", "-pthread"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise CannotBuild(f"{command[0]} cannot be run: {error}; {CURE}") from error
        if done.returncode or not made.exists():
            if "No space left" in done.stderr:
                raise OSError(done.stderr.strip().splitlines()[0])
            said = "\n".join(done.stderr.strip().splitlines()[:8])
            raise CannotBuild(f"{shlex.join(command[:1])} fails:\n{said}\n{CURE}")
        content = made.read_bytes()
        made.write_bytes(content + _digest(content + key.encode()).encode())
        os.replace(made, path)


if sys.platform == "win32":  # pragma: no cover
    raise ImportError("kernels are not built on Windows yet: the eager loop runs there")
