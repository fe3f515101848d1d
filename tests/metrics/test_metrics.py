"""Each official metric against an independent definition, on random and on awkward inputs."""

from __future__ import annotations

import itertools
import math
import re
import string
import unicodedata
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from seqeval.metrics import classification_report
from sklearn import metrics as sk

from claf2.errors import Claf2Error
from claf2.metrics import Metric, Prediction, Scores, metrics

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
    return metric.compute([Prediction(str(n), gold, said) for n, (gold, said) in enumerate(pairs)], labels)


@QUIET
@given(pairs=PAIRS)
def test_labels_against_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    gold, said = zip(*pairs, strict=True)
    assert compute(metrics.get("accuracy")(), pairs)["accuracy"] == pytest.approx(100 * sk.accuracy_score(gold, said))
    expected = sk.f1_score(gold, said, average="macro", labels=LABELS, zero_division=0.0)
    assert compute(metrics.get("macro_f1")(), pairs, LABELS)["macro_f1"] == pytest.approx(100 * expected)
    counts = {(g, p): sum(pair == (g, p) for pair in pairs) for g in LABELS for p in LABELS}
    right, total = sum(counts[each, each] for each in LABELS), len(pairs)
    rows, columns = ([sum(counts[k] for k in counts if k[axis] == each) for each in LABELS] for axis in (0, 1))
    cross = sum(r * c for r, c in zip(rows, columns, strict=True))
    spread = math.sqrt((total**2 - sum(c * c for c in columns)) * (total**2 - sum(r * r for r in rows)))
    expected = (right * total - cross) / spread if spread else 0.0
    assert compute(metrics.get("matthews")(), pairs)["matthews"] == pytest.approx(100 * expected, abs=1e-9)


@QUIET
@given(pairs=BINARY)
def test_binary_f1_against_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    gold, said = zip(*pairs, strict=True)
    f1 = 100 * sk.f1_score(gold, said, pos_label="b", zero_division=0.0)
    both = compute(metrics.get("accuracy_and_f1")(), pairs, ["a", "b"])
    assert both["f1"] == pytest.approx(f1)
    assert both["accuracy_and_f1"] == pytest.approx((f1 + 100 * sk.accuracy_score(gold, said)) / 2)
    other = 100 * sk.f1_score(gold, said, pos_label="a", zero_division=0.0)
    assert compute(metrics.get("f1")(positive="a"), pairs, ["a", "b"])["f1"] == pytest.approx(other)


def test_f1_of_three_labels_must_be_told_which() -> None:
    with pytest.raises(Claf2Error, match="which of 3 labels"):
        compute(metrics.get("f1")(), [("a", "b")], LABELS)


def ranks(values: Sequence[float]) -> list[float]:
    return [(sum(v < x for v in values) + sum(v <= x for v in values) + 1) / 2 for x in values]


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    x, y = np.array(a) - np.mean(a), np.array(b) - np.mean(b)
    return float((x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum()))


@QUIET
@given(pairs=NUMBERS)
def test_correlations_against_their_formulas(pairs: list[tuple[float, float]]) -> None:
    gold, said = ([float(each) for each in side] for side in zip(*pairs, strict=True))
    assume(len(set(gold)) > 1 and max(said) - min(said) > 1e-3)
    found = compute(metrics.get("pearson_spearman")(), pairs)
    assert found["pearson"] == pytest.approx(100 * correlation(gold, said), abs=1e-6)
    assert found["spearman"] == pytest.approx(100 * correlation(ranks(gold), ranks(said)), abs=1e-6)
    assert found["pearson"] == pytest.approx(100 * stats.pearsonr(gold, said).statistic, abs=1e-6)


@pytest.mark.parametrize("pairs", [[(1.0, 2.0)], [(1.0, 3.0), (2.0, 3.0)], [(1.0, 3.0), (1.0, 4.0)]])
def test_a_constant_side_has_no_correlation(pairs: list[tuple[float, float]]) -> None:
    none = {"pearson_spearman": None, "pearson": None, "spearman": None}
    assert compute(metrics.get("pearson_spearman")(), pairs) == none
    assert compute(metrics.get("klue_sts")(), pairs)["pearson"] is None


