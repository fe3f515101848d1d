"""Ids as transformers gives them, offsets into the original text, words × subwords that reload."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from claf2.errors import ConfigError, ModelError
from claf2.tokenizers import Tokenizer, subword_tokenizers, word_tokenizers
from claf2.tokenizers.aligned import align
from claf2.tokenizers.build import compose_cached, compose_tokenizer, load_tokenizer
from claf2.tokenizers.coverage import check_coverage, measure_coverage

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Seoul is the capital of South Korea; 서울은 대한민국의 수도이다.",
    "영화가 정말 재미있었다! 배우들의 연기도 훌륭했다.",
    "東京は日本の首都です。人口は約1400万人です。",
    "a\u00a0b  c\tÉcole naïve — “quoted” 'text'…",
]


def corpus() -> Iterable[str]:
    return TEXTS * 3


def byte_level() -> PreTrainedTokenizerFast:
    """A tokenizer of RoBERTa's kind."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(vocab_size=400, special_tokens=specials, initial_alphabet=alphabet, show_progress=False),
    )
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", cls_token="<s>", sep_token="</s>", unk_token="<unk>"
    )


def unigram() -> PreTrainedTokenizerFast:
    """A tokenizer of XLM-RoBERTa's kind."""
    backend = Backend(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    backend.train_from_iterator(
        TEXTS, trainers.UnigramTrainer(vocab_size=150, special_tokens=specials, unk_token="<unk>", show_progress=False)
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", cls_token="<s>", sep_token="</s>", unk_token="<unk>"
    )


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[..., Path]) -> dict[str, Path]:
    folders = {"wordpiece": model_folder()}
    for name, tokenizer in (("byte_level", byte_level()), ("unigram", unigram())):
        folders[name] = tmp_path_factory.mktemp(name)
        tokenizer.save_pretrained(folders[name])
    return folders


@pytest.mark.parametrize("kind", ["wordpiece", "byte_level", "unigram"])
@pytest.mark.parametrize("max_length", [5, 12, 13, 24, 200])
def test_ids_are_those_of_transformers(kind: str, max_length: int, kinds: dict[str, Path]) -> None:
    tokenizer, reference = load_tokenizer(kinds[kind]), AutoTokenizer.from_pretrained(kinds[kind])
    for second in (None, TEXTS[::-1]):
        expected = reference(TEXTS, second, truncation=True, max_length=max_length)
        inputs = [windows[0] for windows in tokenizer.encode(TEXTS, second, max_length=max_length)]
        assert [encoding.ids for encoding in inputs] == expected["input_ids"]
        if "token_type_ids" in expected:
            assert [encoding.type_ids for encoding in inputs] == expected["token_type_ids"]
        sizes = [len(windows[0].ids) for windows in tokenizer.encode(TEXTS, second, max_length=1000)]
        assert [len(encoding.ids) + encoding.dropped for encoding in inputs] == sizes
        bare = tokenizer.encode(TEXTS, second, max_length=max_length, offsets=False)
        assert bare == [[replace(encoding, offsets=[])] for encoding in inputs]


