"""Heads: examples to targets and back, answers against an exhaustive search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from claf2.errors import Claf2Error
from claf2.heads import heads
from claf2.heads.classify import ClassifyFeaturizer
from claf2.heads.regress import RegressFeaturizer
from claf2.heads.span import Span, SpanFeaturizer
from claf2.heads.tag import IGNORED, Tag, TagFeaturizer
from claf2.readers import Answer, SpanExample, TextExample, TokenExample
from claf2.tokenizers import Tokenizer
from claf2.tokenizers.build import load_tokenizer

TAGS = ["O", "B-LC", "I-LC", "B-PS", "I-PS"]


@pytest.fixture
def tokenizer(model_folder: Callable[..., Path]) -> Tokenizer:
    return load_tokenizer(model_folder())


def test_texts_become_ids_and_targets_and_cuts_are_counted(tokenizer: Tokenizer) -> None:
    counts: Counter[str] = Counter()
    rows = [
        TextExample(id="0", text_a="the film", text_b="good", label="b"),
        TextExample(id="1", text_a="a " * 30, text_b="x"),
    ]
    first, second = ClassifyFeaturizer(max_seq_length=12).features(rows, tokenizer, ["a", "b"], counts)
    assert first["labels"] == 1
    assert first["token_type_ids"] == [0] * 4 + [1] * 2
    assert "labels" not in second
    assert len(second["input_ids"]) == 12
    assert counts["truncated"] == 1


def test_targets_that_are_no_numbers_are_named(tokenizer: Tokenizer) -> None:
    for label in ("five", "nan"):
        row = TextExample(id="7", line=3, text_a="x", label=label)
        with pytest.raises(Claf2Error, match=r"example '7' \(row 3\): "):
            list(RegressFeaturizer().features([row], tokenizer, [], Counter()))
    rows = [TextExample(id="0", text_a="x", text_b="y"), TextExample(id="1", text_a="x")]
    with pytest.raises(Claf2Error, match="example '1' has one text where others have two"):
        list(RegressFeaturizer().features(rows, tokenizer, [], Counter()))


def tagged(words: str, tags: str, joiner: str = " ") -> TokenExample:
    tokens = tuple(words.split()) if joiner else tuple(words)
    return TokenExample(id="0", tokens=tokens, tags=tuple(tags.split()), joiner=joiner)


def predicted(example: TokenExample, tokenizer: Tokenizer, length: int = 64) -> tuple[list[str], int, int]:
    """Return what a model that has learnt every target predicts, the spans lost, and the number of windows."""
    counts: Counter[str] = Counter()
    features = list(TagFeaturizer(max_seq_length=length).features([example], tokenizer, TAGS, counts))
    perfect = [
        {"tag": np.array([max(0, each) for each in feature["labels"]]), "probability": np.ones(len(feature["labels"]))}
        for feature in features
    ]
    (prediction,) = Tag().predict([example], features, perfect, TAGS, tokenizer)
    return prediction.prediction, counts["lost_spans"], len(features)


@pytest.mark.parametrize("length", [64, 8, 6])
def test_words_get_their_tags_back_whatever_they_are_cut_into(length: int, tokenizer: Tokenizer) -> None:
    example = tagged("qqqq lived in north korea , zzz zz ran", "B-PS O O B-LC I-LC O B-PS I-PS O")
    found, lost, windows = predicted(example, tokenizer, length)
    assert tuple(found) == example.tags
    assert lost == 0
    assert windows == 1 if length == 64 else windows > 2


def test_every_word_counts_once_over_all_windows(tokenizer: Tokenizer) -> None:
    example = tagged("the " * 20, "O " * 20)
    features = list(TagFeaturizer(max_seq_length=8).features([example], tokenizer, TAGS, Counter()))
    assert sum(each != IGNORED for feature in features for each in feature["labels"]) == 20


def test_characters_and_the_blank_inside_an_entity(tokenizer: Tokenizer) -> None:
    example = tagged("서울 부산 ran", "B-LC I-LC I-LC I-LC I-LC O O O O", joiner="")
    found, lost, _ = predicted(example, tokenizer)
    assert tuple(found) == example.tags
    assert lost == 0


def test_an_entity_that_ends_inside_a_piece_is_lost_and_counted(tokenizer: Tokenizer) -> None:
    example = tagged("film good", "B-PS I-PS O O O B-LC I-LC I-LC I-LC", joiner="")
    found, lost, _ = predicted(example, tokenizer)
    assert found == ["B-PS", "I-PS", "I-PS", "I-PS", "O", "B-LC", "I-LC", "I-LC", "I-LC"]
    assert lost == 1


def question(context: str, text: str) -> SpanExample:
    return SpanExample(id="0", question="where", context=context, answers=(Answer(text, context.index(text)),))


def test_the_answer_is_found_in_the_windows_that_hold_all_of_it(tokenizer: Tokenizer) -> None:
    context = "the king lived in north korea and the queen ran to the south city river"
    example, counts = question(context, "north korea"), Counter[str]()
    spec = SpanFeaturizer(max_seq_length=14, context_stride=3)
    features = list(spec.features([example], tokenizer, [], counts))
    found = []
    for feature in features:
        first, last = feature["start_positions"], feature["end_positions"]
        if last:
            found.append(context[feature["starts"][first] : feature["ends"][last]])
        held = [end for end in feature["ends"] if end >= 0]
        low = min(start for start in feature["starts"] if start >= 0)
        assert bool(last) == (low <= context.index("north") and max(held) >= context.index("korea") + 5)
    assert len(features) > 3
    assert set(found) == {"north korea"}
    assert counts["lost_spans"] == 0


def test_an_answer_inside_a_piece_is_lost_and_counted(tokenizer: Tokenizer) -> None:
    counts: Counter[str] = Counter()
    list(SpanFeaturizer().features([question("the film ran", "fil")], tokenizer, [], counts))
    assert counts["lost_spans"] == 1


def exhaustive(head: Span, features: list[dict[str, Any]], rows: list[dict[str, Any]], context: str) -> str:
    """Try every start with every end of every window, each start only where it has most context."""
    margin: dict[tuple[int, int], float] = {}
    for feature in features:
        inside = [p for p, end in enumerate(feature["ends"]) if end >= 0]
        for place, p in enumerate(inside):
            key = (feature["starts"][p], feature["ends"][p])
            value = min(place, len(inside) - 1 - place) + 0.01 * len(inside)
            margin[key] = max(margin.get(key, -1.0), value)
    best, answer = -np.inf, ""
    for feature, row in zip(features, rows, strict=True):
        inside = [p for p, end in enumerate(feature["ends"]) if end >= 0]
        for place, s in enumerate(inside):
            key = (feature["starts"][s], feature["ends"][s])
            if min(place, len(inside) - 1 - place) + 0.01 * len(inside) < margin[key]:
                continue
            for e in inside:
                score = row["start"][s] + row["end"][e]
                if s <= e < s + head.answer_maxlen and score > best:
                    best, answer = score, context[feature["starts"][s] : feature["ends"][e]]
    return answer


@pytest.mark.parametrize("seed", range(20))
def test_the_search_equals_an_exhaustive_one(seed: int, tokenizer: Tokenizer) -> None:
    dice = np.random.default_rng(seed)
    example = question("the king lived in north korea and the queen ran to the south city river " * 2, "king")
    features = list(SpanFeaturizer(max_seq_length=16, context_stride=4).features([example], tokenizer, [], Counter()))
    rows: list[dict[str, Any]] = [
        {name: dice.normal(size=len(each["input_ids"])).astype(np.float32) for name in ("start", "end")}
        for each in features
    ]
    head = Span(answer_maxlen=4, n_best_size=1000)
    (prediction,) = head.predict([example], features, rows, [], tokenizer)
    assert prediction.prediction == exhaustive(head, features, rows, example.context)
    (none,) = Span(null_threshold=-1e9).predict([example], features, rows, [], tokenizer)
    assert none.prediction == ""
    assert prediction.gold == ["king"]


@pytest.mark.parametrize("kind", ["classify", "regress", "tag", "span"])
def test_requests_that_lack_what_is_asked_are_one_line(kind: str) -> None:
    with pytest.raises(Claf2Error, match="a request has"):
        heads.get(kind)().request({"nothing": "x"})
