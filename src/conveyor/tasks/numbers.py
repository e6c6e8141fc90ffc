"""Whole numbers below a million in English and Spanish words: sentence pairs for the translator.

english(342)     # "three hundred and forty-two"
spanish(342)     # "trescientos cuarenta y dos"
"""

from __future__ import annotations

from conveyor.errors import BadInput

LIMIT = 1_000_000


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ONES = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = _words("_ _ twenty thirty forty fifty sixty seventy eighty ninety")

UNOS = _words(
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete "
    "dieciocho diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete "
    "veintiocho veintinueve"
)
DIECES = _words("_ _ _ treinta cuarenta cincuenta sesenta setenta ochenta noventa")
CIENTOS = _words(
    "_ ciento doscientos trescientos cuatrocientos quinientos seiscientos setecientos ochocientos novecientos"
)


def english(n: int) -> str:
    """The number in British English, with "and": "one hundred and one", "two thousand and five".

    Raises BadInput unless 0 <= n < 1,000,000.
    """
    _check(n)
    thousands, rest = divmod(n, 1000)
    if not thousands:
        return _english_below_1000(rest)
    head = f"{_english_below_1000(thousands)} thousand"
    if not rest:
        return head
    return f"{head} and {_english_below_1000(rest)}" if rest < 100 else f"{head} {_english_below_1000(rest)}"


def _english_below_1000(n: int) -> str:
    hundreds, rest = divmod(n, 100)
    if hundreds:
        return f"{ONES[hundreds]} hundred" + (f" and {_english_below_1000(rest)}" if rest else "")
    if n < 20:
        return ONES[n]
    tens, ones = divmod(n, 10)
    return f"{TENS[tens]}-{ONES[ones]}" if ones else TENS[tens]


def spanish(n: int) -> str:
    """The masculine cardinal in Spanish: "uno" at the end, but "veintiún mil" and "treinta y un mil" before "mil".

    Raises BadInput unless 0 <= n < 1,000,000.
    """
    _check(n)
    thousands, rest = divmod(n, 1000)
    if not thousands:
        return _spanish_below_1000(rest)
    head = "mil" if thousands == 1 else f"{_shortened(_spanish_below_1000(thousands))} mil"
    return f"{head} {_spanish_below_1000(rest)}" if rest else head


def _spanish_below_1000(n: int) -> str:
    if n == 100:
        return "cien"
    hundreds, rest = divmod(n, 100)
    if hundreds:
        return f"{CIENTOS[hundreds]} {_spanish_below_1000(rest)}" if rest else CIENTOS[hundreds]
    if n < 30:
        return UNOS[n]
    tens, ones = divmod(n, 10)
    return f"{DIECES[tens]} y {UNOS[ones]}" if ones else DIECES[tens]


def _shortened(words: str) -> str:
    """The form of a number that ends in "uno" before "mil"."""
    if words.endswith("veintiuno"):
        return words.removesuffix("uno") + "ún"
    return words.removesuffix("o") if words.endswith(" uno") else words


def _check(n: int) -> None:
    if not 0 <= n < LIMIT:
        raise BadInput(f"the number must be from 0 to {LIMIT - 1:,}, not {n:,}")