@pytest.mark.parametrize("kind", ["wordpiece", "byte_level", "unigram"])
def test_windows_start_every_step_tokens_and_reach_the_end(kind: str, kinds: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(kinds[kind])
    complete = tokenizer.encode([TEXTS[0]], [TEXTS[1]], max_length=1000)[0][0]
    context = [o for o, s in zip(complete.offsets, complete.sequence, strict=True) if s == 1]
    windows = tokenizer.encode([TEXTS[0]], [TEXTS[1]], max_length=24, max_first=4, step=3)[0]
    parts = [[o for o, s in zip(w.offsets, w.sequence, strict=True) if s == 1] for w in windows]
    size = len(parts[0])
    for index, part in enumerate(parts):
        assert part == context[3 * index : 3 * index + size]
        assert sum(s == 0 for s in windows[index].sequence) == 4
        assert len(windows[index].ids) <= 24
    assert len(parts) > 2
    assert parts[-1][-1] == context[-1]
    assert 3 * (len(parts) - 2) + size < len(context)
    far = tokenizer.encode([TEXTS[0]], [TEXTS[1]], max_length=24, max_first=4, step=10_000)[0]
    covered = [o for w in far for o, s in zip(w.offsets, w.sequence, strict=True) if s == 1]
    assert covered == context


COMBINATIONS = [
    # Each loads the morphemes' dictionary several times, which takes seconds.
    pytest.param(word, subword, marks=[pytest.mark.slow] if word == "korean" else [])
    for word in ("bert_basic", "whitespace", "character", "korean", "mecab_ko", "japanese")
    for subword in ("wordpiece", "bpe", "unigram", "character")
]


def combined(word: str, subword: str) -> Tokenizer:
    if word == "korean":
        pytest.importorskip("kiwipiepy", reason="extra ko is not installed")
    if word == "mecab_ko":
        pytest.importorskip("mecab_ko", reason="extra mecab-ko is not installed")
    if word == "japanese":
        pytest.importorskip("fugashi", reason="extra ja is not installed")
    return compose_tokenizer(word_tokenizers.get(word)(), subword_tokenizers.get(subword)(vocab_size=300), corpus, 64)


@pytest.mark.parametrize(("word", "subword"), COMBINATIONS)
def test_offsets_point_into_the_original_text(word: str, subword: str) -> None:
    tokenizer = combined(word, subword)
    for text in TEXTS:
        ((encoding,),) = tokenizer.encode([text], max_length=512)
        spans = [o for o, s in zip(encoding.offsets, encoding.sequence, strict=True) if s == 0]
        assert all(start < end for start, end in spans)
        assert all(left[1] <= right[0] for left, right in pairwise(spans))
        covered = {index for start, end in spans for index in range(start, end)}
        missed = [c for index, c in enumerate(text) if index not in covered and not c.isspace()]
        assert missed == [], (text, missed)
        for piece, (start, end) in zip(tokenizer.tokenize(text), spans, strict=True):
            bare = piece.removeprefix("##").replace("▁", "")
            assert piece == "[UNK]" or bare == text[start:end], (piece, text[start:end])
        assert tokenizer.encode([text], max_length=512, offsets=False)[0][0].ids == encoding.ids


@pytest.mark.parametrize(("word", "subword"), COMBINATIONS)
def test_saved_and_loaded_tokenizers_give_the_same_ids(word: str, subword: str, tmp_path: Path) -> None:
    tokenizer = combined(word, subword)
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    before, after = (loaded.encode(TEXTS, TEXTS[::-1], max_length=40) for loaded in (tokenizer, again))
    assert before == after
    assert again.digest == load_tokenizer(tmp_path).digest
    plain = AutoTokenizer.from_pretrained(tmp_path)
    if word not in ("korean", "mecab_ko", "japanese"):
        assert plain(TEXTS)["input_ids"] == [w[0].ids for w in tokenizer.encode(TEXTS, max_length=512)]


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("eager_threads")
@pytest.mark.parametrize(
    ("name", "package"), [("mecab_ko", "mecab_ko"), ("japanese", "fugashi"), ("korean", "kiwipiepy")]
)
def test_several_threads_may_use_an_analyzer(name: str, package: str) -> None:
    pytest.importorskip(package, reason=f"the package {package} is not installed")
    find_starts = word_tokenizers.get(name)().build_segmenter()
    alone = [find_starts(text) for text in TEXTS]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(find_starts, TEXTS * 40)) == alone * 40


@pytest.mark.parametrize(
    ("word", "subword", "hint"),
    [
        ("bert_basic", "byte_bpe", "use byte_level with 'byte_bpe', or bpe or character or unigram or wordpiece with"),
        ("byte_level", "wordpiece", "or byte_bpe with 'byte_level'"),
        ("byte_level", "bpe", "or byte_bpe with 'byte_level'"),
    ],
)
def test_words_in_other_characters_than_the_vocabulary_are_refused(
    word: str, subword: str, hint: str, tmp_path: Path
) -> None:
    parts = word_tokenizers.get(word)(), subword_tokenizers.get(subword)(vocab_size=300)
    with pytest.raises(ConfigError, match=f"^word: '{word}' writes other characters than .*{hint}"):
        compose_tokenizer(*parts, corpus, 64)
    with pytest.raises(ConfigError, match="writes other characters"):
        compose_cached(*parts, corpus, 64, identity="x", cache=tmp_path)


