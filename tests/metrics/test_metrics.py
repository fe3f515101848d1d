"""Each official metric against an independent definition, on random and on awkward inputs."""

from __future__ import annotations

import itertools
import math
import re
import string
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from seqeval.metrics import classification_report
from sklearn import metrics as sk

from claf2.errors import Claf2Error
from claf2.metrics import Metric, Prediction, Scores, metrics

pytestmark = pytest.mark.smoke

QUIET = settings(max_examples=60, deadline=None)
LABELS = ["a", "b", "c"]
PAIRS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=30)
BINARY = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("ab")), min_size=1, max_size=30)
NUMBERS = st.lists(st.tuples(st.integers(0, 5).map(float), st.floats(-10, 10)), min_size=2, max_size=30)
TAGS = ["B-PS", "I-PS", "B-LC", "I-LC", "O"]
SENTENCES = st.lists(
    st.lists(st.tuples(st.sampled_from("가나 "), st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1, max_size=8),
    min_size=1, max_size=5,
)  # fmt: skip


def compute(metric: Metric, pairs: Sequence[tuple[object, object]], labels: Sequence[str] = ()) -> Scores:
    return metric.compute([Prediction(str(n), gold, predicted) for n, (gold, predicted) in enumerate(pairs)], labels)


@QUIET
@given(pairs=PAIRS)
def test_labels_against_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    gold, predicted = zip(*pairs, strict=True)
    assert compute(metrics.get("accuracy")(), pairs)["accuracy"] == pytest.approx(
        100 * sk.accuracy_score(gold, predicted)
    )
    expected = sk.f1_score(gold, predicted, average="macro", zero_division=0.0)
    assert compute(metrics.get("macro_f1")(), pairs, LABELS)["macro_f1"] == pytest.approx(100 * expected)
    counts = {(g, p): sum(pair == (g, p) for pair in pairs) for g in LABELS for p in LABELS}
    right, total = sum(counts[label, label] for label in LABELS), len(pairs)
    rows, columns = ([sum(counts[k] for k in counts if k[axis] == label) for label in LABELS] for axis in (0, 1))
    cross = sum(r * c for r, c in zip(rows, columns, strict=True))
    spread = math.sqrt((total**2 - sum(c * c for c in columns)) * (total**2 - sum(r * r for r in rows)))
    expected = (right * total - cross) / spread if spread else 0.0
    assert compute(metrics.get("matthews")(), pairs)["matthews"] == pytest.approx(100 * expected, abs=1e-9)


@QUIET
@given(pairs=BINARY)
def test_binary_f1_against_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    gold, predicted = zip(*pairs, strict=True)
    f1 = 100 * sk.f1_score(gold, predicted, pos_label="b", zero_division=0.0)
    both = compute(metrics.get("accuracy_and_f1")(), pairs, ["a", "b"])
    assert both["f1"] == pytest.approx(f1)
    assert both["accuracy_and_f1"] == pytest.approx((f1 + 100 * sk.accuracy_score(gold, predicted)) / 2)
    other = 100 * sk.f1_score(gold, predicted, pos_label="a", zero_division=0.0)
    assert compute(metrics.get("f1")(positive="a"), pairs, ["a", "b"])["f1"] == pytest.approx(other)


def test_f1_of_three_labels_needs_the_positive_one() -> None:
    with pytest.raises(Claf2Error, match="f1 needs 'positive', the label to score, because the task has 3 labels"):
        compute(metrics.get("f1")(), [("a", "b")], LABELS)


def ranks(values: Sequence[float]) -> list[float]:
    return [(sum(v < x for v in values) + sum(v <= x for v in values) + 1) / 2 for x in values]


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    x, y = np.array(a) - np.mean(a), np.array(b) - np.mean(b)
    return float((x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum()))


@QUIET
@given(pairs=NUMBERS)
def test_correlations_against_their_formulas(pairs: list[tuple[float, float]]) -> None:
    gold, predicted = ([float(value) for value in side] for side in zip(*pairs, strict=True))
    assume(len(set(gold)) > 1 and max(predicted) - min(predicted) > 1e-3)
    scores = compute(metrics.get("pearson_spearman")(), pairs)
    assert scores["pearson"] == pytest.approx(100 * correlation(gold, predicted), abs=1e-6)
    assert scores["spearman"] == pytest.approx(100 * correlation(ranks(gold), ranks(predicted)), abs=1e-6)
    assert scores["pearson"] == pytest.approx(100 * stats.pearsonr(gold, predicted).statistic, abs=1e-6)


@pytest.mark.parametrize("pairs", [[(1.0, 2.0)], [(1.0, 3.0), (2.0, 3.0)], [(1.0, 3.0), (1.0, 4.0)]])
def test_a_constant_side_has_no_correlation(pairs: list[tuple[float, float]]) -> None:
    none = {"pearson_spearman": None, "pearson": None, "spearman": None}
    assert compute(metrics.get("pearson_spearman")(), pairs) == none
    assert compute(metrics.get("klue_sts")(), pairs)["pearson"] is None


@QUIET
@given(pairs=NUMBERS)
def test_klue_sts_cuts_both_sides_at_three(pairs: list[tuple[float, float]]) -> None:
    gold, predicted = ([value >= 3 for value in side] for side in zip(*pairs, strict=True))
    expected = 100 * sk.f1_score(gold, predicted, zero_division=0.0)
    assert compute(metrics.get("klue_sts")(), pairs)["f1"] == pytest.approx(expected)


def squad_script(predicted: str, golds: list[str]) -> tuple[float, float]:
    """SQuAD 2.0's rule, written down anew: tokens of the normalised texts, the best gold that has some counts."""

    def tokens(text: str) -> list[str]:
        kept = "".join(c for c in text.lower() if c not in string.punctuation)
        return [word for word in re.sub(r"\b(?:a|an|the)\b", " ", kept).split() if word]

    return best(tokens(predicted), [kept for gold in golds if (kept := tokens(gold))] or [[]], " ", 1.0)


def korquad_script(predicted: str, golds: list[str]) -> tuple[float, float]:
    """KorQuAD 1.0's rule: marks to blanks, ASCII punctuation away, characters counted."""

    def tokens(text: str) -> list[str]:
        for mark in "'\"《》<>〈〉()‘’":
            text = text.replace(mark, " ")
        return "".join(c for c in text.lower() if c not in string.punctuation).split()

    ems, f1s = [], []
    for gold in golds:
        ems.append(float(" ".join(tokens(predicted)) == " ".join(tokens(gold))))
        f1s.append(best(list("".join(tokens(predicted))), [list("".join(tokens(gold)))], "", 0.0)[1])
    return max(ems), max(f1s)


def best(predicted: list[str], golds: list[list[str]], joiner: str, nothing: float) -> tuple[float, float]:
    def f1(gold: list[str]) -> float:
        if not gold and not predicted:
            return nothing
        left, shared = list(gold), 0
        for word in predicted:
            if word in left:
                left.remove(word)
                shared += 1
        if not shared:
            return 0.0
        precision, recall = shared / len(predicted), shared / len(gold)
        return 2 * precision * recall / (precision + recall)

    return max(float(joiner.join(predicted) == joiner.join(gold)) for gold in golds), max(f1(gold) for gold in golds)


AWKWARD = [
    "", " ", "the", "The Cat!", "a cat", "a.b", "《책》", "‘책’", "책 이름", "책이름", "“x”", "。", "１２", "가\u0301",
    unicodedata.normalize("NFD", "서울"), "서울", "it's", "its", "\u3000",
]  # fmt: skip
ANSWER = st.one_of(st.sampled_from(AWKWARD), st.text("ab '《(책the .", max_size=8))


@QUIET
@given(predicted=ANSWER, golds=st.lists(ANSWER, min_size=1, max_size=3))
def test_answers_against_the_official_rules(predicted: str, golds: list[str]) -> None:
    for language, script in (("en", squad_script), ("ko", korquad_script)):
        em, f1 = script(predicted, golds)
        scores = compute(metrics.get("squad")(language=language), [(golds, predicted)])
        assert scores["em"] == pytest.approx(100 * em)
        assert scores["f1"] == pytest.approx(100 * f1)


def test_unanswerable_questions_are_right_when_nothing_is_said() -> None:
    scores = compute(metrics.get("squad")(), [([], ""), ([], "x"), (["a cat"], "cat"), (["dog"], "")])
    assert scores["em"] == 50.0
    assert (scores["no_ans_em"], scores["has_ans_em"]) == (50.0, 50.0)


def test_japanese_and_unknown_languages() -> None:
    japanese = metrics.get("squad")(language="ja")
    assert compute(japanese, [(["東京。"], "東京")]) == {"f1": 100.0, "em": 100.0}
    assert compute(japanese, [(["the cat!"], "cat")])["em"] == 0.0
    # As JGLUE's patch of `squad_metrics.py` computes them: spaces are characters, and 。 before a space stays.
    assert compute(japanese, [(["Steve Jobs"], "Steve")])["f1"] == pytest.approx(200 / 3)
    assert compute(japanese, [(["東京 。"], "東京")])["em"] == 100.0
    assert compute(japanese, [(["東京。 "], "東京")]) == {"f1": pytest.approx(80.0), "em": 0.0}
    assert compute(japanese, [(["。"], "。")]) == {"f1": 100.0, "em": 100.0}
    with pytest.raises(Claf2Error, match="no official script for answers in language 'fr'; valid: en, ja, ko"):
        compute(metrics.get("squad")(language="fr"), [(["x"], "x")])


def entities(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """Strict IOB2: an entity begins with B- and goes on while I- of its type follows."""
    spans, start = set(), None
    for index, tag in enumerate([*tags, "O"]):
        if start is not None and tag != f"I-{tags[start][2:]}":
            spans.add((start, index - 1, tags[start][2:]))
            start = None
        if tag.startswith("B-"):
            start = index
    return spans


def macro(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    gold_entities = {(n, *entity) for n, tags in enumerate(gold) for entity in entities(tags)}
    predicted_entities = {(n, *entity) for n, tags in enumerate(predicted) for entity in entities(tags)}
    scores = []
    for kind in {entity[-1] for entity in gold_entities | predicted_entities}:
        right = sum(entity[-1] == kind for entity in gold_entities & predicted_entities)
        claimed = sum(entity[-1] == kind for side in (gold_entities, predicted_entities) for entity in side)
        scores.append(2 * right / claimed)
    return 100 * sum(scores) / len(scores) if scores else 0.0


@QUIET
@given(sentences=SENTENCES)
def test_klue_ner_against_its_definition(sentences: list[list[tuple[str, str, str]]]) -> None:
    predictions = [
        Prediction(
            str(n),
            [g for _, g, _ in sentence],
            [p for _, _, p in sentence],
            details={"tokens": [t for t, _, _ in sentence]},
        )
        for n, sentence in enumerate(sentences)
    ]
    scores = metrics.get("klue_ner")().compute(predictions, TAGS)
    visible = [[(g, p) for t, g, p in sentence if t != " "] for sentence in sentences]
    slots = [pair for pairs in visible for pair in [("O", "O"), *pairs, ("O", "O")]]
    gold, predicted = [g for g, _ in slots], [s for _, s in slots]
    assert scores["entity_macro_f1"] == pytest.approx(macro([gold], [predicted]))
    assert scores["entity_macro_f1_fixed"] == pytest.approx(
        macro([[g for g, _ in pairs] for pairs in visible], [[p for _, p in pairs] for pairs in visible])
    )
    per_label = []
    for tag in TAGS:
        claimed = gold.count(tag) + predicted.count(tag)
        per_label.append(2 * sum(g == s == tag for g, s in slots) / claimed if claimed else 1.0)
    assert scores["char_macro_f1"] == pytest.approx(100 * sum(per_label) / len(TAGS))


def test_klue_ner_bugs_are_in_the_official_score_only() -> None:
    """A tagger that finds nothing has a quarter of the official character F1 of three labels thanks to O alone."""
    tokens = {"tokens": list("가나다라")}
    nothing = [Prediction("0", ["B-PS", "I-PS", "O", "O"], ["O"] * 4, details=tokens)]
    scores = metrics.get("klue_ner")().compute(nothing, ["B-PS", "I-PS", "O"])
    assert scores["char_macro_f1"] == pytest.approx(100 * (0 + 0 + 8 / 10) / 3)
    assert scores["char_macro_f1_fixed"] == 0.0


@QUIET
@given(sentences=SENTENCES)
def test_seqeval_scores(sentences: list[list[tuple[str, str, str]]]) -> None:
    pairs = [([g for _, g, _ in sentence], [p for _, _, p in sentence]) for sentence in sentences]
    assume(any(tag != "O" for gold, _ in pairs for tag in gold))
    scores = compute(metrics.get("seqeval")(), pairs)
    report = classification_report([g for g, _ in pairs], [s for _, s in pairs], output_dict=True, zero_division=0)
    assert scores["f1"] == pytest.approx(100 * report["micro avg"]["f1-score"])


def test_every_metric_says_what_it_selects() -> None:
    for name in metrics.names():
        assert isinstance(metrics.get(name).selects, str), name


NAMES = ["no_relation", "a", "b", "c"]
RELATIONS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.lists(st.floats(0.01, 1), min_size=4, max_size=4)), min_size=2, max_size=20
)


@QUIET
@given(rows=RELATIONS)
def test_klue_re_against_its_definition(rows: list[tuple[str, list[float]]]) -> None:
    table = np.array([[v / sum(values) for v in values] for _, values in rows])
    gold, predicted = [label for label, _ in rows], [NAMES[index] for index in table.argmax(1)]
    predictions = [
        Prediction(str(n), g, p, details={"probabilities": dict(zip(NAMES, chances, strict=True))})
        for n, (g, p, chances) in enumerate(zip(gold, predicted, table, strict=True))
    ]
    scores = metrics.get("klue_re")().compute(predictions, NAMES)
    expected = sk.f1_score(gold, predicted, average="micro", labels=NAMES[1:], zero_division=0.0)
    assert scores["micro_f1"] == pytest.approx(100 * expected)
    areas = {}
    for index, name in enumerate(NAMES):
        positives = np.array([g == name for g in gold])
        if not positives.any():
            continue
        # Every threshold from the highest down; the curve begins at recall 0 with precision 1.
        points = [(0.0, 1.0)]
        for threshold in sorted(set(table[:, index]), reverse=True):
            chosen = table[:, index] >= threshold
            points.append((float(positives[chosen].sum() / positives.sum()), float(positives[chosen].mean())))
        areas[name] = sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in itertools.pairwise(points))
    assert scores["auprc_fixed"] == pytest.approx(100 * sum(areas.values()) / len(areas))
    if len(areas) == len(NAMES):
        assert scores["auprc"] == pytest.approx(scores["auprc_fixed"])
    bare = [replace(prediction, details=None) for prediction in predictions]
    assert metrics.get("klue_re")().compute(bare, NAMES)["auprc"] is None
    unnamed = [
        replace(prediction, details={"probabilities": list(chances)})
        for prediction, chances in zip(predictions, table, strict=True)
    ]
    assert metrics.get("klue_re")().compute(unnamed, NAMES)["auprc"] is None
    # The order of the columns is that of the names, not that of the details.
    assert metrics.get("klue_re")().compute(predictions, NAMES[::-1])["auprc_fixed"] == pytest.approx(
        scores["auprc_fixed"]
    )


