"""Scores of labels: accuracy, F1, macro F1, Matthews correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from claf2.errors import Claf2Error
from claf2.metrics import Metric, Prediction, Scores, register_metric


def _columns(predictions: Sequence[Prediction]) -> tuple[list[str], list[str]]:
    return [str(each.gold) for each in predictions], [str(each.prediction) for each in predictions]


@register_metric("accuracy")
class Accuracy(Metric):
    """The share of examples whose label is right."""

    selects: ClassVar[str] = "accuracy"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        return {"accuracy": 100.0 * sum(each.gold == each.prediction for each in predictions) / len(predictions)}


@register_metric("f1")
class F1(Metric):
    """F1 of one label against all others; 0 where it is neither there nor predicted, as scikit-learn has it."""

    selects: ClassVar[str] = "f1"

    positive: str | None = None
    """The label that counts; `null`: the second of the task's two."""

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        positive = self.positive
        if positive is None:
            if len(labels) != 2:
                raise Claf2Error(f"f1 needs to be told which of {len(labels)} labels is the positive one")
            positive = labels[1]
        gold, predicted = _columns(predictions)
        right = sum(g == p == positive for g, p in zip(gold, predicted, strict=True))
        claimed = sum(p == positive for p in predicted) + sum(g == positive for g in gold)
        return {"f1": 200.0 * right / claimed if claimed else 0.0}


@register_metric("accuracy_and_f1")
class AccuracyAndF1(Metric):
    """GLUE's score of MRPC and QQP: the mean of accuracy and F1 of the second label, and both of them."""

    selects: ClassVar[str] = "accuracy_and_f1"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        accuracy = Accuracy().compute(predictions, labels)["accuracy"] or 0.0
        f1 = F1().compute(predictions, labels)["f1"] or 0.0
        return {"accuracy_and_f1": (accuracy + f1) / 2, "accuracy": accuracy, "f1": f1}


@register_metric("macro_f1")
class MacroF1(Metric):
    """The unweighted mean of the F1 of all the task's labels; a label neither there nor predicted counts 0."""

    selects: ClassVar[str] = "macro_f1"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        from sklearn.metrics import f1_score

        gold, predicted = _columns(predictions)
        value = f1_score(gold, predicted, labels=list(labels), average="macro", zero_division=0.0)
        return {"macro_f1": 100.0 * float(value)}


@register_metric("matthews")
class Matthews(Metric):
    """Matthews correlation (CoLA's); 0 where gold or predictions are all of one label, as scikit-learn has it."""

    selects: ClassVar[str] = "matthews"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        from sklearn.metrics import matthews_corrcoef

        gold, predicted = _columns(predictions)
        if len(set(gold) | set(predicted)) < 2:
            return {"matthews": 0.0}
        return {"matthews": 100.0 * float(matthews_corrcoef(gold, predicted))}
