"""Files that appear all at once: they are written beside their place, and moved there in the end."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conveyor.errors import BadInput

MARK = "export.json"  # a folder that has it is an export


def check_folder(folder: Path) -> None:
    """Raises BadInput if no export can go there: it is a file, holds other files, or its parent does not exist."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise BadInput(f"{folder} is a file: give the name of a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise BadInput(f"{folder} holds files that are no export: give another folder, or empty it")
    if not folder.absolute().parent.is_dir():
        raise BadInput(f"{folder}: the folder {folder.absolute().parent} does not exist; create it first")


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder to write into, whose files are moved to `folder` in the end, unless an error comes first.

    Those of an earlier export of the same names are replaced; other files are left alone.
    """
    check_folder(folder)
    folder = folder.resolve()
    made = None
    try:
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        yield made
        made.chmod(0o755)
        _move(made, folder)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; nothing was exported", str(folder)) from error
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def _move(made: Path, folder: Path) -> None:
    if not folder.exists() or not any(folder.iterdir()):
        os.replace(made, folder)  # at once
        return
    names = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    for name in sorted(names, key=lambda name: name == Path(MARK)):  # what says that they belong together comes last
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(made / name, folder / name)
