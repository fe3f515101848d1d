"""All checks of a data set, and their findings as JSON values."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from claf2.corpus.cleaning.privacy import PersonalData
from claf2.corpus.leakage import Benchmark, LeakageCounts, find_leaked_lines
from claf2.corpus.sources import Document, TextSource, list_files, read_sources
from claf2.errors import DataError
from claf2.hygiene.damage import find_damage
from claf2.hygiene.labels import doubt_labels, find_conflicts
from claf2.hygiene.rows import DataRow, RowSplit, language_by_letters
from claf2.hygiene.similar import THRESHOLD, find_similar
from claf2.runs.progress import show_progress

__all__ = ["CHECKS", "check_data", "find_repeated", "join_reports", "mask_personal_data"]

VERSION = 1
REPORTED_ROWS = 5
"""The maximum number of examples that are reported for a finding."""
EXAMPLE_LENGTH = 160
"""The maximum number of characters of a text that are reported."""

CHECKS = {
    "duplicates": "rows with the texts of an earlier row of their split",
    "shared_rows": "rows of which another split has the same texts",
    "near_duplicates": f"rows that are nearly equal to one with other texts (Jaccard index of {THRESHOLD} or more)",
    "near_shared_rows": "rows that are nearly equal to one with other texts in another split",
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
class _Finding:
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
                {"id": mask_personal_data(row.id), "line": row.line,
                 "label": None if row.label is None or row.labels != (row.label,) else mask_personal_data(row.label),
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

    Raises:
        DataError: if a file is given twice, or one of the corpus cannot be read.
    """
    list_files(corpus)
    paths = Counter(split.path.resolve() for split in splits)
    for split in splits:
        if paths[split.path.resolve()] > 1:
            raise DataError(split.path, "is given twice", hint="a file is one split; give each once")
    skipped: dict[str, str] = {}
    findings = [*_check_repeated(splits), *_check_similar(splits, skipped), *_check_leakage(splits, corpus, skipped)]
    for split in splits:
        if labels and any(row.labels for row in split.rows):
            findings += _check_labels(split, skipped)
        findings += _check_texts(split)
    order = list(CHECKS)
    findings.sort(key=lambda finding: order.index(finding.check))
    return {
        "version": VERSION, "splits": [_describe_split(split) for split in splits],
        "findings": [finding.to_json() for finding in findings if finding.rows], "not_checked": skipped,
    }  # fmt: skip


