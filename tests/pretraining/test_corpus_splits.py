"""The splits of a task on a corpus: what they are, and what makes them others."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claf2 import config
from claf2.corpus.sources import TextSource
from claf2.errors import DataError
from claf2.runs import corpus_splits
from claf2.runs.corpus_splits import CorpusText, HeldOutFile, HeldOutRows
from claf2.runs.locate import locate_splits
from claf2.runs.prepare import prepare
from claf2.runs.resolve import resolve
from claf2.tokenizers.build import compose_tokenizer

NAME = "scratch/pretrain"

Words = Callable[..., list[str]]


def held_out(words: list[str]) -> HeldOutRows:
    rows = locate_splits(config.load(NAME, words))["corpus_mlm"]["valid"]
    assert isinstance(rows, HeldOutRows)
    return rows


def text_of(words: list[str]) -> CorpusText:
    text = locate_splits(config.load(NAME, words))["corpus_mlm"]["train"]
    assert isinstance(text, CorpusText)
    return text


@pytest.mark.parametrize(
    ("more", "is_other"),
    [
        (["--shard_bytes", "4096"], True),
        (["--valid_documents", "10"], True),
        (["--instances.name", "document"], True),
        (["--instances.full_sentences", "{}"], False),
        (["--masks.name", "word"], False),
        (["--window", "3"], False),
        (["--workers", "0"], False),
    ],
)
def test_held_out_rows_depend_on_how_they_are_made(more: list[str], is_other: bool, words: Words) -> None:
    plain = words()
    changed = [*plain, *more]
    assert (held_out(changed).identity() != held_out(plain).identity()) is is_other


def test_later_phases_do_not_change_the_held_out_rows(words: Words) -> None:
    """The rows of the first phase, even where later ones are shorter."""
    first = {"until": 8, "batch_size": 16, "max_seq_length": 24}
    rows = [
        held_out(words(phases=[first, {"until": 12, "batch_size": 8, "max_seq_length": length}])) for length in (16, 48)
    ]
    assert [split.max_seq_length for split in rows] == [24, 24]
    assert rows[0].identity() == rows[1].identity()


def test_large_files_are_digested_in_pieces(words: Words, corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of(words())
    whole = text.data_digest()
    monkeypatch.setattr(corpus_splits, "READ_WHOLE", 1000)
    monkeypatch.setattr(corpus_splits, "PIECES", 5)
    monkeypatch.setattr(corpus_splits, "PIECE", 10)
    before = corpus_file.read_bytes()
    size = len(before)
    assert size > 1000
    digest = text.data_digest()
    assert digest != whole
    assert digest == text.data_digest()
    # 5 pieces of 10 bytes, of which the last one ends the file.
    read = [start + offset for start in ((size - 10) * number // 4 for number in range(5)) for offset in (0, 9)]
    try:
        for position in (*read, size - 1):
            corpus_file.write_bytes(before[:position] + b"\x01" + before[position + 1 :])
            assert text.data_digest() != digest, position
        corpus_file.write_bytes(before + b"\n")
        assert text.data_digest() != digest
        corpus_file.write_bytes(before[:20] + b"\x01" + before[21:])
        assert text.data_digest() == digest
        monkeypatch.setattr(corpus_splits, "READ_WHOLE", 2**26)
        assert text.data_digest() != whole
    finally:
        corpus_file.write_bytes(before)


def test_held_out_shards_are_made_by_the_workers(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    from claf2.corpus.corpus import Corpus

    made: list[tuple[int, list[int]]] = []
    open_shards = Corpus.open_shards

    def recorded(self: Corpus, numbers: Any, **options: Any) -> None:
        made.append((self.workers, list(numbers)))
        open_shards(self, numbers, **options)

    monkeypatch.setattr(Corpus, "open_shards", recorded)
    run, data = resolve(config.load(NAME, words("--workers", "3")))
    run.evaluation_sets(data)
    (workers, numbers) = made[0]
    assert workers == 3
    assert len(numbers) > 1


def test_a_train_file_keeps_the_text_field(words: Words, tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text("".join(json.dumps({"body": f"sentence {number}."}) + "\n" for number in range(50)))
    sources = json.dumps([{"path": "missing.jsonl", "text_field": "body"}])
    text = text_of(words("--sources", sources, "--train_file_path", str(path)))
    assert text.section.sources == [TextSource(path=str(path), text_field="body")]
    assert len(list(text.texts())) == 50


def test_a_validation_file_is_read_as_a_source(words: Words, tmp_path: Path) -> None:
    path = tmp_path / "valid.jsonl.gz"
    lines = [json.dumps({"text": text}) for text in ("The first one.\nIt has two lines.", "", "The second one.")]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    run, data = resolve(config.load(NAME, words("--valid_file_path", str(path))))
    split = data["corpus_mlm"]["valid"]
    assert isinstance(split, HeldOutFile)
    assert list(split.texts()) == ["The first one.\nIt has two lines.", "The second one."]
    prepared = prepare(run, data)
    scores = run.evaluate_sets(prepared.model, prepared.valid).tasks["corpus_mlm"].scores
    assert scores["nats_per_byte"] is not None


def test_a_validation_file_that_holds_no_text_is_refused(words: Words, tmp_path: Path) -> None:
    path = tmp_path / "valid.txt"
    with pytest.raises(DataError, match="no such file"):
        locate_splits(config.load(NAME, words("--valid_file_path", str(path))))
    path.write_text("\n")
    split = locate_splits(config.load(NAME, words("--valid_file_path", str(path))))["corpus_mlm"]["valid"]
    assert isinstance(split, HeldOutFile)
    with pytest.raises(DataError, match="holds no text"):
        list(split.texts())


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each vocabulary that is learned."""
    times: list[int] = []

    def recorded(*args: Any) -> Any:
        times.append(len(times))
        return compose_tokenizer(*args)

    monkeypatch.setattr("claf2.tokenizers.build.compose_tokenizer", recorded)
    return times