@pytest.mark.parametrize("subword", ["wordpiece", "bpe", "unigram", "character"])
def test_a_vocabulary_is_learnt_alike_every_time(subword: str) -> None:
    digests = {
        compose_tokenizer(
            word_tokenizers.get("bert_basic")(), subword_tokenizers.get(subword)(vocab_size=200), corpus, 64
        ).digest
        for _ in range(4)
    }
    assert len(digests) == 1
    other = compose_tokenizer(
        word_tokenizers.get("bert_basic")(do_lower_case=True),
        subword_tokenizers.get(subword)(vocab_size=200),
        corpus,
        64,
    )
    assert other.digest not in digests


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("abÉé서울 東京がー１ﬁ.,!'  \t"), max_size=25))
def test_any_text_keeps_its_offsets(text: str, kinds: dict[str, Path]) -> None:
    for kind in kinds:
        ((encoding,),) = load_tokenizer(kinds[kind]).encode([text], max_length=512)
        assert all(0 <= start <= end <= len(text) for start, end in encoding.offsets)


@pytest.mark.parametrize(("form", "normalizer"), [("NFD", normalizers.NFC), ("NFKD", normalizers.NFKC)])
def test_spans_end_with_whole_characters_where_a_normalizer_composes_them(
    form: Literal["NFD", "NFKD"], normalizer: type[normalizers.Normalizer], tmp_path: Path
) -> None:
    backend = unigram().backend_tokenizer
    backend.normalizer = normalizer()
    PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", cls_token="<s>", sep_token="</s>", unk_token="<unk>"
    ).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    for text in ("영화 서울은 대한민국의 수도이다", "École naïve がぎ", "서울"):
        taken_apart = unicodedata.normalize(form, text)
        ((whole,),), ((parts,),) = (tokenizer.encode([each], max_length=99) for each in (text, taken_apart))
        assert whole.ids == parts.ids
        expected = [text[start:end] for start, end in whole.offsets]
        assert [unicodedata.normalize("NFC", taken_apart[start:end]) for start, end in parts.offsets] == expected
        flat = tokenizer.encode_flat([text, taken_apart])
        spans = [tuple(span) for span in flat.offsets.tolist()]
        assert spans == [*whole.offsets[1:-1], *parts.offsets[1:-1]]


def test_a_mark_that_has_tokens_of_its_own_stays_with_them(kinds: dict[str, Path]) -> None:
    ((encoding,),) = load_tokenizer(kinds["byte_level"]).encode(["e\u0301a"], max_length=99)
    assert encoding.offsets[1:-1] == [(0, 1), (1, 2), (1, 2), (2, 3)]


def test_alignment_equals_true_offsets(kinds: dict[str, Path]) -> None:
    """Pieces without offsets are found again where a fast tokenizer says that they were."""
    for kind in ("wordpiece", "unigram"):
        reference = AutoTokenizer.from_pretrained(kinds[kind])
        # A run of unknown pieces without spaces cannot be divided, so wordpiece is not tested on the Japanese text.
        for text in TEXTS[: 3 if kind == "wordpiece" else 4]:
            encoded = reference(text, add_special_tokens=False, return_offsets_mapping=True)
            pieces = reference.convert_ids_to_tokens(encoded["input_ids"])
            spans = align(text, pieces, str(reference.unk_token))
            true = [(s + len(text[s:e]) - len(text[s:e].lstrip()), e) for s, e in encoded["offset_mapping"]]
            assert [span for span, p in zip(spans, pieces, strict=True) if p != "▁"] == [
                t for t, p in zip(true, pieces, strict=True) if p != "▁"
            ]


