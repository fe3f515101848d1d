"""The benchmark of vocabularies gives exact numbers, and the study of samples says which one is enough."""

from __future__ import annotations

import json
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
from generated import make_sentences, write_documents

from claf2.cli.main import main
from claf2.corpus.cleaning import make_rule
from claf2.corpus.sources import TextSource
from claf2.errors import Claf2Error
from claf2.tokenizers import Tokenizer
from claf2.tokenizers.build import compose_tokenizer, load_tokenizer
from claf2.tokenizers.subword import WordPiece
from claf2.tokenizers.word import BertBasic
from claf2.vocabulary.bench import (
    Language,
    PretrainingShape,
    count_script_entries,
    guess_language,
    measure_vocabulary,
    read_texts,
)
from claf2.vocabulary.build import VocabularySpec, build_vocabulary
from claf2.vocabulary.study import SampleStudy, StudyPoint, format_study, study_samples
from claf2.vocabulary.tables import Curve, draw_chart, draw_measures, format_measures, format_table

ENTRIES = "[PAD] [UNK] [CLS] [SEP] [MASK] 학교 ##에서 ##가 학생 ##이 공부 ##한다 . the cat ##s sat かな 漢 2024".split()
"""Twenty entries: seven with Hangul, two with kana or kanji, four with Latin letters and five special tokens."""

TEXTS = {"first": ["학교에서 학생이 공부한다.", "학교가 없다"], "second": ["the cats sat"]}


@pytest.fixture
def hand_made(tmp_path: Path) -> Tokenizer:
    """A tokenizer of twenty entries."""
    (tmp_path / "vocab.txt").write_text("\n".join(ENTRIES) + "\n", encoding="utf-8")
    tokenizer = compose_tokenizer(BertBasic(), WordPiece(vocab_path=str(tmp_path / "vocab.txt")), None, 64)
    tokenizer.save(tmp_path)
    return load_tokenizer(tmp_path)


def test_a_vocabulary_of_twenty_entries_gives_exact_numbers(hand_made: Tokenizer) -> None:
    measures = measure_vocabulary("hand", hand_made, TEXTS, language="ko")
    assert measures.entries == len(ENTRIES) == 20
    assert measures.script_entries == 7
    assert measures.script_share == 0.35
    first, second = measures.texts
    # 학교 ##에서 학생 ##이 공부 ##한다 . | 학교 ##가 [UNK]
    assert (first.documents, first.tokens, first.unknown_tokens, first.words) == (2, 10, 1, 5)
    assert first.bytes == len("학교에서 학생이 공부한다.".encode()) + len("학교가 없다".encode()) == 36 + 16
    assert (first.length, first.unknown_share, first.bytes_per_token, first.fertility) == (5.0, 0.1, 5.2, 2.0)
    # the cat ##s sat
    assert (second.documents, second.tokens, second.unknown_tokens, second.words, second.bytes) == (1, 4, 0, 3, 12)
    total = measures.total
    assert (total.documents, total.tokens, total.unknown_tokens, total.bytes) == (3, 14, 1, 64)
    assert measures.steps_per_gigabyte == pytest.approx(1e9 / (64 / 14) / (256 * 512))
    assert measures.embedding_parameters == 20 * 768


def test_the_cost_of_a_pass() -> None:
    shape = PretrainingShape(hidden_size=2, layers=3, max_seq_length=5, batch_size=7, masked_share=0.5)
    assert shape.steps(70) == 2.0
    assert shape.flops(10, 100) == 6 * 10 * (12 * 3 * 4 + 2 * 3 * 5 * 2 + 0.5 * 100 * 2)


@pytest.mark.parametrize(("language", "count"), [("ko", 7), ("ja", 2), ("en", 4 + 5)])
def test_entries_by_script(language: Language, count: int) -> None:
    assert count_script_entries(ENTRIES, language) == count


def test_entries_have_the_letters_that_the_cleaning_rule_knows() -> None:
    letters = {"ko": "\ua960\uac00\u1100\u3131\ud7fb", "ja": "\u3042\u6f22\uf900\U00020000\uff71", "en": "aZ"}
    for language in get_args(Language):
        keep = make_rule("language", {"language": language, "min_share": 1}).make_filter(Counter())
        for other, text in letters.items():
            is_own = other == language
            assert [bool(keep(letter)) for letter in text] == [is_own] * len(text)
            assert count_script_entries(text, language) == is_own * len(text)