@QUIET
@given(pairs=NUMBERS)
def test_klue_sts_cuts_both_sides_at_three(pairs: list[tuple[float, float]]) -> None:
    gold, said = ([each >= 3 for each in side] for side in zip(*pairs, strict=True))
    expected = 100 * sk.f1_score(gold, said, zero_division=0.0)
    assert compute(metrics.get("klue_sts")(), pairs)["f1"] == pytest.approx(expected)


def squad_script(said: str, golds: list[str]) -> tuple[float, float]:
    """SQuAD 2.0's rule, written down anew: tokens of the normalised texts, the best gold counts."""

    def tokens(text: str) -> list[str]:
        kept = "".join(c for c in text.lower() if c not in string.punctuation)
        return [word for word in re.sub(r"\b(?:a|an|the)\b", " ", kept).split() if word]

    return best(tokens(said), [tokens(each) for each in golds or [""]], " ", 1.0)


def korquad_script(said: str, golds: list[str]) -> tuple[float, float]:
    """KorQuAD 1.0's rule: marks to blanks, ASCII punctuation away, characters counted."""

    def tokens(text: str) -> list[str]:
        for mark in "'\"《》<>〈〉()‘’":
            text = text.replace(mark, " ")
        return "".join(c for c in text.lower() if c not in string.punctuation).split()

    ems, f1s = [], []
    for gold in golds:
        ems.append(float(" ".join(tokens(said)) == " ".join(tokens(gold))))
        f1s.append(best(list("".join(tokens(said))), [list("".join(tokens(gold)))], "", 0.0)[1])
    return max(ems), max(f1s)


def best(said: list[str], golds: list[list[str]], joiner: str, nothing: float) -> tuple[float, float]:
    def f1(gold: list[str]) -> float:
        if not gold and not said:
            return nothing
        left, shared = list(gold), 0
        for each in said:
            if each in left:
                left.remove(each)
                shared += 1
        if not shared:
            return 0.0
        precision, recall = shared / len(said), shared / len(gold)
        return 2 * precision * recall / (precision + recall)

    return max(float(joiner.join(said) == joiner.join(gold)) for gold in golds), max(f1(gold) for gold in golds)


AWKWARD = [
    "", " ", "the", "The Cat!", "a cat", "a.b", "《책》", "‘책’", "책 이름", "책이름", "“x”", "。", "１２", "가\u0301",
    unicodedata.normalize("NFD", "서울"), "서울", "it's", "its", "\u3000",
]  # fmt: skip
ANSWER = st.one_of(st.sampled_from(AWKWARD), st.text("ab '《(책the .", max_size=8))


@QUIET
@given(said=ANSWER, golds=st.lists(ANSWER, min_size=1, max_size=3))
def test_answers_against_the_official_rules(said: str, golds: list[str]) -> None:
    for language, script in (("en", squad_script), ("ko", korquad_script)):
        em, f1 = script(said, golds)
        found = compute(metrics.get("squad")(language=language), [(golds, said)])
        assert found["em"] == pytest.approx(100 * em)
        assert found["f1"] == pytest.approx(100 * f1)


def test_unanswerable_questions_are_right_when_nothing_is_said() -> None:
    found = compute(metrics.get("squad")(), [([], ""), ([], "x"), (["a cat"], "cat"), (["dog"], "")])
    assert found["em"] == 50.0
    assert (found["no_ans_em"], found["has_ans_em"]) == (50.0, 50.0)


def test_japanese_and_unknown_languages() -> None:
    japanese = metrics.get("squad")(language="ja")
    assert compute(japanese, [(["東京。"], "東京")]) == {"f1": 100.0, "em": 100.0}
    assert compute(japanese, [(["the cat!"], "cat")])["em"] == 0.0
    with pytest.raises(Claf2Error, match="no official script for answers in 'fr'; valid: en, ja, ko"):
        compute(metrics.get("squad")(language="fr"), [(["x"], "x")])