def test_alignment_follows_lower_casing_accents_and_full_width() -> None:
    assert align("École １２ Ａ", ["ecole", "12", "a"], "[UNK]") == [(0, 5), (6, 8), (9, 10)]
    assert align("x ☃☃ y z", ["x", "[UNK]", "y", "[UNK]"], "[UNK]") == [(0, 1), (2, 4), (5, 6), (7, 8)]
    assert align("a b c", ["[UNK]", "[UNK]", "c"], "[UNK]") == [(0, 1), (2, 3), (4, 5)]


def test_letters_taken_apart_draw_a_warning_with_an_example() -> None:
    def build(lower: bool) -> Tokenizer:
        texts = ["naive", "서울", "영화", "がぎ", "영화".encode().decode(), "\u1109\u1165\u110b\u116e\u11af", "か"]
        return compose_tokenizer(
            word_tokenizers.get("bert_basic")(do_lower_case=lower),
            subword_tokenizers.get("character")(vocab_size=200),
            lambda: texts,
            64,
        )

    warning = measure_coverage(build(True), "ko", ["서울"]).problem
    assert warning is not None
    assert "서울 becomes" in warning
    assert measure_coverage(build(True), "ja", ["がぎ"]).problem is not None
    assert measure_coverage(build(False), "ko", ["서울"]).problem is None
    assert measure_coverage(build(True), "en", ["naïve"]).problem is None


def test_unknown_characters_draw_a_warning_or_are_refused(
    tmp_path: Path, vocabulary: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The share is that of characters, by any kind of unknown token; a few symbols are no reason."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    lowering = load_tokenizer(tmp_path)  # it strips accents, and the vocabulary has no jamo
    coverage = measure_coverage(lowering, "ko", ["영화 도시 좋다", "서울 !"])
    assert coverage.unknown == 8 / 9
    assert coverage.problem is not None
    assert coverage.problem.startswith("89% of the characters of the first texts are unknown to the tokenizer")
    assert "영화 becomes [UNK]; use" in coverage.problem
    assert "do_lower_case: false" in coverage.problem
    check_coverage(lowering, "ko", ["영화 도시 좋다"], tmp_path / "x.tsv")
    assert "x.tsv: 100% of the characters" in caplog.text
    with pytest.raises(ModelError, match=r"x\.tsv: 100% of the characters"):
        check_coverage(lowering, "ko", ["영화 도시 좋다"], tmp_path / "x.tsv", max_unknown=0.8)

    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    kept = load_tokenizer(tmp_path)
    assert measure_coverage(kept, "ko", ["영화 도시 좋다"]).problem is None
    few = measure_coverage(kept, "en", ["the film was very good and the dog ran to the house ☃"])
    assert 0 < few.unknown < 0.05
    assert few.problem is None
    assert measure_coverage(kept, "en", ["☃ ☃ a"]).unknown == 2 / 3
    assert measure_coverage(kept, "en", [" "]).unknown == 0


@pytest.mark.parametrize("kind", ["wordpiece", "byte_level", "unigram"])
def test_known_texts_draw_no_warning(kind: str, kinds: dict[str, Path]) -> None:
    texts = ["the quick lazy dog"] if kind == "wordpiece" else TEXTS
    assert measure_coverage(load_tokenizer(kinds[kind]), "en", texts).unknown == 0
    if kind == "unigram":  # an unknown word is "▁" and an unknown token, or one token with both
        assert measure_coverage(load_tokenizer(kinds[kind]), "en", ["ЖЖЖЖ ЖЖ"]).unknown == 1


@pytest.mark.parametrize("model_type", ["bert", "roberta", "deberta-v2", "albert", "xlm-roberta", "electra"])
def test_a_model_without_its_tokenizer_is_refused(model_type: str, tmp_path: Path) -> None:
    """`transformers` makes a tokenizer of special tokens instead."""
    (tmp_path / "config.json").write_text(f'{{"model_type": "{model_type}"}}')
    for name in (None, "my-vocab.txt"):
        if name is not None:
            (tmp_path / name).write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n")
        with pytest.raises(ModelError, match=r"no usable tokenizer there.*; add its files, or give a token section"):
            load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "vocab.txt"])
