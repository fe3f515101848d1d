"""What a report says of near duplicates, personal data, tasks and languages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from claf2.cli import data as data_commands
from claf2.cli.main import main
from claf2.corpus.sources import TextSource
from claf2.errors import Claf2Error
from claf2.hygiene import labels as label_check
from claf2.hygiene.check import check_data, join_reports
from claf2.hygiene.rows import DataRow, RowSplit, guess_split, language_by_letters, read_untyped_split


def make_split(name: str, rows: Sequence[tuple[str, ...]], compared: int = 1, label: str | None = None) -> RowSplit:
    labels = () if label is None else (label,)
    made = [
        DataRow(str(number), number, texts, label, labels, texts[:compared])
        for number, texts in enumerate(rows, start=1)
    ]
    return RowSplit(name, Path(f"{name}.jsonl"), made, ("text",), "en")


def counts_of(report: dict, check: str) -> dict[str, int]:
    return {finding["split"]: finding["rows"] for finding in report["findings"] if finding["check"] == check}


def test_near_duplicates_are_not_passed_on() -> None:
    letters = "".join(np.random.default_rng(0).choice(list("abcdefghijklmnopqrstuvwxyz"), 300))
    # Each row is like the next one, and the last one is not like the first.
    chain = [(letters[start : start + 60],) for start in range(0, 200, 4)]
    report = check_data([make_split("train", chain[:-1]), make_split("valid", chain[-1:])], labels=False)
    assert counts_of(report, "near_shared_rows") == {"train": 1, "valid": 1}
    (finding,) = [
        each for each in report["findings"] if (each["check"], each["split"]) == ("near_shared_rows", "valid")
    ]
    assert chain[-2][0] in finding["examples"][0]["remark"]


def test_all_places_of_a_text_have_near_duplicates() -> None:
    text = "the plot is thin and the end is known from the first minute on"
    report = check_data([make_split("train", [(text,), (f"{text} x",)]), make_split("valid", [(text,)])], labels=False)
    assert counts_of(report, "shared_rows") == {"train": 1, "valid": 1}
    assert counts_of(report, "near_duplicates") == {"train": 2}
    assert counts_of(report, "near_shared_rows") == {"train": 1, "valid": 1}


def test_equal_questions_of_other_contexts_are_near_duplicates() -> None:
    train = make_split("train", [("who is the king?", "The king is Arthur."), ("who is it?", "nobody")])
    valid = make_split("valid", [("who is the king?", "The king  is Arthur."), ("who is it?", "nobody")])
    report = check_data([train, valid], labels=False)
    assert counts_of(report, "near_shared_rows") == {"train": 1, "valid": 1}
    assert counts_of(report, "shared_rows") == {"train": 1, "valid": 1}


def test_no_finding_shows_personal_data() -> None:
    address = "a.person@example.org"
    text = f"{'x' * 150} {address} is where the film may be had, for those who want it"
    train = make_split("train", [(text,), (text,)], label=f"for {'y' * 30} {address}")
    valid = make_split("valid", [(text,), (f"{text}!",)], label="1")
    valid = replace(valid, rows=[replace(row, id=f"{row.id} {address}") for row in valid.rows])
    report = json.dumps(check_data([train, valid], labels=False))
    assert "<email>" in report
    assert "person" not in report.replace("personal_data", "")


def test_tasks_are_told_apart() -> None:
    reports = {
        task: check_data([make_split("train", [("good film",)]), make_split("valid", [("good film",)])], labels=False)
        for task in ("sst", "cola")
    }
    joined = join_reports(reports)
    assert [split["name"] for split in joined["splits"]] == ["sst/train", "sst/valid", "cola/train", "cola/valid"]
    assert counts_of(joined, "shared_rows") == dict.fromkeys(("sst/train", "sst/valid", "cola/train", "cola/valid"), 1)


def test_the_command_checks_each_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    by_task = {}
    for task in ("sst", "cola"):
        (tmp_path / task).mkdir()
        path = tmp_path / task / "train.tsv"
        path.write_text("text\tlabel\na\t1\na\t1\n", encoding="utf-8")
        by_task[task] = [read_untyped_split(path)]
    monkeypatch.setattr(data_commands, "_read_configured", lambda *_: by_task)
    with pytest.raises(SystemExit) as stopped:
        main(("data", "check", "--base_config", "both", "--json", "--fix", str(tmp_path / "clean")))
    assert not stopped.value.code
    report = json.loads(capsys.readouterr().out)
    assert counts_of(report, "duplicates") == {"sst/train": 1, "cola/train": 1}
    assert report["fixed"] == {"removed: the same as an earlier row": 2}
    for task in by_task:
        assert (tmp_path / "clean" / task / "train.tsv").read_text() == "text\tlabel\na\t1\n"


def test_what_is_not_compared_is_said() -> None:
    turns = check_data([make_split("train", [("a",), ("b",)], compared=0)], labels=False)
    assert turns["not_checked"] == {"near_duplicates": "each row repeats texts of those before it"}
    assert join_reports({"wos": turns})["not_checked"].keys() == {"wos: near_duplicates"}


def test_what_is_not_looked_up_is_said(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a text\n")
    source = TextSource(path=str(corpus))
    train, valid = make_split("train", [("a film",)]), make_split("valid", [("two words",), ("a b c d e f",)])
    report = check_data([train], [source], labels=False)
    assert report["not_checked"] == {
        "leaked_corpus": "all files are train, and only rows of other splits are looked up"
    }
    report = check_data([train, valid, replace(valid, path=Path("dev_2.jsonl"))], [source], labels=False)
    short = "too short to be looked up: 2 rows"
    assert report["not_checked"] == {"leaked of valid": short, "leaked_corpus of valid": short}
    missing = TextSource(path=str(tmp_path / "none.jsonl"))
    with pytest.raises(Claf2Error, match=r"none\.jsonl: no such file"):
        check_data([train], [missing], labels=False)


def test_labels_that_a_draw_makes_rare_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_check, "MOST_ROWS", 60)
    texts = [("good" if number % 2 else "bad", str(number % 2)) for number in range(3000)]
    rows = [
        DataRow(str(number), number, (text,), label, (label,), (text,))
        for number, (text, label) in enumerate([*texts, *[("rare", "rare")] * 10])
    ]
    doubts = label_check.doubt_labels(rows)
    assert (doubts.reason, doubts.accuracy) == ("", 1.0)
    few = [row for row in rows if row.label != "1"]
    assert "the same label" in label_check.doubt_labels(few).reason


def test_names_of_files_are_read_by_words() -> None:
    names = ["train.csv", "my_dev.tsv", "constraints.csv", "contest.json", "KorQuAD_v1.0_dev.json", "TestSet.txt"]
    assert [guess_split(Path(name)) for name in names] == [
        "train", "valid", "constraints.csv", "contest.json", "valid", "test",
    ]  # fmt: skip


def test_japanese_is_seen_by_its_letters() -> None:
    texts = ["京都は日本の都市である。", "서울은 수도이다", "a film about 京都"]
    assert [language_by_letters(make_split("train", [(text,)]).rows) for text in texts] == ["ja", "", ""]


def test_files_without_rows_say_so(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    for content in ("", "text,label\n"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(Claf2Error, match="contains no rows"):
            read_untyped_split(path)
    listed = tmp_path / "train.json"
    listed.write_text('[{"text": "a"}, {"text": "b", "label": "1"}]', encoding="utf-8")
    assert [row.label for row in read_untyped_split(listed).rows] == [None, "1"]
