"""Sentences to translate: numbers in two languages, and verses read from modules of SWORD."""

import shutil
import struct
import zlib

import pytest
import torch

import conveyor
from conveyor.errors import BadInput
from conveyor.nn import checkpoints
from conveyor.tasks.numbers import english, spanish
from conveyor.tasks.translation import translation
from conveyor.tasks.verses import ENGLISH, SPANISH, find, read, short, tidy, verses
from conveyor.zoo.translator import Translator
from tolerance import assert_equal

KNOWN = {
    0: ("zero", "cero"),
    1: ("one", "uno"),
    16: ("sixteen", "dieciséis"),
    21: ("twenty-one", "veintiuno"),
    22: ("twenty-two", "veintidós"),
    30: ("thirty", "treinta"),
    31: ("thirty-one", "treinta y uno"),
    100: ("one hundred", "cien"),
    101: ("one hundred and one", "ciento uno"),
    342: ("three hundred and forty-two", "trescientos cuarenta y dos"),
    500: ("five hundred", "quinientos"),
    777: ("seven hundred and seventy-seven", "setecientos setenta y siete"),
    915: ("nine hundred and fifteen", "novecientos quince"),
    1000: ("one thousand", "mil"),
    1001: ("one thousand and one", "mil uno"),
    2105: ("two thousand one hundred and five", "dos mil ciento cinco"),
    21_000: ("twenty-one thousand", "veintiún mil"),
    41_000: ("forty-one thousand", "cuarenta y un mil"),
    100_000: ("one hundred thousand", "cien mil"),
    101_016: ("one hundred and one thousand and sixteen", "ciento un mil dieciséis"),
    600_023: ("six hundred thousand and twenty-three", "seiscientos mil veintitrés"),
}


@pytest.mark.parametrize("n", KNOWN)
def test_numbers_in_words(n):
    assert (english(n), spanish(n)) == KNOWN[n]


def test_no_two_numbers_have_the_same_words():
    for words in (english, spanish):
        assert len({words(n) for n in range(0, 1_000_000, 37)}) == len(range(0, 1_000_000, 37))


@pytest.mark.parametrize("n", [-1, 1_000_000])
def test_numbers_without_words_here(n):
    with pytest.raises(BadInput, match="from 0 to 999,999"):
        english(n)
    with pytest.raises(BadInput, match="from 0 to 999,999"):
        spanish(n)


def test_annotations_are_what_both_directions_have_at_a_word(monkeypatch):
    """Against PyTorch's GRU on each sentence alone; what lies behind a sentence changes nothing."""
    torch.manual_seed(0)
    model = Translator(9, 7, 6, embedding_size=4).double().eval()
    words, lengths = torch.randint(9, (5, 3)), [5, 1, 3]
    a, mask = model.annotate(words, lengths)
    assert mask.tolist() == [[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]]
    ours = conveyor.GRU(4, 3, bidirectional=True).double()
    monkeypatch.setattr(checkpoints, "_told", [])  # it is told once in a process
    with pytest.warns(match="holds every gate apart"):
        ours.load_state_dict(model.encoder.state_dict())
    theirs = ours.to_torch()
    for row, length in enumerate(lengths):
        expected, _ = theirs(model.embedding(words[:length, row]))
        assert_equal(a[row, :length].detach(), expected.detach(), f"row {row}")
        assert (a[row, length:] == 0).all()
    words[1:, 1] = 8
    assert torch.equal(model.annotate(words, torch.tensor(lengths))[0], a)


def test_what_cannot_be_translated_is_refused():
    with pytest.raises(ValueError, match="must be even, not 5"):
        Translator(9, 7, 5)
    with pytest.raises(ValueError, match="between 0 and 8, not 9 and 9"):
        Translator(9, 7, 6).annotate(torch.full((2, 1), 9), [2])


def test_no_sentence_is_in_two_parts():
    data = translation("numbers", held_out=50, count=400)
    parts = [{e for e, _ in part} for part in (data.learnt, data.validation, data.test)]
    assert list(map(len, parts)) == [300, 50, 50]
    assert len(set.union(*parts)) == 400
    assert data == translation("numbers", held_out=50, count=400)
    with pytest.raises(BadInput, match="hold out 49 at most"):
        translation("numbers", held_out=50, count=149)


def module(folder, name, texts):
    """A module of SWORD with the first verses of Genesis: the texts in one compressed block, and where each lies."""
    lies = folder / "modules" / name
    lies.mkdir(parents=True)
    (folder / "mods.d").mkdir(exist_ok=True)
    about = f"[{name}]\nDataPath=./modules/{name}/\nModDrv=zText\nSourceType=OSIS\nEncoding=UTF-8\nCompressType=ZIP\n"
    (folder / "mods.d" / f"{name}.conf").write_text(about + "BlockType=BOOK\nVersification=KJV\n")
    data, places = b"", []
    for text in ["", "", "", "", *texts]:  # before the first verse come four headings
        places.append(struct.pack("<IIH", 0, len(data), len(text.encode())))
        data += text.encode()
    packed = zlib.compress(data)
    (lies / "ot.bzz").write_bytes(packed)
    (lies / "ot.bzs").write_bytes(struct.pack("<III", 0, len(packed), len(data)))
    (lies / "ot.bzv").write_bytes(b"".join(places))


def test_verses_are_read_from_modules(tmp_path):
    assert find([tmp_path]) is None
    module(tmp_path, ENGLISH, ["<w lemma='x'>First</w>, of all. ", "Only here.", " ¶ The (third) one’s! "])
    module(tmp_path, SPANISH, ["Primero.", "", "¡El tercero á él!"])
    assert find([tmp_path / "no", tmp_path]) == tmp_path
    assert read(tmp_path) == [("first , of all .", "primero ."), ("the third one’s !", "¡ el tercero á él !")]
    with pytest.raises(BadInput, match="has 2 verses in both languages, not 31,000"):
        verses([tmp_path])


def test_verses_that_are_missing_or_damaged_are_told_of(tmp_path):
    with pytest.raises(BadInput, match=r"not installed: pip install .* apt-get install sword-text-kjv"):
        verses([tmp_path])
    for name in (ENGLISH, SPANISH):
        module(tmp_path, name, ["A verse."])
        packed = tmp_path / "modules" / name / "ot.bzz"
        packed.write_bytes(b"x" * packed.stat().st_size)
    with pytest.raises(BadInput, match=r"has 0 verses .* reinstall them"):
        verses([tmp_path])
    shutil.rmtree(tmp_path / "modules")
    with pytest.raises(BadInput, match=r"cannot be read: .*Could not open"):
        verses([tmp_path])


def test_short_verses_are_counted_by_their_words_and_come_once():
    pairs = [("one , two .", "uno , dos ."), ("one , two .", "otra vez"), ("a b c", "a"), ("a", "a b c")]
    assert short(pairs, 2) == [("one , two .", "uno , dos .")]
    assert tidy("  And God’s EARTH;\n[was] without-form ") == "and god’s earth ; was without-form"
