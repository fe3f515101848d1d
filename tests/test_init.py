"""`claf2 init`: from a file of one's own to a task and a BaseConfig that train."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import claf2
from claf2.cli.init import init_command
from claf2.data.row_file import read_row_file
from claf2.errors import Claf2Error, DataError

COLUMNS = {"text_a": "text", "label": "label"}
NAMES = (f"start_{number}" for number in range(1000))


def init(*words: object) -> Result:
    return CliRunner().invoke(init_command, [str(word) for word in words], catch_exceptions=False)


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "header", "row", "layout", "text"),
    [
        ("a.csv", "label,text", '{},"one, ""two"" {}"', "comma-separated, quoted", 'one, "two" 0'),
        ("a.csv", "label;text", '{};"one; two {}"', "semicolon-separated, quoted", "one; two 0"),
        ("a.txt", "label|text", "{}|one, two {}", "vertical bar-separated, quoted", "one, two 0"),
        ("a.tsv", "label\ttext", '{}\t"one" two {}', "tab-separated", '"one" two 0'),
        ("a.tsv", "label\ttext", '{}\t"one two {}"', "tab-separated, quoted", "one two 0"),
        ("a.jsonl", "", '{{"label": {}, "text": "one two {}"}}', "JSON rows", "one two 0"),
    ],
)
def test_the_layout_is_detected(tmp_path: Path, name: str, header: str, row: str, layout: str, text: str) -> None:
    lines = [header] * bool(header) + [row.format(number % 2, number) for number in range(4)]
    row_file = read_row_file(write(tmp_path / name, lines), COLUMNS)
    assert row_file.layout == layout
    assert row_file.examples[0].text_a == text
    assert row_file.label_counts == {"0": 2, "1": 2}


@pytest.mark.parametrize(
    ("labels", "kind", "order"),
    [
        (["b", "a", "b"], "classify", ["a", "b"]),
        (["10", "9", "1"], "classify", ["1", "9", "10"]),
        (["1e-05", "0.5", "1E+2"], "regress", ["1e-05", "0.5", "1E+2"]),
        (["0.5", "1.0", "2"], "regress", ["0.5", "1.0", "2"]),
        (["1.0", "0.0", "2.0"], "classify", ["0.0", "1.0", "2.0"]),
        ([str(number) for number in range(60)], "regress", [str(number) for number in range(60)]),
        ([f"c{number:02}" for number in range(60)], "classify", [f"c{number:02}" for number in range(60)]),
    ],
)
def test_labels_are_classes_or_scores(tmp_path: Path, labels: list[str], kind: str, order: list[str]) -> None:
    path = write(tmp_path / "a.csv", ["text,label", *(f"t{number},{label}" for number, label in enumerate(labels))])
    row_file = read_row_file(path, COLUMNS)
    assert row_file.kind == kind
    assert list(row_file.label_counts) == order


@pytest.mark.parametrize(
    ("text", "language"), [("정말 좋다", "ko"), ("とても良い", "ja"), ("very good", "en"), ("très bon", "en")]
)
def test_the_language_is_judged_by_its_letters(tmp_path: Path, text: str, language: str) -> None:
    path = write(tmp_path / "a.csv", ["text,label", *(f"{text} {number},x" for number in range(3))])
    assert read_row_file(path, COLUMNS).language == language


def test_the_rows_are_described(tmp_path: Path) -> None:
    lines = ["one,x", "one,x", "two,x", "two,y", ",y"] + [f"t{number},x" for number in range(20)]
    findings = read_row_file(write(tmp_path / "a.csv", ["text,label", *lines]), COLUMNS).findings()
    assert findings[0].endswith("25 rows, comma-separated, quoted")
    assert findings[1:] == [
        "texts: 0 to 3 characters, median 3; language en",
        "labels: 2 classes: x 23, y 2",
        "warning: 2 rows repeat an earlier text",
        "warning: 1 texts have more than one label",
        "warning: 1 rows have an empty text",
        "warning: fewer than 10 rows have the label 'y'",
    ]


@pytest.mark.parametrize(
    ("lines", "words", "message"),
    [
        (["id,text,label", "1,a,b"], [], "--text: name the column of the text; {file} has the columns 'id', 'text'"),
        (["text,label", "a,b"], ["--text", "text"], "--label: name the column of the label; {file} has"),
        (
            ["text,Label", "a,b"],
            ["--text", "text", "--label", "label"],
            "{file}:1: no column 'label' in the header; did",
        ),
        (
            ["text,text,label", "a,b,c"],
            ["--text", "text", "--label", "label"],
            "{file}:1: column 'text' occurs twice in the header: 'text', 'text', 'label'; rename",
        ),
        (["text,label", "a,"], ["--text", "text", "--label", "label"], "{file}:2: the row has no label; give"),
        (["text,label"], ["--text", "text", "--label", "label"], "{file}: holds no rows"),
        (
            ["text,label", "a,b"],
            ["--text", "text", "--label", "label", "--name", "nsmc"],
            "--name: 'nsmc' is already a task",
        ),
        (
            ["text,label", "a,b"],
            ["--text", "text", "--label", "label", "--name", "3"],
            "--name: '3' is not a valid name",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, lines: list[str], words: list[str], message: str) -> None:
    path = write(tmp_path / "mine.csv", lines)
    with pytest.raises(Claf2Error) as raised:
        init("--data", path, "--out", tmp_path, *words)
    assert str(raised.value).startswith(message.format(file=path)), raised.value
    assert not list(tmp_path.glob("*.py"))


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        ("text,label\na,x\n".encode("utf-16"), [], "mine.csv: in UTF-16, not in UTF-8; .*iconv -f UTF-16"),
        ("text,label\n영화,x\n".encode("cp949"), [], "mine.csv: damaged, or not in UTF-8: .*iconv -f CP949"),
        (b"", [], "mine.csv:1: contains no rows with named columns"),
        (b"text,label\na,x\n", ["--delimiter", "ab"], "--delimiter: 'ab' is not one character"),
        (b"text,label\na,x\n", ["--delimiter", ""], "--delimiter: '' is not one character"),
        (b"text,label\na,x\n", ["--text_b", "text"], "--text: column 'text' is used twice"),
        (b"text,label\na,x\n", ["--language", "klingon"], "--language: 'klingon' is not a language code"),
    ],
)
def test_files_and_options_that_make_no_sense(tmp_path: Path, content: bytes, words: list[str], message: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(Claf2Error, match=message):
        init("--data", path, "--text", "text", "--label", "label", "--out", tmp_path, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.csv"]


def test_a_folder_is_no_file_and_one_class_is_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(Claf2Error, match="is not a file; name the training file"):
        init("--data", tmp_path, "--text", "text", "--label", "label")
    path = write(tmp_path / "a.csv", ["text,label", "a,x", "b,x"])
    findings = read_row_file(path, COLUMNS).findings()
    assert "warning: all rows have the same label, so there is nothing to learn" in findings


def test_a_validation_file_has_the_labels_of_the_training_file(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", ["text,label", "a,yes", "b,no"])
    valid = write(tmp_path / "valid.csv", ["text,label", "a,yes", "b,On"])
    with pytest.raises(Claf2Error, match=r"valid.csv:3: label 'On' does not occur in .*train.csv; valid: no, yes"):
        init("--data", train, "--valid", valid, "--text", "text", "--label", "label", "--out", tmp_path)


def test_files_are_not_replaced_unasked(tmp_path: Path) -> None:
    name = next(NAMES)
    words = ["--data", write(tmp_path / "a.csv", ["text,label", "a,b"]), "--text", "text", "--label", "label"]
    init(*words, "--out", tmp_path, "--name", name)
    with pytest.raises(Claf2Error, match="exists already; choose another --name or --out, or add --overwrite"):
        init(*words, "--out", tmp_path, "--name", name)
    assert init(*words, "--out", tmp_path, "--name", name, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("label", "metrics"),
    [
        (lambda number: ("good", "bad")[number % 2], ["accuracy", "macro_f1"]),
        (lambda number: ("good", "bad")[number % 5 == 0], ["macro_f1", "accuracy"]),
        (lambda number: f"{number / 7:.2f}", ["pearson", "spearman"]),
    ],
)
def test_what_is_written_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: Callable[[int], str], metrics: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = next(NAMES)
    rows = [f'r{number},"word{number % 9}, word{number % 4}\nsecond line",{label(number)}' for number in range(40)]
    write(tmp_path / "data.csv", ["key,comment,mark", *rows])
    done = init("--data", "data.csv", "--text", "comment", "--label", "mark", "--id", "key", "--name", name)
    assert done.output.splitlines()[-1] == f"predict a file:   claf2 predict logs/{name} --input FILE"
    config = json.loads((tmp_path / f"{name}.json").read_text())
    assert config["data_reader"]["valid_fraction"] == 0.1
    assert config["plugins"] == [f"{name}_task.py"]  # not NAME.py, which could hide a module
    report = claf2.train(f"{name}.json", pretrained_model_name="scratch", num_steps=2)
    assert [score for score in report.tasks[name].scores if score in metrics] == metrics
    assert {prediction.id[0] for prediction in report.tasks[name].predictions} == {"r"}
    prediction = claf2.Predictor(f"logs/{name}")(text="word1, word2")
    assert prediction.gold is None


def test_labels_that_differ_in_white_space_draw_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ["text,label", "a,yes", "b, yes", "c,no"])
    findings = read_row_file(path, COLUMNS).findings()
    assert "warning: the labels ' yes', 'yes' differ in white space alone; they are different classes" in findings


def test_half_a_character_is_named(tmp_path: Path) -> None:
    for row in ({"text": "a\ud83d", "label": "x"}, {"text": "a", "label": "\ud83d"}):
        path = write(tmp_path / "a.jsonl", ['{"text": "b", "label": "y"}', json.dumps(row)])
        with pytest.raises(DataError, match=r"a\.jsonl:2: contains a lone surrogate, .*; remove it"):
            read_row_file(path, COLUMNS)
