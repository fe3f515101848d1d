"""Every file format: read, written back, and refused where it is malformed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import claf2.readers
from claf2.data.row_file import read_row_file
from claf2.errors import DataError
from claf2.readers import (
    Answer,
    ChoiceExample,
    Conll,
    Delimited,
    Dialogues,
    Example,
    Jsonl,
    ParseExample,
    Ranked,
    Reader,
    SpanExample,
    Squad,
    Tagged,
    TextExample,
    TokenExample,
    Treebank,
    readers,
)
from claf2.readers.tags import to_iob2
from claf2.task import tasks

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
        TokenExample(
            id=f"s{n}",
            tokens=tuple(word for word, _ in sentence),
            tags=tuple(to_iob2([tag for _, tag in sentence], from_iob1=True)),
        )
        for n, sentence in enumerate(sentences)
    ]
    assert round_trip(Conll(comment="##"), examples, tmp_path_factory.mktemp("x")) == examples


@pytest.mark.parametrize(
    ("delimiter", "tokens", "written"),
    [
        ("\t", ("a b", "c\td", "e\nf"), ("a b", "c d", "e f")),
        (None, ("a b", "c\td", "", "e\r"), ("a_b", "c_d", "_", "e_")),
        ("\t", ("-DOCSTART-", "b"), (" -DOCSTART-", "b")),
        (None, ("-DOCSTART-", "b"), ("-DOCSTART-", "b")),
    ],
)
def test_tokens_that_conll_cannot_hold_are_changed(
    delimiter: str | None, tokens: tuple[str, ...], written: tuple[str, ...], tmp_path: Path
) -> None:
    example = TokenExample(id="1", tokens=tokens, tags=("O",) * len(tokens))
    [row] = round_trip(Conll(delimiter=delimiter, comment="##"), [example], tmp_path)
    assert isinstance(row, TokenExample)
    assert row.tokens == written


def test_line_ends_inside_cells_are_changed_where_there_are_no_quotes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    examples: list[Example] = [TextExample(id=str(n), text_a=text) for n, text in enumerate(("a\tb", "a\r\nb", "c"))]
    columns = {"id": "id", "text_a": "a"}
    rows = round_trip(Delimited(columns=columns), examples, tmp_path)
    assert [list(row.texts()) for row in rows] == [["a b"], ["a  b"], ["c"]]
    assert "inside 2 rows" in caplog.text
    assert round_trip(Delimited(columns=columns, delimiter=",", quoted=True), examples[:1], tmp_path) == examples[:1]


def test_what_is_not_a_number_is_no_text(tmp_path: Path) -> None:
    columns = {"id": "id", "text_a": "a", "label": "label"}
    (tmp_path / "a.jsonl").write_text('{"id": NaN, "a": "x", "label": 1}\n{"id": 2, "a": NaN, "label": 1}\n')
    rows = Jsonl(columns=columns).read(tmp_path / "a.jsonl")
    assert next(rows).id == "1"
    with pytest.raises(DataError, match=r"a\.jsonl:2: 'a' is null, not a string"):
        next(rows)
    (tmp_path / "b.jsonl").write_text('{"id": 1, "a": "x", "c0": "y", "c1": null, "label": 1}\n')
    with pytest.raises(DataError, match=r"b\.jsonl:1: 'c1' is null, not a string"):
        list(Jsonl(columns=columns, choices=("c0", "c1")).read(tmp_path / "b.jsonl"))


@pytest.mark.parametrize("label", ["NaN", "Infinity", "-Infinity", "null"])
def test_a_label_that_is_no_number_is_missing(label: str, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(f'{{"text": "x", "label": 1.0}}\n{{"text": "y", "label": {label}}}\n')
    columns = {"text_a": "text", "label": "label"}
    assert [example.label for example in Jsonl(columns=columns).read(path)] == ["1.0", None]
    with pytest.raises(DataError, match=r"train\.jsonl:2: the row has no label"):
        read_row_file(path, columns)


def test_a_key_may_contain_a_dot(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"a.b": "x", "a": {"b": "y"}, "label": 1}\n{"a": {"b": "y"}, "label": 1}\n')
    columns = {"text_a": "a.b", "label": "label"}
    assert [example.text_a for example in Jsonl(columns=columns).read(path)] == ["x", "y"]
    assert [example.text_a for example in read_row_file(path, columns).examples] == ["x", "y"]


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
    with pytest.raises(DataError, match=r"x\.tsv:3: expected 2 columns, got 3"):
        list(Delimited(columns=columns).read(path))
    assert len(list(Delimited(columns=columns, on_malformed="skip").read(path))) == 1
    assert "skipped 1 malformed rows" in caplog.text


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


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-A I-A E-A O S-B", "B-A I-A I-A O B-B"),  # IOBES
        ("S-A S-A B-A E-A", "B-A B-A B-A I-A"),
        ("B-A E-A B-A I-A E-A", "B-A I-A B-A I-A I-A"),
        ("B-A I-A L-A U-B O", "B-A I-A I-A B-B O"),  # BILOU
        ("B-A M-A M-A E-A S-A", "B-A I-A I-A I-A B-A"),  # BMES
        ("B-A M-A E-A W-A", "B-A I-A I-A B-A"),  # BMEWO
        ("I-A E-A I-A E-A E-A O E-B", "B-A I-A B-A I-A B-A O B-B"),  # IOE2
        ("I-A E-A I-A I-B O", "B-A I-A B-A B-B O"),  # IOE1
        ("S-A I-A E-A", "B-A B-A I-A"),  # nothing goes on after S-
        ("I-A I-B E-B", "B-A B-B I-B"),  # another type begins
        ("O O", "O O"),
        ("B-A I-A O I-A I-B", "B-A I-A O I-A I-B"),  # IOB2 with two faults, which stay
    ],
)
def test_schemes_become_iob2(tags: str, expected: str) -> None:
    assert to_iob2(tags.split()) == expected.split()
    assert to_iob2(expected.split()) == expected.split()


def test_iob1_is_a_statement_about_the_file() -> None:
    assert to_iob2("I-A I-A B-A I-A O I-B I-A".split(), from_iob1=True) == "B-A I-A B-A I-A O B-B B-A".split()


def test_readers_of_tags_convert_them_and_refuse_iob1(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("Ann\tB-PER\nLee\tE-PER\nin\tO\nRome\tS-LOC\n\nU\tI-O\n")
    first, second = Conll().read(path)
    assert isinstance(first, TokenExample)
    assert isinstance(second, TokenExample)
    assert first.tags == ("B-PER", "I-PER", "O", "B-LOC")
    assert second.tags == ("I-O",)
    path.write_text("Ann\tX-PER\n")
    with pytest.raises(DataError, match=r"x\.tsv:1: 'X-PER' is not a tag of IOB"):
        list(Conll().read(path))
    path.write_text("".join("a\tO\nAnn\tI-PER\nLee\tI-PER\n\n" for _ in range(10)))
    with pytest.raises(DataError, match=r"x\.tsv:1: 10 of 10 entities begin with I-.*; set scheme .* to iob1"):
        list(Conll().read(path))
    assert len(list(Conll(scheme="iob1").read(path))) == 10

    path.write_text("Ann Lee in Rome\tPER-B PER-E O LOC-S\nx y\tB-PER I-PER\nz\t-\n")
    rows = list(Tagged().read(path))
    assert [row.tags for row in rows if isinstance(row, TokenExample)] == [
        ("B-PER", "I-PER", "O", "B-LOC"), ("B-PER", "I-PER"), ("-",),
    ]  # fmt: skip
    path.write_text("a b\tO PER-I\n" * 10)
    with pytest.raises(DataError, match="10 of 10 entities begin with I-"):
        list(Tagged().read(path))


def test_squad_refuses_what_the_official_scripts_would_trip_over(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    paragraph = '{"context": "abc", "qas": [%s]}'
    question = '{"id": "%s", "question": "q", "answers": [{"text": "%s", "answer_start": 0}]}'

    def refused(questions: str, reason: str) -> None:
        path.write_text('{"data": [{"title": "t", "paragraphs": [%s]}]}' % (paragraph % questions))
        with pytest.raises(DataError, match=reason):
            list(Squad().read(path))

    refused(question % ("1", "bc"), "question '1': the context has no 'bc' at character 0")
    refused(",".join([question % ("1", "a"), question % ("1", "ab")]), "two questions have the id '1'")
    refused('{"question": "q"}', "lacks 'id'")
    path.write_text('{"data": [{"title": "t"')
    with pytest.raises(DataError, match="not valid JSON"):
        list(Squad().read(path))


def questions(path: Path, *rows: dict[str, Any], version: Literal["1.1", "2.0"] = "1.1", **settings: Any) -> list[Any]:
    """Return the id and the answers of questions about one text, as they are read."""
    qas = [{"id": str(number), "question": "q", **row} for number, row in enumerate(rows, start=1)]
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": [{"context": "a river", "qas": qas}]}]}))
    examples = [e for e in Squad(version=version, **settings).read(path) if isinstance(e, SpanExample)]
    assert all(example.is_impossible == (example.answers == ()) for example in examples)
    return [(e.id, None if e.answers is None else [answer.text for answer in e.answers]) for e in examples]


RIVER: dict[str, Any] = {"answers": [{"text": "river", "answer_start": 2}]}
WRONG: dict[str, Any] = {"answers": [{"text": "river", "answer_start": 3}]}
EMPTY: dict[str, Any] = {"answers": []}


def test_the_flag_decides_whether_a_question_has_an_answer(tmp_path: Path) -> None:
    """Plausible answers among the answers are not accepted as answers."""
    path = tmp_path / "x.json"
    impossible, possible = {"is_impossible": True}, {"is_impossible": False}
    for version in ("1.1", "2.0"):
        rows = [RIVER | possible, RIVER | impossible, EMPTY | impossible, impossible, RIVER | {"is_impossible": None}]
        expected = [("1", ["river"]), ("2", []), ("3", []), ("4", []), ("5", ["river"])]
        assert questions(path, *rows, version=version) == expected
        assert questions(path, EMPTY | possible, possible, version=version) == [("1", None), ("2", None)]
        with pytest.raises(DataError, match="question '2' has no answer, but '1' has"):
            questions(path, RIVER | possible, EMPTY | possible, version=version)
        with pytest.raises(DataError, match='is_impossible is "false", not true or false'):
            questions(path, RIVER | {"is_impossible": "false"}, version=version)


def test_questions_without_answers_are_unlabelled_where_all_have_one(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    unlabelled: list[dict[str, Any]] = [EMPTY, {}, {"answers": None}]
    assert questions(path, *unlabelled) == [("1", None), ("2", None), ("3", None)]
    for row in unlabelled:
        with pytest.raises(
            DataError, match="question '1' has no answer, but '2' has; give all questions answers or none"
        ):
            questions(path, row, RIVER)
        with pytest.raises(DataError, match="question '2' has no answer, but '1' has"):
            questions(path, RIVER, row)
    assert questions(path, EMPTY, RIVER, version="2.0") == [("1", []), ("2", ["river"])]
    assert questions(path, {}, {"answers": None}, version="2.0") == [("1", None), ("2", None)]


@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_a_question_whose_answers_are_all_skipped_is_left_out(
    version: Literal["1.1", "2.0"], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It has an answer, so it is not unanswerable."""
    both = {"answers": WRONG["answers"] + RIVER["answers"]}
    rows = questions(tmp_path / "x.json", WRONG, both, RIVER, version=version, on_malformed="skip")
    assert rows == [("2", ["river"]), ("3", ["river"])]
    assert "skipped 2 answers that are not at their answer_start" in caplog.text


