"""Scores of extracted answers: exact match and F1 as SQuAD, KorQuAD and JSQuAD define them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from typing import ClassVar

from claf2.errors import Claf2Error, nearest
from claf2.metrics import Metric, Prediction, Resampler, Scores, register_metric, share

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
    SQuAD 2.0's script; where there are such questions, both scores are given for either kind as well, and those at the
    best threshold on "no answer" (the script's ``best_f1`` and ``best_exact``; here the answer that a threshold
    uncovers is the best span, even where the run's own threshold had hidden it). An answer that normalises to nothing
    (only articles, say) matches only such an answer; KorQuAD's script then gives it EM 1, F1 0.
    """

    selects: ClassVar[str] = "f1"

    language: str = "en"
    """Whose official script: `en` SQuAD, `ko` KorQuAD 1.0 (F1 over characters), `ja` JSQuAD (F1 over characters)."""

    def for_language(self, language: str) -> Metric:
        return self.model_copy(update={"language": language})

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        results = [(bool(each.gold), *self._best(each.gold or [""], each.prediction)) for each in predictions]
        scores = {"f1": _mean([f1 for _, _, f1 in results]), "em": _mean([em for _, em, _ in results])}
        if not all(answerable for answerable, _, _ in results):
            for kind, name in ((True, "has_ans"), (False, "no_ans")):
                mine = [(em, f1) for answerable, em, f1 in results if answerable == kind]
                scores[f"{name}_f1"] = _mean([f1 for _, f1 in mine])
                scores[f"{name}_em"] = _mean([em for em, _ in mine])
            scores |= self._best_thresholds(predictions)
        return scores

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return share([self._best(each.gold or [""], each.prediction)[1] for each in predictions])

    def _best_thresholds(self, predictions: Sequence[Prediction]) -> Scores:
        """Return the best scores that any threshold on "no answer" gives, and the threshold of the best F1."""
        rows = []
        for each in predictions:
            details = each.details or {}
            if "best_answer" not in details or "null_score_difference" not in details:
                return {}
            em, f1 = self._best(each.gold, details["best_answer"]) if each.gold else (0.0, 0.0)
            rows.append((float(details["null_score_difference"]), bool(each.gold), em, f1))
        rows.sort(key=lambda row: row[0])
        # At the lowest threshold nothing is answered, and every question without an answer is right.
        silent = float(sum(not answerable for _, answerable, _, _ in rows))
        best = {"em": silent, "f1": silent}
        now, threshold = dict(best), rows[0][0] - 1.0
        for index, (difference, answerable, em, f1) in enumerate(rows):
            now["em"] += em if answerable else -1.0
            now["f1"] += f1 if answerable else -1.0
            if index + 1 < len(rows) and rows[index + 1][0] == difference:
                continue  # no threshold parts them
            threshold = difference if now["f1"] > best["f1"] else threshold
            best = {name: max(best[name], now[name]) for name in best}
        return {
            "best_f1": 100.0 * best["f1"] / len(rows),
            "best_em": 100.0 * best["em"] / len(rows),
            "best_f1_threshold": threshold,
        }

    def _best(self, golds: Sequence[str], prediction: str) -> tuple[float, float]:
        """Return the best exact match and the best F1 of one question, 0 to 1."""
        if self.language not in LANGUAGES:
            raise Claf2Error(
                f"no official script for answers in {self.language!r}; {nearest(self.language, LANGUAGES)}"
            )
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


BROKEN_MARKS = re.compile(r"[\'\"《》<>〈〉]\(\)\‘\’")
"""KLUE-baseline's pattern of marks to remove: its class closes too early, so that it matches one mark followed by
"()‘’", which never occurs, and 《》〈〉‘’ stay."""


@register_metric("klue_mrc")
class KlueMrc(Metric):
    """KLUE MRC's exact match and "ROUGE-W", as KLUE-baseline computes them, and (keys ending in ``_fixed``) with what
    it meant to do.

    "ROUGE-W" is the character F1 of the longest common *substring*. KLUE-baseline's normaliser leaves wide quotation
    marks in place (see ``BROKEN_MARKS``), and Python's ``SequenceMatcher`` skips characters that are frequent in
    answers of 200 characters and more; ``_fixed`` removes the marks and skips nothing. An empty gold answer, or none,
    is met by an empty prediction only; an empty prediction gets 0 against any other.
    """

    selects: ClassVar[str] = "rouge_w"

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        scores: Scores = {}
        for ending in ("", "_fixed"):
            exact, overlap = zip(*(_klue(each, fixed=bool(ending)) for each in predictions), strict=True)
            scores |= {f"rouge_w{ending}": _mean(overlap), f"em{ending}": _mean(exact)}
        return scores

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return share([_klue(each, fixed=False)[1] for each in predictions])


def _klue(prediction: Prediction, *, fixed: bool) -> tuple[float, float]:
    """Return the exact match and the best "ROUGE-W" of one question, 0 to 1."""
    normalise = normalise_korean if fixed else _normalise_klue
    told = normalise(prediction.prediction)
    golds = [normalise(gold) for gold in prediction.gold] or [""]
    return float(told in golds), max(_longest_common(told, gold, skips=not fixed) for gold in golds)


def _normalise_klue(text: str) -> str:
    return " ".join(BROKEN_MARKS.sub(" ", text.lower()).translate(PUNCTUATION).split())


def _longest_common(told: str, gold: str, *, skips: bool) -> float:
    """Return the F1 of the longest common substring's share of both texts."""
    if not gold or not told:
        return float(gold == told)
    matcher = SequenceMatcher(None, told, gold, autojunk=skips)
    size = matcher.find_longest_match(0, len(told), 0, len(gold)).size
    return 2 * size / (len(told) + len(gold))


def _mean(values: Sequence[float]) -> float | None:
    return 100.0 * sum(values) / len(values) if values else None
