"""Files that appear all at once: they are written beside their place, and moved there in the end."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conveyor.errors import BadInput

MARK = "export.json"  # a folder that has it is an export


def check_folder(folder: Path) -> None:
    """Raises BadInput if no export can go there: it is a file, holds files that are not as an export left them, or its
    parent does not exist."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise BadInput(f"{folder} is a file: give the name of a folder")
    if folder.is_dir():
        _replaceable(folder)
    if not folder.absolute().parent.is_dir():
        raise BadInput(f"{folder}: the folder {folder.absolute().parent} does not exist; create it first")


def digest(file: Path) -> str:
    """The SHA-256 of a file's bytes, by which an export knows its files again."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder to write into, whose files are moved to `folder` in the end, unless an error comes first.

    Those of an earlier export are replaced, or removed where there are no such any more; other files are left alone.
    Raises BadInput as `check_folder` does, and for a file that is in the way.
    """
    check_folder(folder)
    folder = folder.resolve()
    around = None
    try:
        around = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        made = around / folder.name
        made.mkdir()  # readable for others if the user's files are, which what is around it is not
        yield made
        _move(made, folder)
    except OSError as error:
        if error.errno is None:  # as where a library cannot be loaded
            raise OSError(f"{error}; nothing was exported to {folder}") from error
        raise OSError(error.errno, f"{error.strerror}; nothing was exported", str(folder)) from error
    finally:
        if around is not None:
            shutil.rmtree(around, ignore_errors=True)


def _move(made: Path, folder: Path) -> None:
    if not folder.exists() or not any(folder.iterdir()):
        os.replace(made, folder)  # at once
        return
    old = _replaceable(folder)
    names = [str(path.relative_to(made)) for path in made.rglob("*") if path.is_file() and path.name != MARK]
    for name in names:
        if name not in old and os.path.lexists(folder / name):
            raise BadInput(f"{folder / name} is in the way, and of no export: move it away, or give another folder")
    (folder / MARK).unlink()  # what says that the files belong together goes first and comes last
    for name in old - {*names}:
        (folder / name).unlink(missing_ok=True)
    for name in (*names, MARK):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(made / name, folder / name)


def _replaceable(folder: Path) -> set[str]:
    """The names of the files of the export that is in a folder.

    Raises BadInput where other files are there and no export, or where one of its files has been changed.
    """
    if not any(folder.iterdir()):
        return set()
    try:
        data = json.loads((folder / MARK).read_bytes())
        known = {Path(name): str(value) for name, value in data["sha256"].items()} if data["conveyor"] else {}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        known = {}
    if not known or any(name.is_absolute() or ".." in name.parts for name in known):
        raise BadInput(f"{folder} holds files that are no export: give another folder, or empty it")
    for name, value in known.items():
        if os.path.lexists(folder / name) and not _is_as(folder / name, value):
            raise BadInput(f"{folder / name} was changed after it was exported: move it away, or give another folder")
    return {str(name) for name in known}


def _is_as(file: Path, value: str) -> bool:
    return file.is_file() and not file.is_symlink() and digest(file) == value