def test_entries_of_a_byte_level_vocabulary_are_decoded() -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=alphabet, special_tokens=["<s>"], show_progress=False, min_frequency=1
    )
    backend.train_from_iterator(["학교 학생 학교 학생 cat cat cats"] * 3, trainer)
    expected = sum(
        re.search("[가-힣]", backend.decode([number], skip_special_tokens=False)) is not None
        for number in range(backend.get_vocab_size())
    )
    assert expected > 3
    assert count_script_entries(backend.get_vocab(), "ko") == expected
    assert count_script_entries([*backend.get_vocab(), *(f"{letter}가" for letter in alphabet)], "ko") == 256


def test_the_language_of_texts() -> None:
    assert guess_language(["학교에서 the cat"]) == "ko"
    assert guess_language(["学校で勉強する"]) == "ja"
    assert guess_language(["the cat", "한"]) == "en"


def test_paragraphs_of_squad_are_texts(tmp_path: Path) -> None:
    paragraphs = [{"context": "하나", "qas": []}, {"context": "둘", "qas": []}]
    (tmp_path / "k.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    (tmp_path / "lone.json").write_text(json.dumps({"data": [{"paragraphs": [{"context": "a\ud800"}]}]}))
    (tmp_path / "wrong.json").write_text('[{"text": "x"}]')
    (tmp_path / "empty.txt").write_text("\n \n")
    assert read_texts(TextSource(path="k.json"), tmp_path) == ["하나", "둘"]
    assert read_texts(TextSource(path="k.json"), tmp_path, limit=1) == ["하나"]
    for path, message in (
        ("lone.json", "a context contains a lone surrogate"),
        ("wrong.json", "not in the format of SQuAD"), ("missing.json", "no such file"), ("empty.txt", "holds no text"),
    ):  # fmt: skip
        with pytest.raises(Claf2Error, match=message):
            read_texts(TextSource(path=path), tmp_path)


def test_texts_without_a_token(hand_made: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(Claf2Error, match=r"hand: makes no token of the texts"):
        measure_vocabulary("hand", hand_made, {"z": ["\u200b"]}, language="ko")
    write_documents(tmp_path / "a.jsonl", [*["\u200b"] * 300])
    spec = VocabularySpec(sources=[TextSource(path="a.jsonl")], rules=())
    with pytest.raises(Claf2Error, match=r"its held-out documents have no token"):
        study_samples(spec, [50], [0.5], [1], data_dir=tmp_path)


def test_tables_and_charts(hand_made: Tokenizer) -> None:
    measures = [measure_vocabulary(name, hand_made, TEXTS, language="ko") for name in ("a|b", "<c>")]
    markdown = format_measures(measures, "markdown")
    assert markdown.splitlines()[0].startswith("| vocabulary | entries | with Hangul | tokens per text | unknown |")
    assert "| a\\|b | 20 | 35.0% | 4.7 | 7.14% | 4.57 | 1.75 | 1,669 | 1.00 |" in markdown
    assert len(re.findall(r"^\| bytes per token \| first \| second \|$", markdown, re.MULTILINE)) == 1
    text = format_table(["name", "n"], [["x", "1"], ["longer", "23"]], "text")
    assert text == "name     n\nx        1\nlonger  23\n"
    picture = ET.fromstring(draw_measures(measures))
    assert "".join(picture.itertext()).count("<c>") == 1
    flat = draw_chart("t", [Curve("c", [(1.0, 0.5)], [(0.4, 0.6)])], "x", "y", {1.0: "one"})
    assert ET.fromstring(flat).tag.endswith("svg")


def test_the_command_measures_and_draws(
    hand_made: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.txt").write_text("\n\n".join(TEXTS["first"]), encoding="utf-8")
    arguments = ["vocab", "bench", str(tmp_path), "--texts", "t.txt,register=written", "--data_dir", str(tmp_path)]
    for extra in (["--format", "json"], ["--chart", str(tmp_path / "c.svg")]):
        with pytest.raises(SystemExit) as caught:
            main([*arguments, *extra])
        assert caught.value.code == 0
    printed = capsys.readouterr().out
    (measured,) = json.loads(printed[: printed.index("\nvocabulary")])
    assert measured["script_share"] == 0.35
    assert measured["texts"][0]["register_name"] == "written"
    assert measured["texts"][0]["length"] == 5.0
    assert "35.0%" in printed
    assert ET.parse(tmp_path / "c.svg")


def test_files_of_the_same_name_are_told_apart(
    hand_made: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "t.txt").write_text(f"학교 {name}", encoding="utf-8")
    paths = [str(tmp_path / name / "t.txt") for name in ("one", "two")]
    for texts, code, message in ((paths, 0, f"{paths[0]}  {paths[1]}"), ([paths[0]] * 2, 2, "named twice")):
        options = [word for path in texts for word in ("--texts", path)]
        with pytest.raises(SystemExit) as caught:
            main(["vocab", "bench", str(tmp_path), *options])
        assert caught.value.code == code
        assert message in "".join(capsys.readouterr())


def point(fraction: float, seed: int, usage: float, length: float, size: int = 100) -> StudyPoint:
    return StudyPoint(size, fraction, seed, int(fraction * 1e6), size, 0.5, usage, length)


def test_the_smallest_sample_that_is_enough() -> None:
    points = (
        point(0.01, 1, 0.99, 0.0), point(0.01, 2, 0.97, 0.0),  # one seed is not enough
        point(0.1, 1, 0.98, 0.01), point(0.1, 2, 0.99, -0.02),
        point(0.3, 1, 0.99, 0.0), point(0.3, 2, 0.99, 0.0),
        point(0.01, 1, 0.99, 0.0, size=200), point(0.1, 1, 0.99, 0.0, size=200), point(0.3, 1, 0.99, 0.011, size=200),
    )  # fmt: skip
    study = SampleStudy(points, 1_000_000, 1000)
    assert study.smallest_sufficient(100) == 0.1
    assert study.smallest_sufficient(200) is None
    printed = format_study(study, "text")
    assert "100 entries: a sample of 0.1 of the corpus is enough (0.1 MB)" in printed
    assert "200 entries: none of these samples is enough" in printed
    assert "0.980 [0.970, 0.990]" in printed


def test_a_study_of_generated_text(tmp_path: Path) -> None:
    write_documents(tmp_path / "a.jsonl", make_sentences(800))
    spec = VocabularySpec(sources=[TextSource(path="a.jsonl")], kind="bpe")
    study = study_samples(spec, [150], [0.02, 0.5, 1.0], [1, 2], data_dir=tmp_path)
    assert study.sizes == [150]
    assert study.fractions == [0.02, 0.5, 1.0]
    whole = study.select(150, 1.0)
    assert [(one.overlap, one.usage, one.length_change) for one in whole] == [(1.0, 1.0, 0.0)] * 2
    small, half = study.select(150, 0.02), study.select(150, 0.5)
    assert small[0].overlap < half[0].overlap < 1
    assert small[0].usage < half[0].usage
    assert small[0].overlap != small[1].overlap
    assert half[0].sample_bytes == pytest.approx(study.corpus_bytes / 2, rel=0.02)
    assert study.smallest_sufficient(150) is not None


def test_a_study_needs_documents_to_hold_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one document of text")
    with pytest.raises(Claf2Error, match=r"too few documents: one in 20 is held out"):
        study_samples(VocabularySpec(sources=[TextSource(path="a.txt")]), [50], [0.5], [1], data_dir=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sizes", "big"], "--sizes big: expected whole numbers from 10 to 1e+07"),
        (["--sizes", "200.7"], "--sizes 200.7: expected whole numbers from 10 to 1e+07"),
        (["--sample_size", "500"], "--sample_size: Input should be greater than or equal to 1000"),
        (["--fractions", "0,0.5"], "--fractions 0,0.5: expected numbers from 1e-06 to 1"),
        (["--seeds", "x"], "--seeds x: neither numbers"),
    ],
)
def test_mistakes_in_a_study(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a.txt").write_text("text")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["vocab", "study", "a.txt", *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_vocabularies_of_real_text(benchmark_data: Path, tmp_path: Path) -> None:
    """Texts become shorter, and no more characters are unknown, as the vocabulary grows."""
    sources = [TextSource(path="petitions_ko.jsonl.gz", weight=7), TextSource(path="react_docs_ko.jsonl.gz")]
    texts = read_texts(TextSource(path="korquad/KorQuAD_v1.0_dev_first_half.json"), benchmark_data)
    measured = []
    for size in (4000, 8000, 16000):
        built = build_vocabulary(
            VocabularySpec(sources=sources, size=size, sample_size=4_000_000), tmp_path / str(size),
            data_dir=benchmark_data / "corpus",
        )  # fmt: skip
        measured.append(measure_vocabulary(str(size), built.tokenizer, {"korquad": texts}, language="ko"))
        names = [[unicodedata.name(letter, "") for letter in entry] for entry in built.tokenizer.entries]
        hangul = sum(any(name.startswith("HANGUL") for name in letters) for letters in names)
        assert measured[-1].script_entries == hangul
    lengths = [one.total.length for one in measured]
    unknown = [one.total.unknown_tokens for one in measured]
    assert lengths == sorted(lengths, reverse=True)
    assert unknown == sorted(unknown, reverse=True)
