"""Verses of the Bible in English (King James, 1769) and Spanish (Reina-Valera, 1909).

Two Debian packages contain them as SWORD modules, which the package pysword reads.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from conveyor.errors import BadInput

ENGLISH, SPANISH = "engKJV2006eb", "spaRV1909eb"
COUNT = 31_000  # minimum number of verses in both: versions 14.3 and 2.60 have 31,084
CURE = "pip install 'conveyor[translation]' and apt-get install sword-text-kjv sword-text-sparv"
TOKEN = re.compile(r"\w+(?:['’-]\w+)*|[.,;:?!¿¡]")  # words and punctuation, without paragraph signs and brackets
WORD = re.compile(r"\w")


def folders() -> list[Path]:
    """The folders that may hold SWORD modules: $SWORD_PATH, the user's, and the system's."""
    own = [Path(os.environ["SWORD_PATH"])] if os.environ.get("SWORD_PATH") else []
    return [*own, Path.home() / ".sword", Path("/usr/share/sword")]


def find(places: Iterable[Path] | None = None) -> Path | None:
    """The first folder with both modules; None if there is none or pysword is not installed."""
    if find_spec("pysword") is None:
        return None
    names = [f"{name}.conf" for name in (ENGLISH, SPANISH)]
    places = folders() if places is None else places
    return next((folder for folder in places if all((folder / "mods.d" / name).is_file() for name in names)), None)


def verses(places: Iterable[Path] | None = None) -> list[tuple[str, str]]:
    """All verses in English and Spanish, tidied by `tidy`. Raises BadInput if they are missing or incomplete."""
    folder = find(places)
    if folder is None:
        raise BadInput(f"the verses are not installed: {CURE}")
    pairs = read(folder)
    if len(pairs) < COUNT:
        raise BadInput(f"{folder} has {len(pairs):,} verses in both languages, not {COUNT:,}: reinstall them: {CURE}")
    return pairs


def read(folder: Path) -> list[tuple[str, str]]:
    """The verses that are in both modules of a folder. Raises BadInput if they cannot be read."""
    try:
        english, spanish = (_module(folder, name) for name in (ENGLISH, SPANISH))
    except Exception as error:  # pysword can fail in any way on a damaged file
        raise BadInput(f"the verses of {folder} cannot be read: {type(error).__name__}: {error}") from error
    both = ((tidy(text), tidy(spanish.get(place, ""))) for place, text in english.items())
    return [(text, other) for text, other in both if text and other]


def _module(folder: Path, name: str) -> dict[tuple[str, int], str]:
    """The text of every verse, by the name of its book and its index in it."""
    from pysword.modules import SwordModules

    modules = SwordModules(str(folder))
    modules.parse_modules()
    bible: Any = modules.get_bible_from_module(name)
    # A book is one compressed block, which would otherwise be decompressed for each of its verses.
    bible._decompressed_text = functools.lru_cache(maxsize=2)(bible._decompressed_text)
    books = (book for books in bible.get_structure().get_books().values() for book in books)
    return {(book.name, n): verse for book in books for n, verse in enumerate(bible.get_iter(books=[book.name]))}


def tidy(text: str) -> str:
    """The text in lower case, with words and punctuation separated by spaces."""
    return " ".join(TOKEN.findall(text.lower()))


def short(pairs: Iterable[tuple[str, str]], longest: int) -> list[tuple[str, str]]:
    """The pairs with at most `longest` words on both sides, without punctuation; one pair for each English sentence."""
    found: dict[str, str] = {}
    for english, spanish in pairs:
        if all(sum(map(bool, map(WORD.match, side.split()))) <= longest for side in (english, spanish)):
            found.setdefault(english, spanish)
    return list(found.items())
