"""Variable names of a step as mathematical symbols: C_tilde is C̃, depth.f is f with index "depth", mu_0 is μ with 0."""

from __future__ import annotations

import re
from dataclasses import dataclass

GREEK_NAMES = """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau phi chi psi
omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"""
GREEK = dict(zip(GREEK_NAMES.split(), "αβγδεζηθικλμνξπρστφχψωΓΔΘΛΞΠΣΦΨΩ", strict=True))
ACCENTS = {"tilde": "\u0303", "hat": "\u0302", "bar": "\u0304", "dot": "\u0307"}
FUNCTIONS = ("log", "exp")

NARROW, WIDE = frozenset("iljtfI.,:;|()[] "), frozenset("mwMWÂΩ×+−=<>≤≥÷…Σ")


@dataclass(frozen=True)
class Symbol:
    """A letter or words with an index: Symbol("C̃", "t−1")."""

    base: str
    index: str = ""

    def at(self, time: str) -> Symbol:
        """The symbol with a step added to its index: "t", "t−1", ..."""
        return Symbol(self.base, f"{self.index}, {time}" if self.index else time)

    def __str__(self) -> str:
        return f"{self.base}_{self.index}" if self.index else self.base

    def width(self, size: float) -> float:
        """An upper estimate of its width in a font of this size."""
        return text_width(self.base, size) + text_width(self.index, 0.68 * size)


def symbol(name: str) -> Symbol:
    """The symbol of a variable name of a step.

    symbol("C_tilde")          # Symbol("C̃")
    symbol("time.m_tilde")     # Symbol("m̃", "time")
    symbol("h_enc")            # Symbol("h", "enc")
    symbol("read_window")      # Symbol("read window"): words stay words
    """
    *owners, own = name.split(".")
    words = [word for word in own.split("_") if word] or [own]
    accent = "".join(ACCENTS[word] for word in words if word in ACCENTS)
    words = [word for word in words if word not in ACCENTS] or words
    signs = [_sign(word) for word in words]
    index = [" ".join(owner.replace("_", " ") for owner in owners)] if owners else []
    if signs[0] is not None:
        (base, digits), rest = signs[0], words[1:]
    elif signs[-1] is not None and words[0] not in FUNCTIONS:
        (base, digits), rest = signs[-1], words[:-1]
    else:
        base, digits, rest = " ".join(GREEK.get(word, word) for word in words), "", []
    index = [digits, *(GREEK.get(word, word) for word in rest), *index]
    return Symbol(base + accent, " ".join(text for text in index if text))


def pretty(name: str) -> str:
    """The symbol as plain text: pretty("C_tilde") == "C̃", pretty("depth.u") == "u_depth"."""
    return str(symbol(name))


def spoken(name: str) -> str:
    """The name as it is read aloud: "C tilde", "f of depth"."""
    *owners, own = name.split(".")
    return " of ".join([own, *reversed(owners)]).replace("_", " ")


def text_width(text: str, size: float) -> float:
    """An upper estimate of the width of a text in any font. Combining accents have no width."""
    units = (0.0 if "\u0300" <= c < "\u0370" else 0.36 if c in NARROW else 0.9 if c in WIDE else 0.64 for c in text)
    return size * sum(units)


def _sign(word: str) -> tuple[str, str] | None:
    """The letter and digits of a word such as "x" or "h2" or "alpha"; None for other words."""
    if (found := re.fullmatch(r"([A-Za-z])(\d*)", word)) is not None:
        return found[1], found[2]
    return (GREEK[word], "") if word in GREEK else None
