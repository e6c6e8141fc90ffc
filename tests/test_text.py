"""Text: what is read, what numbers it becomes, and in what order a model sees them."""

import io
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conveyor.errors import BadInput
from conveyor.tasks.text import CORPORA, KINDS, UNKNOWN, Rows, Vocabulary, read, split

MANY = 10**9


def joined(vocabulary: Vocabulary, data: bytes) -> str:
    return "".join(vocabulary.decode(vocabulary.encode(data).tolist()))


@settings(deadline=None)
@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(min_size=1))
def test_a_text_comes_back_from_its_numbers(kind: str, text: str) -> None:
    data = text.encode()
    vocabulary = Vocabulary.of(data, kind, MANY)
    assert joined(vocabulary, data) == text
    numbers = vocabulary.encode(data)
    assert numbers.dtype == torch.long
    assert 0 <= numbers.min() <= numbers.max() < len(vocabulary)
    assert vocabulary.lengths(text.encode()).sum() == len(text)
    assert len(vocabulary.lengths(text.encode())) == len(numbers)


@settings(deadline=None)
@given(data=st.binary())
def test_bytes_of_any_kind_have_numbers_and_a_text(data: bytes) -> None:
    vocabulary = Vocabulary.of(b"", "byte")
    assert vocabulary.encode(data).tolist() == list(data)
    assert joined(vocabulary, data) == data.decode(errors="replace")


@settings(deadline=None)
@given(text=st.text(alphabet="ab .\n"), limit=st.integers(2, 6))
def test_the_words_kept_are_the_most_frequent_and_the_rest_unknown(text: str, limit: int) -> None:
    vocabulary = Vocabulary.of(text.encode(), "word", limit)
    whole = Vocabulary.of(text.encode(), "word", MANY)
    words = list(whole.decode(whole.encode(text.encode()).tolist()))
    shown = list(vocabulary.decode(vocabulary.encode(text.encode()).tolist()))
    assert len(vocabulary) <= limit
    assert shown == [word if word in vocabulary.symbols else UNKNOWN for word in words]
    kept = [words.count(word) for word in vocabulary.symbols[1:]]
    lost = [words.count(word) for word in set(words) - set(vocabulary.symbols)]
    assert max(lost, default=0) <= min(kept, default=0)


def test_a_word_carries_the_space_before_it() -> None:
    words = Vocabulary.of(b"to be, or not.\n", "word", MANY)
    assert list(words.decode(words.encode(b"or not to be.").tolist())) == [UNKNOWN, " not", UNKNOWN, " be", "."]


def test_a_new_character_is_named() -> None:
    with pytest.raises(BadInput, match="never saw 'x', 'é' \\(3 of 5 characters\\)"):
        Vocabulary.of(b"to be", "char").encode("xéobx".encode())


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_always_something_to_begin_with(kind: str) -> None:
    for text in ("a", " ", "one two", "new\nline", "é"):
        vocabulary = Vocabulary.of(text.encode(), kind, MANY)
        assert len(vocabulary.encode(vocabulary.opening().encode())) > 0


@settings(deadline=None)
@given(length=st.integers(2, 400), batch=st.integers(1, 9), window=st.integers(1, 20), world=st.integers(1, 3))
def test_rows_go_on_from_window_to_window_and_share_nothing(length: int, batch: int, window: int, world: int) -> None:
    tokens = torch.arange(length)
    if length - 1 < window * world:
        with pytest.raises(BadInput, match="--window"):
            [Rows(tokens, batch, window, rank, world) for rank in range(world)]
        return
    parts = [Rows(tokens, batch, window, rank, world) for rank in range(world)]
    count = parts[0].count
    assert count >= 1
    read_by_all = []
    for rows in parts:
        assert (rows.count, rows.batch_size) == (count, parts[0].batch_size)
        inputs, targets = (torch.cat(windows) for windows in zip(*(rows[step] for step in range(count)), strict=True))
        assert inputs.shape == ((length - 1) // (world * rows.batch_size), rows.batch_size)
        assert torch.equal(inputs[1:], inputs[:-1] + 1)  # a row goes on where its window before ended
        assert torch.equal(targets, inputs + 1)
        for began, again in zip(rows[0], rows[count], strict=True):
            assert torch.equal(began, again)
        read_by_all += inputs.flatten().tolist()
    assert len(set(read_by_all)) == len(read_by_all)
    assert length - 1 - len(read_by_all) < world * parts[0].batch_size  # less than one token a row is left unread


@settings(deadline=None)
@given(batch=st.integers(1, 5), window=st.integers(1, 20), world=st.integers(1, 4), more=st.integers(0, 300))
def test_processes_read_the_rows_of_one_with_as_many_in_all(batch: int, window: int, world: int, more: int) -> None:
    tokens = torch.arange(batch * world * window + 1 + more)
    one = Rows(tokens, batch * world, window)
    parts = [Rows(tokens, batch, window, rank, world) for rank in range(world)]
    for step in range(one.count + 1):
        for whole, *shares in zip(one[step], *(rows[step] for rows in parts), strict=True):
            assert torch.equal(whole, torch.cat(shares, dim=1))


@settings(deadline=None)
@given(length=st.integers(0, 1000), held_out=st.floats(0.001, 0.9))
def test_the_held_out_tail_and_the_rest_are_the_text(length: int, held_out: float) -> None:
    tokens = torch.arange(length)
    learnt, tail = split(tokens, held_out)
    assert torch.equal(torch.cat([learnt, tail]), tokens)
    assert abs(len(tail) - held_out * length) < 1


def test_files_folders_and_standard_input_are_joined_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.txt").write_text("one")
    folder = tmp_path / "folder"
    for name in ("b.txt", "a.md", "deeper/c.txt", ".hidden.txt", ".git/d.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    (folder / "zero.txt").write_bytes(b"a\0b")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("trê".encode())))
    text = read([str(tmp_path / "one.txt"), str(folder), "-"])
    assert text.decode() == "one\na.md\nb.txt\ndeeper/c.txt\ntrê"
    assert b"caf\xe9\na\0b" in read([str(folder)], "byte")


def test_a_run_in_a_folder_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "run").mkdir()
    for name in ("checkpoint.pt", "config.toml", "metrics.jsonl"):
        (tmp_path / "run" / name).write_text(name)
    assert read([str(tmp_path)]) == b"a"


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_is_text_and_no_little(name: str) -> None:
    text = read([name]).decode()
    assert len(text) > 400_000
    assert read([name]).decode() == text
    assert text.count("\0") == 0


def test_pydoc_is_what_is_read_when_nothing_is_named() -> None:
    assert read([]) == read(["pydoc"])


def test_a_file_goes_before_a_corpus_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pydoc").write_text("my own")
    assert read(["pydoc"]) == b"my own"
