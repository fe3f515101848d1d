"""Metrics of extracted answers: exact match and F1 as in SQuAD, KorQuAD and JSQuAD, and the scores of KLUE MRC."""

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
"""Removes ASCII punctuation; other punctuation stays, as in the official scripts."""

KORQUAD_MARKS = str.maketrans(dict.fromkeys("'\"《》<>〈〉()‘’", " "))
"""Replaces the quotation marks and brackets that KorQuAD's script names by spaces."""


def normalise_english(text: str) -> str:
    """Normalise an English answer as SQuAD does (evaluate-v1.1.py, evaluate-v2.0.py).

    Lower case, no ASCII punctuation, no articles, single spaces.
    """
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(PUNCTUATION)).split())


def normalise_korean(text: str) -> str:
    """Normalise a Korean answer as KorQuAD 1.0 does (evaluate-v1.0.py).

    Spaces for quotation marks and brackets, lower case, no ASCII punctuation, single spaces.
    """
    return " ".join(text.translate(KORQUAD_MARKS).lower().translate(PUNCTUATION).split())


def normalise_japanese(text: str) -> str:
    """Normalise a Japanese answer as JSQuAD does (JGLUE's patch for `transformers`).

    Lower case, no 「。」 at the end, single spaces, in this order: a 「。」 before a space stays. Other punctuation and
    English articles stay.
    """
    return " ".join(text.lower().rstrip("。").split())


def _words(text: str) -> list[str]:
    return text.split()


def _characters(text: str) -> list[str]:
    return [character for character in text if not character.isspace()]


LANGUAGES: dict[str, tuple[Callable[[str], str], Callable[[str], list[str]], bool]] = {
    "en": (normalise_english, _words, True),
    "ko": (normalise_korean, _characters, False),
    "ja": (normalise_japanese, list, True),
}
"""Language → normalizer, tokenizer for F1, and whether its script knows empty answers. Those of SQuAD 2.0 and JSQuAD
do: two empty answers have an F1 of 1, and a gold answer that is empty after normalization is left out beside others. In
that of KorQuAD, two empty answers have an F1 of 0. JSQuAD counts the spaces of an answer among its characters, KorQuAD
does not."""


@register_metric("squad")
class SquadScore(Metric):
    """Exact match and F1, each the maximum over the accepted answers of a question, averaged over questions.

    As in SQuAD 2.0's script, a question without an answer is right if the prediction is empty after normalization. If
    there are such questions, there are further scores:

    - ``has_ans_…`` and ``no_ans_…``: both scores over questions with and without an answer.
    - ``best_f1``, ``best_em`` and ``best_f1_threshold``: the scores at the best threshold on "no answer", as in the
      script's ``best_f1`` and ``best_exact``. Below its threshold a question gets its best span, also if the run itself
      answered nothing.

    An answer that is empty after normalization, such as "the", matches only an empty answer, and only if no other one
    is accepted. The scripts of KorQuAD and SQuAD 1.1 give any such pair EM 1 and F1 0. SQuAD 1.1 differs from SQuAD 2.0
    in nothing else, so the rules of SQuAD 2.0 are used for both.
    """

    selects: ClassVar[str] = "f1"
    keys: ClassVar[frozenset[str]] = frozenset(
        {"f1", "em", "has_ans_f1", "has_ans_em", "no_ans_f1", "no_ans_em", "best_f1", "best_em", "best_f1_threshold"}
    )

    language: str = "en"
    """Selects the official script: `en` SQuAD (F1 over words), `ko` KorQuAD 1.0, `ja` JSQuAD (F1 over characters)."""

    def for_language(self, language: str) -> Metric:
        return self.model_copy(update={"language": language})

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        results = [(bool(p.gold), *self._best_match(p.gold or [""], p.prediction)) for p in predictions]
        scores = {"f1": _mean([f1 for _, _, f1 in results]), "em": _mean([em for _, em, _ in results])}
        if not all(answerable for answerable, _, _ in results):
            for kind, name in ((True, "has_ans"), (False, "no_ans")):
                matches = [(em, f1) for answerable, em, f1 in results if answerable == kind]
                scores[f"{name}_f1"] = _mean([f1 for _, f1 in matches])
                scores[f"{name}_em"] = _mean([em for em, _ in matches])
            scores |= self._best_thresholds(predictions)
        return scores

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return share([self._best_match(p.gold or [""], p.prediction)[1] for p in predictions])

    def is_right(self, prediction: Prediction) -> bool:
        return self._best_match(prediction.gold or [""], prediction.prediction)[0] == 1.0

    def _best_thresholds(self, predictions: Sequence[Prediction]) -> Scores:
        """Return the best scores over all thresholds on "no answer", and the threshold of the best F1; nothing if the
        predictions do not say what a threshold needs.

        A question is answered if its ``null_score_difference`` is at most the threshold.
        """
        rows = []
        for prediction in predictions:
            details = prediction.details or {}
            if "best_answer" not in details or "null_score_difference" not in details:
                return {}
            gold = prediction.gold
            em, f1 = self._best_match(gold, details["best_answer"]) if gold else (0.0, 0.0)
            rows.append((float(details["null_score_difference"]), bool(gold), em, f1))
        rows.sort(key=lambda row: row[0])
        # Below the lowest difference nothing is answered: exactly the questions without an answer are right.
        unanswerable = float(sum(not answerable for _, answerable, _, _ in rows))
        best = {"em": unanswerable, "f1": unanswerable}
        total, threshold = dict(best), rows[0][0] - 1.0
        # Raising the threshold past a question adds the score of its answer, or loses the point for "no answer".
        for index, (difference, answerable, em, f1) in enumerate(rows):
            total["em"] += em if answerable else -1.0
            total["f1"] += f1 if answerable else -1.0
            if index + 1 < len(rows) and rows[index + 1][0] == difference:
                continue  # questions with equal differences are answered at the same thresholds
            threshold = difference if total["f1"] > best["f1"] else threshold
            best = {name: max(best[name], total[name]) for name in best}
        return {
            "best_f1": 100.0 * best["f1"] / len(rows),
            "best_em": 100.0 * best["em"] / len(rows),
            "best_f1_threshold": threshold,
        }

    def _best_match(self, golds: Sequence[str], prediction: str) -> tuple[float, float]:
        """Return the best exact match and the best F1 over the accepted answers of one question, 0 to 1 each."""
        if self.language not in LANGUAGES:
            raise Claf2Error(
                f"no official script for answers in language {self.language!r}; {nearest(self.language, LANGUAGES)}"
            )
        normalise, tokenize, knows_empty = LANGUAGES[self.language]
        answer, accepted = normalise(prediction), [normalise(gold) for gold in golds]
        if knows_empty:
            accepted = [gold for gold in accepted if gold] or [""]
        matches = [
            (float(gold == answer), _f1(tokenize(gold), tokenize(answer), float(knows_empty))) for gold in accepted
        ]
        # The two maxima may come from different answers, as in the official scripts.
        return max(em for em, _ in matches), max(f1 for _, f1 in matches)


