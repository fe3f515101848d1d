"""Labels that may be wrong: equal texts with different labels, or labels that a model of the other rows contradicts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from claf2.hygiene.rows import DataRow

__all__ = ["DoubtedLabel", "LabelDoubts", "doubt_labels", "find_conflicts", "find_doubts"]

FOLDS = 5
MOST_ROWS = 50_000
"""The maximum number of rows that are drawn for the model, to bound its time."""
MOST_CLASSES = 50
LEAST_OF_A_LABEL = 10
FEATURES = 2**18
SEED = 0
"""The seed of the folds, and of the rows that are drawn."""
LEAST_GAIN = 0.05
"""By how much the accuracy of the model must exceed that of the most frequent label; else nothing is checked."""


def find_conflicts(rows: Sequence[DataRow]) -> list[list[int]]:
    """Return the groups of rows with equal texts and different labels, by their places."""
    by_texts: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        if row.label is not None:
            by_texts[row.texts].append(place)
    return [places for places in by_texts.values() if len({rows[place].label for place in places}) > 1]


@dataclass(frozen=True)
class DoubtedLabel:
    """A row whose label is probably wrong."""

    place: int
    suggested: str
    confidence: float
    """The probability of the suggested label, from a model that has not seen the row."""


@dataclass(frozen=True)
class LabelDoubts:
    """The result of ``doubt_labels``."""

    reason: str
    """Why nothing was checked; empty if it was."""
    checked: int = 0
    accuracy: float = 0.0
    """The accuracy of the model on rows that it has not seen, 0 to 1."""
    doubted: Sequence[DoubtedLabel] = ()
    """The suspicious rows, the most doubtful first."""


def doubt_labels(rows: Sequence[DataRow]) -> LabelDoubts:
    """Find labels that contradict a model of the other rows: confident learning (Northcutt et al., 2021).

    The model is a logistic regression over character n-grams, trained on four fifths of the rows for the labels of the
    last fifth. A label is doubted if another one is more probable than it usually is for rows that have it. What one
    text says of another is beyond this model, so that pairs are not checked.

    Args:
        rows: the rows of a split.
    """
    places = [place for place, row in enumerate(rows) if row.label is not None and row.labels == (row.label,)]
    counts = Counter(rows[place].label for place in places)
    frequent = {label for label, count in counts.items() if count >= LEAST_OF_A_LABEL}
    places = [place for place in places if rows[place].label in frequent]
    if not places or not 2 <= len(frequent) <= MOST_CLASSES:
        return LabelDoubts(f"there are not 2 to {MOST_CLASSES} labels with {LEAST_OF_A_LABEL} rows or more")
    if len(rows[places[0]].texts) > 1:
        return LabelDoubts("a row has several texts")
    if len(places) > MOST_ROWS:
        places = sorted(np.random.default_rng(SEED).choice(places, MOST_ROWS, replace=False).tolist())
        # The draw may leave a rare label with fewer rows than folds.
        counts = Counter(rows[place].label for place in places)
        places = [place for place in places if counts[rows[place].label] >= FOLDS]
        if len({rows[place].label for place in places}) < 2:
            return LabelDoubts(f"of {MOST_ROWS:,} rows that were drawn, all but a few have the same label")
    names = sorted({str(rows[place].label) for place in places})
    labels = np.array([names.index(str(rows[place].label)) for place in places])
    probabilities = _predict_out_of_fold([rows[place].texts[0] for place in places], labels)
    predicted = probabilities.argmax(1)
    accuracy, most = float((predicted == labels).mean()), float(np.bincount(labels).max() / len(labels))
    if accuracy < most + LEAST_GAIN:
        reason = f"the model is right in {accuracy:.0%} of the rows, always the most frequent label in {most:.0%}"
        return LabelDoubts(reason, len(places), accuracy)
    suggested, is_doubted = find_doubts(probabilities, labels)
    every = np.arange(len(places))
    margin = probabilities[every, suggested] - probabilities[every, labels]
    order = [place for place in np.argsort(-margin, kind="stable").tolist() if is_doubted[place]]
    doubted = [
        DoubtedLabel(places[number], names[suggested[number]], float(probabilities[number, suggested[number]]))
        for number in order
    ]
    return LabelDoubts("", len(places), accuracy, doubted)


def find_doubts(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the suggested label of each row, (N,), and whether its own one is doubted, (N,).

    Args:
        probabilities: of each label for each row, (N, C), by a model that has not seen the row.
        labels: the labels of the rows, (N,); each of the C labels occurs.
    """
    usual = np.array([probabilities[labels == label, label].mean() for label in range(probabilities.shape[1])])
    confident = np.where(probabilities >= usual, probabilities, -1.0)
    suggested = confident.argmax(1)
    is_doubted = (confident[np.arange(len(labels)), suggested] > 0) & (suggested != labels)
    return suggested, is_doubted


def _predict_out_of_fold(texts: Sequence[str], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the probability of each label for each text, (N, C), by a model that was trained without that text."""
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    from sklearn.linear_model import SGDClassifier
    from sklearn.model_selection import StratifiedKFold

    vectorizer = HashingVectorizer(analyzer="char_wb", ngram_range=(1, 3), n_features=FEATURES, alternate_sign=False)
    features = TfidfTransformer(sublinear_tf=True).fit_transform(vectorizer.transform(texts))
    probabilities = np.zeros((len(texts), int(labels.max()) + 1))
    for train, held_out in StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(texts, labels):
        model = SGDClassifier(loss="log_loss", alpha=1e-5, max_iter=20, tol=None, random_state=SEED)
        model.fit(features[train], labels[train])
        probabilities[held_out] = model.predict_proba(features[held_out])
    return probabilities
