"""Scores of relations: KLUE RE's micro F1 without "no relation", and the area under the precision-recall curve."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import ClassVar

from claf2.metrics import Metric, Prediction, Resampler, Scores, f1, register_metric


@register_metric("klue_re")
class KlueRe(Metric):
    """KLUE RE's micro F1 over all relations but ``none``, and AUPRC, as KLUE-baseline computes them.

    AUPRC is the mean, over *all* labels, of the trapezoidal area under each label's precision-recall curve. A label
    that no example has gets the area that scikit-learn gives a curve without positives, which is no measurement;
    ``auprc_fixed`` averages over the labels that occur in gold. It is undefined without probabilities.
    """

    selects: ClassVar[str] = "micro_f1"

    none: str = "no_relation"
    """The label that does not count."""

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        areas = self._areas(predictions, labels)
        present = {each.gold for each in predictions}
        occurring = [area for label, area in areas.items() if label in present]
        return {
            "micro_f1": self.resampler(predictions, labels).value(),
            "auprc": 100.0 * sum(areas.values()) / len(areas) if areas else None,
            "auprc_fixed": 100.0 * sum(occurring) / len(occurring) if occurring else None,
        }

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return f1(
            [[each.gold == each.prediction != self.none] for each in predictions],
            [[(each.gold != self.none) + (each.prediction != self.none)] for each in predictions],
        )

    def _areas(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> dict[str, float]:
        import numpy as np
        from sklearn.metrics import auc, precision_recall_curve

        chances = [(each.details or {}).get("probabilities") for each in predictions]
        if any(each is None for each in chances):
            return {}
        table = np.array(chances, dtype=np.float64)
        areas = {}
        for index, label in enumerate(labels):
            gold = [each.gold == label for each in predictions]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a label without positives
                precision, recall, _ = precision_recall_curve(gold, table[:, index])
            areas[label] = float(auc(recall, precision))
        return areas
