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
    lexicon,
    nearest,
    read,
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


def test_every_sentence_agrees():
    """Read with an automaton of its own, from the words alone."""
    known = lexicon()
    plural = {
        form: number for forms in (*known.nouns, *known.verbs, *known.sees, IS) for number, form in enumerate(forms)
    }
    seen = set()
    for sentence in Agreement().sentences(500, generator()):
        words = list(sentence.words)
        assert words.pop() == "."
        if words[-1] in ADJECTIVES:
            assert words.pop(-2) in IS
            words[-1] = IS[plural[sentence.words[-3]]]
        verb = words.pop()
        assert verb == sentence.words[sentence.verb]
        if words[0] in PREPOSITIONS:
            assert words[1] == THE
            words = words[3:]
        numbers = [plural[words[1]]]
        assert words[0] == THE
        rest = words[2:]
        while rest:
            if rest[0] == THAT:
                assert rest[1] == THE
                assert plural[rest[2]] == plural[rest[3]], "the clause's own verb agrees, too"
                numbers.append(plural[rest[2]])
                rest = rest[4:]
            else:
                assert rest[0] in PREPOSITIONS
                assert rest[1] == THE
                numbers.append(plural[rest[2]])
                rest = rest[3:]
        assert numbers == sentence.nouns
        assert plural[verb] == numbers[0]
        assert len(numbers) <= 1 + MOST
        seen.add(sentence.attractors)
    assert seen == set(range(MOST + 1))


@pytest.mark.parametrize("attractors", range(MOST + 1))
def test_sentences_of_so_many_attractors(attractors):
    sentences = Agreement().sentences(20, generator(), attractors)
    assert {sentence.attractors for sentence in sentences} == {attractors}
    assert nearest(sentences) == (1.0 if attractors else 0.0)


def test_the_number_is_told_at_the_last_word_before_the_verb():
    task = Agreement()
    sentences = task.sentences(7, generator())
    batch = task.batch(sentences)
    words = lexicon().words
    for row, sentence in enumerate(sentences):
        length = int(batch.lengths[row])
        assert [words[n] for n in batch.inputs[:length, row].argmax(-1)] == sentence.words[: sentence.verb]
        assert batch.judged[:, row].nonzero().tolist() == [[length - 1]]
        assert batch.targets[length - 1, row] == sentence.nouns[0]


def test_a_language_model_is_right_where_the_verbs_right_form_is_likelier():
    task = Agreement("language")
    sentences = task.sentences(9, generator())
    batch = task.batch(sentences)
    outputs = torch.randn(*batch.targets.shape, task.output_size, generator=generator(1))
    known, wanted = lexicon(), []
    for row, sentence in enumerate(sentences):
        assert [known.words[n] for n in batch.targets[: batch.lengths[row], row]] == sentence.words[1:]
        verb = sentence.words[sentence.verb]
        forms = next(forms for forms in (*known.verbs, IS) if verb in forms)
        other = forms[1 - forms.index(verb)]
        logits = outputs[sentence.verb - 1, row]
        wanted.append(bool(logits[known.numbers[verb]] > logits[known.numbers[other]]))
    assert task.right(outputs, batch).tolist() == wanted
    assert len(set(wanted)) == 2


def test_what_cannot_be_is_refused(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="number or language, not verb"):
        Agreement("verb")
    with pytest.raises(BadInput, match="0 to 4 attractors, not 5"):
        Agreement().sentences(1, generator(), 5)
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