DEPRELS = [f"r{index}" for index in range(20)]
TREES = st.lists(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from(DEPRELS), st.sampled_from(DEPRELS)),
        min_size=1, max_size=6,
    ),
    min_size=1, max_size=5,
)  # fmt: skip


@QUIET
@given(trees=TREES)
def test_klue_dp_against_its_definition(trees: list[list[tuple[int, int, str, str]]]) -> None:
    pairs = [
        (
            {"heads": [w[0] for w in tree], "relations": [w[2] for w in tree]},
            {"heads": [w[1] for w in tree], "relations": [w[3] for w in tree]},
        )
        for tree in trees
    ]
    scores = compute(metrics.get("klue_dp")(), pairs, DEPRELS)
    words = [word for tree in trees for word in tree]

    def macro(gold: list[int], predicted: list[int]) -> float:
        kinds = set(gold) | set(predicted)
        total = 0.0
        for kind in kinds:
            right = sum(g == t == kind for g, t in zip(gold, predicted, strict=True))
            total += 2 * right / (gold.count(kind) + predicted.count(kind))
        return 100 * total / len(kinds)

    assert scores["uas_macro_f1"] == pytest.approx(macro([w[0] for w in words], [w[1] for w in words]))
    classes = [
        (min(int(w[2][1:]), 15), min(int(w[3][1:]), 15) if w[0] == w[1] else -2) for w in words
    ]  # from the sixteenth on they are one, and a wrong head is a class of its own
    assert scores["las_macro_f1"] == pytest.approx(macro([c[0] for c in classes], [c[1] for c in classes]))
    assert scores["uas"] == pytest.approx(100 * np.mean([w[0] == w[1] for w in words]))
    assert scores["las"] == pytest.approx(100 * np.mean([w[0] == w[1] and w[2] == w[3] for w in words]))