def test_a_damaged_tokenizer_file_is_named(name: str, model_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(model_folder(), folder)
    if name == "vocab.txt":
        (folder / "tokenizer.json").unlink()
    for content, reason in (
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "is a Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html></html>", "is an HTML page"),
    ):
        (folder / name).write_bytes(content)
        with pytest.raises(ModelError, match=f"no usable tokenizer there: {name} {reason}"):
            load_tokenizer(folder)
    (folder / name).write_text("[]")
    with pytest.raises(ModelError, match="no usable tokenizer there"):
        load_tokenizer(folder)


def test_a_sentencepiece_model_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "xlm-roberta"}')
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"\x00none")
    monkeypatch.setattr("transformers.utils.import_utils.is_sentencepiece_available", lambda: True)
    with pytest.raises(ModelError, match="its SentencePiece model is damaged"):
        load_tokenizer(tmp_path)
    monkeypatch.setattr("transformers.utils.import_utils.is_sentencepiece_available", lambda: False)
    with pytest.raises(ModelError, match=r"needs the package sentencepiece: pip install 'claf2\[sentencepiece\]'"):
        load_tokenizer(tmp_path)


def test_a_sentencepiece_model_is_read(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS * 20), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus.txt"), model_prefix=str(tmp_path / "sentencepiece.bpe"), vocab_size=150,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    (tmp_path / "config.json").write_text('{"model_type": "xlm-roberta"}')
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "sentencepiece.bpe.model"))
    tokenizer = load_tokenizer(tmp_path)
    assert [tokenizer.tokenize(text) for text in TEXTS[:3]] == [model.encode(text, out_type=str) for text in TEXTS[:3]]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no usable tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_text("[UNK]\nx\n")
    with pytest.raises(ModelError, match=r"add the special tokens \[PAD\], \[CLS\], \[SEP\]"):
        compose_tokenizer(
            word_tokenizers.get("bert_basic")(),
            subword_tokenizers.get("wordpiece")(vocab_path=str(tmp_path / "vocab.txt")),
            None,
            64,
        )
    with pytest.raises(ModelError, match=r"vocabulary .*vocab.tx: no such file; did you mean 'vocab.txt'"):
        compose_tokenizer(
            word_tokenizers.get("bert_basic")(),
            subword_tokenizers.get("wordpiece")(vocab_path=str(tmp_path / "vocab.tx")),
            None,
            64,
        )


def test_decoded_text_keeps_its_number_signs(tmp_path: Path) -> None:
    heading = "## Title\n### Part\nC## x"
    byte_level().save_pretrained(tmp_path / "bytes")
    tokenizer = load_tokenizer(tmp_path / "bytes")
    assert tokenizer.decode(tokenizer.encode_flat([heading]).ids.tolist()) == heading
    wordpiece = compose_tokenizer(
        word_tokenizers.get("bert_basic")(), subword_tokenizers.get("wordpiece")(), corpus, 64
    )
    pieces = wordpiece.encode_flat(["overlazy"]).ids.tolist()
    assert len(pieces) > 1
    assert wordpiece.decode(pieces[1:]) == "overlazy".removeprefix(wordpiece.decode(pieces[:1]))


def test_a_digest_covers_the_chat_template_and_the_end_token(tmp_path: Path) -> None:
    def digest(**changes: str) -> str:
        wrapped = byte_level()
        for name, value in changes.items():
            setattr(wrapped, name, value)
        wrapped.save_pretrained(tmp_path / "-".join(["x", *changes.values()]).replace("/", ""))
        return load_tokenizer(tmp_path / "-".join(["x", *changes.values()]).replace("/", "")).digest

    plain = digest()
    assert digest(eos_token="</s>") == plain  # the separator
    assert len({plain, digest(eos_token="<pad>"), digest(chat_template="a"), digest(chat_template="b")}) == 4


def test_a_text_needs_a_token_that_ends_it(tmp_path: Path) -> None:
    wrapped = PreTrainedTokenizerFast(tokenizer_object=byte_level().backend_tokenizer)
    wrapped.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"no token that ends a text; set eos_token in its tokenizer_config\.json"):
        _ = load_tokenizer(tmp_path).end_id