def test_a_cut_off_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json.gz"
    path.write_bytes(gzip.compress(b'{"data": []}' * 1000)[:-20])
    with pytest.raises(DataError, match="damaged"):
        list(Squad().read(path))


def test_broken_json_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"t": "a"}\n{"t": \n')
    with pytest.raises(DataError, match=r"x\.jsonl:2: not valid JSON"):
        list(Jsonl(columns={"text_a": "t"}).read(path))
    path.write_text('{"tt": "a"}\n')
    with pytest.raises(DataError, match=r"no key 't' in the row; "):
        list(Jsonl(columns={"text_a": "t"}).read(path))


def test_members_are_found_by_class_name() -> None:
    assert readers.names() == [
        "conll", "delimited", "dialogues", "documents", "instructions", "jsonl", "ranked", "relations", "squad",
        "tagged", "treebank", "triplets",
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
    assert [(row.question, row.choices, row.label) for row in read if isinstance(row, ChoiceExample)] == [
        ("q1", ("r", "w"), "0"), ("q2", ("x", "z"), "1"), ("q1", ("s", "v"), "0"),
    ]  # fmt: skip
    Ranked(of=of, right="yes").write(read, tmp_path / "again.tsv")
    assert [row.texts() for row in Ranked(of=of, right="yes").read(tmp_path / "again.tsv")] == [
        row.texts() for row in read
    ]


QUOTED = Delimited(columns={"text_a": "a", "label": "label"}, delimiter=",", quoted=True)


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ('"good",1\n"open,1\n"bad",0\nok,1\n', 3),  # the next quote closes it, and text follows
        ('"good",1\n"open,1\nbad,0\n', 3),  # nothing closes it
        ('"two\nlines",1\nok,0\n"said "so" once",1\n"x",0\n', 5),
        ('"escaped \\"so\\" once",1\n', 2),
        ('x,"1\ny,"0"\nz,1\n', 2),
    ],
)
def test_a_quote_that_is_not_closed_swallows_no_rows(rows: str, line: int, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,label\n" + rows)
    with pytest.raises(DataError, match="a quote that opens in this row is not closed") as caught:
        list(QUOTED.read(path))
    assert caught.value.line == line


def test_rows_after_a_cell_of_several_lines_have_their_own_line(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('a,label\n"one\r\ntwo\rthree",1\nb"c,0\n', newline="")
    assert [(row.line, *row.texts()) for row in QUOTED.read(path)] == [(2, "one\r\ntwo\rthree"), (4, 'b"c')]


def test_blank_lines_at_the_end_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    plain = Delimited(columns={"text_a": "a", "label": "label"})
    for reader, delimiter in ((plain, "\t"), (QUOTED, ",")):
        text = f"a{delimiter}label\nfine{delimiter}0\n"
        path.write_text(text + "\n \n\n")
        assert len(list(reader.read(path))) == 1
        path.write_text(text + f"\nok{delimiter}1\n")
        with pytest.raises(DataError, match=r"x\.txt:3: expected 2 columns"):
            list(reader.read(path))
    path.write_text("a\nfine\n\n")  # here a blank line is a row with an empty text
    assert [row.texts() for row in plain.read(path)] == [("fine",), ("",)]


def test_a_label_that_is_only_spelt_otherwise_is_not_missing(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("a\tLabel\nfine\t0\n")
    with pytest.raises(DataError, match=r"x\.txt:1: 'label' is missing; did you mean 'Label'\?"):
        list(Delimited(columns={"text_a": "a", "label": "label"}).read(path))
    path.write_text('{"a": "fine", "label ": "0"}')
    with pytest.raises(DataError, match="'label' is missing; did you mean 'label '"):
        list(Jsonl(columns={"text_a": "a", "label": "label"}).read(path))


def test_a_token_may_begin_like_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "x.conll"
    path.write_text(
        "# s1\tdomain=en x\n#Seoul _ _ B-X\nis _ _ O\n\n# text = blood type O\n# _ _ O\n1 _ _ O\n\n# _ _ O\n"
    )
    rows = [row for row in Conll(delimiter=None, comment="#").read(path) if isinstance(row, TokenExample)]
    assert [(row.id, row.tokens, row.tags) for row in rows] == [
        ("s1", ("#Seoul", "is"), ("B-X", "O")), ("text = blood type O", ("#", "1"), ("O", "O")), ("9", ("#",), ("O",)),
    ]  # fmt: skip
    path.write_text("## s0\tO\nO\tB-X\n\n##\tO\n#\tO\n")  # the text of the first sentence is "O"
    first, second = Conll(comment="##").read(path)
    assert (first.id, *first.texts()) == ("s0", "O")
    assert (second.id, *second.texts()) == ("4", "## #")


def test_a_tree_without_a_comment_has_no_id_of_another_one(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    row = "1\tgo\tgo\tVV\t0\tVP\n\n"
    path.write_text(f"## a\tgo\n\n{row}{row}## b\n{row}")
    assert [(tree.id, tree.line) for tree in Treebank().read(path)] == [("a", 3), ("5", 5), ("b", 8)]


def test_sentences_without_tags_or_trees_are_unlabelled(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("## 1\tNew York\nNew\nYork\n\nRome\n")
    for reader in (Conll(comment="##"), Conll(delimiter=None, comment="##", tag=3)):
        rows = [row for row in reader.read(path) if isinstance(row, TokenExample)]
        assert [(row.id, row.tokens, row.tags) for row in rows] == [
            ("1", ("New", "York"), None),
            ("5", ("Rome",), None),
        ]
    for text, problem in [
        ("Rome\tO\n\nNew\n", "x.tsv:3: expected at least 2 columns, got 1"),
        ("Rome\n\nNew\tO\n", "x.tsv:3: expected 1 column, as in the first sentence, got 2"),
    ]:
        path.write_text(text)
        with pytest.raises(DataError, match=problem):
            list(Conll().read(path))
    with pytest.raises(DataError, match="expected at least 2 columns"):  # a space would be a blank line
        list(Conll(unit="character").read(path))
    tree = ParseExample(id="1", line=2, words=("go", "home"), pos=("VV", "NNG"))
    assert round_trip(Treebank(), [tree], tmp_path) == [tree]
    path.write_text("1\tgo\tgo\tVV\t_\t_\n2\tgo\tgo\tVV\t1\tVP\n")
    with pytest.raises(DataError, match=r"x\.tsv:1: word 1 has the head _, .*without labels has _ in columns 5 and 6"):
        list(Treebank().read(path))


def test_rows_of_qqp_with_missing_cells_are_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\ta\tb\t0\n4\t5\t6\n")
    (row,) = tasks.get("qqp").reader.read(path)
    assert tuple(row.texts()) == ("a", "b")
    assert "skipped 1 malformed rows" in caplog.text


@pytest.mark.parametrize(
    ("reader", "lines"),
    [
        (Delimited(columns={"text_a": 1, "label": 0}, header=False), ["0\ta", "1\tb", ""]),
        (QUOTED, ["a,label", '"x, y",1', ""]),
        (Conll(), ["a\tO", "b\tO", ""]),
        (Tagged(), ["a b\tO O", "c\tO", ""]),
        (Treebank(), ["1\tgo\tgo\tVV\t2\tVP", "2\tgo\tgo\tVV\t0\tVP", ""]),
        (Jsonl(columns={"text_a": "t"}), ['{"t": "a"}', '{"t": "b"}', ""]),
    ],
)
def test_lines_that_end_in_carriage_returns_alone_are_refused(reader: Reader, lines: list[str], tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    for text in ("\r".join(lines), "\r".join(lines[:-1]) + "\n"):
        path.write_bytes(text.encode())
        with pytest.raises(DataError, match=r"x\.txt:1: a line ends in a carriage return alone"):
            list(reader.read(path))
    path.write_bytes("\r\n".join(lines).encode())
    assert list(reader.read(path))


@pytest.mark.parametrize("key", ["Answers", "Is_Impossible", "is_impossible "])
def test_a_question_with_a_misspelt_key_is_refused(key: str, tmp_path: Path) -> None:
    question: dict[str, Any] = {"id": "a", "question": "q?", "answers": [{"text": "b", "answer_start": 0}]}
    question[key] = question.pop("answers") if key == "Answers" else True
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "b c", "qas": [question]}]}]}))
    for version in ("1.1", "2.0"):
        with pytest.raises(DataError, match=f"is missing; did you mean '{key}'"):
            list(Squad(version=version).read(path))


