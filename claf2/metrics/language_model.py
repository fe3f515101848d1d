"""Metrics of language models: losses in nats per token and per byte, and the accuracy of masked tokens and of pairs."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from claf2.metrics import Metric, Prediction, Resampler, Scores, additive, register_metric, share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _sums(predictions: Sequence[Prediction]) -> NDArray[np.float64]:
    """Return nats, tokens, bytes and right tokens of each example, (N, 4)."""
    import numpy as np

    rows = [(p.prediction["nats"], p.gold["tokens"], p.gold["bytes"], p.prediction["right"]) for p in predictions]
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


class LanguageModelMetric(Metric, ABC):
    """Cross-entropy of predicted tokens, and the share of those that are right, under a name of its own."""

    selects: ClassVar[str] = "nats_per_byte"
    lower_is_better: ClassVar[frozenset[str]] = frozenset({"nats_per_byte", "nats_per_token", "perplexity"})
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)
    accuracy: ClassVar[str]
    """What the accuracy is called."""

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        nats, tokens, size, right = _sums(predictions).sum(axis=0).tolist()
        per_token = nats / tokens if tokens else None
        return {
            "nats_per_byte": nats / size if size else None,
            "nats_per_token": per_token,
            "perplexity": None if per_token is None else math.exp(min(per_token, 700.0)),
            self.accuracy: 100.0 * right / tokens if tokens else None,
        }

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        import numpy as np

        def score(sums: NDArray[np.float64]) -> NDArray[np.float64]:
            ratio: NDArray[np.float64] = sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], np.nan)
            return ratio

        return additive(_sums(predictions)[:, [0, 2]], score)


@register_metric("masked_lm")
class MaskedLanguageModel(LanguageModelMetric):
    """Cross-entropy of the masked tokens in nats: per byte of their text in UTF-8, which allows comparing vocabularies,
    and per token. Perplexity is that of a token. These are not on the scale 0–100."""

    keys: ClassVar[frozenset[str]] = frozenset({"nats_per_byte", "nats_per_token", "perplexity", "masked_accuracy"})
    accuracy: ClassVar[str] = "masked_accuracy"


@register_metric("causal_lm")
class CausalLanguageModel(LanguageModelMetric):
    """Cross-entropy of the next token in nats, of all tokens or of those of answers: per byte of their text in UTF-8,
    white space left out, and per token. Perplexity is that of a token. These are not on the scale 0–100."""

    keys: ClassVar[frozenset[str]] = frozenset({"nats_per_byte", "nats_per_token", "perplexity", "token_accuracy"})
    accuracy: ClassVar[str] = "token_accuracy"


@register_metric("next_sentence")
class NextSentence(Metric):
    """Accuracy of telling a pair of consecutive texts from a random one."""

    selects: ClassVar[str] = "next_sentence_accuracy"
    keys: ClassVar[frozenset[str]] = frozenset({"next_sentence_accuracy"})

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        return {"next_sentence_accuracy": share(self._right(predictions)).value()}

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return share(self._right(predictions))

    def is_right(self, prediction: Prediction) -> bool:
        return bool(prediction.gold["pair"] == prediction.prediction["pair"])

    def _right(self, predictions: Sequence[Prediction]) -> list[float]:
        return [float(self.is_right(prediction)) for prediction in predictions]
