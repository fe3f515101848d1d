"""Scores of sentence encoders against those of MTEB's own code on the same vectors."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import paired_cosine_distances

from claf2.heads import CollectedOutputs
from claf2.heads.embed import ContrastiveHead, SimilarityHead
from claf2.heads.networks.sentence import TextVectors
from claf2.metrics import Prediction
from claf2.metrics.correlation import AveragePrecision, Pearson, Spearman
from claf2.metrics.retrieval import GainScore
from claf2.readers import SpanExample, TextExample

WIDTH = 16


@pytest.fixture(scope="module")
def mteb() -> Any:
    """The library, whose imports may warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = pytest.importorskip("mteb", reason="mteb is not installed: pip install 'claf2[sentence]'")
        for module in ("mteb._evaluators.retrieval_metrics", "mteb.abstasks.sts", "mteb.abstasks.pair_classification"):
            importlib.import_module(module)
    return library


def test_similarities_have_the_scores_of_mteb(mteb: Any) -> None:
    dice = np.random.default_rng(0)
    vectors = dice.normal(size=(300, 2, WIDTH)).astype(np.float32)
    gold = np.round(dice.uniform(0, 5, 300), 1)
    vectors[:, 1] += vectors[:, 0] * gold[:, None].astype(np.float32) / 4
    rows = [
        TextExample(id=str(row), text_a="a", text_b="b", label=str(float(number))) for row, number in enumerate(gold)
    ]
    cosines = SimilarityHead().collect(TextVectors(torch.from_numpy(vectors)))["value"].numpy()
    outputs = [{"value": cosine} for cosine in cosines]
    predictions = SimilarityHead().predict(CollectedOutputs(rows, [], outputs, [], None))  # type: ignore[arg-type]
    # What `AnySTSEvaluator` computes from the vectors of a model.
    expected = 1 - paired_cosine_distances(vectors[:, 0], vectors[:, 1])
    scores = {"cosine_scores": expected, "manhattan_distances": expected, "euclidean_distances": expected}
    official = mteb.abstasks.sts.AbsTaskSTS._calculate_scores(
        None, {**scores, "similarity_scores": None}, gold.tolist()
    )
    assert cosines == pytest.approx(expected, abs=1e-6)
    assert Pearson().compute(predictions, [])["pearson"] == pytest.approx(100 * official["cosine_pearson"], abs=1e-4)
    assert Spearman().compute(predictions, [])["spearman"] == pytest.approx(100 * official["cosine_spearman"], abs=1e-4)
    assert 50 < 100 * official["cosine_spearman"] < 95


@pytest.mark.parametrize("positive", [0.0, 1.0])
def test_pairs_have_the_scores_of_mteb(mteb: Any, positive: float) -> None:
    """With ties, and whichever label says that two texts belong together."""
    dice = np.random.default_rng(2)
    gold = dice.integers(0, 2, 300)
    cosines = np.round(dice.normal(size=300) + np.where(gold == positive, 1.0, 0.0), 1)
    predictions = [
        Prediction(str(row), float(label), float(cosine))
        for row, (label, cosine) in enumerate(zip(gold, cosines, strict=True))
    ]
    kind = mteb.abstasks.pair_classification.AbsTaskPairClassification
    official = kind._compute_metrics_values(kind.__new__(kind), cosines, (gold == positive).astype(int), True)
    computed = AveragePrecision(positive=positive).compute(predictions, [])["average_precision"]
    assert computed == pytest.approx(100 * official["ap"], abs=1e-6)
    assert 55 < (computed or 0) < 95


def test_rankings_have_the_scores_of_mteb(mteb: Any) -> None:
    dice = np.random.default_rng(1)
    contexts = [f"paragraph {row // 3}" for row in range(300)]
    passages = dice.normal(size=(100, WIDTH)).astype(np.float32)
    questions = passages[np.arange(300) // 3] + dice.normal(size=(300, WIDTH)).astype(np.float32) * 1.2
    vectors = np.stack([questions, passages[np.arange(300) // 3]], axis=1)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    examples = [
        SpanExample(id=str(row), question=f"q{row}", context=context, answers=())
        for row, context in enumerate(contexts)
    ]
    outputs = [{"vectors": row} for row in vectors]
    predictions = ContrastiveHead().predict(CollectedOutputs(examples, [], outputs, [], None))  # type: ignore[arg-type]
    computed = GainScore().compute(predictions, [])
    cosines = vectors[:, 0] @ vectors[::3, 1].T
    results = {
        f"q{row}": {contexts[3 * place]: float(cosine) for place, cosine in enumerate(line)}
        for row, line in enumerate(cosines)
    }
    relevant = {f"q{row}": {context: 1} for row, context in enumerate(contexts)}
    official = mteb._evaluators.retrieval_metrics.calculate_retrieval_scores(results, relevant, [1, 5, 10])
    assert 20 < (computed["recall_at_1"] or 0) < 95
    for cutoff in (1, 5, 10):
        assert computed[f"recall_at_{cutoff}"] == pytest.approx(100 * official.recall[f"Recall@{cutoff}"], abs=1e-3)
    assert computed["ndcg_at_10"] == pytest.approx(100 * official.ndcg["NDCG@10"], abs=1e-3)
    assert computed["mrr_at_10"] == pytest.approx(100 * official.mrr["MRR@10"], abs=1e-3)
