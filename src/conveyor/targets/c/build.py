"""C made into functions of this process: compiled for this machine, kept by content, checked before it is loaded.

Kernels are kept in the user's cache folder. What others could write there they could have us run, so the folder, and
every folder above it through which it could be put in another's place, must be the user's or the system's alone; if
it is not, or cannot be written, a kernel is made in a temporary folder, which is gone as soon as it is loaded.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from conveyor.targets.target import CannotBuild

FLAGS = (
    "-fopenmp-simd",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-semantic-interposition",
)
SHARED = ("-std=gnu11", "-fPIC", "-shared", "-w")
MAKING = "conveyor-making-"  # folders where a compiler is at work
ABANDONED = 3600  # seconds after which its process has surely ended, killed
CURE = (
    "install a C compiler (Debian: apt-get install gcc; macOS: xcode-select --install; anywhere: "
    "pip install 'conveyor[compiler]'), or set CC to one"
)


def load(source: str, double: bool, level: str = "-O3") -> ctypes.CDLL:
    """The library that `source` compiles to, from the cache if it is there.

    Raises CannotBuild with the reason and the cure.
    """
    if sys.platform == "win32":
        raise CannotBuild("kernels are not made on Windows yet")
    return _load(source, double, compiler(), (level, *_words("CONVEYOR_CFLAGS")))


@cache
def _load(source: str, double: bool, compiler: tuple[str, ...], extra: tuple[str, ...]) -> ctypes.CDLL:
    defines = ("-DREAL=double", "-DDOUBLE") if double else ("-DREAL=float",)
    command, machine = (*compiler, *SHARED, *FLAGS, *defines), _machine_flags()
    flags = (*command, *machine, *extra)
    key = _digest("\n".join([source, *flags, _identity(compiler), _processor()]).encode())
    kept = _kept()
    if kept is not None:
        path = kept / f"{key}.so"
        try:
            if not _is_sound(path, key):
                with _compiled(source, command, machine, extra, kept) as made:
                    _seal(made, key)
                    os.replace(made, path)  # in one step: nobody ever sees half a file
            return ctypes.CDLL(str(path))
        except (OSError, CannotBuild):
            pass  # the folder cannot be written, or is full, or no code may run from it
    try:
        with _compiled(source, command, machine, extra, Path(tempfile.gettempdir())) as made:
            return ctypes.CDLL(str(made))
    except OSError as error:
        raise CannotBuild(
            f"a kernel can be loaded from nowhere: {error}; set XDG_CACHE_HOME to a folder for them"
        ) from error


# --- the compiler ---


def _words(variable: str) -> tuple[str, ...]:
    """What a variable of the environment says, as a shell reads it."""
    try:
        return tuple(shlex.split(os.environ.get(variable, "")))
    except ValueError as error:
        raise CannotBuild(f"{variable} is {os.environ[variable]!r}, which cannot be read: {error}") from None


def compiler() -> tuple[str, ...]:
    """The command of a C compiler. Raises CannotBuild."""
    named = _words("CC")
    if named:
        found = shutil.which(named[0])
        if found:
            return (found, *named[1:])
        raise CannotBuild(f"CC names {named[0]}, which is not there: {CURE}")
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found:
            return (found,)
    packaged = importlib.util.find_spec("ziglang")
    if packaged is None or packaged.origin is None:
        raise CannotBuild(f"there is no C compiler: {CURE}")
    return (str(Path(packaged.origin).parent / "zig"), "cc")


def _machine_flags() -> tuple[str, ...]:
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


def _identity(compiler: Sequence[str]) -> str:
    """Changes when the compiler does, without running it; the words may be a wrapper and what it wraps."""
    paths = [Path(found).resolve() for found in map(shutil.which, compiler) if found]
    facts = [(path, path.stat()) for path in paths]
    return "\n".join(f"{path} {fact.st_size} {fact.st_mtime_ns}" for path, fact in facts)


def read(file: Path) -> str:
    """A file of this package that is not Python."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise CannotBuild(
            f"conveyor is not wholly installed: {file} cannot be read ({error.strerror}); "
            "pip install --force-reinstall conveyor"
        ) from None


