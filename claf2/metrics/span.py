"""Scores of extracted answers: exact match and F1 as SQuAD, KorQuAD and JSQuAD define them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import ClassVar

from claf2.errors import Claf2Error, nearest
from claf2.metrics import Metric, Prediction, Scores, register_metric

PUNCTUATION = str.maketrans("", "", string.punctuation)
KORQUAD_MARKS = str.maketrans(dict.fromkeys("'\"《》<>〈〉()‘’", " "))


def normalise_english(text: str) -> str:
    """SQuAD: lower case, no ASCII punctuation, no articles, single blanks (evaluate-v1.1.py, evaluate-v2.0.py)."""
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(PUNCTUATION)).split())


def normalise_korean(text: str) -> str:
    """KorQuAD 1.0: its marks become blanks, lower case, no ASCII punctuation, single blanks (evaluate-v1.0.py)."""
    return " ".join(text.translate(KORQUAD_MARKS).lower().translate(PUNCTUATION).split())


def normalise_japanese(text: str) -> str:
    """JSQuAD: lower case, single blanks, no 「。」 at the end; punctuation and articles stay (JGLUE's patch)."""
    return " ".join(text.lower().split()).rstrip("。")


def _words(text: str) -> list[str]:
    return text.split()


def _characters(text: str) -> list[str]:
    return [character for character in text if not character.isspace()]


LANGUAGES: dict[str, tuple[Callable[[str], str], Callable[[str], list[str]], float]] = {
    "en": (normalise_english, _words, 1.0),
    "ko": (normalise_korean, _characters, 0.0),
    "ja": (normalise_japanese, _characters, 0.0),
}
"""Language → normaliser, what F1 counts, and the F1 of nothing against nothing: SQuAD 2.0's script gives 1, the
others, which know no unanswerable questions, 0."""


@register_metric("squad")
class SquadScore(Metric):
    """Exact match and F1, each the best over the accepted answers of a question, averaged over questions.

    A question without an answer (``gold`` empty) is right exactly when the prediction normalises to nothing, as in
    SQuAD 2.0's script; where there are such questions, both scores are given for either kind as well. An answer that
    normalises to nothing (only articles, say) matches only such an answer; KorQuAD's script then gives it EM 1, F1 0.
    """

    selects: ClassVar[str] = "f1"

    language: str = "en"
    """Whose official script: `en` SQuAD, `ko` KorQuAD 1.0 (F1 over characters), `ja` JSQuAD (F1 over characters)."""

    def for_language(self, language: str) -> Metric:
        return self.model_copy(update={"language": language})

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        if self.language not in LANGUAGES:
            raise Claf2Error(
                f"no official script for answers in {self.language!r}; {nearest(self.language, LANGUAGES)}"
            )
        results = [(bool(each.gold), *self._best(each.gold or [""], each.prediction)) for each in predictions]
        scores = {"f1": _mean([f1 for _, _, f1 in results]), "em": _mean([em for _, em, _ in results])}
        if not all(answerable for answerable, _, _ in results):
            for kind, name in ((True, "has_ans"), (False, "no_ans")):
                mine = [(em, f1) for answerable, em, f1 in results if answerable == kind]
                scores[f"{name}_f1"] = _mean([f1 for _, f1 in mine])
                scores[f"{name}_em"] = _mean([em for em, _ in mine])
        return scores

    def _best(self, golds: Sequence[str], prediction: str) -> tuple[float, float]:
        """Return the best exact match and the best F1 of one question, 0 to 1."""
        normalise, units, nothing = LANGUAGES[self.language]
        answer = normalise(prediction)
        pairs = []
        for gold in golds:
            wanted = normalise(gold)
            pairs.append((float(wanted == answer), _f1(units(wanted), units(answer), nothing)))
        return max(em for em, _ in pairs), max(f1 for _, f1 in pairs)


def _f1(gold: Sequence[str], predicted: Sequence[str], nothing: float) -> float:
    """Return the F1 of two bags of words or characters; ``nothing`` where both are empty."""
    if not gold and not predicted:
        return nothing
    shared = sum((Counter(gold) & Counter(predicted)).values())
    return 2.0 * shared / (len(gold) + len(predicted))


def _mean(values: Sequence[float]) -> float | None:
    return 100.0 * sum(values) / len(values) if values else None