@pytest.mark.parametrize("word", ["bert_basic", "mecab_ko"])
def test_a_vocabulary_is_learned_once(word: str, words: Words, tmp_path: Path, learned: list[int]) -> None:
    if word == "mecab_ko":
        pytest.importorskip("mecab_ko", reason="extra mecab_ko is not installed")
    given = words("--cache_dir", str(tmp_path / "cache"), "--word.name", word)
    runs = [resolve(config.load(NAME, given))[0] for _ in range(2)]
    assert len(learned) == 1
    assert runs[0].experiment.token is not None
    word_tokenizer, subword_tokenizer = runs[0].experiment.token
    plain = compose_tokenizer(word_tokenizer, subword_tokenizer, text_of(given).texts, 48)
    assert runs[0].tokenizer.digest == runs[1].tokenizer.digest == plain.digest
    files = []
    for number, run in enumerate(runs):
        (tmp_path / str(number)).mkdir()
        run.tokenizer.save(tmp_path / str(number))
        files.append({path.name: path.read_bytes() for path in (tmp_path / str(number)).iterdir()})
    assert files[0] == files[1]
    assert not any(str(tmp_path).encode() in content for content in files[0].values())
    resolve(config.load(NAME, [*given, "--vocab_size", "400"]))
    assert len(learned) == 2


def test_another_text_has_another_vocabulary(
    words: Words, tmp_path: Path, corpus_file: Path, learned: list[int]
) -> None:
    given = words("--cache_dir", str(tmp_path / "cache"))
    resolve(config.load(NAME, given))
    other = tmp_path / corpus_file.name
    other.write_bytes(corpus_file.read_bytes() + b"\nOne more.\n")
    resolve(config.load(NAME, [*given, "--sources", json.dumps([{"path": str(other)}])]))
    assert len(learned) == 2
