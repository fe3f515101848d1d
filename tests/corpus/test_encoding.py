"""Tokens and what begins at them, against plain Python."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from generated_text import byte_level, make_documents
from transformers import BertJapaneseTokenizer

from claf2.corpus.encoding import (
    BEGINS_DOCUMENT,
    BEGINS_EOJEOL,
    BEGINS_SENTENCE,
    BEGINS_WORD,
    IS_SPECIAL,
    LONGEST_ENCODED,
    encode_documents,
)
from claf2.corpus.sources import Document
from claf2.tokenizers import Tokenizer
from claf2.tokenizers.aligned import AlignedTokenizer
from claf2.tokenizers.fast import compose_tokenizer
from claf2.tokenizers.subword import Unigram
from claf2.tokenizers.word import Whitespace


def encode(tokenizer: Tokenizer, *texts: str) -> tuple[np.ndarray, np.ndarray]:
    documents = [Document(text, 0, str(number)) for number, text in enumerate(texts)]
    parts = list(encode_documents(documents, tokenizer))
    ids, flags = zip(*[part[:2] for part in parts], strict=True)
    return np.concatenate(ids), np.concatenate(flags)


def groups(tokenizer: Tokenizer, ids: np.ndarray, flags: np.ndarray, flag: int) -> list[str]:
    """Return the text of the tokens from each one with a flag to the next."""
    starts = [*np.flatnonzero(flags & flag).tolist(), len(ids)]
    return [tokenizer.decode(ids[start:end].tolist()).replace(" ", "") for start, end in pairwise(starts)]


def metaspace() -> Tokenizer:
    return compose_tokenizer(Whitespace(), Unigram(vocab_size=600), lambda: iter(make_documents(200)), 512)


@pytest.mark.parametrize("kind", ["wordpiece", "metaspace", "byte_level"])
def test_an_eojeol_is_what_split_returns(tokenizer: Tokenizer, kind: str) -> None:
    tokenizer = {"wordpiece": lambda: tokenizer, "metaspace": metaspace, "byte_level": byte_level}[kind]()
    texts = [line for text in make_documents(150, name=kind) for line in text.replace(". ", ".  ").split("\n")]
    assert sum(text.count(".") + text.count("?") for text in texts) > 500
    for text in texts:
        ids, flags = encode(tokenizer, text)
        assert groups(tokenizer, ids, flags, BEGINS_EOJEOL) == text.split()


def test_real_eojeols_and_sentences(tokenizer: Tokenizer, benchmark_data: Path) -> None:
    with gzip.open(benchmark_data / "corpus/petitions_ko.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line, _ in zip(file, range(60), strict=False)]
    backend = tokenizer.encode_flat
    for line in [line for text in texts for line in text.split("\n") if line.strip()]:
        _, flags = encode(tokenizer, line)
        offsets = backend([line]).offsets
        begins = np.flatnonzero(flags & BEGINS_EOJEOL)
        # Invisible characters have no token.
        words = ["".join(filter(str.isprintable, word)) for word in line.split()]
        ends = [offsets[next_ - 1, 1] for next_ in [*begins[1:].tolist(), len(offsets)]]
        found = [line[offsets[start, 0] : end] for start, end in zip(begins, ends, strict=True)]
        assert ["".join(filter(str.isprintable, word)).strip() for word in found] == list(filter(None, words))


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("가나 다라. 마바 사아", ["가나 다라.", "마바 사아"]),
        ("3.5 가나? 다라! 마바", ["3.5 가나?", "다라!", "마바"]),
        ("가나.) 다라", ["가나.)", "다라"]),
        ("가나 다라\n마바", ["가나 다라", "마바"]),
        ("가나。다라？마바", ["가나。", "다라？", "마바"]),
        ("가나...  다라", ["가나...", "다라"]),
        ("가나.다라", ["가나.다라"]),
    ],
)
def test_sentences(tokenizer: Tokenizer, text: str, sentences: list[str]) -> None:
    ids, flags = encode(tokenizer, text)
    lengths = [len(encode(tokenizer, sentence)[0]) for sentence in sentences]
    assert np.diff([*np.flatnonzero(flags & BEGINS_SENTENCE), len(ids)]).tolist() == lengths


def test_words_are_those_of_the_pre_tokenizer(tokenizer: Tokenizer) -> None:
    ids, flags = encode(tokenizer, "가나다은. 마바사를 하고.")
    assert groups(tokenizer, ids, flags, BEGINS_WORD) == ["가나다은", ".", "마바사를", "하고", "."]
    assert groups(tokenizer, ids, flags, BEGINS_EOJEOL) == ["가나다은.", "마바사를", "하고."]


def test_documents_and_special_tokens_in_the_text(tokenizer: Tokenizer) -> None:
    _, flags = encode(tokenizer, "가나 다라. 마바", "\n \n", "하고[SEP]하고", "사아")
    starts = np.flatnonzero(flags & BEGINS_DOCUMENT)
    assert len(starts) == 3
    assert (flags[starts] & (BEGINS_WORD | BEGINS_EOJEOL | BEGINS_SENTENCE) == 7).all()
    assert (flags & IS_SPECIAL != 0).sum() == 1


def test_a_document_of_several_blocks_begins_once(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = make_documents(20)
    whole = encode(tokenizer, *texts)
    monkeypatch.setattr("claf2.corpus.encoding.BATCH_CHARACTERS", 50)
    for one, other in zip(whole, encode(tokenizer, *texts), strict=True):
        assert np.array_equal(one, other)


def test_a_long_line_is_divided_at_white_space(tokenizer: Tokenizer) -> None:
    line = "가나다 " * LONGEST_ENCODED
    _, flags = encode(tokenizer, line)
    assert (flags & BEGINS_EOJEOL != 0).sum() == LONGEST_ENCODED
    assert (flags & BEGINS_DOCUMENT != 0).sum() == 1


def test_a_tokenizer_in_python_gives_the_same_flags(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    entries = tokenizer.tokens_of(range(tokenizer.vocab_size))
    (tmp_path / "vocab.txt").write_text("\n".join(entries), encoding="utf-8")
    wrapped = BertJapaneseTokenizer(str(tmp_path / "vocab.txt"), word_tokenizer_type="basic", do_lower_case=False)
    aligned = AlignedTokenizer(wrapped)
    texts = [*make_documents(30), "가나[SEP]다라. ☃", ""]
    for one, other in zip(encode(tokenizer, *texts), encode(aligned, *texts), strict=True):
        assert np.array_equal(one, other)
    assert aligned.mask_id == tokenizer.mask_id
    assert aligned.special_ids == tokenizer.special_ids
    assert aligned.tokens_of([0, 5]) == tokenizer.tokens_of([0, 5])
    assert aligned.template.num_special_tokens(pair=True) == 3


def test_the_vocabulary_says_what_marks_a_word(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [*tokenizer.tokens_of(range(tokenizer.vocab_size)), "▁"]
    (tmp_path / "vocab.txt").write_text("\n".join(entries), encoding="utf-8")
    wrapped = BertJapaneseTokenizer(str(tmp_path / "vocab.txt"), word_tokenizer_type="basic", do_lower_case=False)
    texts = make_documents(5)
    # A character of the text that looks like a marker changes nothing for the other texts of a batch.
    alone, together = (AlignedTokenizer(wrapped).encode_flat(batch) for batch in (texts, [*texts, "▁ 가"]))
    assert alone.begins_word.tolist() == together.begins_word[: len(alone.ids)].tolist()
    assert together.lengths[-1] >= 2
    # Where beginnings are marked, a piece without a mark continues a word, whatever else is in the batch.
    marked = AlignedTokenizer(wrapped)
    monkeypatch.setattr(wrapped, "get_vocab", lambda: {f"▁{entry}": 0 for entry in entries})
    monkeypatch.setattr(wrapped, "tokenize", lambda _: ["가", "나"])
    assert marked.encode_flat(["가나"]).begins_word.tolist() == [True, False]


def test_flat_encodings_are_those_of_single_texts(tokenizer: Tokenizer) -> None:
    texts = ["", *make_documents(5), "☃ 가나", ""]
    flat = tokenizer.encode_flat(texts)
    bare = [encodings[0] for encodings in tokenizer.encode(texts, max_length=10**6)]
    assert flat.lengths.tolist() == [len(encoding.ids) - 2 for encoding in bare]
    assert flat.ids.tolist() == [token for encoding in bare for token in encoding.ids[1:-1]]
    assert flat.offsets.tolist() == [list(span) for encoding in bare for span in encoding.offsets[1:-1]]
