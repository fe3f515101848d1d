"""Blocks of text and their shards: every document once, nothing damaged, nothing foreign."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from generated_text import make_documents

from claf2.corpus.batches import InputLayout
from claf2.corpus.blocks import block_digest, list_blocks, read_block
from claf2.corpus.corpus import Corpus
from claf2.corpus.shards import make_shard, open_shard
from claf2.corpus.sources import Document, TextSource, read_documents
from claf2.errors import ConfigError, DataError, RunError
from claf2.tokenizers import Tokenizer

TEXTS = make_documents(120)


def write(path: Path, texts: list[str]) -> Path:
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        content = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    else:
        content = "\n\n".join(texts) + "\n"
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.jsonl.gz"])
@pytest.mark.parametrize("block_bytes", [300, 4096, 10**6])
def test_every_document_is_in_one_block(tmp_path: Path, name: str, block_bytes: int) -> None:
    path = write(tmp_path / name, TEXTS)
    blocks = list_blocks([TextSource(path=str(path))], block_bytes)
    assert (len(blocks) == 1) == (name.endswith(".gz") or block_bytes == 10**6)
    found = [document.text for block in blocks for document in read_block(block)]
    assert found == [document.text for document in read_documents(path)]
    assert len({block_digest(block) for block in blocks}) <= len(blocks)


def test_a_text_without_blank_lines_is_divided_at_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claf2.corpus.blocks.SEARCHED", 200)
    monkeypatch.setattr("claf2.corpus.blocks.PIECE", 50)
    lines = [f"line {number} " + "x" * (number % 90) for number in range(300)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    blocks = list_blocks([TextSource(path=str(tmp_path / "a.txt"))], 1000)
    found = [line for block in blocks for document in read_block(block) for line in document.text.split("\n")]
    assert len(blocks) > 10
    assert found == lines


@pytest.mark.parametrize("piece", [1, 2, 3, 64])
@pytest.mark.parametrize("blank", ["", " \t", "\u3000", "\u00a0\x0b"])
def test_a_document_is_not_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, blank: str) -> None:
    monkeypatch.setattr("claf2.corpus.blocks.PIECE", piece)
    documents = ["\n".join(f"line {line} of {number}" for line in range(40)) for number in range(5)]
    path = tmp_path / "a.txt"
    path.write_text(f"\n{blank}\n".join(documents), encoding="utf-8")
    blocks = list_blocks([TextSource(path=str(path))], 300)
    assert [document.text for block in blocks for document in read_block(block)] == documents


def test_only_the_start_of_a_file_says_that_it_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    starts = ("text", "<html> is a tag", "<!DOCTYPE html>", "version https://git-lfs.github.com/spec/v1")
    documents = [start.ljust(50, "x") for start in starts]
    path.write_text("\n\n".join(documents))
    blocks = list_blocks([TextSource(path=str(path))], 52)
    assert [[document.text for document in read_block(block)] for block in blocks] == [[text] for text in documents]
    path.write_text("\n\n".join(documents[1:]))
    with pytest.raises(DataError, match="an HTML page, not the file"):
        list(read_block(blocks[0]))


def test_endings_in_upper_case(tmp_path: Path, open_corpus: Callable[..., Corpus]) -> None:
    write(tmp_path / "a.jsonl.gz", TEXTS).rename(tmp_path / "A.JSONL.GZ")
    write(tmp_path / "b.jsonl", TEXTS).rename(tmp_path / "B.JSONL")
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "C.PARQUET")
    for name, whole in (("A.JSONL.GZ", True), ("B.JSONL", False), ("C.PARQUET", True)):
        blocks = list_blocks([TextSource(path=str(tmp_path / name))], 500)
        assert (len(blocks) == 1) == whole
        assert [document.text for block in blocks for document in read_block(block)] == TEXTS


def test_an_error_names_the_line_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", TEXTS)
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[99] = lines[99][:-5]
    path.write_text("\n".join(lines), encoding="utf-8")
    blocks = list_blocks([TextSource(path=str(path))], 2000)
    with pytest.raises(DataError, match=r"a\.jsonl:100: not valid JSON"):
        list(chain.from_iterable(read_block(block) for block in blocks[10:]))


def test_empty_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"a\.txt: all files are empty"):
        list_blocks([TextSource(path=str(tmp_path / "a.txt"))], 2000)


def documents(texts: list[str]) -> list[Document]:
    return [Document(text, 0, "") for text in texts]


def test_three_or_five_bytes_per_token(tmp_path: Path, tokenizer: Tokenizer) -> None:
    make_shard(tmp_path / "small", "key", documents(TEXTS), tokenizer, 2)
    small = open_shard(tmp_path / "small", "key")
    assert (tmp_path / "small/tokens.bin").stat().st_size == 3 * len(small)
    assert small.documents == len(TEXTS)
    assert small.text_bytes == sum(len(line.encode()) for text in TEXTS for line in text.split("\n"))
    make_shard(tmp_path / "large", "key", documents(TEXTS), tokenizer, 4)
    large = open_shard(tmp_path / "large", "key")
    assert (tmp_path / "large/tokens.bin").stat().st_size == 5 * len(small)
    assert np.array_equal(small.ids, large.ids)
    assert np.array_equal(small.flags, large.flags)
    make_shard(tmp_path / "empty", "key", [], tokenizer, 2)
    assert len(open_shard(tmp_path / "empty", "key")) == 0


@pytest.mark.parametrize(("last", "width"), [(2**16 - 1, 2), (2**16, 4)])
def test_a_vocabulary_with_gaps(
    tmp_path: Path, open_corpus: Callable[..., Corpus], monkeypatch: pytest.MonkeyPatch, last: int, width: int
) -> None:
    corpus = open_corpus()
    entries = {**corpus.tokenizer.entries, "far": last}
    monkeypatch.setattr(type(corpus.tokenizer), "entries", property(lambda _: entries))
    assert open_corpus(cache_dir=tmp_path).id_width == width
    # Random tokens are ids that exist.
    ordinary = InputLayout(corpus.tokenizer, corpus.instances, hides=True)._ordinary_ids.tolist()
    assert ordinary == sorted(set(entries.values()) - corpus.tokenizer.special_ids)


def test_the_same_bytes_as_text_and_as_json(tmp_path: Path, open_corpus: Callable[..., Corpus]) -> None:
    path = write(tmp_path / "n.jsonl", TEXTS[:9])
    (tmp_path / "n.txt").write_bytes(path.read_bytes())
    counts = [
        open_corpus(sources=[{"path": str(tmp_path / name)}], cache_dir=tmp_path, shard_bytes=2**20).shard(0).documents
        for name in ("n.txt", "n.jsonl")
    ]
    assert counts == [1, 9]


def test_a_text_that_changes_during_a_run_is_noticed(tmp_path: Path, open_corpus: Callable[..., Corpus]) -> None:
    path = write(tmp_path / "a.jsonl", TEXTS)
    corpus = open_corpus(sources=[{"path": str(path)}], cache_dir=tmp_path)
    corpus.shard(0)
    corpus._open.clear()
    assert len(corpus.shard(0))  # unchanged
    # As many rows as before, which the table of numbers would not notice.
    path.write_bytes(path.read_bytes().replace("은 ".encode(), "는 ".encode()))
    corpus._open.clear()
    with pytest.raises(DataError, match=r"a\.jsonl: has changed since the run began; start a new run"):
        corpus.shard(0)


def test_damaged_and_foreign_shards_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    make_shard(tmp_path / "shard", "key", documents(TEXTS), tokenizer, 2)
    with pytest.raises(DataError, match=r"shard\.json: belongs to another text, tokenizer or version"):
        open_shard(tmp_path / "shard", "other")
    tokens = tmp_path / "shard/tokens.bin"
    content = tokens.read_bytes()
    tokens.write_bytes(content[:-1])
    with pytest.raises(RunError, match=r"tokens\.bin: changed since it was saved"):
        open_shard(tmp_path / "shard", "key")
    tokens.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    with pytest.raises(RunError, match=r"tokens\.bin: changed since it was saved"):
        open_shard(tmp_path / "shard", "key")


def test_a_damaged_shard_is_named_and_made_again(
    tmp_path: Path, open_corpus: Callable[..., Corpus], caplog: pytest.LogCaptureFixture
) -> None:
    first = open_corpus(cache_dir=tmp_path).shard(1)
    expected = np.array(first.ids)
    (path,) = tmp_path.rglob("tokens.bin")
    path.write_bytes(path.read_bytes()[:100])
    with caplog.at_level(logging.WARNING, logger="claf2"):
        logging.getLogger("claf2").propagate = True
        again = open_corpus(cache_dir=tmp_path).shard(1)
    assert "tokens.bin: changed since it was saved" in caplog.text
    assert np.array_equal(again.ids, expected)


def test_a_file_system_without_locks(
    tmp_path: Path, open_corpus: Callable[..., Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    def acquire(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("filelock.FileLock.acquire", acquire)
    assert len(open_corpus(cache_dir=tmp_path).shard(1)) > 0


def test_a_text_that_changes_is_noticed(tmp_path: Path, open_corpus: Callable[..., Corpus]) -> None:
    path = write(tmp_path / "a.jsonl", TEXTS)
    stamp = path.stat().st_mtime_ns
    assert open_corpus(sources=[{"path": str(path)}], cache_dir=tmp_path).row_count(0, 30) > 0
    path.write_text(path.read_text(encoding="utf-8").replace("은 ", "은."), encoding="utf-8")
    os.utime(path, ns=(stamp, stamp))
    with pytest.raises(DataError, match=r"a\.jsonl: has other text than when it was read before"):
        open_corpus(sources=[{"path": str(path)}], cache_dir=tmp_path).rows(0, 30)


def test_row_counts_survive_a_torn_line(tmp_path: Path, open_corpus: Callable[..., Corpus]) -> None:
    corpus = open_corpus(cache_dir=tmp_path)
    counts = [corpus.row_count(number, 30) for number in range(3)]
    (path,) = (tmp_path / "corpus/rows").iterdir()
    assert len(path.read_text().splitlines()) == 3
    path.write_text(path.read_text()[:-7])
    corpus = open_corpus(cache_dir=tmp_path)
    assert [corpus.knows_rows(number, 30) for number in range(3)] == [True, True, False]
    assert [corpus.row_count(number, 30) for number in range(3)] == counts


def test_long_work_says_how_long_it_takes(
    tmp_path: Path,
    open_corpus: Callable[..., Corpus],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("claf2.corpus.corpus.LOGGED_EVERY", 0.0)
    logging.getLogger("claf2").propagate = True
    with caplog.at_level(logging.INFO, logger="claf2"):
        open_corpus(cache_dir=tmp_path).open_shards(range(4))
    assert re.search(r"shards of text: 2 of 4 are ready, \d+ s left", caplog.text)


def test_held_out_documents_are_not_trained_on(open_corpus: Callable[..., Corpus]) -> None:
    corpus = open_corpus(valid_documents=40)
    held_out = {number: corpus.held_out_tokens(number) for number in range(len(corpus))}
    assert sum(tokens > 0 for tokens in held_out.values()) == 16
    for number, tokens in held_out.items():
        rows = corpus.rows(number, 30)
        assert rows.starts.min() == tokens
        assert rows.lengths().sum() == len(corpus.shard(number)) - tokens
    features = corpus.valid_rows(32).features
    assert sum(len(row["input_ids"]) - 2 for row in features) >= sum(held_out.values())
    assert len({id(row) for row in features}) == len(corpus.valid_rows(32))
    with pytest.raises(ConfigError, match="no documents are held out"):
        open_corpus().valid_rows(32)