def test_klue_dp_leaves_words_out_that_did_not_fit_into_the_input() -> None:
    labels = ["NP", "VP"]
    trees = [({"heads": [2, 0], "relations": labels}, {"heads": [2, head], "relations": labels}) for head in (0, -1)]
    scores = compute(metrics.get("klue_dp")(), trees, labels)
    assert scores == {"las_macro_f1": 100.0, "uas_macro_f1": 100.0, "uas": 75.0, "las": 75.0}
    nothing = [({"heads": [0], "relations": ["VP"]}, {"heads": [-1], "relations": ["NP"]})]
    assert set(compute(metrics.get("klue_dp")(), nothing, labels).values()) == {0.0}


def test_a_label_that_is_not_one_of_the_task_adds_no_class_to_macro_f1() -> None:
    assert compute(metrics.get("macro_f1")(), [("a", "a"), ("b", "?")], LABELS)["macro_f1"] == 50.0


@pytest.mark.parametrize(
    ("language", "golds", "prediction", "em", "f1"),
    [
        ("en", ["ice", "."], "", 0.0, 0.0),
        ("en", ["."], "the", 100.0, 100.0),
        ("ja", ["氷", "。"], "", 0.0, 0.0),
        ("ko", ["얼음", "."], "", 100.0, 0.0),
    ],
)
def test_gold_answers_that_are_empty_after_normalization(
    language: str, golds: list[str], prediction: str, em: float, f1: float
) -> None:
    scores = compute(metrics.get("squad")(language=language), [(golds, prediction)])
    assert (scores["em"], scores["f1"]) == (em, f1)


