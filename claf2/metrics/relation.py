"""Metrics of relations: micro F1 without "no relation", and the area under the precision-recall curve."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import ClassVar

from claf2.metrics import Metric, Prediction, Resampler, Scores, f1, register_metric


@register_metric("klue_re")
class KlueRe(Metric):
    """Micro F1 over all relations except `no_relation`, and AUPRC, as in KLUE-baseline.

    AUPRC is the trapezoidal area under the precision-recall curve of a label, averaged over *all* labels. For a label
    without positive examples, scikit-learn returns an area that means nothing; ``auprc_fixed`` averages over the labels
    that occur in gold. Both are undefined if the predictions have no probabilities by label name.
    """

    selects: ClassVar[str] = "micro_f1"
    keys: ClassVar[frozenset[str]] = frozenset({"micro_f1", "auprc", "auprc_fixed"})

    none: str = "no_relation"
    """The label of pairs without a relation, which is not counted."""

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        areas = self._areas(predictions, labels)
        present = {prediction.gold for prediction in predictions}
        occurring = [area for label, area in areas.items() if label in present]
        return {
            "micro_f1": self.resampler(predictions, labels).value(),
            "auprc": 100.0 * sum(areas.values()) / len(areas) if areas else None,
            "auprc_fixed": 100.0 * sum(occurring) / len(occurring) if occurring else None,
        }

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return f1(
            [[p.gold == p.prediction != self.none] for p in predictions],
            [[(p.gold != self.none) + (p.prediction != self.none)] for p in predictions],
        )

    def _areas(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> dict[str, float]:
        """Return the area under the precision-recall curve of each label, 0 to 1; empty without probabilities."""
        import numpy as np
        from sklearn.metrics import auc, precision_recall_curve

        probabilities = [(prediction.details or {}).get("probabilities") for prediction in predictions]
        by_name = [row for row in probabilities if isinstance(row, Mapping)]
        if len(by_name) < len(predictions):  # files of older versions list them in an order that they do not state
            return {}
        table = np.array([[row[label] for label in labels] for row in by_name], dtype=np.float64)
        areas = {}
        for index, label in enumerate(labels):
            gold = [prediction.gold == label for prediction in predictions]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it warns of labels without positives
                precision, recall, _ = precision_recall_curve(gold, table[:, index])
            areas[label] = float(auc(recall, precision))
        return areas
