"""Scores of tag sequences: CoNLL's entity F1, and KLUE NER's two."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, ClassVar

from claf2.metrics import Metric, Prediction, Resampler, Scores, f1, register_metric


@register_metric("seqeval")
class SeqEval(Metric):
    """Micro F1, precision and recall over entities, an entity being right with its type and both ends.

    Entities are read as conlleval does (seqeval's default mode): an I- without its B- begins one.
    """

    selects: ClassVar[str] = "f1"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        from seqeval.metrics import precision_score, recall_score

        gold, predicted = [each.gold for each in predictions], [each.prediction for each in predictions]
        return {
            "f1": self.resampler(predictions, labels).value(),
            "precision": 100.0 * float(precision_score(gold, predicted, zero_division=0)),
            "recall": 100.0 * float(recall_score(gold, predicted, zero_division=0)),
        }

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        from seqeval.metrics.sequence_labeling import get_entities

        sides = [(set(get_entities(each.gold)), set(get_entities(each.prediction))) for each in predictions]
        return f1([[len(gold & told)] for gold, told in sides], [[len(gold) + len(told)] for gold, told in sides])


@register_metric("klue_ner")
class KlueNer(Metric):
    """KLUE NER's entity and character macro F1, ``official`` as KLUE-baseline computes them, and ``fixed``.

    Both look at characters, blanks left out. What KLUE-baseline does, and published scores contain:

    - all sentences are strung together, each with an O for [CLS] before and one for [SEP] behind it;
    - the character F1 averages over every label of the task *including O*, and over labels that occur nowhere
      as if they were perfect (``zero_division=1``); see KLUE-baseline issue 7.

    ``fixed`` (keys ending in ``_fixed``) judges sentences one by one, and characters over the labels that occur in
    gold or prediction, without O and without the added slots. Entities are strict IOB2 in both, and none goes on over
    an O, so that their macro F1 is the same number either way.
    """

    selects: ClassVar[str] = "entity_macro_f1"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        from sklearn.metrics import f1_score

        gold = [_visible(each, each.gold) for each in predictions]
        predicted = [_visible(each, each.prediction) for each in predictions]
        entities = self.resampler(predictions, labels).value()
        strung_gold = [tag for tags in gold for tag in ("O", *tags, "O")]
        strung_predicted = [tag for tags in predicted for tag in ("O", *tags, "O")]
        flat_gold, flat_predicted = list(chain(*gold)), list(chain(*predicted))
        present = sorted((set(flat_gold) | set(flat_predicted)) - {"O"})
        return {
            "entity_macro_f1": entities,
            "char_macro_f1": 100.0
            * float(f1_score(strung_gold, strung_predicted, labels=list(labels), average="macro", zero_division=1.0)),
            "entity_macro_f1_fixed": entities,
            "char_macro_f1_fixed": 100.0
            * float(f1_score(flat_gold, flat_predicted, labels=present, average="macro", zero_division=0.0))
            if present
            else 100.0,
        }

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        import numpy as np

        sides = [
            (_entities(_visible(each, each.gold)), _entities(_visible(each, each.prediction))) for each in predictions
        ]
        types = sorted({kind for gold, told in sides for kind, _, _ in gold | told})
        right, claimed = np.zeros((2, len(sides), len(types)))
        for row, (gold, told) in enumerate(sides):
            for table, found in ((right, gold & told), (claimed, gold), (claimed, told)):
                for kind, _, _ in found:
                    table[row, types.index(kind)] += 1
        return f1(right, claimed, occurring=True)


def _visible(prediction: Prediction, tags: Sequence[str]) -> list[str]:
    tokens: Any = (prediction.details or {}).get("tokens", [])
    return [tag for token, tag in zip(tokens, tags, strict=True) if token.strip()]


def _entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Return type, start and end of a sentence's entities, read strictly: I- without its B- is none."""
    from seqeval.scheme import IOB2, Tokens

    return {(each.tag, each.start, each.end) for each in Tokens(list(tags), IOB2).entities}
