"""Metrics of labels: accuracy, F1, macro F1 and Matthews correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from claf2.errors import Claf2Error
from claf2.metrics import Metric, Prediction, Resampler, Scores, additive, f1, register_metric, share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _one_hot(predictions: Sequence[Prediction], labels: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return gold and predicted labels of N examples, one-hot, (N, labels) each. Other labels are rows of zeros."""
    import numpy as np

    columns = np.array(labels, dtype=object)
    gold = np.array([str(prediction.gold) for prediction in predictions], dtype=object)
    predicted = np.array([str(prediction.prediction) for prediction in predictions], dtype=object)
    return gold[:, None] == columns, predicted[:, None] == columns


def _macro_f1(predictions: Sequence[Prediction], labels: Sequence[str], *, occurring: bool = False) -> Resampler:
    """Return the resampler of the mean F1 of some labels; see ``f1``."""
    import numpy as np

    gold, predicted = _one_hot(predictions, labels)
    return f1(gold & predicted, np.add(gold, predicted, dtype=np.float64), occurring=occurring)


@register_metric("accuracy")
class Accuracy(Metric):
    """The percentage of examples whose label is right."""

    selects: ClassVar[str] = "accuracy"
    keys: ClassVar[frozenset[str]] = frozenset({"accuracy"})

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        return {"accuracy": self.resampler(predictions, labels).value()}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return share([prediction.gold == prediction.prediction for prediction in predictions])


@register_metric("f1")
class F1(Metric):
    """F1 of one label against all others; 0 if it occurs neither in gold nor in the predictions, as in scikit-learn."""

    selects: ClassVar[str] = "f1"
    keys: ClassVar[frozenset[str]] = frozenset({"f1"})

    positive: str | None = None
    """The positive label; `null`: the second of the two labels of the task."""

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        return {"f1": self.resampler(predictions, labels).value()}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        positive = self.positive
        if positive is None:
            if len(labels) != 2:
                raise Claf2Error(f"f1 needs 'positive', the label to score, because the task has {len(labels)} labels")
            positive = labels[1]
        return _macro_f1(predictions, [positive])


@register_metric("accuracy_and_f1")
class AccuracyAndF1(Metric):
    """GLUE's score of MRPC and QQP: the mean of accuracy and of F1 of the second label (Wang et al., 2019)."""

    selects: ClassVar[str] = "accuracy_and_f1"
    keys: ClassVar[frozenset[str]] = frozenset({"accuracy_and_f1", "accuracy", "f1"})

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        accuracy = Accuracy().compute(predictions, labels)["accuracy"] or 0.0
        f1 = F1().compute(predictions, labels)["f1"] or 0.0
        return {"accuracy_and_f1": (accuracy + f1) / 2, "accuracy": accuracy, "f1": f1}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        accuracy, f1 = (metric.resampler(predictions, labels) for metric in (Accuracy(), F1()))
        return Resampler(lambda counts: (accuracy.scores(counts) + f1.scores(counts)) / 2, len(predictions))


@register_metric("macro_f1")
class MacroF1(Metric):
    """The unweighted mean of the F1 of the task's labels that occur in gold or predictions, as scikit-learn's macro F1
    without ``labels``, which the scripts of KLUE and SuperGLUE call. A prediction that is no label counts as wrong."""

    selects: ClassVar[str] = "macro_f1"
    keys: ClassVar[frozenset[str]] = frozenset({"macro_f1"})

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        return {"macro_f1": self.resampler(predictions, labels).value()}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return _macro_f1(predictions, labels, occurring=True)


@register_metric("matthews")
class Matthews(Metric):
    """Matthews correlation, CoLA's score; 0 if gold or predictions are constant, as in scikit-learn."""

    selects: ClassVar[str] = "matthews"
    bounds: ClassVar[tuple[float, float]] = (-100.0, 100.0)
    keys: ClassVar[frozenset[str]] = frozenset({"matthews"})

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        return {"matthews": self.resampler(predictions, labels).value()}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        import numpy as np

        # All labels that occur, whether or not they are labels of the task.
        names = sorted({str(label) for prediction in predictions for label in (prediction.gold, prediction.prediction)})
        gold, predicted = _one_hot(predictions, names)
        right = (gold & predicted).any(axis=1, keepdims=True)

        def score(sums: NDArray[np.float64]) -> NDArray[np.float64]:
            # The correlation of K labels (Gorodkin, 2004) depends on three kinds of sums: the number of right examples,
            # and the number of examples with each label in gold and in the predictions.
            right_sum, (gold_sums, predicted_sums) = sums[:, 0], np.split(sums[:, 1:], 2, axis=1)
            total = gold_sums.sum(axis=1)
            covariance = right_sum * total - (gold_sums * predicted_sums).sum(axis=1)
            variances = (total**2 - (gold_sums**2).sum(axis=1)) * (total**2 - (predicted_sums**2).sum(axis=1))
            # A constant side has variance 0: dividing by infinity makes the score 0 instead of undefined.
            value: NDArray[np.float64] = 100.0 * covariance / np.sqrt(np.where(variances > 0, variances, np.inf))
            return value

        return additive(np.concatenate([right, gold, predicted], axis=1), score)
