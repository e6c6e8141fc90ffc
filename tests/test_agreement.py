"""Sentences in which the verb agrees with its subject: as English has it, and as they are judged."""

import gzip

import pytest
import torch

from conveyor.errors import BadInput
from conveyor.tasks.agreement import (
    ADJECTIVES,
    IS,
    MOST,
    NOUNS,
    PREPOSITIONS,
    SEES,
    THAT,
    THE,
    VERBS,
    Agreement,
    Verb,
    lexicon,
    nearest,
    read,
    verbs_of,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_forms_are_english():
    known = lexicon()
    forms = dict(zip(NOUNS, (noun.plural for noun in known.nouns), strict=True))
    assert [forms[n] for n in ("key", "child", "city", "wife", "mouse", "woman")] == [
        *("keys", "children", "cities", "wives", "mice", "women")
    ]
    forms = dict(zip(VERBS + SEES, (verb.singular for verb in known.verbs + known.sees), strict=True))
    assert [forms[v] for v in ("go", "vanish", "play", "see", "watch")] == [
        "goes",
        "vanishes",
        "plays",
        "sees",
        "watches",
    ]
    assert len(known.words) == len(set(known.words))


def test_every_verb_agrees():
    """Read by a descent of its own through the grammar: phrase, verb; a phrase is a noun and modifiers of it."""
    known = lexicon()
    plural = {
        form: number for forms in (*known.nouns, *known.verbs, *known.sees, IS) for number, form in enumerate(forms)
    }

    def phrase(words, place, verbs):
        """Where it ends, its number, and the numbers of the nouns that modify it."""
        assert words[place] == THE
        number, nouns, place = plural[words[place + 1]], [], place + 2
        while words[place] in (THAT, *PREPOSITIONS):
            clause = words[place] == THAT
            place, other, within = phrase(words, place + 1, verbs)
            nouns += [other, *within]
            if clause:
                verbs.append(Verb(place, other, tuple(within)))
                assert plural[words[place]] == other
                place += 1
        return place, number, nouns

    seen = set()
    for words in Agreement().texts(200, generator()):
        place, verbs = 0, []
        while place < len(words):
            place, number, nouns = phrase(words, place, verbs)
            assert len(nouns) <= MOST
            assert plural[words[place]] == number
            verbs.append(Verb(place, number, tuple(nouns)))
            place += 1 + (words[place] in IS)
            assert words[place - 1] in ADJECTIVES or words[place - 1] in plural
            assert words[place] == "."
            place += 1
        assert verbs == verbs_of(words)
        seen |= {verb.attractors for verb in verbs}
    assert seen == set(range(MOST + 1))


def test_the_nearest_noun_is_wrong_where_it_attracts():
    assert nearest([["the", "keys", "to", "the", "door", "are", "old", "."]]) == 1.0
    assert nearest([["the", "keys", "to", "the", "doors", "are", "old", "."]]) == 0.0
    assert nearest([["the", "keys", "that", "the", "boy", "sees", "shine", ".", "the", "key", "shines", "."]]) == 1 / 3


def test_the_rule_is_measured_on_the_test_part():
    task = Agreement()
    batch = task.held_out("test", 1_000)
    assert task.rules() == {"agree with the nearest noun": nearest(task.words(batch))}
    assert task.batch(task.words(batch)).inputs.equal(batch.inputs)


def test_a_number_is_told_before_each_verb():
    task = Agreement()
    texts = task.texts(7, generator())
    batch = task.batch(texts)
    for row, text in enumerate(texts):
        length = int(batch.lengths[row])
        assert [lexicon().words[n] for n in batch.inputs[:length, row].argmax(-1)] == text[:-1]
        verbs = verbs_of(text)
        assert batch.mask[:, row].nonzero()[:, 0].tolist() == [verb.place - 1 for verb in verbs]
        assert batch.targets[batch.mask[:, row], row].tolist() == [verb.number for verb in verbs]


@pytest.mark.parametrize("objective", ["number", "language"])
def test_errors_are_of_verbs_and_by_attractors(objective):
    task = Agreement(objective)
    texts = task.texts(50, generator())
    batch = task.batch(texts)
    outputs = torch.randn(*batch.targets.shape, task.output_size, generator=generator(1))
    known, wrong = lexicon(), []
    for row, text in enumerate(texts):
        for verb in verbs_of(text):
            word = text[verb.place]
            forms = next(forms for forms in (*known.verbs, *known.sees, IS) if word in forms)
            said = outputs[verb.place - 1, row]
            if objective == "language":
                said = said[[known.numbers[form] for form in forms]]
            wrong.append((row, verb.attractors, bool(said[verb.number] < said[1 - verb.number])))
    assert task.measure(outputs, batch) == pytest.approx(sum(bad for *_, bad in wrong) / len(wrong))
    details = {}
    for n in sorted({n for _, n, _ in wrong}):
        mine = [bad for _, m, bad in wrong if m == n]
        details[f"{n} attractors"] = pytest.approx(sum(mine) / len(mine))
    assert task.details(outputs, batch) == details
    assert task.correct(outputs, batch).tolist() == [
        not any(bad for r, _, bad in wrong if r == row) for row in range(50)
    ]


def test_what_cannot_be_is_refused(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="must be number or language, not verb"):
        Agreement("verb")
    with pytest.raises(BadInput, match="the number of sentences must be a whole number, 1 or more, not 0"):
        Agreement(sentences=0)
    for data in (b"not gzip", gzip.compress(b"key,noun,keys\n"), gzip.compress(b"key")[:-4]):
        (tmp_path / "table").write_bytes(data)
        with pytest.raises(BadInput, match=r"pip install 'conveyor\[agreement\]'"):
            read(tmp_path / "table")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    lexicon.cache_clear()
    try:
        with pytest.raises(BadInput, match="lemminflect, which is not installed"):
            Agreement().draw(1, generator())
    finally:
        lexicon.cache_clear()
