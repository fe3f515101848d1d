"""Every file format: read, written back, and refused where it is malformed."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import claf2.readers
from claf2.errors import DataError
from claf2.readers import (
    Answer,
    ChoiceExample,
    Conll,
    Delimited,
    Example,
    Jsonl,
    Ranked,
    Reader,
    SpanExample,
    Squad,
    TextExample,
    TokenExample,
    readers,
)

PAIR = {"id": "id", "text_a": "a", "text_b": "b", "label": "label"}
# Line breaks and the delimiter cannot stand in a cell; surrogates are no text.
CELL = st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"]), min_size=0, max_size=20)
WORD = st.text(
    st.characters(exclude_characters="\t\n\r#-", exclude_categories=["Cs", "Z", "C"]), min_size=1, max_size=8
)
QUIET = settings(max_examples=50, deadline=None)


def round_trip(reader: Reader, examples: list[Example], folder: Path, name: str = "x.txt") -> list[Example]:
    reader.write(examples, folder / name)
    return list(reader.read(folder / name))


@QUIET
@given(rows=st.lists(st.tuples(CELL, CELL, st.sampled_from(["0", "1"])), min_size=1, max_size=5))
@pytest.mark.parametrize("name", ["x.tsv", "x.tsv.gz"])
def test_delimited_round_trip(
    rows: list[tuple[str, str, str]], name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    examples: list[Example] = [
        TextExample(id=str(n), text_a=a, text_b=b, label=label) for n, (a, b, label) in enumerate(rows)
    ]
    assert round_trip(Delimited(columns=PAIR), examples, tmp_path_factory.mktemp("x"), name) == examples


@QUIET
@given(a=st.text(st.characters(exclude_categories=["Cs"])), label=st.sampled_from(["x", "y"]))
def test_jsonl_round_trip(a: str, label: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    reader = Jsonl(columns={"id": "guid", "text_a": "t", "label": "labels.real"}, label_map={"0": "x", "1": "y"})
    examples: list[Example] = [TextExample(id="7", text_a=a, label=label)]
    assert round_trip(reader, examples, tmp_path_factory.mktemp("x")) == examples


@QUIET
@given(sentences=st.lists(st.lists(st.tuples(WORD, st.sampled_from(["O", "B-X", "I-X"])), min_size=1), min_size=1))
def test_conll_round_trip(sentences: list[list[tuple[str, str]]], tmp_path_factory: pytest.TempPathFactory) -> None:
    examples: list[Example] = [
        TokenExample(id=f"s{n}", tokens=tuple(w for w, _ in each), tags=tuple(t for _, t in each))
        for n, each in enumerate(sentences)
    ]
    assert round_trip(Conll(comment="##"), examples, tmp_path_factory.mktemp("x")) == examples


@QUIET
@given(
    context=st.text(st.characters(exclude_categories=["Cs"]), min_size=3),
    cut=st.tuples(st.integers(0, 1), st.integers(1, 2)),
)
def test_squad_round_trip(context: str, cut: tuple[int, int], tmp_path_factory: pytest.TempPathFactory) -> None:
    answer = Answer(context[cut[0] : cut[0] + cut[1]], cut[0])
    examples: list[Example] = [
        SpanExample(id="a", question="q?", context=context, answers=(answer,), title="t"),
        SpanExample(id="b", question="r?", context=context, answers=(), is_impossible=True, title="t"),
    ]
    assert round_trip(Squad(version="2.0"), examples, tmp_path_factory.mktemp("x")) == examples


def test_quotes_bom_crlf_empty_texts_and_missing_values_are_text(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_bytes('\ufeffid\ta\tlabel\r\n1\the said "hm\t0\r\n2\t\t1\r\n3\tNA\t0\r\n4\ta\u2028b\t1\r\n'.encode())
    rows = list(Delimited(columns={"id": "id", "text_a": "a", "label": "label"}).read(path))
    assert [row.text_a for row in rows if isinstance(row, TextExample)] == ['he said "hm', "", "NA", "a\u2028b"]
    assert [row.line for row in rows] == [2, 3, 4, 5]


def test_real_csv_with_quotes(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes('\ufeffa,label\r\n"one, two ""three""",0\r\n'.encode())
    (row,) = Delimited(columns={"text_a": "a", "label": "label"}, delimiter=",", quoted=True).read(path)
    assert isinstance(row, TextExample)
    assert row.text_a == 'one, two "three"'


