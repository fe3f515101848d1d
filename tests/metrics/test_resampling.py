"""The fast score of a resample equals what ``compute`` returns for the repeated examples."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claf2.errors import Claf2Error
from claf2.metrics import Metric, Prediction, Resampler, Scores, metrics

QUIET = settings(max_examples=40, deadline=None)
LABELS = ["a", "b", "c"]
TAGS = ["B-PS", "I-PS", "B-LC", "I-LC", "O"]
RELATIONS = [f"r{index}" for index in range(18)]
SLOTS = ["s-a-1", "s-a-2", "s-b-1"]

label = st.sampled_from(LABELS)
number = st.integers(-400, 400).map(lambda value: value / 100)
constant = st.just(0.1)
text = st.one_of(
    st.sampled_from(["", "the", "a cat", "Cat!", "서울", "《서울》", "。"]), st.text("ab 서울", max_size=5)
)
state = st.lists(st.sampled_from(SLOTS), unique=True)
ranked = st.lists(st.sampled_from("abcdefghijkl"), unique=True)
counted = st.fixed_dictionaries({"tokens": st.integers(0, 9), "bytes": st.integers(0, 30)})
predicted = st.fixed_dictionaries({"nats": st.integers(0, 4000).map(lambda n: n / 100), "right": st.integers(0, 9)})
pair = st.fixed_dictionaries({"pair": st.sampled_from("01")})


def sides(gold: st.SearchStrategy[Any], predicted: st.SearchStrategy[Any]) -> st.SearchStrategy[list[tuple[Any, Any]]]:
    return st.lists(st.tuples(gold, predicted), min_size=1, max_size=25)


@st.composite
def sentences(draw: st.DrawFn) -> list[tuple[Any, Any]]:
    words = st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1, max_size=7)
    return [([g for g, _ in tags], [p for _, p in tags]) for tags in draw(st.lists(words, min_size=1, max_size=8))]


@st.composite
def trees(draw: st.DrawFn) -> list[tuple[Any, Any]]:
    word = st.tuples(*[st.integers(0, 2)] * 2, *[st.sampled_from(RELATIONS)] * 2)
    return [
        tuple({"heads": [w[i] for w in tree], "relations": [w[i + 2] for w in tree]} for i in (0, 1))
        for tree in draw(st.lists(st.lists(word, min_size=1, max_size=5), min_size=1, max_size=8))
    ]


CASES: dict[str, tuple[st.SearchStrategy[list[tuple[Any, Any]]], Sequence[str]]] = {
    "accuracy": (sides(label, label), LABELS),
    "f1": (sides(st.sampled_from("ab"), st.sampled_from("ab")), LABELS[:2]),
    "accuracy_and_f1": (sides(st.sampled_from("ab"), st.sampled_from("ab")), LABELS[:2]),
    "macro_f1": (st.one_of(sides(label, label), sides(label, st.just("elsewhere"))), LABELS),
    "matthews": (st.one_of(sides(label, label), sides(st.just("a"), label), sides(label, st.just("a"))), LABELS),
    "pearson": (st.one_of(sides(number, number), sides(constant, number), sides(number, constant)), ()),
    "klue_sts": (sides(number, number), ()),
    "spearman": (st.one_of(sides(number, number), sides(st.integers(0, 2), number), sides(constant, number)), ()),
    "pearson_spearman": (st.one_of(sides(number, number), sides(number, constant)), ()),
    "average_precision": (st.one_of(sides(st.integers(0, 1), number), sides(st.integers(0, 1), st.integers(0, 2))), ()),
    "squad": (sides(st.lists(text, max_size=3), text), ()),
    "klue_mrc": (sides(st.lists(text, max_size=3), text), ()),
    "seqeval": (sentences(), TAGS),
    "klue_ner": (sentences(), TAGS),
    "klue_re": (sides(st.sampled_from(["no_relation", "a", "b"]), st.sampled_from(["no_relation", "a", "b"])), LABELS),
    "klue_dp": (trees(), RELATIONS),
    "wos": (sides(state, state), ()),
    "masked_lm": (sides(counted, predicted), ()),
    "causal_lm": (sides(counted, predicted), ()),
    "next_sentence": (sides(pair, pair), ()),
    "retrieval": (sides(ranked.filter(bool), ranked), ()),
    "ndcg": (sides(ranked.filter(bool), ranked), ()),
}


def predictions_of(pairs: Sequence[tuple[Any, Any]]) -> list[Prediction]:
    return [
        Prediction(str(n), gold, predicted, details={"tokens": ["x"] * len(gold)} if isinstance(gold, list) else None)
        for n, (gold, predicted) in enumerate(pairs)
    ]


def check_agreement(metric: Metric, predictions: Sequence[Prediction], labels: Sequence[str], seed: int) -> None:
    """Compare the resampler with ``compute`` on all examples and on resamples, few distinct examples among them."""
    resampler = metric.resampler(predictions, labels)
    n = len(predictions)
    assert resampler.size == n
    rng = np.random.default_rng(seed)
    counts = np.stack([np.ones(n), *(np.bincount(rng.integers(0, m, n), minlength=n) for m in (n, n, max(1, n // 3)))])
    scores = resampler.scores(counts.astype(float))
    assert scores.shape == (len(counts),)
    for row, score in zip(counts.astype(int), scores, strict=True):
        repeated = [prediction for prediction, count in zip(predictions, row, strict=True) for _ in range(count)]
        expected = metric.compute(repeated, labels)[metric.selects]
        if expected is None:
            assert np.isnan(score)
        else:
            assert score == pytest.approx(expected, abs=1e-6)
            if resampler.right is not None:
                assert score == pytest.approx(100 * (row @ resampler.right) / row.sum())
    assert resampler.value() == pytest.approx(metric.compute(predictions, labels)[metric.selects], abs=1e-6)


@pytest.mark.parametrize("name", sorted(CASES))
def test_resamples_score_as_repeated_examples(name: str) -> None:
    strategy, labels = CASES[name]

    @QUIET
    @given(pairs=strategy, seed=st.integers(0, 9))
    def check(pairs: list[tuple[Any, Any]], seed: int) -> None:
        check_agreement(metrics.get(name)(), predictions_of(pairs), labels, seed)

    check()


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_metric_names_all_its_scores(name: str) -> None:
    """Else its score would be refused as a ``metric_key`` before training."""
    strategy, labels = CASES[name]
    metric = metrics.get(name)()
    assert metric.selects in metric.keys
    assert metric.lower_is_better <= metric.keys

    @QUIET
    @given(pairs=strategy)
    def check(pairs: list[tuple[Any, Any]]) -> None:
        assert metric.compute(predictions_of(pairs), labels).keys() <= metric.keys

    check()


def test_every_metric_is_tried() -> None:
    assert set(metrics.names()) == set(CASES)


@pytest.mark.parametrize("language", ["ko", "ja"])
def test_answers_in_other_languages(language: str) -> None:
    pairs = [(["서울"], "서울시"), (["a cat"], "the cat"), ([""], ""), (["東京。"], "東京")]
    check_agreement(metrics.get("squad")(language=language), predictions_of(pairs), (), 1)


def test_a_metric_without_a_resampler_of_its_own_is_computed() -> None:
    class Median(Metric):
        selects: ClassVar[str] = "median"

        def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
            value = float(np.median([prediction.prediction for prediction in predictions]))
            return {"median": None if value == 0 else value}

    check_agreement(Median(), predictions_of([(0, value) for value in (0, 1, 5, 9, 0, 0)]), (), 2)


def test_large_numbers_keep_their_digits() -> None:
    """Without subtracting the mean, the moments of numbers around a million would lose theirs."""
    rng = np.random.default_rng(3)
    gold = 1e6 + rng.normal(size=50)
    check_agreement(metrics.get("pearson")(), predictions_of([(g, 1e-9 * (g + rng.normal())) for g in gold]), (), 4)


def test_numbers_that_are_none_make_the_score_undefined() -> None:
    for name in ("pearson", "spearman", "pearson_spearman"):
        predictions = predictions_of([(1.0, 2.0), (2.0, float("nan")), (3.0, 1.0)])
        assert metrics.get(name)().resampler(predictions, ()).value() is None


RIGHT: list[tuple[str, list[tuple[Any, Any]], bool]] = [
    ("accuracy", [("a", "a"), ("a", "b")], True),
    ("wos", [(["s-a-1"], ["s-a-1"]), (["s-a-1"], [])], True),
    ("squad", [(["a b"], "b c")], False),
    ("f1", [("a", "a"), ("b", "b")], False),
]


@pytest.mark.parametrize(("name", "pairs", "known"), RIGHT)
def test_shares_say_which_examples_are_right(name: str, pairs: list[tuple[Any, Any]], known: bool) -> None:
    right = metrics.get(name)().resampler(predictions_of(pairs), ["a", "b"]).right
    assert (right is not None) == known
    assert right is None or right.tolist() == [True, False]


@pytest.mark.parametrize(
    "ask",
    [
        lambda: metrics.get("f1")().resampler(predictions_of([("a", "b")]), LABELS),
        lambda: metrics.get("squad")(language="fr").resampler(predictions_of([(["x"], "x")]), ()),
    ],
)
def test_errors_are_those_of_compute(ask: Callable[[], Resampler]) -> None:
    with pytest.raises(Claf2Error, match=r"the task has 3 labels|no official script"):
        ask()


def test_importing_metrics_imports_nothing_heavy() -> None:
    code = (
        "import sys; from claf2.metrics import metrics; metrics.names(); "
        "print([name for name in ('numpy', 'scipy', 'sklearn', 'seqeval', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
