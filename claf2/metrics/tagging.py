"""Metrics of tag sequences: the entity F1 of CoNLL, and the two scores of KLUE NER."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import ClassVar

from claf2.metrics import Metric, Prediction, Resampler, Scores, f1, register_metric


@register_metric("seqeval")
class SeqEval(Metric):
    """Micro F1, precision and recall over entities, which are right if their type and both ends are.

    Entities are found as by conlleval (Tjong Kim Sang & De Meulder, 2003), which is seqeval's default mode: an ``I-``
    that does not continue an entity begins one.
    """

    selects: ClassVar[str] = "f1"
    keys: ClassVar[frozenset[str]] = frozenset({"f1", "precision", "recall"})

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        from seqeval.metrics import precision_score, recall_score

        gold, predicted = [p.gold for p in predictions], [p.prediction for p in predictions]
        return {
            "f1": self.resampler(predictions, labels).value(),
            "precision": 100.0 * float(precision_score(gold, predicted, zero_division=0)),
            "recall": 100.0 * float(recall_score(gold, predicted, zero_division=0)),
        }

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        from seqeval.metrics.sequence_labeling import get_entities

        entities = [(set(get_entities(p.gold)), set(get_entities(p.prediction))) for p in predictions]
        return f1(
            [[len(gold & predicted)] for gold, predicted in entities],
            [[len(gold) + len(predicted)] for gold, predicted in entities],
        )


@register_metric("klue_ner")
class KlueNer(Metric):
    """Macro F1 of entities and of characters, as in KLUE-baseline and as defined.

    Both scores leave out spaces. KLUE-baseline does the following, which published scores contain:

    - It concatenates all sentences, with an ``O`` for [CLS] before and an ``O`` for [SEP] after each.
    - Its character F1 averages over all labels of the task *including O*, and labels that occur nowhere count as
      perfect (``zero_division=1``); see issue 7 of KLUE-baseline.

    The keys ending in ``_fixed`` evaluate sentences one by one, and characters over the labels that occur in gold or
    prediction, without ``O`` and without the additional positions. Entities are strict IOB2 in both. No entity spans an
    ``O``, so that both variants of the entity score are equal.
    """

    selects: ClassVar[str] = "entity_macro_f1"
    keys: ClassVar[frozenset[str]] = frozenset(
        {"entity_macro_f1", "entity_macro_f1_fixed", "char_macro_f1", "char_macro_f1_fixed"}
    )

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        from sklearn.metrics import f1_score

        gold = [_without_spaces(prediction, prediction.gold) for prediction in predictions]
        predicted = [_without_spaces(prediction, prediction.prediction) for prediction in predictions]
        entities = self.resampler(predictions, labels).value()
        padded_gold = [tag for tags in gold for tag in ("O", *tags, "O")]
        padded_predicted = [tag for tags in predicted for tag in ("O", *tags, "O")]
        flat_gold, flat_predicted = list(chain(*gold)), list(chain(*predicted))
        present = sorted((set(flat_gold) | set(flat_predicted)) - {"O"})
        return {
            "entity_macro_f1": entities,
            "char_macro_f1": 100.0
            * float(f1_score(padded_gold, padded_predicted, labels=list(labels), average="macro", zero_division=1.0)),
            "entity_macro_f1_fixed": entities,
            "char_macro_f1_fixed": 100.0
            * float(f1_score(flat_gold, flat_predicted, labels=present, average="macro", zero_division=0.0))
            if present
            else 100.0,
        }

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        import numpy as np

        entities = [
            (_entities(_without_spaces(p, p.gold)), _entities(_without_spaces(p, p.prediction))) for p in predictions
        ]
        types = sorted({kind for gold, predicted in entities for kind, _, _ in gold | predicted})
        right, claimed = np.zeros((2, len(entities), len(types)))
        for row, (gold, predicted) in enumerate(entities):
            for table, counted in ((right, gold & predicted), (claimed, gold), (claimed, predicted)):
                for kind, _, _ in counted:
                    table[row, types.index(kind)] += 1
        return f1(right, claimed, occurring=True)


def _without_spaces(prediction: Prediction, tags: Sequence[str]) -> list[str]:
    """Return the tags of the tokens that are not spaces."""
    tokens: Sequence[str] = (prediction.details or {}).get("tokens", [])
    return [tag for token, tag in zip(tokens, tags, strict=True) if token.strip()]


def _entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Return type, start and end of the entities of a sentence. In strict IOB2, an ``I-`` without a ``B-`` is none."""
    from seqeval.scheme import IOB2, Tokens

    return {(entity.tag, entity.start, entity.end) for entity in Tokens(list(tags), IOB2).entities}