def entities(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """Strict IOB2: an entity begins with B- and goes on while I- of its type follows."""
    found, start = set(), None
    for index, tag in enumerate([*tags, "O"]):
        if start is not None and tag != f"I-{tags[start][2:]}":
            found.add((start, index - 1, tags[start][2:]))
            start = None
        if tag.startswith("B-"):
            start = index
    return found


def macro(gold: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> float:
    golds = {(n, *each) for n, tags in enumerate(gold) for each in entities(tags)}
    saids = {(n, *each) for n, tags in enumerate(said) for each in entities(tags)}
    scores = []
    for kind in {each[-1] for each in golds | saids}:
        right = sum(each[-1] == kind for each in golds & saids)
        claimed = sum(each[-1] == kind for each in golds) + sum(each[-1] == kind for each in saids)
        scores.append(2 * right / claimed)
    return 100 * sum(scores) / len(scores) if scores else 0.0


@QUIET
@given(sentences=SENTENCES)
def test_klue_ner_against_its_definition(sentences: list[list[tuple[str, str, str]]]) -> None:
    predictions = [
        Prediction(
            str(n), [g for _, g, _ in each], [s for _, _, s in each], details={"tokens": [t for t, _, _ in each]}
        )
        for n, each in enumerate(sentences)
    ]
    found = metrics.get("klue_ner")().compute(predictions, TAGS)
    visible = [[(g, s) for t, g, s in each if t != " "] for each in sentences]
    slots = [pair for each in visible for pair in [("O", "O"), *each, ("O", "O")]]
    gold, said = [g for g, _ in slots], [s for _, s in slots]
    assert found["entity_macro_f1"] == pytest.approx(macro([gold], [said]))
    assert found["entity_macro_f1_fixed"] == pytest.approx(
        macro([[g for g, _ in each] for each in visible], [[s for _, s in each] for each in visible])
    )
    per_label = []
    for tag in TAGS:
        claimed = gold.count(tag) + said.count(tag)
        per_label.append(2 * sum(g == s == tag for g, s in slots) / claimed if claimed else 1.0)
    assert found["char_macro_f1"] == pytest.approx(100 * sum(per_label) / len(TAGS))


def test_klue_ner_bugs_are_in_the_official_score_only() -> None:
    """A tagger that finds nothing has a quarter of the official character F1 of three labels thanks to O alone."""
    tokens = {"tokens": list("가나다라")}
    nothing = [Prediction("0", ["B-PS", "I-PS", "O", "O"], ["O"] * 4, details=tokens)]
    found = metrics.get("klue_ner")().compute(nothing, ["B-PS", "I-PS", "O"])
    assert found["char_macro_f1"] == pytest.approx(100 * (0 + 0 + 8 / 10) / 3)
    assert found["char_macro_f1_fixed"] == 0.0


@QUIET
@given(sentences=SENTENCES)
def test_seqeval_scores(sentences: list[list[tuple[str, str, str]]]) -> None:
    pairs = [([g for _, g, _ in each], [s for _, _, s in each]) for each in sentences]
    assume(any(tag != "O" for gold, _ in pairs for tag in gold))
    found = compute(metrics.get("seqeval")(), pairs)
    report = classification_report([g for g, _ in pairs], [s for _, s in pairs], output_dict=True, zero_division=0)
    assert found["f1"] == pytest.approx(100 * report["micro avg"]["f1-score"])


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
    gold, told = [label for label, _ in rows], [NAMES[index] for index in table.argmax(1)]
    predictions = [
        Prediction(str(n), g, p, details={"probabilities": list(chances)})
        for n, (g, p, chances) in enumerate(zip(gold, told, table, strict=True))
    ]
    scores = metrics.get("klue_re")().compute(predictions, NAMES)
    expected = sk.f1_score(gold, told, average="micro", labels=NAMES[1:], zero_division=0.0)
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
    bare = [Prediction(each.id, each.gold, each.prediction) for each in predictions]
    assert metrics.get("klue_re")().compute(bare, NAMES)["auprc"] is None


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

    def macro(gold: list[int], told: list[int]) -> float:
        kinds = set(gold) | set(told)
        total = 0.0
        for kind in kinds:
            right = sum(g == t == kind for g, t in zip(gold, told, strict=True))
            total += 2 * right / (gold.count(kind) + told.count(kind))
        return 100 * total / len(kinds)

    assert scores["uas_macro_f1"] == pytest.approx(macro([w[0] for w in words], [w[1] for w in words]))
    classes = [
        (min(int(w[2][1:]), 15), min(int(w[3][1:]), 15) if w[0] == w[1] else -2) for w in words
    ]  # from the sixteenth on they are one, and a wrong head is a class of its own
    assert scores["las_macro_f1"] == pytest.approx(macro([c[0] for c in classes], [c[1] for c in classes]))
    assert scores["uas"] == pytest.approx(100 * np.mean([w[0] == w[1] for w in words]))
    assert scores["las"] == pytest.approx(100 * np.mean([w[0] == w[1] and w[2] == w[3] for w in words]))


STATES = st.lists(
    st.tuples(*[st.lists(st.sampled_from(["s-a-1", "s-a-2", "s-b-1", "t-c-x-y"]), unique=True)] * 2), min_size=1
)


@QUIET
@given(states=STATES)
def test_states_against_their_definition(states: list[tuple[list[str], list[str]]]) -> None:
    scores = compute(metrics.get("wos")(), states)
    assert scores["jga"] == pytest.approx(100 * np.mean([sorted(g) == sorted(p) for g, p in states]))
    turns = []
    for gold, told in states:
        precision = np.mean([each in gold for each in told]) if told else 0.0
        recall = np.mean([each in told for each in gold]) if gold else 0.0
        both = precision + recall
        turns.append(1.0 if not gold and not told else 2 * precision * recall / both if both else 0.0)
    assert scores["slot_micro_f1"] == pytest.approx(100 * np.mean(turns))


def test_slot_f1_fixed_counts_over_all_turns() -> None:
    states = [(["s-a-1"], ["s-a-1"]), (["s-a-1", "s-b-1", "s-c-1"], [])]
    scores = compute(metrics.get("wos")(), states)
    assert scores["slot_micro_f1"] == pytest.approx(50)
    assert scores["slot_f1_fixed"] == pytest.approx(40)
    assert compute(metrics.get("wos")(), [([], [])])["slot_f1_fixed"] == 100


def longest(told: str, gold: str) -> int:
    """Return the length of the longest common substring, by trying them all."""
    return max((e - s for s in range(len(told)) for e in range(s, len(told) + 1) if told[s:e] in gold), default=0)


@QUIET
@given(
    told=st.text("가나다 ab.《》()‘’", max_size=8),
    golds=st.lists(st.text("가나다 ab.《》()‘’", max_size=8), max_size=3),
)
def test_klue_mrc_against_its_definition(told: str, golds: list[str]) -> None:
    def normal(text: str, marks: str) -> str:
        kept = "".join(" " if c in marks else c for c in text.lower())
        return " ".join("".join(c for c in kept if c not in string.punctuation).split())

    scores = compute(metrics.get("klue_mrc")(), [(golds, told)])
    for ending, marks in (("", ""), ("_fixed", "'\"《》<>〈〉()‘’")):
        said, wanted = normal(told, marks), [normal(gold, marks) for gold in golds] or [""]
        assert scores[f"em{ending}"] == (100.0 if said in wanted else 0.0)
        best = max(
            float(said == gold) if not gold or not said else 2 * longest(said, gold) / (len(said) + len(gold))
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
                    str(n), ["king"] if answerable else [], "" if d > threshold else said or "x",
                    details={"null_score_difference": d, "best_answer": said or "x"},
                )
                for n, (answerable, said, d) in enumerate(rows)
            ],
            [],
        )  # fmt: skip

    thresholds = [each / 2 for each in range(-8, 9)]
    for key in ("f1", "em"):
        tried = [at(threshold)[key] for threshold in thresholds]
        assert at(0.0)[f"best_{key}"] == pytest.approx(max(value for value in tried if value is not None))
    chosen = at(0.0)["best_f1_threshold"]
    assert chosen is not None
    assert at(chosen)["f1"] == pytest.approx(at(0.0)["best_f1"])
