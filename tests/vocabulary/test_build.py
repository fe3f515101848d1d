"""Building vocabularies: balanced samples, the same bytes every time, and a lock file that repeats a build."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from generated import ENDINGS, NOUNS, make_sentences, write_documents
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claf2.cli.main import main
from claf2.corpus.cleaning import cleaning_rules
from claf2.corpus.sources import TextSource
from claf2.errors import ChangedError, DataError, ModelError, RunError
from claf2.runtime.files import sha256
from claf2.tokenizers.build import load_tokenizer
from claf2.vocabulary import build
from claf2.vocabulary.balanced_sampler import BalancedSampler, split_sentences
from claf2.vocabulary.build import (
    BOUNDARY,
    VocabularySpec,
    build_vocabulary,
    check_pair_counts,
    choose_alphabet,
    mark_morphemes,
    rebuild_vocabulary,
)
from claf2.vocabulary.folder import LOCK_NAME, check_vocabulary_folder

KINDS = ("wordpiece", "bpe", "unigram", "character")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with a file of generated documents."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_documents(folder / "a.jsonl", make_sentences(600))
    return folder


def spec(**fields: Any) -> VocabularySpec:
    return VocabularySpec(**{"sources": [TextSource(path="a.jsonl")], "size": 200, **fields})


def outputs(folder: Path) -> Mapping[str, str]:
    return {path.name: sha256(path) for path in folder.iterdir()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_can_be_loaded_and_used(kind: str, corpus: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from claf2.tokenizers import subword_tokenizers

    built = build_vocabulary(spec(kind=kind, character_coverage=1.0), tmp_path / "vocab", data_dir=corpus)
    loaded = AutoTokenizer.from_pretrained(tmp_path / "vocab")
    text = "학생이 학교에서 3번 간다."
    assert loaded.tokenize(text) == built.tokenizer.tokenize(text) == load_tokenizer(tmp_path / "vocab").tokenize(text)
    assert loaded.unk_token_id not in loaded(text)["input_ids"]
    assert loaded.pad_token_id == 0
    # The vocabulary is a file for the `token` section of a BaseConfig as well.
    name = "vocab.txt" if kind in build.BOTH_FORMS else "tokenizer.json"
    model = subword_tokenizers.get(kind)(vocab_path=str(tmp_path / "vocab" / name)).read(str(tmp_path / "vocab" / name))
    assert [token.value for token in model.tokenize("▁학생" if name == "tokenizer.json" else "학생")]
    if kind != "character":
        assert built.lock["vocabulary"]["entries"] == len(loaded) == 200


def test_no_character_is_unknown_to_a_vocabulary_of_bytes(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "claf2")
    bytes_only = spec(kind="byte_bpe", word={"name": "byte_level"}, size=300)
    built = build_vocabulary(bytes_only, tmp_path / "v", data_dir=corpus)
    assert built.lock["vocabulary"]["characters"] == 256
    assert built.lock["vocabulary"]["character_coverage"] == 1.0
    assert "characters only" not in caplog.text
    text = "서울 😀 x"
    ids = built.tokenizer.encode_flat([text]).ids.tolist()
    assert built.tokenizer.decode(ids) == text
    assert built.tokenizer.unknown_id not in ids


@pytest.mark.slow
def test_the_same_bytes_for_any_number_of_threads_and_hash_seed(corpus: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from claf2.corpus.sources import TextSource\n"
        "from claf2.vocabulary.build import *\n"
        "for kind in ('wordpiece', 'unigram'):\n"
        "    spec = VocabularySpec(sources=[TextSource(path='a.jsonl')], size=200, kind=kind, sample_size=30000)\n"
        "    build_vocabulary(spec, Path(sys.argv[1]) / kind, data_dir=Path(sys.argv[2]))\n"
    )
    folders = []
    for threads, hash_seed in (("1", "0"), ("2", "1"), ("2", "31")):
        folders.append(tmp_path / f"{threads}-{hash_seed}")
        environment = os.environ | {
            "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": hash_seed, "TOKENIZERS_PARALLELISM": "true",
        }  # fmt: skip
        subprocess.run([sys.executable, "-c", code, str(folders[-1]), str(corpus)], env=environment, check=True)
    for kind in ("wordpiece", "unigram"):
        first, *others = [outputs(folder / kind) for folder in folders]
        assert LOCK_NAME in first
        assert all(other == first for other in others)


def test_a_lock_repeats_the_build(corpus: Path, tmp_path: Path) -> None:
    given = spec(
        kind="bpe",
        rules=({"name": "whitespace"}, {"name": "length", "min_characters": 5}),
        sample_size=20_000,
        seed=7,
        word={"name": "bert_basic", "do_lower_case": True},
    )
    build_vocabulary(given, tmp_path / "one", data_dir=corpus)
    rebuild_vocabulary(tmp_path / "one" / LOCK_NAME, tmp_path / "two", data_dir=corpus)
    assert outputs(tmp_path / "one") == outputs(tmp_path / "two")
    lock = json.loads((tmp_path / "one" / LOCK_NAME).read_text(encoding="utf-8"))
    assert lock["files"] == [
        {
            "source": 0,
            "name": "a.jsonl",
            "bytes": (corpus / "a.jsonl").stat().st_size,
            "sha256": sha256(corpus / "a.jsonl"),
        }
    ]
    assert lock["cleaning"]["documents_read"] == 600
    assert lock["sample"][0]["bytes_sampled"] <= 20_000
    assert lock["outputs"]["tokenizer.json"] == sha256(tmp_path / "one/tokenizer.json")


def test_a_changed_source_and_a_different_result_are_reported(corpus: Path, tmp_path: Path) -> None:
    build_vocabulary(spec(), tmp_path / "one", data_dir=corpus)
    lock_file = tmp_path / "lock.json"
    lock = json.loads((tmp_path / "one" / LOCK_NAME).read_text(encoding="utf-8"))
    lock["outputs"]["vocab.txt"] = "0" * 64
    lock["libraries"]["tokenizers"] = "0.1"
    lock_file.write_text(json.dumps(lock))
    with pytest.raises(ChangedError, match=r"vocab.txt differs .* other versions were used: tokenizers 0.1 →"):
        rebuild_vocabulary(lock_file, tmp_path / "two", data_dir=corpus)
    with (corpus / "a.jsonl").open("a") as file:
        file.write('{"text": "another"}\n')
    with pytest.raises(ChangedError, match=r"a.jsonl: the source has changed since"):
        rebuild_vocabulary(tmp_path / "one" / LOCK_NAME, tmp_path / "three", data_dir=corpus)
    assert not (tmp_path / "three").exists()
    lock_file.write_text('{"spec": {}}')
    with pytest.raises(RunError, match=r"not a lock file of claf2 vocab build, or a damaged one"):
        rebuild_vocabulary(lock_file, tmp_path / "three", data_dir=corpus)


def test_a_folder_is_not_overwritten_by_chance(corpus: Path, tmp_path: Path) -> None:
    build_vocabulary(spec(), tmp_path / "one", data_dir=corpus)
    with pytest.raises(RunError, match=r"has a vocabulary already; choose another folder, or add --overwrite"):
        build_vocabulary(spec(), tmp_path / "one", data_dir=corpus)
    built = build_vocabulary(spec(size=150), tmp_path / "one", data_dir=corpus, overwrite=True)
    assert built.tokenizer.vocab_size == 150
    with pytest.raises(RunError, match=r"exists, and is not a vocabulary"):
        build_vocabulary(spec(), corpus, data_dir=corpus, overwrite=True)


def test_what_is_beside_a_vocabulary_is_not_lost(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    build_vocabulary(spec(), folder, data_dir=corpus)
    (folder / "model.safetensors").write_bytes(b"weights")
    for make in (
        lambda: build_vocabulary(spec(), folder, data_dir=corpus, overwrite=True),
        lambda: rebuild_vocabulary(folder / LOCK_NAME, folder, data_dir=corpus, overwrite=True),
    ):
        with pytest.raises(RunError, match=r"model.safetensors is not a file of the vocabulary, and would be lost"):
            make()
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def test_a_vocabulary_stays_if_its_repetition_differs(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "one"
    build_vocabulary(spec(), folder, data_dir=corpus)
    before = outputs(folder)
    rebuild_vocabulary(folder / LOCK_NAME, folder, data_dir=corpus, overwrite=True)
    assert outputs(folder) == before
    monkeypatch.setattr(build, "MODEL_MAX_LENGTH", 99)
    with pytest.raises(ChangedError, match=r"not written: tokenizer_config.json differs"):
        rebuild_vocabulary(folder / LOCK_NAME, folder, data_dir=corpus, overwrite=True)
    assert outputs(folder) == before
    assert [path.name for path in tmp_path.iterdir() if path.name != "corpus"] == ["one"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": [1]}, "not a lock file of claf2 vocab build, or a damaged one"),
        ({"outputs": [1]}, "or a damaged one"),
        ({"outputs": {}}, "or a damaged one"),
        ({"libraries": 3}, "or a damaged one"),
        ({"spec.word": {}}, "or a damaged one: spec.word: has no name"),
        ({"spec.rules": [{}]}, r"or a damaged one: spec.rules.0: has no name"),
        ({"spec.size": 3}, "or a damaged one: spec.size: Input should be greater"),
        ({"version": 2}, "has version 2 of the format, and this claf2 reads version 1"),
    ],
)
def test_damaged_locks(changes: dict[str, Any], message: str, corpus: Path, tmp_path: Path) -> None:
    digests = [{"source": 0, "name": "a.jsonl", "bytes": 1, "sha256": "0"}]
    lock: dict[str, Any] = {
        "version": 1, "spec": spec().model_dump(mode="json"), "files": digests, "libraries": {}, "outputs": {"v": "0"},
    }  # fmt: skip
    for path, value in changes.items():
        block, name = (lock["spec"], path.removeprefix("spec.")) if "." in path else (lock, path)
        block[name] = value
    (tmp_path / "lock.json").write_text(json.dumps(lock))
    with pytest.raises(RunError, match=message):
        rebuild_vocabulary(tmp_path / "lock.json", tmp_path / "v", data_dir=corpus)


def test_a_lock_whose_sources_are_elsewhere(corpus: Path, tmp_path: Path) -> None:
    build_vocabulary(spec(), tmp_path / "one", data_dir=corpus)
    with pytest.raises(DataError, match=r"give --data_dir, the folder that the paths in .*lock.json start from"):
        rebuild_vocabulary(tmp_path / "one" / LOCK_NAME, tmp_path / "two", data_dir=tmp_path)


def test_an_empty_folder_is_filled(corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "v").mkdir()
    build_vocabulary(spec(), tmp_path / "v", data_dir=corpus)
    assert (tmp_path / "v" / LOCK_NAME).is_file()
    assert "made again" not in caplog.text


def test_sources_get_equal_shares_whatever_their_sizes() -> None:
    for order in ((0, 1, 2), (2, 1, 0)):
        sampler = BalancedSampler([1.0, 1.0, 1.0], 60_000, seed=1)
        sizes = {0: 100_000, 1: 10_000, 2: 1000}
        for source in order:
            for text in make_sentences(sizes[source] // 10 + 400, seed=source):
                sampler.add(source, text)
        total = sum(sampler.kept_bytes)
        assert 59_000 < total <= 60_000
        assert all(abs(kept / total - 1 / 3) < 0.02 for kept in sampler.kept_bytes)


def test_weights_and_what_a_small_source_lacks() -> None:
    sampler = BalancedSampler([3.0, 1.0, 2.0, 0.0], 40_000, seed=1)
    for source, count in enumerate((2000, 2000, 20, 2000)):
        for text in make_sentences(count, seed=source):
            sampler.add(source, text)
    first, second, small, nothing = sampler.kept_bytes
    assert nothing == 0
    assert small == sampler.seen_bytes[2]
    assert abs(first / second - 3) < 0.1
    assert first + second + small <= 40_000
    # A sample of the exact size has the shares that were asked for.
    exact = BalancedSampler([3.0, 1.0, 2.0], sampler.exact_size(), seed=1)
    for source, count in enumerate((2000, 2000, 20)):
        for text in make_sentences(count, seed=source):
            exact.add(source, text)
    total = sum(exact.kept_bytes)
    assert all(
        abs(kept / total - share) < 0.02 for kept, share in zip(exact.kept_bytes, (1 / 2, 1 / 6, 1 / 3), strict=True)
    )


def test_a_sample_is_random_and_contains_smaller_ones() -> None:
    texts = make_sentences(3000)

    def sample(size: int, seed: int) -> list[str]:
        sampler = BalancedSampler([1.0], size, seed)
        for text in texts:
            sampler.add(0, text)
        return sampler.sentences(0)

    large, small, other = sample(80_000, 1), sample(20_000, 1), sample(20_000, 2)
    assert large[: len(small)] == small
    assert set(small) != set(other)
    # Early and late sentences have the same chance.
    positions = sorted(texts.index(text) for text in large)
    assert 1300 < positions[len(positions) // 2] < 1700


def test_sentences_are_those_of_a_pre_training() -> None:
    text = '안녕하세요. 반갑습니다! 3.14는 "원주율이다." 네\n次の文。もう一つ。 終わり \n \n'
    assert split_sentences(text) == [
        "안녕하세요.", "반갑습니다!", '3.14는 "원주율이다."', "네", "次の文。", "もう一つ。", "終わり",
    ]  # fmt: skip
    assert split_sentences("") == []


def test_a_sentence_that_is_larger_than_the_sample_does_not_empty_it(corpus: Path, tmp_path: Path) -> None:
    sampler = BalancedSampler([1.0], 10, seed=0)
    for text in ("small", "much larger than that"):
        sampler.add(0, text)
    assert sampler.sentences(0) == ["small"]
    write_documents(corpus / "a.jsonl", ["가" * 500])
    with pytest.raises(DataError, match=r"every sentence is larger than the sample; raise --sample_size"):
        build_vocabulary(spec(sample_size=1000), tmp_path / "v", data_dir=corpus)


def test_a_small_source_is_reported(corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_documents(corpus / "b.jsonl", make_sentences(20, seed=1))
    sources = [TextSource(path="a.jsonl"), TextSource(path="b.jsonl", register_name="spoken")]
    built = build_vocabulary(spec(sources=sources), tmp_path / "v", data_dir=corpus)
    assert "too little text for its weight: b.jsonl" in caplog.text
    assert "--sample_size" in caplog.text
    assert [share["asked"] for share in built.lock["sample"]] == [0.5, 0.5]
    assert built.lock["sample"][1]["register_name"] == "spoken"


def test_a_file_belongs_to_one_source(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"belongs to two sources"):
        build_vocabulary(
            spec(sources=[TextSource(path="*.jsonl"), TextSource(path="a.jsonl")]), tmp_path / "v", data_dir=corpus
        )


def test_nothing_is_left_after_cleaning(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no text is left after cleaning"):
        build_vocabulary(spec(rules=({"name": "language", "language": "ja"},)), tmp_path / "v", data_dir=corpus)
    assert not (tmp_path / "v").exists()


def test_a_sample_in_which_pairs_could_overflow_is_refused(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_pair_counts({"a": 2**31 - 1})
    with pytest.raises(ModelError, match=r"'a' occurs 4294967296 times .* lower --sample_size by a factor of 2.0"):
        check_pair_counts({"a": 2**32, "b": 1})
    monkeypatch.setattr(build, "MAX_PAIR_COUNT", 100)
    with pytest.raises(ModelError, match=r"could learn wrong merges"):
        build_vocabulary(spec(), tmp_path / "v", data_dir=corpus)


def test_no_pair_is_more_frequent_than_the_most_frequent_character() -> None:
    for text in ("aaaa", "abababab", "aabbaabb", "abcabcab"):
        pairs = [text[i : i + 2] for i in range(len(text) - 1)]
        assert max(map(pairs.count, pairs)) <= max(map(text.count, text))


def test_the_alphabet_covers_what_is_asked_and_leaves_room() -> None:
    characters = {"a": 900, "c": 50, "b": 50, "d": 1}
    assert choose_alphabet(characters, spec(character_coverage=0.94)) == (["a", "b"], 950 / 1001)
    assert choose_alphabet(characters, spec(character_coverage=1.0))[0] == ["a", "b", "c", "d"]
    many = {chr(number): 1000 - number for number in range(300, 600)}
    for kind, room in (("wordpiece", 48), ("character", 97), ("bpe", 97)):
        assert len(choose_alphabet(many, spec(kind=kind, character_coverage=1.0))[0]) == room


def test_rare_characters_are_unknown_and_the_same_ones_each_time(corpus: Path, tmp_path: Path) -> None:
    rare = [chr(number) for number in range(0xBA00, 0xBB00)]
    write_documents(corpus / "a.jsonl", [*make_sentences(600), *(f"드문 글자 {letter}" for letter in rare)])
    built = build_vocabulary(spec(size=400, character_coverage=0.98), tmp_path / "v", data_dir=corpus)
    assert not set(rare) & set(built.tokenizer.entries)
    assert built.lock["vocabulary"]["characters_seen"] > built.lock["vocabulary"]["characters"]


def test_no_entry_spans_two_morphemes(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Endings:
        """Finds the end of a noun."""

        def build_segmenter(self) -> Any:
            return lambda text: [at for noun in NOUNS for at in range(len(text)) if text[:at].endswith(noun)]

    analyzer: Any = Endings()
    assert mark_morphemes(["학교에서 학생이"], analyzer) == [f"학교{BOUNDARY}에서 학생{BOUNDARY}이"]
    plain = build_vocabulary(spec(), tmp_path / "plain", data_dir=corpus).tokenizer
    monkeypatch.setattr(VocabularySpec, "make_segmenter", lambda self: analyzer)
    built = build_vocabulary(spec(morphemes="korean"), tmp_path / "morphemes", data_dir=corpus).tokenizer
    assert plain.tokenize("학교에서") == ["학교에서"]
    assert built.tokenize("학교에서") == ["학교", "##에서"]
    assert not any(BOUNDARY in entry for entry in built.entries)


@pytest.mark.parametrize("name", ["korean", "mecab_ko", "japanese"])
def test_analyzers_of_morphemes(name: str) -> None:
    package = {"korean": "kiwipiepy", "mecab_ko": "mecab_ko", "japanese": "fugashi"}[name]
    pytest.importorskip(package, reason=f"the package {package} is not installed")
    text, expected = {
        "japanese": ("私は学生です。 そう", f"私{BOUNDARY}は{BOUNDARY}学生{BOUNDARY}です{BOUNDARY}。 そう"),
    }.get(name, ("학교에서 학생들이", f"학교{BOUNDARY}에서 학생{BOUNDARY}들{BOUNDARY}이"))
    assert mark_morphemes([text], spec(morphemes=name).make_segmenter()) == [expected]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """A tokenizer of each kind, with all characters of its texts."""
    folder = tmp_path_factory.mktemp("tokenizers")
    write_documents(folder / "a.jsonl", make_sentences(300))
    return {
        kind: build_vocabulary(
            spec(kind=kind, character_coverage=1.0, word={"name": "whitespace"}), folder / kind, data_dir=folder
        ).tokenizer
        for kind in KINDS
    }


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*NOUNS, *ENDINGS, "3", "간다."]), min_size=1, max_size=8), st.sampled_from(KINDS))
def test_decoding_gives_the_text_back(tokenizers: Mapping[str, Any], words: list[str], kind: str) -> None:
    text = " ".join(words)
    ((encoding,),) = tokenizers[kind].encode([text], max_length=10**6)
    ids = [number for number, sequence in zip(encoding.ids, encoding.sequence, strict=True) if sequence == 0]
    decoded = tokenizers[kind].decode(ids)
    # WordPiece's decoder removes the blank before a full stop; here none stands alone.
    assert decoded == text
    spans = [span for span, sequence in zip(encoding.offsets, encoding.sequence, strict=True) if sequence == 0]
    assert spans == sorted(spans)
    covered = {position for start, end in spans for position in range(start, end)}
    assert {position for position, letter in enumerate(text) if letter != " "} <= covered


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.jsonl,weight=x"], "source a.jsonl,weight=x: weight: Input should be a valid number"),
        (["a.jsonl,size=3"], "size: no such field; a source is PATH"),
        ([], "no sources: name one or more files, or --from LOCK"),
        (["a.jsonl", "--from", "x"], "--from: cannot be used with sources"),
        (["--from", "x", "--size", "300"], "--from: cannot be used with --size"),
        (["a.jsonl", "--rule", "length:5"], "'5' is not FIELD=VALUE"),
        (["a.jsonl", "--word", "bert_basik"], "did you mean 'bert_basic'"),
        (["a.jsonl", "--kind", "byte_bpe"], "word: 'bert_basic' writes other characters than the subword tokenizer"),
        (["a.jsonl", "--morphemes", "whitespace"], "'whitespace' does not find morphemes; valid: "),
        (["a.jsonl", "--sample_size", "64 megabytes"], "is not a size such as 64MB"),
        (["a.jsonl", "--sample_size", "500"], "--sample_size: Input should be greater than or equal to 1000"),
        (["a.jsonl", "--sample_size", "0.5K"], "--sample_size: Input should be greater than or equal to 1000"),
        (["a.jsonl", "--sample_size", "9" * 400 + "G"], "--sample_size: Input should be less than or equal to"),
        (["a.jsonl,weight=0"], "every source has weight 0, so the sample is empty"),
        (["a.jsonl", "--rule", "none", "--rule", "length"], "--rule none: cannot be combined with other rules"),
        (["a.jsonl,path=x"], "its path comes first, and has no name"),
        ([""], "source '': has no path"),
        (["b.jsonl"], "no such file, and no file matches it; did you mean 'a.jsonl'?"),
        (
            ["a.jsonl", "--word", "bert_basic:do_lower_case=maybe"],
            "bert_basic.do_lower_case: Input should be a valid boolean",
        ),
    ],
)
def test_mistakes_on_the_command_line(
    arguments: list[str],
    message: str,
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(corpus)
    with pytest.raises(SystemExit) as caught:
        main(["vocab", "build", *arguments, "-o", "v"])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not Path("v").exists()


def test_the_help_names_all_cleaning_rules(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["vocab", "build", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert f"Cleaning rules: {', '.join(cleaning_rules.names())}." in printed


def test_the_command_prints_what_was_dropped_and_sampled(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(
            ["vocab", "build", "a.jsonl,weight=2,register=written", "--data_dir", str(corpus), "--size", "200",
             "--rule", "whitespace", "--rule", "length:min_characters=3", "--sample_size", "20K",
             "-o", str(tmp_path / "v")]
        )  # fmt: skip
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()[1:3]] == ["whitespace", "length"]
    assert "a.jsonl   written" in printed
    assert "200 entries for" in printed
    lock = json.loads((tmp_path / "v" / LOCK_NAME).read_text(encoding="utf-8"))
    assert lock["spec"]["rules"][1]["min_characters"] == 3
    assert lock["spec"]["sample_size"] == 20_000


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match=r"file: is not a folder; choose another folder with -o"):
        check_vocabulary_folder(tmp_path / "file/vocab", overwrite=False)