STATES = st.lists(
    st.tuples(*[st.lists(st.sampled_from(["s-a-1", "s-a-2", "s-b-1", "t-c-x-y"]), unique=True)] * 2), min_size=1
)


@QUIET
@given(states=STATES)
def test_states_against_their_definition(states: list[tuple[list[str], list[str]]]) -> None:
    scores = compute(metrics.get("wos")(), states)
    assert scores["jga"] == pytest.approx(100 * np.mean([sorted(g) == sorted(p) for g, p in states]))
    turns = []
    for gold, predicted in states:
        precision = np.mean([slot in gold for slot in predicted]) if predicted else 0.0
        recall = np.mean([slot in predicted for slot in gold]) if gold else 0.0
        both = precision + recall
        turns.append(1.0 if not gold and not predicted else 2 * precision * recall / both if both else 0.0)
    assert scores["slot_micro_f1"] == pytest.approx(100 * np.mean(turns))


def test_slot_f1_fixed_counts_over_all_turns() -> None:
    states = [(["s-a-1"], ["s-a-1"]), (["s-a-1", "s-b-1", "s-c-1"], [])]
    scores = compute(metrics.get("wos")(), states)
    assert scores["slot_micro_f1"] == pytest.approx(50)
    assert scores["slot_f1_fixed"] == pytest.approx(40)
    assert compute(metrics.get("wos")(), [([], [])])["slot_f1_fixed"] == 100