def test_columns_by_position_from_either_end(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("gj04\t1\t\tThe text.\n")
    (row,) = Delimited(columns={"text_a": -1, "label": 1}, header=False).read(path)
    assert row == TextExample(id="1", text_a="The text.", label="1")


def test_a_file_without_the_label_column_is_unlabelled(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("a\nhello\n")
    (row,) = Delimited(columns={"text_a": "a", "label": "label"}).read(path)
    assert isinstance(row, TextExample)
    assert row.label is None


def test_malformed_rows_stop_or_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("a\tlabel\nfine\t0\none\ttwo\tthree\n")
    columns: dict[str, str | int] = {"text_a": "a", "label": "label"}
    with pytest.raises(DataError, match=r"x\.tsv:3: 3 columns where 2 are due"):
        list(Delimited(columns=columns).read(path))
    assert len(list(Delimited(columns=columns, on_malformed="skip").read(path))) == 1
    assert "1 malformed rows left out" in caplog.text


def test_klue_ner_format(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_bytes(
        "## CHAR\tNE_TAG\r\n## dev-1\t<가나:PS> #1\r\n가\tB-PS\r\n나\tI-PS\r\n \tO\r\n#\tO\r\n1\tO\r\n\r\n".encode()
    )
    (row,) = Conll(unit="character", comment="##").read(path)
    assert row == TokenExample(
        id="dev-1", tokens=("가", "나", " ", "#", "1"), tags=("B-PS", "I-PS", "O", "O", "O"), joiner=""
    )


def test_iob1_document_marks_and_blank_separators(tmp_path: Path) -> None:
    path = tmp_path / "x.conll"
    path.write_text(
        "-DOCSTART- -X- -X- O\n\nEU NNP I-NP I-ORG\nUN NNP I-NP B-ORG\nx NN O O\nIt PRP I-NP I-LOC\n \t\nz NN O O\n"
    )
    first, second = Conll(delimiter=None, scheme="iob1").read(path)
    assert isinstance(first, TokenExample)
    assert first.tags == ("B-ORG", "B-ORG", "O", "B-LOC")
    assert second == TokenExample(id="8", tokens=("z",), tags=("O",))


def test_squad_refuses_what_the_official_scripts_would_trip_over(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    paragraph = '{"context": "abc", "qas": [%s]}'
    question = '{"id": "%s", "question": "q", "answers": [{"text": "%s", "answer_start": 0}]}'

    def refused(questions: str, reason: str) -> None:
        path.write_text('{"data": [{"title": "t", "paragraphs": [%s]}]}' % (paragraph % questions))
        with pytest.raises(DataError, match=reason):
            list(Squad().read(path))

    refused(question % ("1", "bc"), "question '1': its context has no 'bc' at 0")
    refused(",".join([question % ("1", "a"), question % ("1", "ab")]), "two questions have the id '1'")
    refused('{"question": "q"}', "lacks 'id'")
    path.write_text('{"data": [{"title": "t"')
    with pytest.raises(DataError, match="not JSON"):
        list(Squad().read(path))


def test_a_cut_off_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json.gz"
    path.write_bytes(gzip.compress(b'{"data": []}' * 1000)[:-20])
    with pytest.raises(DataError, match="damaged"):
        list(Squad().read(path))


def test_broken_json_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"t": "a"}\n{"t": \n')
    with pytest.raises(DataError, match=r"x\.jsonl:2: not JSON"):
        list(Jsonl(columns={"text_a": "t"}).read(path))
    path.write_text('{"tt": "a"}\n')
    with pytest.raises(DataError, match=r"no 't' in the row; "):
        list(Jsonl(columns={"text_a": "t"}).read(path))


def test_members_are_found_by_class_name() -> None:
    assert readers.names() == [
        "conll", "delimited", "dialogues", "jsonl", "ranked", "relations", "squad", "tagged", "treebank",
    ]  # fmt: skip
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        claf2.readers.__getattr__("Nothing")


def test_ranked_sets_a_right_text_beside_a_wrong_one(tmp_path: Path) -> None:
    """In the order of the file, each row once; rows without a partner are left out."""
    rows = [("q1", "r", "yes"), ("q2", "x", "no"), ("q1", "s", "yes"), ("q1", "w", "no"), ("q3", "y", "yes"),
            ("q2", "z", "yes"), ("q1", "v", "no")]  # fmt: skip
    path = tmp_path / "rows.tsv"
    path.write_text("a\tb\tlabel\n" + "".join("\t".join(row) + "\n" for row in rows))
    of = Delimited(columns={"text_a": "a", "text_b": "b", "label": "label"})
    read = list(Ranked(of=of, right="yes").read(path))
    assert [(each.question, each.choices, each.label) for each in read if isinstance(each, ChoiceExample)] == [
        ("q1", ("r", "w"), "0"), ("q2", ("x", "z"), "1"), ("q1", ("s", "v"), "0"),
    ]  # fmt: skip
    Ranked(of=of, right="yes").write(read, tmp_path / "again.tsv")
    assert [each.texts() for each in Ranked(of=of, right="yes").read(tmp_path / "again.tsv")] == [
        each.texts() for each in read
    ]
