"""Heads: examples to targets and back, answers against an exhaustive search."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from language_models import byte_tokenizer

from claf2.errors import Claf2Error
from claf2.heads import CollectedOutputs, LabelFeaturizer, Request, heads
from claf2.heads.choice import ChoiceFeaturizer
from claf2.heads.dialogue import DialogueFeaturizer
from claf2.heads.parse import ParseFeaturizer
from claf2.heads.regress import NumberFeaturizer
from claf2.heads.span import SpanFeaturizer, SpanHead
from claf2.heads.tag import IGNORED, TagFeaturizer, TaggingHead
from claf2.readers import (
    Answer,
    ChoiceExample,
    DialogueExample,
    ParseExample,
    SpanExample,
    TextExample,
    TokenExample,
)
from claf2.task import tasks
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
    first, second = LabelFeaturizer(max_seq_length=12).features(rows, tokenizer, ["a", "b"], counts)
    assert first["labels"] == 1
    assert first["token_type_ids"] == [0] * 4 + [1] * 2
    assert "labels" not in second
    assert len(second["input_ids"]) == 12
    assert counts["truncated"] == 1


def test_targets_that_are_no_numbers_are_named(tokenizer: Tokenizer) -> None:
    for label in ("five", "nan"):
        row = TextExample(id="7", line=3, text_a="x", label=label)
        with pytest.raises(Claf2Error, match=r"example '7' \(row 3\): "):
            list(NumberFeaturizer().features([row], tokenizer, [], Counter()))
    rows = [TextExample(id="0", text_a="x", text_b="y"), TextExample(id="1", text_a="x")]
    with pytest.raises(Claf2Error, match="example '1' has only one text, but other examples have two"):
        list(NumberFeaturizer().features(rows, tokenizer, [], Counter()))


def tagged(words: str, tags: str, joiner: str = " ") -> TokenExample:
    tokens = tuple(words.split()) if joiner else tuple(words)
    return TokenExample(id="0", tokens=tokens, tags=tuple(tags.split()), joiner=joiner)


def predicted(example: TokenExample, tokenizer: Tokenizer, length: int = 64) -> tuple[list[str], int, int]:
    """Return what a model that has learnt every target predicts, the spans lost, and the number of windows."""
    counts: Counter[str] = Counter()
    features = list(TagFeaturizer(max_seq_length=length).features([example], tokenizer, TAGS, counts))
    perfect = [
        {
            "tag": np.array([max(0, label) for label in feature["labels"]]),
            "probability": np.ones(len(feature["labels"])),
        }
        for feature in features
    ]
    (prediction,) = TaggingHead().predict(CollectedOutputs([example], features, perfect, TAGS, tokenizer))
    return prediction.prediction, counts["lost_spans"], len(features)


@pytest.mark.parametrize("length", [64, 8, 6])
def test_words_get_their_tags_back_whatever_they_are_cut_into(length: int, tokenizer: Tokenizer) -> None:
    example = tagged("qqqq lived in north korea , zzz zz ran", "B-PS O O B-LC I-LC O B-PS I-PS O")
    tags, lost, windows = predicted(example, tokenizer, length)
    assert tuple(tags) == example.tags
    assert lost == 0
    assert windows == 1 if length == 64 else windows > 2


def test_every_word_counts_once_over_all_windows(tokenizer: Tokenizer) -> None:
    example = tagged("the " * 20, "O " * 20)
    features = list(TagFeaturizer(max_seq_length=8).features([example], tokenizer, TAGS, Counter()))
    assert sum(label != IGNORED for feature in features for label in feature["labels"]) == 20


def test_characters_and_the_blank_inside_an_entity(tokenizer: Tokenizer) -> None:
    example = tagged("서울 부산 ran", "B-LC I-LC I-LC I-LC I-LC O O O O", joiner="")
    tags, lost, _ = predicted(example, tokenizer)
    assert tuple(tags) == example.tags
    assert lost == 0


def test_an_entity_that_ends_inside_a_piece_is_lost_and_counted(tokenizer: Tokenizer) -> None:
    example = tagged("film good", "B-PS I-PS O O O B-LC I-LC I-LC I-LC", joiner="")
    tags, lost, _ = predicted(example, tokenizer)
    assert tags == ["B-PS", "I-PS", "I-PS", "I-PS", "O", "B-LC", "I-LC", "I-LC", "I-LC"]
    assert lost == 1


def question(context: str, text: str) -> SpanExample:
    return SpanExample(id="0", question="where", context=context, answers=(Answer(text, context.index(text)),))


def test_the_answer_is_found_in_the_windows_that_hold_all_of_it(tokenizer: Tokenizer) -> None:
    context = "the king lived in north korea and the queen ran to the south city river"
    example, counts = question(context, "north korea"), Counter[str]()
    spec = SpanFeaturizer(max_seq_length=14, context_stride=3)
    features = list(spec.features([example], tokenizer, [], counts))
    answers = []
    for feature in features:
        first, last = feature["start_positions"], feature["end_positions"]
        if last:
            answers.append(context[feature["starts"][first] : feature["ends"][last]])
        held = [end for end in feature["ends"] if end >= 0]
        low = min(start for start in feature["starts"] if start >= 0)
        assert bool(last) == (low <= context.index("north") and max(held) >= context.index("korea") + 5)
    assert len(features) > 3
    assert set(answers) == {"north korea"}
    assert counts["lost_spans"] == 0


def test_an_answer_inside_a_piece_is_lost_and_counted(tokenizer: Tokenizer) -> None:
    counts: Counter[str] = Counter()
    list(SpanFeaturizer().features([question("the film ran", "fil")], tokenizer, [], counts))
    assert counts["lost_spans"] == 1


def exhaustive(head: SpanHead, features: list[dict[str, Any]], rows: list[dict[str, Any]], context: str) -> str:
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
        {name: dice.normal(size=len(feature["input_ids"])).astype(np.float32) for name in ("start", "end")}
        for feature in features
    ]
    head = SpanHead(answer_maxlen=4, n_best_size=1000)
    (prediction,) = head.predict(CollectedOutputs([example], features, rows, [], tokenizer))
    assert prediction.prediction == exhaustive(head, features, rows, example.context)
    (none,) = SpanHead(null_threshold=-1e9).predict(CollectedOutputs([example], features, rows, [], tokenizer))
    assert none.prediction == ""
    assert prediction.gold == ["king"]


@pytest.mark.parametrize("kind", heads.names())
def test_requests_that_lack_what_is_asked_are_one_line(kind: str) -> None:
    with pytest.raises(Claf2Error, match="a request needs"):
        heads.get(kind)().request(Request(tasks.get("nsmc"), {"nothing": "x"}))


def test_choices_are_encoded_side_by_side(tokenizer: Tokenizer) -> None:
    counts: Counter[str] = Counter()
    rows = [ChoiceExample(id="0", question="who ran", choices=("the king", "a dog in the city"), label="1")]
    (feature,) = ChoiceFeaturizer(max_seq_length=32).features(rows, tokenizer, ["0", "1"], counts)
    assert [len(ids) for ids in feature["input_ids"]] == [7, 10]
    assert feature["labels"] == 1
    assert counts["truncated"] == 0
    list(ChoiceFeaturizer(max_seq_length=8).features(rows, tokenizer, ["0", "1"], counts))
    assert counts["truncated"] == 1
    with pytest.raises(Claf2Error, match="example '0' has 2 choices, not 3"):
        list(ChoiceFeaturizer().features(rows, tokenizer, ["0", "1", "2"], counts))
    perfect = [{"probabilities": np.array([0.2, 0.8])}]
    (prediction,) = heads.get("choice")().predict(CollectedOutputs(rows, [feature], perfect, ["0", "1"], tokenizer))
    assert (prediction.gold, prediction.prediction) == ("1", "1")


@pytest.mark.parametrize("answer", ["서울", "🐈 ran"])
@pytest.mark.parametrize("lead", [3, 20, 37])
def test_an_answer_of_several_pieces_a_character_is_found_in_several_windows(answer: str, lead: int) -> None:
    """Bytes of one character have the same offsets, and none of them gives another one less context."""
    context = "the cat " * lead + answer + " the dog" * (40 - lead)
    example = SpanExample(id="0", question="who", context=context, answers=(Answer(answer, context.index(answer)),))
    counts: Counter[str] = Counter()
    tokenizer = byte_tokenizer()
    features = list(SpanFeaturizer(max_seq_length=64, context_stride=16).features([example], tokenizer, (), counts))
    assert len(features) > 1
    assert not counts["lost_spans"]
    rows = []
    for feature in features:
        start, end = (np.full(len(feature["starts"]), -10.0, np.float32) for _ in range(2))
        start[feature["start_positions"]] = end[feature["end_positions"]] = 10.0 if feature["start_positions"] else 0.0
        rows.append({"start": start, "end": end})
    (prediction,) = SpanHead().predict(CollectedOutputs([example], features, rows, [], tokenizer))
    assert prediction.prediction == answer


def test_an_empty_text_without_special_tokens_is_a_row_of_one_token(tmp_path: Path) -> None:
    byte_tokenizer().save(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "post_processor": None}))
    tokenizer = load_tokenizer(tmp_path)
    (feature,) = LabelFeaturizer().features([TextExample(id="0", text_a="")], tokenizer, ["a"], Counter())
    assert feature["input_ids"] == [tokenizer.end_id]
    assert feature["token_type_ids"] == [0]


TREE = ParseExample(
    id="0", words=("qqqq", "ran", "zz"), pos=("NNP", "VV", "??"), heads=(2, 0, 2), relations=("NP", "VP", "NP")
)


def test_words_of_a_tree_know_their_pieces(tokenizer: Tokenizer) -> None:
    featurizer = ParseFeaturizer(max_seq_length=32, pos_tags=("NNP", "VV"))
    (feature,) = featurizer.features([TREE], tokenizer, ["VP", "NP"], Counter())
    assert feature["first"] == [1, 5, 6]
    assert feature["last"] == [4, 5, 7]
    assert feature["pos"] == [1, 2, 0]
    assert feature["heads"] == [2, 0, 2]
    assert feature["relations"] == [1, 0, 1]
    row = {"heads": np.array([2, 0, 2]), "relations": np.array([1, 0, 1]), "probability": np.ones(3)}
    (prediction,) = heads.get("parse")().predict(CollectedOutputs([TREE], [feature], [row], ["VP", "NP"], tokenizer))
    assert prediction.prediction == prediction.gold


def test_words_that_do_not_fit_are_left_out_and_never_right(tokenizer: Tokenizer) -> None:
    counts: Counter[str] = Counter()
    (feature,) = ParseFeaturizer(max_seq_length=6).features([TREE], tokenizer, ["VP", "NP"], counts)
    assert (feature["first"], counts["truncated"]) == ([1], 1)
    assert feature["heads"] == [-100]  # its head is not there
    row = {"heads": np.array([0]), "relations": np.array([1]), "probability": np.ones(1)}
    (prediction,) = heads.get("parse")().predict(CollectedOutputs([TREE], [feature], [row], ["VP", "NP"], tokenizer))
    assert len(prediction.prediction["heads"]) == 3


SLOTS = ["city-name", "house-boat"]


def test_dialogues_as_klue_baseline_lays_them_out(tokenizer: Tokenizer) -> None:
    first = DialogueExample(id="d-0", turns=("the city",), state={"city-name": "seoul", "house-boat": "yes"})
    later = DialogueExample(id="d-1", turns=("the city", "where", "not many"), state={})
    features = list(DialogueFeaturizer(max_seq_length=32).features([first, later], tokenizer, SLOTS, Counter()))
    shown = [tokenizer.decode([feature]) or "|" for feature in features[0]["input_ids"]]
    assert shown == ["|", "|", "|", "the", "city", "|"]
    shown = [tokenizer.decode([feature]) or "|" for feature in features[1]["input_ids"]]
    assert shown == ["|", "|", "the", "city", "|", "where", "|", "not", "many", "|"]
    assert features[0]["gates"] == [2, 3]
    assert features[1]["gates"] == [0, 0]
    assert features[0]["values"][0][-1] == tokenizer.separator_id
    counts: Counter[str] = Counter()
    (cut,) = DialogueFeaturizer(max_seq_length=5).features([later], tokenizer, SLOTS, counts)
    assert [tokenizer.decode([token_id]) or "|" for token_id in cut["input_ids"]] == ["|", "|", "not", "many", "|"]
    assert counts["truncated"] == 1


def test_states_are_read_off_gates_and_tokens(tokenizer: Tokenizer) -> None:
    example = DialogueExample(id="d-0", turns=("the city",), state={"city-name": "the king", "house-boat": "dontcare"})
    (feature,) = DialogueFeaturizer().features([example], tokenizer, SLOTS, Counter())
    values = feature["values"]
    width = max(map(len, values))
    row = {"gates": np.array(feature["gates"]), "values": np.array([v + [0] * (width - len(v)) for v in values])}
    (prediction,) = heads.get("dialogue")().predict(CollectedOutputs([example], [feature], [row], SLOTS, tokenizer))
    assert prediction.prediction == prediction.gold == ["city-name-the king", "house-boat-dontcare"]


def test_what_is_glued_to_a_closing_mark_goes_on_with_the_word(model_folder: Callable[..., Path]) -> None:
    tokenizer = load_tokenizer(model_folder())
    assert tokenizer.add_markers((("<subj>", "</subj>"), ("<obj>", "</obj>"))) == 4
    assert tokenizer.add_markers((("<subj>", "</subj>"), ("<obj>", "</obj>"))) == 0
    texts = ["<subj>서울</subj>은", "<subj>서울</subj> 은", "<subj>서울</subj>, 은"]
    ((glued,), (apart,), (comma,)) = tokenizer.encode(texts, max_length=20)
    assert [w.ids for (w,) in tokenizer.encode(texts, max_length=20, offsets=False)] == [
        glued.ids,
        apart.ids,
        comma.ids,
    ]
    pieces = [load_tokenizer(model_folder()).tokenize(text) for text in ("서울은", "은")]
    alone = load_tokenizer(model_folder()).encode(["서울은", "은"], max_length=20)
    assert pieces[0][-1] == "##은"
    assert glued.ids[-2] == alone[0][0].ids[-2]
    assert apart.ids[-2] == alone[1][0].ids[-2] == comma.ids[-2]
    assert glued.offsets[1] == (0, 6)