@contextmanager
def _compiled(
    source: str, command: Sequence[str], machine: Sequence[str], extra: Sequence[str], folder: Path
) -> Iterator[Path]:
    """The library that a source compiles to, in a folder of its own within `folder`, which goes when the block ends.

    `extra` are the user's flags, which come after the machine's and so have the last word.
    """
    _sweep(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=MAKING) as making:
        text, made = Path(making, "kernel.c"), Path(making, "kernel.so")
        text.write_text(source, encoding="utf-8")
        # The libraries come last: a linker looks for what it has been asked for before.
        rest = [*extra, str(text), "-o", str(made), "-lm", "-pthread"]
        done = _run([*command, *machine, *rest], making)
        if done.returncode and not _takes(command, machine, making):
            done = _run([*command, *rest], making)
        if done.returncode or not made.exists():
            said = done.stderr.replace(making + os.sep, "").strip().splitlines()[:8]
            reason = "\n".join([f"{command[0]} fails (it ended with {done.returncode}):", *said])
            raise CannotBuild(f"{reason}\n{CURE}")
        yield made


def _run(words: Sequence[str], making: str) -> subprocess.CompletedProcess[str]:
    """The compiler, run; what it writes besides goes into the folder, too, and with it."""
    own = {"TMPDIR": making, "LC_ALL": "C", "ZIG_LOCAL_CACHE_DIR": making}
    if Path(making).parent == Path(tempfile.gettempdir()):  # zig cannot write its usual one, either
        own["ZIG_GLOBAL_CACHE_DIR"] = making
    try:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
            env=os.environ | own,
        )
    except OSError as error:
        raise CannotBuild(f"{words[0]} cannot be run: {error.strerror}; {CURE}") from error


def _takes(command: Sequence[str], machine: Sequence[str], making: str) -> bool:
    """Whether the compiler knows the machine's flags: if not, it is asked to do without."""
    empty = Path(making, "empty.c")
    empty.write_text("", encoding="utf-8")
    words = [*command, *machine, str(empty), "-o", str(Path(making, "empty.so"))]
    return _run(words, making).returncode == 0


def _sweep(folder: Path) -> None:
    """Removes what killed processes have left."""
    for path in folder.glob(f"{MAKING}*"):
        try:
            facts = path.lstat()
        except OSError:  # another process has removed it
            continue
        if facts.st_uid == os.geteuid() and time.time() - facts.st_mtime > ABANDONED:
            shutil.rmtree(path, ignore_errors=True)


# --- the cache ---


def keep(content: str, suffix: str, make: Callable[[], bytes]) -> bytes:
    """What `make` gives for this content, from the cache if it is there."""
    folder = None if sys.platform == "win32" else _kept()
    if folder is None:
        return make()
    key = _digest(content.encode())
    path = folder / f"{key}{suffix}"
    if not _is_sound(path, key):
        found = make()
        try:
            with tempfile.TemporaryDirectory(dir=folder, prefix=MAKING) as making:
                made = Path(making, path.name)
                made.write_bytes(found)
                _seal(made, key)
                os.replace(made, path)
        except OSError:
            pass  # the folder cannot be written, or is full
        return found
    return path.read_bytes()[:-64]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _kept() -> Path | None:
    """The folder where kernels are kept, if there is one that only the user may write."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(home):  # then XDG's specification has us take no notice of it
        home = os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(home, "conveyor", "kernels")
    try:
        if not folder.is_absolute():
            return None
        for path in (*reversed(folder.parents), folder):
            path.mkdir(mode=0o700, exist_ok=True)
        # What is above a link's target counts as well as what is above the link.
        above = {*folder.parents, *folder.resolve().parents}
        return folder if _is_safe(folder) and all(_is_safe(path, above=True) for path in above) else None
    except OSError:
        return None


def _is_safe(folder: Path, above: bool = False) -> bool:
    """Whether nobody but the user and the system can put something in the folder, or in the place of what is in it."""
    facts = folder.stat()
    system = (0, os.stat("/").st_uid)  # the same, unless a container gives root another number
    others = facts.st_mode & stat.S_IWOTH or (facts.st_mode & stat.S_IWGRP and not _is_own_group(facts.st_gid))
    kept = above and facts.st_mode & stat.S_ISVTX  # as /tmp, where nobody can rename what is another's
    return facts.st_uid in (os.geteuid(), *system) and bool(not others or kept)


@cache
def _is_own_group(group: int) -> bool:
    """Whether a group is one that the system has made for the user alone, as many do."""
    import grp
    import pwd

    try:
        user, found = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return user.pw_gid == group and found.gr_name == user.pw_name and set(found.gr_mem) <= {user.pw_name}


def _seal(made: Path, key: str) -> None:
    """Ends the file with the digest of what is in it: one that is cut short, or another's, is not loaded."""
    content = made.read_bytes()
    made.write_bytes(content + _digest(content + key.encode()).encode())
    made.chmod(0o700)


def _is_sound(path: Path, key: str) -> bool:
    """Whether a file is there, the user's alone, and whole."""
    try:
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
            return False
        content = path.read_bytes()
    except OSError:
        return False
    return content[-64:] == _digest(content[:-64] + key.encode()).encode()