def join_reports(reports: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the reports of several tasks as one. The names of splits and skipped checks begin with that of the task.

    Args:
        reports: task → its report.
    """
    joined: dict[str, Any] = {"version": VERSION, "splits": [], "findings": [], "not_checked": {}}
    for task, report in reports.items():
        joined["splits"] += [{**split, "name": f"{task}/{split['name']}"} for split in report["splits"]]
        joined["findings"] += [{**finding, "split": f"{task}/{finding['split']}"} for finding in report["findings"]]
        joined["not_checked"] |= {f"{task}: {check}": reason for check, reason in report["not_checked"].items()}
    return joined


def find_repeated(splits: Sequence[RowSplit]) -> tuple[dict[tuple[int, int], tuple[int, int]], set[tuple[int, int]]]:
    """Find rows with equal texts. Files with the same name of a split are parts of one split.

    Returns:
        The (file, place) of each repeated row → that of the first with its texts in the split, and the rows of which
        another split has the same texts.
    """
    first: dict[tuple[str, tuple[str, ...]], tuple[int, int]] = {}
    repeated: dict[tuple[int, int], tuple[int, int]] = {}
    owners: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for number, split in enumerate(splits):
        for place, row in enumerate(split.rows):
            original = first.setdefault((split.name, row.texts), (number, place))
            if original != (number, place):
                repeated[number, place] = original
            owners[row.texts].add(split.name)
    shared = {
        (number, place)
        for number, split in enumerate(splits)
        for place, row in enumerate(split.rows)
        if len(owners[row.texts]) > 1
    }
    return repeated, shared


def _check_repeated(splits: Sequence[RowSplit]) -> Iterator[_Finding]:
    repeated, shared = find_repeated(splits)
    homes: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for number, place in sorted(shared):
        row = splits[number].rows[place]
        homes[row.texts].setdefault(splits[number].name, row.id)
    copies: dict[int, list[tuple[DataRow, str]]] = defaultdict(list)
    for (number, place), (owner, first) in repeated.items():
        copies[number].append((splits[number].rows[place], f"the same as {splits[owner].rows[first].id}"))
    elsewhere: dict[int, list[tuple[DataRow, str]]] = defaultdict(list)
    for number, place in sorted(shared):
        row = splits[number].rows[place]
        name, other = next(home for home in homes[row.texts].items() if home[0] != splits[number].name)
        elsewhere[number].append((row, f"also in {name} {other}"))
    # Conflicts across splits count as well: a row of dev that train has with another label cannot be learned.
    places = [(number, row) for number, split in enumerate(splits) for row in split.rows]
    members: dict[int, list[tuple[DataRow, str]]] = defaultdict(list)
    for group in find_conflicts([row for _, row in places]):
        named = Counter(places[place][1].label for place in group)
        remark = ", ".join(f"{count} × {_shorten(str(label), 40)}" for label, count in sorted(named.items(), key=str))
        for place in group:
            number, row = places[place]
            members[number].append((row, f"labels: {remark}"))
    for number, split in enumerate(splits):
        yield _Finding("duplicates", split, copies[number])
        yield _Finding("shared_rows", split, elsewhere[number])
        yield _Finding("conflicts", split, members[number])


def _check_similar(splits: Sequence[RowSplit], skipped: dict[str, str]) -> Iterator[_Finding]:
    rows = [(number, row) for number, split in enumerate(splits) for row in split.rows if row.compared]
    widths = {len(row.compared) for _, row in rows}
    if len(widths) != 1:
        reason = "rows have different numbers of texts" if widths else "each row repeats texts of those before it"
        skipped["near_duplicates"] = reason
        return
    by_texts: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, (_, row) in enumerate(rows):
        by_texts[row.compared].append(place)
    homes = list(by_texts.values())
    with show_progress("near duplicates", len(homes), " rows") as progress:
        pairs = find_similar(list(by_texts), on_rows=progress.update)
    within: dict[int, list[tuple[DataRow, str]]] = defaultdict(list)
    across: dict[int, list[tuple[DataRow, str]]] = defaultdict(list)
    names = [splits[number].name for number, _ in rows]
    neighbors = _find_neighbors([row for _, row in rows], names, homes, pairs)
    for place, others in sorted(neighbors, key=lambda neighbor: neighbor[0]):
        number, row = rows[place]
        same = others.pop(names[place], None)
        if same is not None:
            within[number].append((row, f"like {rows[same][1].id}: {_join(rows[same][1])}"))
        for name, other in sorted(others.items()):
            across[number].append((row, f"like {name} {rows[other][1].id}: {_join(rows[other][1])}"))
            break
    for number, split in enumerate(splits):
        yield _Finding("near_duplicates", split, within[number])
        yield _Finding("near_shared_rows", split, across[number])


def _find_neighbors(
    rows: Sequence[DataRow], names: Sequence[str], homes: Sequence[Sequence[int]], pairs: NDArray[np.int64]
) -> Iterator[tuple[int, dict[str, int]]]:
    """Find a near duplicate of each row in each split.

    Args:
        rows: all rows.
        names: the split of each.
        homes: the places of the rows with each compared text.
        pairs: the near duplicates among compared texts, (P, 2).

    Yields:
        The place of a row, and split → the place of a row of it that is nearly equal.
    """
    # Of each compared text and split, two rows with different texts are enough: a row is like the one or the other.
    firsts: list[dict[str, list[int]]] = []
    for home in homes:
        first: dict[str, list[int]] = defaultdict(list)
        for place in home:
            known = first[names[place]]
            if not known or (len(known) == 1 and rows[known[0]].texts != rows[place].texts):
                known.append(place)
        firsts.append(first)
    nearby: dict[int, dict[str, int]] = defaultdict(dict)
    for one, other in pairs.tolist():
        for here, there in ((one, other), (other, one)):
            for name, candidates in firsts[there].items():
                nearby[here].setdefault(name, candidates[0])
    for number, home in enumerate(homes):
        near, here_too = nearby.get(number, {}), firsts[number]
        if not near and not any(len(known) > 1 for known in here_too.values()) and len(here_too) == 1:
            continue
        for place in home:
            others = dict(near)
            for name, candidates in here_too.items():
                # Rows with equal texts are counted on their own.
                other = next((other for other in candidates if rows[other].texts != rows[place].texts), None)
                if other is not None:
                    others.setdefault(name, other)
            if others:
                yield place, others


def _join(row: DataRow) -> str:
    return " | ".join(row.compared)


def _check_leakage(
    splits: Sequence[RowSplit], corpus: Sequence[TextSource], skipped: dict[str, str]
) -> Iterator[_Finding]:
    held_out = [split for split in splits if split.name != "train"]
    train = [
        Document("\n".join(row.texts), 0, f"train {row.id}")
        for split in splits if split.name == "train" for row in split.rows
    ]  # fmt: skip
    for check, documents in (("leaked", train), ("leaked_corpus", read_sources(corpus) if corpus else ())):
        if documents and held_out:
            yield from _look_up(check, held_out, documents, skipped)
    if corpus and not held_out:
        skipped["leaked_corpus"] = "all files are train, and only rows of other splits are looked up"


def _look_up(
    check: str, splits: Sequence[RowSplit], documents: Iterable[Document], skipped: dict[str, str]
) -> Iterator[_Finding]:
    benchmark, counts = Benchmark(), LeakageCounts()
    for split in splits:
        language = split.language or language_by_letters(split.rows)
        benchmark.add_texts(split.name, split.path, language, ((row.id, row.texts) for row in split.rows))
    for index in benchmark.indexes.values():
        index.freeze()
    for _ in find_leaked_lines(benchmark, documents, counts):
        pass
    too_short: Counter[str] = Counter()
    leaks = set().union(*(index.found() for index in benchmark.indexes.values()))
    for split, rows in zip(splits, benchmark.splits, strict=True):
        leaked = [place for place, texts in enumerate(rows.texts) if leaks.intersection(texts)]
        too_short[split.name] += sum(not texts for texts in rows.texts)
        remarks = [
            next((f"in {counts.places[text]}" for text in rows.texts[place] if text in counts.places), "")
            for place in leaked
        ]
        yield _Finding(check, split, list(zip([split.rows[place] for place in leaked], remarks, strict=True)))
    # Not a note on the finding, which is not reported where nothing was found.
    for name, count in (+too_short).items():
        skipped[f"{check} of {name}"] = f"too short to be looked up: {count:,} {'row' if count == 1 else 'rows'}"


def _check_labels(split: RowSplit, skipped: dict[str, str]) -> Iterator[_Finding]:
    doubts = doubt_labels(split.rows)
    if doubts.reason:
        skipped[f"suspicious_labels of {split.name}"] = doubts.reason
    remarks = [f"rather {doubt.suggested} ({doubt.confidence:.2f})" for doubt in doubts.doubted]
    rows = [split.rows[doubt.place] for doubt in doubts.doubted]
    note = f"{doubts.checked:,} rows checked; the model has the label of {doubts.accuracy:.1%}"
    yield _Finding("suspicious_labels", split, list(zip(rows, remarks, strict=True)), note)


def _check_texts(split: RowSplit) -> Iterator[_Finding]:
    counts: Counter[str] = Counter()
    mask, damage = PersonalData().make_filter(counts), Counter[str]()
    personal, damaged, empty = [], [], []
    for row in split.rows:
        before, row_damage = counts.copy(), Counter[str]()
        for text in row.texts:
            mask(text)
            row_damage += find_damage(text)
        if row_counts := counts - before:
            personal.append((row, _list_counts(row_counts)))
        if row_damage:
            damaged.append((row, _list_counts(row_damage)))
            damage.update(row_damage.keys())
        if not all(map(str.strip, row.texts)):
            empty.append((row, ""))
    yield _Finding("personal_data", split, personal, _list_counts(counts))
    yield _Finding("damaged_text", split, damaged, f"rows by kind: {_list_counts(damage)}")
    yield _Finding("empty_texts", split, empty)


def _list_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()) if count)


mask_personal_data: Callable[[str], str] = PersonalData().make_filter(Counter())
"""Returns a text with placeholders for personal data, for what is passed on more readily than the data."""


def _shorten(text: str, length: int = EXAMPLE_LENGTH) -> str:
    # A report is passed on more readily than the data: it does not repeat what is personal. What is cut is not seen to
    # be personal any more, so it is masked before.
    line = " ".join(mask_personal_data(text).split())
    return line if len(line) <= length else f"{line[:length]} …"


def _describe_split(split: RowSplit) -> dict[str, Any]:
    """Return the tables of a split: the lengths of each text in characters, and how often each label occurs."""
    widths = [count for count, _ in groupby(sorted(len(row.texts) for row in split.rows))]
    columns: Sequence[tuple[str, ...]] = list(zip(*(row.texts for row in split.rows), strict=True)) if (
        len(widths) == 1
    ) else [tuple("\n".join(row.texts) for row in split.rows)]  # fmt: skip
    names = split.fields if len(split.fields) == len(columns) else [f"text {n}" for n in range(1, len(columns) + 1)]
    labels = Counter(mask_personal_data(label) for row in split.rows for label in row.labels)
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
