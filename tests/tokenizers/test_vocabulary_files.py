"""Vocabularies from files, entity markers, and tokens that a tokenizer lacks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import BertJapaneseTokenizer, PreTrainedTokenizerFast

from claf2.errors import ModelError
from claf2.tokenizers import Tokenizer, subword_tokenizers, word_tokenizers
from claf2.tokenizers.build import compose_tokenizer, load_tokenizer

VOCABULARY = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nfilm\n##s\n"


def read_vocabulary(subword: str, **paths: Path) -> Tokenizer:
    reader = subword_tokenizers.get(subword)(**{name: str(path) for name, path in paths.items()})
    return compose_tokenizer(word_tokenizers.get("bert_basic")(), reader, None, 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((VOCABULARY + "film\nnew\n").encode(), r"line 8 repeats 'film' of line 6; write another token there"),
        ((VOCABULARY + "\n\nnew\n").encode(), r"line 9 repeats '' of line 8; write another token there"),
        ((VOCABULARY + "영화\n").encode("cp949"), "is not in UTF-8: .*; convert it"),
        (VOCABULARY.encode("utf-16"), "is not in UTF-8: .*; convert it"),
    ],
)
def test_a_vocabulary_that_cannot_number_its_tokens_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(ModelError, match=rf"vocabulary .*vocab\.txt: {message}"):
        read_vocabulary("wordpiece", vocab_path=tmp_path / "vocab.txt")


@pytest.mark.parametrize("ending", ["", "\n", "\n\n", "\r\n\r\n"])
def test_a_byte_order_mark_and_blank_lines_at_the_end_are_no_tokens(ending: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"\xef\xbb\xbf" + VOCABULARY.rstrip().encode() + ending.encode())
    tokenizer = read_vocabulary("wordpiece", vocab_path=tmp_path / "vocab.txt")
    assert tokenizer.pad_id == 0
    assert tokenizer.vocab_size == 7 == max(tokenizer.entries.values()) + 1


@pytest.mark.parametrize("content", [b'{"model": {"type": "BPE"}}', b"\xff\xfe\x00", b'{"model": {"type": "X"}}'])
@pytest.mark.parametrize("subword", ["bpe", "unigram"])
def test_a_damaged_tokenizer_json_is_named(subword: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"vocabulary .*tokenizer\.json: (not a tokenizer\.json|is not in UTF-8): "):
        read_vocabulary(subword, vocab_path=tmp_path / "tokenizer.json")


def test_merges_of_another_vocabulary_are_named(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4}')
    (tmp_path / "merges.txt").write_text("#version\na b\n")
    with pytest.raises(ModelError, match=r"vocab\.json and .*merges\.txt: cannot be read: .*give files that belong"):
        read_vocabulary("bpe", vocab_path=tmp_path / "vocab.json", merges_path=tmp_path / "merges.txt")


@pytest.mark.parametrize("subword", ["unigram", "bpe"])
def test_a_word_after_a_closing_marker_is_never_unknown_for_its_mark(subword: str) -> None:
    texts = ["서울 에서 간다 부산 으로 간다 대전 에서 온다"] * 20
    parts = word_tokenizers.get("bert_basic")(), subword_tokenizers.get(subword)(vocab_size=60)
    tokenizer = compose_tokenizer(*parts, lambda: iter(texts), 64)
    assert "▁에서" in tokenizer.entries
    assert "에서" not in tokenizer.entries
    tokenizer.add_markers((("<obj>", "</obj>"),))
    ((encoding,),) = tokenizer.encode(["<obj>서울</obj>에서 간다"], max_length=64)
    assert tokenizer.tokens_of(encoding.ids)[1:-1] == ["<obj>", "▁서울", "</obj>", "▁에서", "▁간다"]


def test_the_word_none_is_not_a_token_that_is_missing(tmp_path: Path) -> None:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(["None None abc"] * 50, trainer)
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", pad_token="<end>").save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert "None" in tokenizer.entries
    assert tokenizer.unknown_id is None
    assert tokenizer.separator == ""
    assert tokenizer.tokens_of([tokenizer.entries["None"], 10**6]) == ["None", ""]


def test_a_moved_tokenizer_that_runs_in_python_has_the_same_digest(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text(VOCABULARY)
    BertJapaneseTokenizer(
        str(tmp_path / "vocab.txt"), word_tokenizer_type="basic", subword_tokenizer_type="wordpiece"
    ).save_pretrained(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    assert load_tokenizer(tmp_path / "first").digest == load_tokenizer(tmp_path / "second").digest
