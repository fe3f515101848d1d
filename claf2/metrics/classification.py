"""Scores of labels: accuracy, F1, macro F1, Matthews correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from claf2.errors import Claf2Error
from claf2.metrics import Metric, Prediction, Resampler, Scores, additive, f1, register_metric, share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _tables(predictions: Sequence[Prediction], labels: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which label each example has in gold and which in the prediction: two tables [examples, labels]."""
    import numpy as np

    columns = np.array(labels, dtype=object)
    gold = np.array([str(each.gold) for each in predictions], dtype=object)
    predicted = np.array([str(each.prediction) for each in predictions], dtype=object)
    return gold[:, None] == columns, predicted[:, None] == columns


def _f1(predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
    import numpy as np

    gold, predicted = _tables(predictions, labels)
    return f1(gold & predicted, np.add(gold, predicted, dtype=np.float64))


@register_metric("accuracy")
class Accuracy(Metric):
    """The share of examples whose label is right."""

    selects: ClassVar[str] = "accuracy"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        return {"accuracy": self.resampler(predictions, labels).value()}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return share([each.gold == each.prediction for each in predictions])


@register_metric("f1")
class F1(Metric):
    """F1 of one label against all others; 0 where it is neither there nor predicted, as scikit-learn has it."""

    selects: ClassVar[str] = "f1"

    positive: str | None = None
    """The label that counts; `null`: the second of the task's two."""

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        return {"f1": self.resampler(predictions, labels).value()}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        positive = self.positive
        if positive is None:
            if len(labels) != 2:
                raise Claf2Error(f"f1 needs to be told which of {len(labels)} labels is the positive one")
            positive = labels[1]
        return _f1(predictions, [positive])


@register_metric("accuracy_and_f1")
class AccuracyAndF1(Metric):
    """GLUE's score of MRPC and QQP: the mean of accuracy and F1 of the second label, and both of them."""

    selects: ClassVar[str] = "accuracy_and_f1"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        accuracy = Accuracy().compute(predictions, labels)["accuracy"] or 0.0
        f1 = F1().compute(predictions, labels)["f1"] or 0.0
        return {"accuracy_and_f1": (accuracy + f1) / 2, "accuracy": accuracy, "f1": f1}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        accuracy, f1 = (metric.resampler(predictions, labels) for metric in (Accuracy(), F1()))
        return Resampler(lambda counts: (accuracy.scores(counts) + f1.scores(counts)) / 2, len(predictions))


@register_metric("macro_f1")
class MacroF1(Metric):
    """The unweighted mean of the F1 of all the task's labels; a label neither there nor predicted counts 0."""

    selects: ClassVar[str] = "macro_f1"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        return {"macro_f1": self.resampler(predictions, labels).value()}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return _f1(predictions, labels)


@register_metric("matthews")
class Matthews(Metric):
    """Matthews correlation (CoLA's); 0 where gold or predictions are all of one label, as scikit-learn has it."""

    selects: ClassVar[str] = "matthews"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        return {"matthews": self.resampler(predictions, labels).value()}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        import numpy as np

        names = sorted({str(side) for each in predictions for side in (each.gold, each.prediction)})
        gold, predicted = _tables(predictions, names)
        right = (gold & predicted).any(axis=1, keepdims=True)

        def score(sums: NDArray[np.float64]) -> NDArray[np.float64]:
            # Gorodkin (2004), the correlation of K labels, from the counts in gold and in the predictions.
            met, (golds, told) = sums[:, 0], np.split(sums[:, 1:], 2, axis=1)
            total = golds.sum(axis=1)
            both = met * total - (golds * told).sum(axis=1)
            spreads = (total**2 - (golds**2).sum(axis=1)) * (total**2 - (told**2).sum(axis=1))
            value: NDArray[np.float64] = 100.0 * both / np.sqrt(np.where(spreads > 0, spreads, np.inf))
            return value

        return additive(np.concatenate([right, gold, predicted], axis=1), score)