def longest(predicted: str, gold: str) -> int:
    """Return the length of the longest common substring, by trying them all."""
    return max(
        (e - s for s in range(len(predicted)) for e in range(s, len(predicted) + 1) if predicted[s:e] in gold),
        default=0,
    )


@QUIET
@given(
    predicted=st.text("가나다 ab.《》()‘’", max_size=8),
    golds=st.lists(st.text("가나다 ab.《》()‘’", max_size=8), max_size=3),
)
def test_klue_mrc_against_its_definition(predicted: str, golds: list[str]) -> None:
    def normal(text: str, marks: str) -> str:
        kept = "".join(" " if c in marks else c for c in text.lower())
        return " ".join("".join(c for c in kept if c not in string.punctuation).split())

    scores = compute(metrics.get("klue_mrc")(), [(golds, predicted)])
    for ending, marks in (("", ""), ("_fixed", "'\"《》<>〈〉()‘’")):
        answer, wanted = normal(predicted, marks), [normal(gold, marks) for gold in golds] or [""]
        assert scores[f"em{ending}"] == (100.0 if answer in wanted else 0.0)
        best = max(
            float(answer == gold) if not gold or not answer else 2 * longest(answer, gold) / (len(answer) + len(gold))
            for gold in wanted
        )
        assert scores[f"rouge_w{ending}"] == pytest.approx(100 * best)


