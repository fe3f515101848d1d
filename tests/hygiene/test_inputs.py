"""What `data check` reads, what it refuses, and that it says so in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from claf2.cli.main import main
from claf2.errors import Claf2Error
from claf2.hygiene.fix import clean_copies
from claf2.hygiene.rows import read_untyped_split
from claf2.readers import read_json_rows


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return int(str(stopped.value.code or 0))


def write_squad(path: Path, key: str = "id") -> Path:
    questions = [
        {key: name, "question": "who?", "answers": [{"text": "a", "answer_start": 0}]} for name in ("q-1", "q-2")
    ]
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "a b", "qas": questions}]}]}))
    return path


def test_a_quote_that_is_not_closed_swallows_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("text,label\n" + "".join(f"a film{chr(34) if n == 10 else ''},1\n" for n in range(50)))
    assert len(read_untyped_split(path).rows) == 50  # inside of a cell, a quote is a part of the text
    path.write_text("text,label\n" + "".join(f"{chr(34) if n == 10 else ''}a film,1\n" for n in range(50)))
    with pytest.raises(Claf2Error, match=r"train\.csv:12: a quote that opens in this row is not closed"):
        read_untyped_split(path)


@pytest.mark.parametrize("name", ["train.csv", "train.tsv"])
def test_a_carriage_return_alone_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    mark = "," if name.endswith("csv") else "\t"
    path.write_bytes(f"text{mark}label\na\rb{mark}1\n".encode())
    with pytest.raises(Claf2Error, match="end each line in a line feed"):
        read_untyped_split(path)
    path.write_bytes(f"text{mark}label\r\na{mark}1\r\n\r\nb{mark}2\r\n".encode())
    assert [(row.line, row.texts, row.label) for row in read_untyped_split(path).rows] == [
        (2, ("a",), "1"), (4, ("b",), "2"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["train.parquet", "train.csv.zst", "train.xlsx", "train.zip"])
def test_formats_without_rows_are_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"PAR1")
    with pytest.raises(Claf2Error, match=rf"the format \{path.suffix} cannot be read; convert it to .*\.csv"):
        read_untyped_split(path)


def test_files_in_squad_format_keep_the_name_of_their_split(tmp_path: Path) -> None:
    names = ("train-v2.0.json", "dev-v2.0.json", "test-v2.0.json")
    splits = [read_untyped_split(write_squad(tmp_path / name)) for name in names]
    assert [split.name for split in splits] == ["train", "valid", "test"]
    assert splits[2].rows[0].label is not None
    (tmp_path / "klue").mkdir()
    guid = read_untyped_split(write_squad(tmp_path / "klue/dev.json", "guid"))
    assert [row.id for row in guid.rows] == ["q-1", "q-2"]


@pytest.mark.parametrize("field", ["text", "label", "id"])
def test_half_characters_are_named_with_their_line(
    tmp_path: Path, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "train.jsonl"
    row = {"text": "b", "label": "1", **{field: "abc \ud83d"}}
    path.write_text('{"text": "a", "label": "0"}\n' + json.dumps(row) + "\n")
    page, clean = tmp_path / "report.html", tmp_path / "clean"
    assert run("data", "check", str(path), "--html", str(page), "--fix", str(clean)) == 2
    assert "train.jsonl:2: the row contains a lone surrogate" in capsys.readouterr().err
    assert not page.exists()
    assert not clean.exists()


def test_half_characters_in_other_fields_are_copied(tmp_path: Path) -> None:
    rows, path = [{"text": "a\u200b film"}, {"text": "a dog", "note": "abc \ud83d"}], tmp_path / "train.json"
    path.write_text(json.dumps(rows))
    clean_copies([read_untyped_split(path)], tmp_path / "clean")
    copied = [row for _, row in read_json_rows(tmp_path / "clean/train.json")]
    assert copied == [{"text": "a film"}, rows[1]]


def test_options_that_do_nothing_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    squad, lines = str(write_squad(tmp_path / "dev.json")), tmp_path / "lines.txt"
    lines.write_text("a text\n")
    configured = ("--base_config", "klue/nsmc_bert", "--source", "sample")
    refused: list[tuple[tuple[Any, ...], str]] = [
        ((squad, "--text", "nosuch"), "dev.json: is in SQuAD's format, which has no columns; leave out --text"),
        ((squad, "--label", "nothere"), "dev.json: is in SQuAD's format, which has no columns"),
        ((str(lines), "--text", "nosuch"), "lines.txt: has one text per line, and no columns"),
        ((*configured, "--task", "korquad"), "--task: cannot be used with --base_config"),
        ((*configured, "--text", "nosuch"), "--text: cannot be used with --base_config"),
        ((squad, "--task", "korquad", "--label", "x"), "--label: cannot be used with --task"),
    ]
    for words, message in refused:
        assert run("data", "check", *words) == 2
        assert message in capsys.readouterr().err


def test_where_the_report_goes_is_looked_at_before_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("claf2.hygiene.check.check_data", lambda *_, **__: pytest.fail("checked"))
    train = tmp_path / "train.txt"
    train.write_text("a text\n")
    for page, message in (
        (tmp_path, "is a folder"), (train / "page.html", "is a file"), (train, "is one of the checked files"),
    ):  # fmt: skip
        assert run("data", "check", str(train), "--html", str(page), "--fix", str(tmp_path / "clean")) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "clean").exists()
    assert train.read_text() == "a text\n"
