"""Labels that a unit may follow in a text: a number for each token, NaN where it is undefined."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from conveyor.errors import BadInput, suggest

Labelling = Callable[[Sequence[str]], Tensor | Sequence[float | bool | None]]
QUOTES = '"“”'
OPENING, CLOSING = "([{", ")]}"
NONE = float("nan")


def position_in_line(tokens: Sequence[str]) -> Tensor:
    """The number of characters of the line read after each token, [T]; 0 after a line break."""
    return _after_each(tokens, _positions)


def inside_quotes(tokens: Sequence[str]) -> Tensor:
    """Whether a quotation is open after each token, [T]; NaN in a paragraph with an odd number of quotes."""
    return _after_each(tokens, _by_paragraph(_quoted))


def inside_brackets(tokens: Sequence[str]) -> Tensor:
    """Whether a bracket (, [ or { is open after each token, [T]; NaN in a paragraph with unbalanced brackets."""
    return _after_each(tokens, _by_paragraph(_bracketed))


def subject_number(tokens: Sequence[str]) -> Tensor:
    """For sentences of the agreement corpus: whether the subject whose verb comes next is plural, [T].

    Defined from the subject to the word before its verb; the subject of an embedded clause takes precedence. Tokens are
    words. Raises BadInput if lemminflect is missing.
    """
    return _of_pending(tokens, -1)


def main_subject_number(tokens: Sequence[str]) -> Tensor:
    """As `subject_number`, for the main subject: defined up to the word before the main verb, across clauses, [T]."""
    return _of_pending(tokens, 0)


def _of_pending(tokens: Sequence[str], which: int) -> Tensor:
    """The number of a subject whose verb is still to come; `which` is its index, outermost first."""
    from conveyor.tasks.agreement import STOP, THAT, lexicon

    plural = lexicon().plural
    pending: list[int] = []
    words, found = [token.strip() for token in tokens], []
    for place, word in enumerate(words):
        if word in plural.nouns and (not pending or words[place - 2] == THAT):
            pending.append(plural.nouns[word])
        elif word in plural.verbs and pending:
            pending.pop()
        elif word == STOP:
            pending.clear()
        found.append(float(pending[which]) if pending else NONE)
    return torch.tensor(found)


LABELLINGS: dict[str, Labelling] = {
    "position in line": position_in_line,
    "inside quotes": inside_quotes,
    "inside brackets": inside_brackets,
    "subject number": subject_number,
    "main subject number": main_subject_number,
}


def label(labelling: str | Labelling, tokens: Sequence[str]) -> Tensor:
    """The labels of tokens, [T] float64, NaN where undefined.

        label("inside quotes", ['"', "a", '"'])                             # tensor([1., 1., 0.])
        label(lambda tokens: [token.isupper() for token in tokens], "Ab")   # tensor([1., 0.])

    `labelling`: the name of a built-in one, or a function from tokens to numbers, booleans or None.
    Raises BadInput for an unknown name, and for a function that does not return one label per token.
    """
    if isinstance(labelling, str):
        if labelling not in LABELLINGS:
            raise BadInput(f"nothing to follow is called {labelling!r}; {suggest(labelling, LABELLINGS)}")
        labelling = LABELLINGS[labelling]
    found = labelling(tokens)
    numbers = found if isinstance(found, Tensor) else [NONE if one is None else float(one) for one in found]
    labels = torch.as_tensor(numbers, dtype=torch.float64)
    if labels.shape != (len(tokens),):
        raise BadInput(f"the labels are {list(labels.shape)}, but there are {len(tokens)} tokens: give one for each")
    return labels


def _after_each(tokens: Sequence[str], of_characters: Callable[[str], np.ndarray]) -> Tensor:
    """The label after the last character of each token."""
    ends = np.cumsum([len(token) for token in tokens]) - 1
    found = np.append(of_characters("".join(tokens)), NONE)  # for empty tokens
    return torch.from_numpy(found[ends.clip(min=-1)]) if len(tokens) else torch.empty(0)


def _positions(text: str) -> np.ndarray:
    found = [np.append(np.arange(1.0, len(line) + 1), 0.0) for line in text.split("\n")]
    return np.concatenate(found)[: len(text)]


def _by_paragraph(of_paragraph: Callable[[str], np.ndarray]) -> Callable[[str], np.ndarray]:
    """Applies a labelling to each paragraph, so that one missing mark does not invert the rest of the text."""
    gap = np.zeros(2)

    def of_text(text: str) -> np.ndarray:
        parts = [part for paragraph in text.split("\n\n") for part in (of_paragraph(paragraph), gap)]
        return np.concatenate(parts)[: len(text)]

    return of_text


def _quoted(paragraph: str) -> np.ndarray:
    seen = np.cumsum([character in QUOTES for character in paragraph])
    return np.full(len(paragraph), NONE) if len(seen) and seen[-1] % 2 else (seen % 2).astype(np.float64)


def _bracketed(paragraph: str) -> np.ndarray:
    open_ones: list[str] = []
    found = np.zeros(len(paragraph))
    for place, character in enumerate(paragraph):
        if character in OPENING:
            open_ones.append(CLOSING[OPENING.index(character)])
        elif character in CLOSING and (not open_ones or open_ones.pop() != character):
            return np.full(len(paragraph), NONE)
        found[place] = bool(open_ones)
    return np.full(len(paragraph), NONE) if open_ones else found
