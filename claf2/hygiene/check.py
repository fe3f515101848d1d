"""All checks of a data set, and what they have found as JSON values."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from claf2.corpus.cleaning.privacy import PersonalData
from claf2.corpus.leakage import Benchmark, LeakageCounts, find_leaked_lines
from claf2.corpus.sources import Document, TextSource, read_sources
from claf2.hygiene.damage import find_damage
from claf2.hygiene.labels import doubt_labels, find_conflicts
from claf2.hygiene.rows import DataRow, RowSplit
from claf2.hygiene.similar import THRESHOLD, find_similar, group_pairs
from claf2.runs.progress import show_progress

__all__ = ["CHECKS", "check_data", "find_repeated"]

VERSION = 1
REPORTED_ROWS = 5
"""How many examples of a finding are reported."""
EXAMPLE_LENGTH = 160
"""How many characters of a text are reported."""

CHECKS = {
    "duplicates": "rows with the texts of an earlier row of their split",
    "shared_rows": "rows of which another split has the same texts",
    "near_duplicates": f"further rows that are nearly equal to another one (Jaccard index of {THRESHOLD} or more)",
    "near_shared_rows": "further rows that are nearly equal to one of another split",
    "leaked": "rows of which a text shares 13 words (in Japanese, 26 characters) with the training data",
    "leaked_corpus": "rows of which a text shares 13 words (in Japanese, 26 characters) with the corpus",
    "conflicts": "rows with the texts of another row and another label",
    "suspicious_labels": "rows whose label a model of the other rows doubts",
    "personal_data": "rows with e-mail addresses, or telephone, resident or card numbers",
    "damaged_text": "rows with damaged text",
    "empty_texts": "rows of which a text is empty",
}
"""Check → what it counts."""


@dataclass(frozen=True)
class _Found:
    """Rows that a check has found in a split, with a remark on each."""

    check: str
    split: RowSplit
    rows: Sequence[tuple[DataRow, str]]
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "check": self.check, "split": self.split.name, "rows": len(self.rows), "of": len(self.split.rows),
            "note": self.note,
            "examples": [
                {"id": row.id, "line": row.line, "label": row.label if row.labels == (row.label,) else None,
                 "text": _shorten(" | ".join(row.texts)), "remark": _shorten(remark)}
                for row, remark in self.rows[:REPORTED_ROWS]
            ],
        }  # fmt: skip


def check_data(splits: Sequence[RowSplit], corpus: Sequence[TextSource] = (), *, labels: bool = True) -> dict[str, Any]:
    """Check a data set.

    Args:
        splits: its files.
        corpus: texts in which the rows of all splits but ``train`` are looked up.
        labels: whether to look for suspicious labels, which takes longest.

    Returns:
        The report: ``splits`` with tables of lengths and labels, ``findings``, and ``not_checked``.
    """
    skipped: dict[str, str] = {}
    found = [*_check_repeated(splits), *_check_similar(splits), *_check_leakage(splits, corpus)]
    for split in splits:
        if labels and any(row.labels for row in split.rows):
            found += _check_labels(split, skipped)
        found += _check_texts(split)
    order = list(CHECKS)
    found.sort(key=lambda finding: order.index(finding.check))
    return {
        "version": VERSION, "splits": [_describe_split(split) for split in splits],
        "findings": [finding.to_json() for finding in found if finding.rows], "not_checked": skipped,
    }  # fmt: skip


def find_repeated(splits: Sequence[RowSplit]) -> tuple[dict[tuple[int, int], tuple[int, int]], set[tuple[int, int]]]:
    """Find rows with equal texts.

    Returns:
        The (split, place) of each repeated row → that of the first with its texts in the split, and the rows of which
        another split has the same texts.
    """
    first: dict[tuple[int, tuple[str, ...]], tuple[int, int]] = {}
    repeated: dict[tuple[int, int], tuple[int, int]] = {}
    owners: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for number, split in enumerate(splits):
        for place, row in enumerate(split.rows):
            original = first.setdefault((number, row.texts), (number, place))
            if original != (number, place):
                repeated[number, place] = original
            owners[row.texts].add(number)
    shared = {
        (number, place)
        for number, split in enumerate(splits)
        for place, row in enumerate(split.rows)
        if len(owners[row.texts]) > 1
    }
    return repeated, shared


def _check_repeated(splits: Sequence[RowSplit]) -> Iterator[_Found]:
    repeated, shared = find_repeated(splits)
    homes: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for number, place in shared:
        row = splits[number].rows[place]
        homes[row.texts].append(f"{splits[number].name} {row.id}")
    for number, split in enumerate(splits):
        rows = [
            (split.rows[place], f"the same as {split.rows[first].id}")
            for (owner, place), (_, first) in repeated.items() if owner == number
        ]  # fmt: skip
        yield _Found("duplicates", split, rows)
        here = sorted(place for owner, place in shared if owner == number)
        remarks = [
            next((home for home in sorted(homes[split.rows[p].texts]) if not home.startswith(f"{split.name} ")), "")
            for p in here
        ]
        yield _Found(
            "shared_rows", split,
            [(split.rows[place], f"also in {remark}") for place, remark in zip(here, remarks, strict=True)],
        )  # fmt: skip
    # Conflicts across splits count as well: a row of dev that train has with another label cannot be learned.
    places = [(split, row) for split in splits for row in split.rows]
    conflicts = find_conflicts([row for _, row in places])
    members: dict[int, list[tuple[DataRow, str]]] = defaultdict(list)
    for group in conflicts:
        named = Counter(places[place][1].label for place in group)
        remark = ", ".join(f"{count} × {_shorten(str(label), 40)}" for label, count in sorted(named.items(), key=str))
        for place in group:
            split, row = places[place]
            members[id(split)].append((row, f"labels: {remark}"))
    yield from (_Found("conflicts", split, members[id(split)]) for split in splits)


def _check_similar(splits: Sequence[RowSplit]) -> Iterator[_Found]:
    places = [(number, row) for number, split in enumerate(splits) for row in split.rows if row.compared]
    widths = {len(row.compared) for _, row in places}
    if len(widths) != 1:  # none, or choices of different numbers
        return
    # Equal rows are counted on their own: each is compared once.
    distinct = {row.compared: place for place, (_, row) in reversed(list(enumerate(places)))}
    kept = sorted(distinct.values())
    with show_progress("near duplicates", len(kept), " rows") as progress:
        pairs = find_similar([places[place][1].compared for place in kept], on_rows=progress.update)
    within: dict[int, list[tuple[DataRow, str]]] = defaultdict(list)
    across: dict[int, list[tuple[DataRow, str]]] = defaultdict(list)
    for group in group_pairs(pairs, len(kept)):
        members = [places[kept[place]] for place in group]
        for number, row in members:
            others = [other for other in members if other[0] != number]
            same = [other for other in members if other[0] == number and other[1] is not row]
            if others:
                owner, other = others[0]
                across[number].append((row, f"like {splits[owner].name} {other.id}: {_join(other)}"))
            if same:
                within[number].append((row, f"like {same[0][1].id}: {_join(same[0][1])}"))
    for number, split in enumerate(splits):
        yield _Found("near_duplicates", split, within[number])
        yield _Found("near_shared_rows", split, across[number])


def _join(row: DataRow) -> str:
    return " | ".join(row.compared)


def _check_leakage(splits: Sequence[RowSplit], corpus: Sequence[TextSource]) -> Iterator[_Found]:
    held_out = [split for split in splits if split.name != "train"]
    train = [
        Document("\n".join(row.texts), 0, f"train {row.id}")
        for split in splits if split.name == "train" for row in split.rows
    ]  # fmt: skip
    for check, documents in (("leaked", train), ("leaked_corpus", read_sources(corpus) if corpus else ())):
        if not documents or not held_out:
            continue
        yield from _look_up(check, held_out, documents)


def _look_up(check: str, splits: Sequence[RowSplit], documents: Iterable[Document]) -> Iterator[_Found]:
    benchmark, counts = Benchmark(), LeakageCounts()
    for split in splits:
        benchmark.add_texts(split.name, split.path, split.language, ((row.id, row.texts) for row in split.rows))
    for index in benchmark.indexes.values():
        index.freeze()
    for _ in find_leaked_lines(benchmark, documents, counts):
        pass
    found = set().union(*(index.found() for index in benchmark.indexes.values()))
    for split, rows in zip(splits, benchmark.splits, strict=True):
        leaked = [place for place, texts in enumerate(rows.texts) if found.intersection(texts)]
        too_short = sum(not texts for texts in rows.texts)
        note = f"{too_short:,} rows are too short to be looked up" if too_short else ""
        remarks = [
            next((f"in {counts.places[text]}" for text in rows.texts[place] if text in counts.places), "")
            for place in leaked
        ]
        found_rows = list(zip([split.rows[place] for place in leaked], remarks, strict=True))
        yield _Found(check, split, found_rows, note)


def _check_labels(split: RowSplit, skipped: dict[str, str]) -> Iterator[_Found]:
    doubts = doubt_labels(split.rows)
    if doubts.reason:
        skipped[f"suspicious_labels of {split.name}"] = doubts.reason
    remarks = [f"rather {doubt.suggested} ({doubt.confidence:.2f})" for doubt in doubts.doubted]
    rows = [split.rows[doubt.place] for doubt in doubts.doubted]
    note = f"{doubts.checked:,} rows checked; the model has the label of {doubts.accuracy:.1%}"
    yield _Found("suspicious_labels", split, list(zip(rows, remarks, strict=True)), note)


def _check_texts(split: RowSplit) -> Iterator[_Found]:
    counts: Counter[str] = Counter()
    mask, damage = PersonalData().make_filter(counts), Counter[str]()
    personal, damaged, empty = [], [], []
    for row in split.rows:
        before, own_damage = counts.copy(), Counter[str]()
        masked = tuple(map(mask, row.texts))
        for text in row.texts:
            own_damage += find_damage(text)
        if own := counts - before:
            # A report is passed on more readily than the data: it does not repeat what is personal.
            personal.append((replace(row, texts=masked), _list_counts(own)))
        if own_damage:
            damaged.append((row, _list_counts(own_damage)))
            damage.update(own_damage.keys())
        if not all(map(str.strip, row.texts)):
            empty.append((row, ""))
    yield _Found("personal_data", split, personal, _list_counts(counts))
    yield _Found("damaged_text", split, damaged, f"rows by kind: {_list_counts(damage)}")
    yield _Found("empty_texts", split, empty)


def _list_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()) if count)


def _shorten(text: str, length: int = EXAMPLE_LENGTH) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[:length]} …"


def _describe_split(split: RowSplit) -> dict[str, Any]:
    """Return the tables of a split: the lengths of each text in characters, and how often each label occurs."""
    widths = [count for count, _ in groupby(sorted(len(row.texts) for row in split.rows))]
    columns: Sequence[tuple[str, ...]] = list(zip(*(row.texts for row in split.rows), strict=True)) if (
        len(widths) == 1
    ) else [tuple("\n".join(row.texts) for row in split.rows)]  # fmt: skip
    names = split.fields if len(split.fields) == len(columns) else [f"text {n}" for n in range(1, len(columns) + 1)]
    labels = Counter(label for row in split.rows for label in row.labels)
    lengths = [
        {"field": name, **dict(zip(("shortest", "median", "p95", "longest"), map(int, np.percentile(
            [len(text) for text in texts], [0, 50, 95, 100])), strict=True))}
        for name, texts in zip(names, columns, strict=True)
    ]  # fmt: skip
    path: Path = split.path
    return {
        "name": split.name, "file": path.name, "rows": len(split.rows), "lengths": lengths,
        "labels": dict(sorted(labels.items(), key=lambda item: (-item[1], item[0]))),
        "unlabelled": sum(row.label is None for row in split.rows),
    }  # fmt: skip