def test_klue_mrc_bugs_are_in_the_official_score_only() -> None:
    metric = metrics.get("klue_mrc")()
    marks = compute(metric, [(["나라"], "《나라》")])
    assert (marks["em"], marks["em_fixed"]) == (0.0, 100.0)
    # In texts of 200 characters and more, frequent ones are skipped.
    long = compute(metric, [(["가나" * 120], "다" + "가나" * 120)])
    assert long["rouge_w"] == 0.0
    assert long["rouge_w_fixed"] == pytest.approx(100 * 480 / 481)


THRESHOLDS = st.lists(
    st.tuples(st.booleans(), st.sampled_from(["king", "queen", ""]), st.integers(-3, 3).map(float)), min_size=1
)


@QUIET
@given(rows=THRESHOLDS)
def test_the_best_threshold_against_trying_them_all(rows: list[tuple[bool, str, float]]) -> None:
    assume(not all(answerable for answerable, _, _ in rows))
    metric = metrics.get("squad")()

    def at(threshold: float) -> Scores:
        return metric.compute(
            [
                Prediction(
                    str(n), ["king"] if answerable else [], "" if d > threshold else predicted or "x",
                    details={"null_score_difference": d, "best_answer": predicted or "x"},
                )
                for n, (answerable, predicted, d) in enumerate(rows)
            ],
            [],
        )  # fmt: skip

    thresholds = [half / 2 for half in range(-8, 9)]
    for key in ("f1", "em"):
        tried = [at(threshold)[key] for threshold in thresholds]
        assert at(0.0)[f"best_{key}"] == pytest.approx(max(value for value in tried if value is not None))
    chosen = at(0.0)["best_f1_threshold"]
    assert chosen is not None
    assert at(chosen)["f1"] == pytest.approx(at(0.0)["best_f1"])