def _f1(gold: Sequence[str], predicted: Sequence[str], empty: float) -> float:
    """Return the F1 of two bags of words or characters, 0 to 1; ``empty`` if both are empty."""
    if not gold and not predicted:
        return empty
    shared = sum((Counter(gold) & Counter(predicted)).values())
    return 2.0 * shared / (len(gold) + len(predicted))


BROKEN_MARKS = re.compile(r"[\'\"《》<>〈〉]\(\)\‘\’")
"""KLUE-baseline's pattern of quotation marks to remove. Its character class closes before the parentheses, so it only
matches a mark followed by "()‘’". This never occurs, and 《》〈〉‘’ stay in the text."""


@register_metric("klue_mrc")
class KlueMrc(Metric):
    """Exact match and "ROUGE-W" as in KLUE-baseline, and as it intended them.

    "ROUGE-W" is the character F1 of the longest common *substring*. Keys that end in ``_fixed`` are scores without two
    bugs of KLUE-baseline: its normalizer leaves quotation marks such as 《》 in the text (``BROKEN_MARKS``), and
    Python's ``SequenceMatcher`` ignores characters that are frequent in answers of 200 characters and more. Only an
    empty prediction matches an empty or missing gold answer; it gets 0 against any other.
    """

    selects: ClassVar[str] = "rouge_w"
    keys: ClassVar[frozenset[str]] = frozenset({"rouge_w", "rouge_w_fixed", "em", "em_fixed"})

    def compute(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
        scores: Scores = {}
        for ending in ("", "_fixed"):
            exact, overlap = zip(*(_klue_match(p, fixed=bool(ending)) for p in predictions), strict=True)
            scores |= {f"rouge_w{ending}": _mean(overlap), f"em{ending}": _mean(exact)}
        return scores

    def resampler(self, predictions: Sequence[Prediction], labels: Sequence[str]) -> Resampler:
        return share([_klue_match(prediction, fixed=False)[1] for prediction in predictions])

    def is_right(self, prediction: Prediction) -> bool:
        return _klue_match(prediction, fixed=False)[0] == 1.0


def _klue_match(prediction: Prediction, *, fixed: bool) -> tuple[float, float]:
    """Return the exact match and the best "ROUGE-W" of one question, 0 to 1 each."""
    normalise = normalise_korean if fixed else _normalise_klue
    answer = normalise(prediction.prediction)
    golds = [normalise(gold) for gold in prediction.gold] or [""]
    return float(answer in golds), max(_longest_common_f1(answer, gold, autojunk=not fixed) for gold in golds)


def _normalise_klue(text: str) -> str:
    return " ".join(BROKEN_MARKS.sub(" ", text.lower()).translate(PUNCTUATION).split())


def _longest_common_f1(answer: str, gold: str, *, autojunk: bool) -> float:
    """Return the F1 of the longest common substring, 0 to 1: its shares of both texts are precision and recall."""
    if not gold or not answer:
        return float(gold == answer)
    matcher = SequenceMatcher(None, answer, gold, autojunk=autojunk)
    size = matcher.find_longest_match(0, len(answer), 0, len(gold)).size
    return 2 * size / (len(answer) + len(gold))


def _mean(values: Sequence[float]) -> float | None:
    """Return the mean as a percentage; ``None`` without values."""
    return 100.0 * sum(values) / len(values) if values else None