def test_a_turn_with_a_misspelt_state_is_refused(tmp_path: Path) -> None:
    turn = {"role": "user", "text": "a", "State": ["a-b-c"]}
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"guid": "g", "dialogue": [turn]}]))
    with pytest.raises(DataError, match=r"x\.json:1: 'state' is missing; did you mean 'State'"):
        list(Dialogues().read(path))


@pytest.mark.parametrize("encoding", ["iso-2022-jp", "iso-2022-kr"])
@pytest.mark.parametrize("name", ["x.tsv", "x.tsv.gz"])
def test_text_in_iso_2022_is_not_ascii(encoding: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    text = ("a\tlabel\n" + "plain\t0\n" * 3000 + ("日本\t1\n" if encoding.endswith("jp") else "한국\t1\n")).encode(
        encoding
    )
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    with pytest.raises(DataError, match=rf"(?i)in {encoding}, not in UTF-8; .*iconv -f {encoding} -t"):
        list(Delimited(columns={"text_a": "a", "label": "label"}).read(path))
    with pytest.raises(DataError, match="in ISO-2022"):
        list(Squad().read(path))


@pytest.mark.parametrize("name", ["x.tsv", "x.tsv.gz"])
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "a Git LFS pointer, .*git lfs pull"),
        (b"\n <!DOCTYPE html><html><body>404</body></html>", "an HTML page, .*download it again"),
    ],
)
def test_what_was_downloaded_in_the_place_of_a_file_is_named(
    text: bytes, problem: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    for reader in (Delimited(columns={"text_a": "a", "label": "label"}), Squad()):
        with pytest.raises(DataError, match=problem):
            list(reader.read(path))


@pytest.mark.parametrize("offset", range(8188, 8193))
def test_an_escape_sequence_may_lie_across_blocks(offset: int, tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_bytes(b"a" * offset + b"\x1b$B" + b"a" * 9000)
    with pytest.raises(DataError, match="in ISO-2022"):
        list(Delimited(columns={"text_a": 0}, header=False).read(path))
