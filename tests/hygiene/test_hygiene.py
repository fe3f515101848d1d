"""Checks of data sets: what is found, what is cleaned, and what the reports say."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from claf2.cli.main import main
from claf2.errors import Claf2Error
from claf2.hygiene.check import check_data
from claf2.hygiene.damage import find_damage, repair_text
from claf2.hygiene.fix import CHANGES, clean_copies
from claf2.hygiene.labels import doubt_labels, find_conflicts, find_doubts
from claf2.hygiene.report import format_findings, render_findings
from claf2.hygiene.rows import DataRow, RowSplit, read_untyped_split
from claf2.hygiene.similar import NGRAM, find_similar, group_pairs

LONG = "the quick brown fox jumps over the lazy dog while thirteen more words follow it home"


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return int(str(stopped.value.code or 0))


def row(number: int, text: str, label: str | None = None) -> DataRow:
    return DataRow(str(number), number, (text,), label, () if label is None else (label,), (text,))


def split(name: str, texts: Sequence[tuple[str, str | None]]) -> RowSplit:
    rows = [row(number, text, label) for number, (text, label) in enumerate(texts, start=1)]
    return RowSplit(name, Path(f"{name}.jsonl"), rows, ("text",), "en")


def found(report: dict, check: str, name: str) -> list[str]:
    findings = [each for each in report["findings"] if (each["check"], each["split"]) == (check, name)]
    return [example["id"] for finding in findings for example in finding["examples"]]


def jaccard(first: str, second: str) -> float:
    sets = []
    for text in (first, second):
        letters = "".join(letter for letter in text.lower() if letter.isalnum()) or text
        sets.append({letters[start : start + NGRAM] for start in range(max(1, len(letters) - NGRAM + 1))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_similar_rows_are_those_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    texts = ["♥♥", "-_-", "ok", "Ok!", ""]
    for _ in range(150):
        text = "".join(rng.choice(list("abcdefg "), rng.integers(1, 40)))
        texts += [text, text[: -int(rng.integers(1, 4))], f"{text}{rng.choice(list('xyz'))}", text.upper()]
    expected = {
        (first, second)
        for second in range(len(texts))
        for first in range(second)
        if jaccard(texts[first], texts[second]) >= 0.8
    }
    pairs = find_similar([(text,) for text in texts])
    assert set(map(tuple, pairs.tolist())) == expected
    assert len(expected) > 200


def test_rows_of_two_texts_are_similar_in_both() -> None:
    rows = [(LONG, "a first hypothesis"), (f"{LONG}.", "a first hypothesis!"), (LONG, "quite another one")]
    assert find_similar(rows).tolist() == [[0, 1]]


def test_groups_are_what_pairs_connect() -> None:
    assert group_pairs(np.array([[0, 3], [3, 5], [1, 2]]), 6) == [[0, 3, 5], [1, 2]]
    many = [("the same text again and again",)] * 100
    assert group_pairs(find_similar(many), 100) == [list(range(100))]


def test_damage_is_found_and_repaired() -> None:
    garbled = "영화 café".encode().decode("latin-1")
    windows = "it’s".encode().decode("cp1252")
    decomposed = unicodedata.normalize("NFD", "한국")
    assert find_damage(garbled) == {"wrong decoding": 2}
    assert repair_text(garbled) == "영화 café"
    assert (find_damage(windows), repair_text(windows)) == ({"wrong decoding": 1}, "it’s")
    assert (find_damage(decomposed), repair_text(decomposed)) == ({"text not in NFC": 1}, "한국")
    assert (find_damage("a\u200bb\ufeff"), repair_text("a\u200bb\ufeff")) == ({"invisible characters": 2}, "ab")
    assert find_damage("lost \ufffd") == {"replacement characters": 1}
    for text in ("plain", "naïve déjà vu", "서울", "👩\u200d💻", "a\tb", "“quoted” – dash…", "É"):
        assert (find_damage(text), repair_text(text)) == ({}, text)


def test_what_is_found_within_and_across_splits() -> None:
    train = split("train", [("good film", "1"), ("good film", "1"), ("bad film", "0"), ("bad film", "1"),
                            (f"well, {LONG}", "1"), ("mail me: a.person@example.org", "1"), (" ", "0"),
                            ("a long enough text about a film", "1")])  # fmt: skip
    valid = split("valid", [("bad film", "0"), (f"{LONG}?", "1"), ("unique", "0"),
                            ("A long enough text, about a film!", "1")])  # fmt: skip
    report = check_data([train, valid], labels=False)
    assert found(report, "duplicates", "train") == ["2", "4"]
    assert found(report, "shared_rows", "valid") == ["1"]
    assert found(report, "conflicts", "train") == ["3", "4"]
    assert found(report, "conflicts", "valid") == ["1"]
    assert found(report, "near_shared_rows", "valid") == ["2", "4"]
    assert found(report, "leaked", "valid") == ["2", "4"]
    assert found(report, "empty_texts", "train") == ["7"]
    (personal,) = [finding for finding in report["findings"] if finding["check"] == "personal_data"]
    assert personal["examples"][0]["text"] == "mail me: <email>"
    assert report["splits"][0]["labels"] == {"1": 6, "0": 2}
    assert report["splits"][1]["lengths"][0]["shortest"] == len("unique")
    text, page = format_findings(report), render_findings(report)
    assert "valid: 1 (25.00%) rows of which another split has the same texts" in text
    assert "<td>bad film</td>" in page
    assert "http" not in page.replace("http-equiv", "")


def test_pages_escape_what_data_hold() -> None:
    report = check_data([split("train", [("<script>alert(1)</script>", "<b>")] * 2)], labels=False)
    assert "<script" not in render_findings(report)
    assert "&lt;script&gt;" in render_findings(report)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_doubts_equal_those_of_cleanlab(size: int) -> None:
    """It also keeps labels that its model finds the most probable, however unusual."""
    issues = pytest.importorskip("cleanlab.filter", reason="the reference of doubted labels: pip install cleanlab")
    dice = np.random.default_rng(0)
    labels = dice.integers(0, size, 600)
    logits = dice.normal(size=(600, size))
    logits[np.arange(600), np.where(dice.random(600) < 0.15, dice.integers(0, size, 600), labels)] += 2.5
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    suggested, is_doubted = find_doubts(probabilities, labels)
    expected = issues.find_label_issues(labels, probabilities, filter_by="confident_learning", n_jobs=1)
    assert 30 < expected.sum() < 100
    assert (is_doubted & (probabilities.argmax(1) != labels)).tolist() == expected.tolist()
    assert (suggested == probabilities.argmax(1))[expected].all()


def test_wrong_labels_are_doubted() -> None:
    rng = np.random.default_rng(0)
    words = {"0": ["bad", "poor", "boring", "dull", "awful"], "1": ["good", "great", "lovely", "fine", "superb"]}
    rows, wrong = [], set()
    for number in range(400):
        label = str(number % 2)
        text = " ".join(rng.choice(words[label], 4))
        if number % 40 == 7:
            wrong.add(number)
            label = str(1 - int(label))
        rows.append(row(number, text, label))
    doubts = doubt_labels(rows)
    assert doubts.reason == ""
    doubted = {doubt.place for doubt in doubts.doubted}
    assert len(wrong & doubted) >= 9
    assert len(doubted - wrong) <= 2
    random_labels = [row(number, row_.texts[0], str(rng.integers(2))) for number, row_ in enumerate(rows)]
    assert "the model is right in" in doubt_labels(random_labels).reason


def test_conflicts_ignore_rows_without_labels() -> None:
    rows = [row(1, "a", "x"), row(2, "a", None), row(3, "a", "y"), row(4, "b", "x"), row(5, "b", "x")]
    assert find_conflicts(rows) == [[0, 2]]


TRAIN = [
    {"text": "good film", "label": "1"}, {"text": "good film", "label": "1"}, {"text": "bad film", "label": "0"},
    {"text": "bad film", "label": "1"}, {"text": unicodedata.normalize("NFD", "한국 영화"), "label": "1"},
    {"text": "shared", "label": "1"}, {"text": "fine", "label": "0", "extra": [1]},
]  # fmt: skip
VALID = [{"text": "shared", "label": "1"}, {"text": "other", "label": "0"}]


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows), encoding="utf-8")
    return path


def test_cleaned_copies(tmp_path: Path) -> None:
    train, valid = write_jsonl(tmp_path / "train.jsonl", TRAIN), write_jsonl(tmp_path / "dev.jsonl", VALID)
    splits = [read_untyped_split(train), read_untyped_split(valid)]
    clean_copies(splits, tmp_path / "clean")
    kept = [json.loads(line) for line in (tmp_path / "clean/train.jsonl").read_text().splitlines()]
    assert kept == [TRAIN[0], {"text": "한국 영화", "label": "1"}, TRAIN[6]]
    assert (tmp_path / "clean/dev.jsonl").read_bytes() == valid.read_bytes()
    changes = [json.loads(line) for line in (tmp_path / "clean" / CHANGES).read_text().splitlines()]
    assert [(change["line"], change["change"].split(":")[0]) for change in changes] == [
        (2, "removed"), (3, "removed"), (4, "removed"), (5, "repaired"), (6, "removed"),
    ]  # fmt: skip
    # The copies are clean.
    again = check_data(
        [read_untyped_split(tmp_path / "clean/train.jsonl"), read_untyped_split(tmp_path / "clean/dev.jsonl")]
    )
    assert again["findings"] == []
    with pytest.raises(Claf2Error, match="exists already"):
        clean_copies(splits, tmp_path / "clean")


def test_tables_and_lists_are_cleaned(tmp_path: Path) -> None:
    table = tmp_path / "train.tsv"
    table.write_text('id\ttext\tlabel\n7\t"a\t1\n8\t"a\t1\n9\tb\u200b\t0\n', encoding="utf-8")
    listed = tmp_path / "train.json"
    listed.write_text(json.dumps(TRAIN[:3]), encoding="utf-8")
    clean_copies([read_untyped_split(table)], tmp_path / "table")
    assert (tmp_path / "table/train.tsv").read_text() == 'id\ttext\tlabel\n7\t"a\t1\n9\tb\t0\n'
    clean_copies([read_untyped_split(listed)], tmp_path / "list")
    assert json.loads((tmp_path / "list/train.json").read_text()) == [TRAIN[0], TRAIN[2]]
    quoted = tmp_path / "train.csv"
    quoted.write_text('text,label\n"a\nb",1\n"a\nb",1\n', encoding="utf-8")
    assert len(read_untyped_split(quoted).rows) == 2
    with pytest.raises(Claf2Error, match="not one line each"):
        clean_copies([read_untyped_split(quoted)], tmp_path / "quoted")


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", [{"body": "a"}])
    with pytest.raises(Claf2Error, match="has no column of texts; name its columns: --text NAME, one of body"):
        read_untyped_split(path)
    assert read_untyped_split(path, ["body"]).rows[0].texts == ("a",)
    with pytest.raises(Claf2Error, match="has no column grade"):
        read_untyped_split(path, ["body"], "grade")
    with pytest.raises(Claf2Error, match="no such file"):
        read_untyped_split(tmp_path / "missing.jsonl")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, valid = write_jsonl(tmp_path / "train.jsonl", TRAIN), write_jsonl(tmp_path / "dev.jsonl", VALID)
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(f"{LONG}\n", encoding="utf-8")
    page = tmp_path / "report.html"
    assert run("data", "check", str(train), str(valid), "--html", str(page), "--fix", str(tmp_path / "clean")) == 0
    out = capsys.readouterr().out
    assert "train: 2 (28.57%) rows with the texts of another row and another label" in out
    assert "1 row repaired: text" in out
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    held_out = write_jsonl(tmp_path / "test.jsonl", [{"text": f"so {LONG}", "label": "1"}])
    assert run("data", "check", str(held_out), "--corpus", str(corpus), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert found(report, "leaked_corpus", "test") == ["1"]
    assert run("data", "check") == 2
    assert run("data", "check", str(train), "--data_dir", "x") == 2
    assert "is not an option without --base_config" in capsys.readouterr().err


def test_the_files_of_a_base_config(benchmark_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--base_config", "glue/mrpc_bert", "--data_dir", str(benchmark_data), "--json")
    assert run("data", "check", *words, "--no-labels") == 0
    report = json.loads(capsys.readouterr().out)
    assert [(each["name"], each["rows"]) for each in report["splits"]][:2] == [("train", 3668), ("valid", 408)]
    assert report["splits"][0]["labels"] == {"1": 2474, "0": 1194}
