"""Metrics of ranked lists: recall, reciprocal rank, and discounted cumulative gain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from claf2.metrics import Metric, Prediction, Resampler, Scores, register_metric, share

CUTOFFS = (1, 5, 10)
"""The numbers of items after which recall is computed."""
LONGEST_LIST = 10
"""How many items reciprocal rank and gain look at."""


@register_metric("retrieval")
class RetrievalScore(Metric):
    """Scores of ranked lists: ``gold`` is the list of relevant items, ``prediction`` that of the items found, the best
    first.

    - ``recall_at_1``, ``recall_at_5``, ``recall_at_10``: the share of the relevant items among the first ones;
    - ``mrr_at_10``: 1 / the rank of the first relevant item, 0 after the tenth;
    - ``ndcg_at_10``: discounted cumulative gain with gains of 0 and 1 (Järvelin & Kekäläinen, 2002), divided by the
      highest possible one.

    All are averaged over queries.
    """

    selects: ClassVar[str] = "recall_at_5"
    keys: ClassVar[frozenset[str]] = frozenset(
        {*(f"recall_at_{cutoff}" for cutoff in CUTOFFS), f"mrr_at_{LONGEST_LIST}", f"ndcg_at_{LONGEST_LIST}"}
    )

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        if not predictions:
            return dict.fromkeys(self.keys)
        return {key: resampler.value() for key, resampler in self.resamplers(predictions).items()}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return self.resamplers(predictions)[self.selects]

    def is_right(self, prediction: Prediction) -> bool:
        return _score_list(prediction)[self.selects] == 1.0

    def resamplers(self, predictions: Sequence[Prediction]) -> dict[str, Resampler]:
        """Return the resampler of each score."""
        rows = [_score_list(prediction) for prediction in predictions]
        return {key: share([row[key] for row in rows]) for key in sorted(self.keys)}


@register_metric("ndcg")
class GainScore(RetrievalScore):
    """nDCG@10, recall@1, @5 and @10, and MRR@10 of a ranking; ``ndcg_at_10`` selects the best checkpoint, as in MTEB
    (Muennighoff et al., 2023, https://arxiv.org/abs/2210.07316)."""

    selects: ClassVar[str] = f"ndcg_at_{LONGEST_LIST}"


def _score_list(prediction: Prediction) -> Mapping[str, float]:
    """Return the scores of one query, 0 to 1 each."""
    relevant = set(prediction.gold)
    hits = [item in relevant for item in dict.fromkeys(prediction.prediction)]  # an item counts once, where it is first
    recall = {f"recall_at_{cutoff}": sum(hits[:cutoff]) / max(len(relevant), 1) for cutoff in CUTOFFS}
    first = next((rank for rank, hit in enumerate(hits[:LONGEST_LIST], start=1) if hit), 0)
    gain = sum(1 / math.log2(rank + 1) for rank, hit in enumerate(hits[:LONGEST_LIST], start=1) if hit)
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(relevant), LONGEST_LIST) + 1))
    return {
        **recall, f"mrr_at_{LONGEST_LIST}": 1 / first if first else 0.0,
        f"ndcg_at_{LONGEST_LIST}": gain / best if best else 0.0,
    }  # fmt: skip
