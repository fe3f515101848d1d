"""The requests of ``predict``: what is read from a file or a stream, and what is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import claf2
from claf2 import Task
from claf2.errors import Claf2Error, DataError, RunError
from claf2.heads import Request, heads
from claf2.readers import Conll, Example, TokenExample
from claf2.runs.answerer import Answerer
from claf2.runs.requests import parse_requests, read_requests
from claf2.task import tasks


def texts(requests: Iterable[Any]) -> list[tuple[str, str]]:
    return [
        (request.id, *request.texts()) if isinstance(request, Example) else (request["id"], request["text"])
        for request in requests
    ]


REQUESTS: list[tuple[str, str, list[tuple[str, str]]]] = [
    ("plain text", "one\n\ntwo\n", [("1", "one"), ("3", "two")]),
    ("JSON Lines", '{"text": "one"}\n{"text": "two", "id": "x"}\n', [("1", "one"), ("x", "two")]),
    ("an id of null", '{"text": "one", "id": null}\n', [("1", "one")]),
    ("a byte order mark", '\ufeff{"text": "one"}\n', [("1", "one")]),
    ("a mark and text", "\ufeffone\n", [("1", "one")]),
    ("a list", '[{"text": "one"}, {"text": "two"}]', [("1", "one"), ("2", "two")]),
    ("an indented list", '\n[\n {"text": "one"},\n {"text":\n "two"}\n]\n', [("1", "one"), ("2", "two")]),
    ("indented objects", '{\n "text": "one"\n}\n{"text": "two"}\n', [("1", "one"), ("2", "two")]),
    ("objects and text", 'one\n{"text": "two"}\n', [("1", "one"), ("2", "two")]),
    ("text in brackets", "[news] one\n[1] two\n", [("1", "[news] one"), ("2", "[1] two")]),
    ("a long number in brackets", f"[{'1' * 5000}] one\n", [("1", f"[{'1' * 5000}] one")]),
    ("a carriage return in a text", "a\rb\nc\r\n", [("1", "a\rb"), ("2", "c")]),
]


@pytest.mark.parametrize(("content", "expected"), [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS])
@pytest.mark.parametrize("name", ["x.txt", "x.json", "x", "x.jsonl.gz"])
def test_requests_of_a_file(content: str, expected: list[tuple[str, str]], name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    assert texts(read_requests(path, tasks.get("nsmc"))) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{"text": "b\n', "request 2: not JSON"),
        ('{"text": "a"}\n{"text":\n', "request 2: not JSON"),
        ('[{"text": "a"} {"text": "b"}]', "request 1: not JSON"),
        ('[\n{"text": "a"},\n{"text": "b"}\n', "request 1: not JSON"),
        ('{\n"text": "a"}\nand more\n', "request 2: not JSON"),
        ('[{"text": "a"}, "b"]', 'request 2: expected a JSON object, got "b"'),
        (f'{{"text": "a", "id": {"1" * 5000}}}', "request 1: not JSON: Exceeds the limit"),
        ("[1, 2]", "request 1: expected a JSON object, got 1"),
        ("[" * 100_000, "request 1: not JSON"),
        ("a\rb\rc\r", "request 1: a line ends in a carriage return alone"),
    ],
)
def test_malformed_requests_are_named_by_number(content: str, message: str) -> None:
    with pytest.raises(RunError, match=message):
        list(parse_requests(content.splitlines(keepends=True) if "\r" not in content else [content]))


def test_lines_are_read_one_by_one() -> None:
    def lines() -> Iterable[str]:
        yield '{"text": "one"}\n'
        raise AssertionError("the second line was read before the first request was made")

    assert next(parse_requests(lines()))["text"] == "one"


@pytest.mark.parametrize(
    ("task", "name", "content", "expected"),
    [
        ("question_pair", "new.csv", 'question1,question2\n"a, b",c\n', [("2", "a, b", "c")]),
        ("nsmc", "new.tsv", "id\tdocument\tlabel\n7\tone\t-1\n", [("7", "one")]),
        ("nsmc", "ratings.txt", "id\tdocument\n7\tone\n", [("7", "one")]),  # the header shows the format
        ("cola", "test.tsv", "index\tsentence\n0\tone\n", [("0", "one")]),  # the format of the official test file
        ("klue_ner", "x.tsv.gz", "## s1\tab\na\tO\nb\tO\n", [("s1", "ab")]),
    ],
)
def test_a_file_in_the_format_of_the_task_has_one_request_per_row(
    task: str, name: str, content: str, expected: list[tuple[str, ...]], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    requests = list(read_requests(path, tasks.get(task)))
    assert texts(requests) == expected
    assert all(isinstance(request, Example) and not list(request.label_names()) for request in requests)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("document\none\n")
    with pytest.raises(DataError, match=r"x\.csv:1: no column 'id' in the header"):
        list(read_requests(path, tasks.get("nsmc")))
    path = tmp_path / "x.txt"
    path.write_bytes("한국".encode("cp949"))
    with pytest.raises(DataError, match=r"x\.txt: damaged, or not in UTF-8.*iconv -f CP949"):
        list(read_requests(path, tasks.get("nsmc")))


def request(task: str | Task, **values: Any) -> Example:
    row = tasks.get(task) if isinstance(task, str) else task
    return heads.get(row.head)().request(Request(row, values))


def test_the_text_of_a_request_is_cut_into_the_unit_of_the_task() -> None:
    characters = request("klue_ner", text="서울 은")
    assert characters == TokenExample(id="0", tokens=("서", "울", " ", "은"), joiner="")
    assert request("klue_ner", tokens=["서", "울", " ", "은"]) == characters
    assert list(characters.texts()) == ["서울 은"]
    with pytest.raises(Claf2Error, match=r"tokens of task 'klue_ner' are single characters, .* got '서울'"):
        request("klue_ner", tokens=["서울", "은"])
    words = TokenExample(id="0", tokens=("the", "king"), joiner=" ")
    assert request("wnut17", text="the  king") == request("wnut17", tokens=["the", "king"]) == words
    own = tasks.get("klue_ner").model_copy(update={"name": "own", "reader": Conll(unit="word")})
    assert request(own, text="서울 은") == TokenExample(id="0", tokens=("서울", "은"), joiner=" ")


@pytest.mark.parametrize("task", ["mrpc", "klue_nli", "jsts", "question_pair"])
def test_a_pair_needs_both_texts(task: str) -> None:
    assert list(request(task, text_a="x", text_b="y").texts()) == ["x", "y"]
    for values in ({"text_a": "x"}, {"text": "x"}, {"text_b": "x"}):
        with pytest.raises(
            Claf2Error, match=f"text_a and text_b, since task '{task}' is about pairs of texts; got: text"
        ):
            request(task, **values)


@pytest.mark.parametrize("task", ["nsmc", "ynat", "cola"])
def test_a_single_text_stays_alone(task: str) -> None:
    assert list(request(task, text="x").texts()) == list(request(task, text_a="x").texts()) == ["x"]
    with pytest.raises(
        Claf2Error, match=f"text_a alone, since task '{task}' is about single texts; got: text_a, text_b"
    ):
        request(task, text_a="x", text_b="y")


def test_a_request_without_what_the_model_was_trained_with_is_refused() -> None:
    marked = "<subj>나</subj>는 <obj>너</obj>"
    assert list(request("klue_re", text=marked).texts()) == [marked]
    with pytest.raises(Claf2Error, match="text has no <obj>; task 'klue_re' needs the markers"):
        request("klue_re", text="<subj>나</subj>는 너")
    assert getattr(request("klue_dp", words="나는 간다", pos="NP+JX VV+EF"), "pos", None) == ("JX", "EF")
    with pytest.raises(Claf2Error, match="a request needs words and their pos; got: words"):
        request("klue_dp", words=["나는", "간다"])
    with pytest.raises(Claf2Error, match="task 'jcommonsenseqa' has 5 choices, not 2"):
        request("jcommonsenseqa", question="x", choices=["a", "b"])


@pytest.mark.parametrize(
    ("task", "values", "message"),
    [
        ("nsmc", {"text": ["a", "b"]}, r'text is \["a", "b"\], not a string'),
        ("nsmc", {"text": {"a": 1}}, "text is {.*}, not a string"),
        ("nsmc", {"text": True}, "text is true, not a string"),
        ("nsmc", {"text": 12}, "text is 12, not a string"),
        ("nsmc", {"text": None}, "text is null, not a string"),
        ("korquad", {"question": "x", "context": ["y"]}, r'context is \["y"\], not a string'),
        ("wnut17", {"tokens": ["a", 5]}, r"tokens\[1\] is 5, not a string"),
        ("wnut17", {"tokens": {"a": 1}}, "tokens is {.*}, not a string"),
        ("wnut17", {"text": ["a", "b"]}, r'text is \["a", "b"\], not a string'),
        ("wos", {"turns": [None]}, r"turns\[0\] is null, not a string"),
        ("jcommonsenseqa", {"question": "x", "choices": 5}, "choices is 5, not a string"),
    ],
)
def test_values_of_another_type_are_no_texts(task: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        request(task, **values)


def test_only_a_text_of_many_windows_is_divided_into_batches(tmp_path: Path) -> None:
    claf2.train(
        "squad/v1_bert", sample=True, log_dir=tmp_path / "run", pretrained_model_name="scratch", num_steps=2,
        max_seq_length=64, argv=["--eval_batch_size", "4"],
    )  # fmt: skip
    answerer = Answerer.open(tmp_path / "run")
    engine: Any = answerer.model("squad").engine
    passes: list[tuple[int, int]] = []
    engine.register_forward_pre_hook(lambda _, given: passes.append(tuple(given[1]["input_ids"].shape)))
    context = "the king of the city lived in the north . " * 60
    (long,) = answerer.encode("squad", [{"question": "who?", "context": context}])
    (answer,) = answerer.answer("squad", [long])
    assert len(long.features) > 8
    assert sum(rows for rows, _ in passes) == len(long.features)
    assert max(rows * length for rows, length in passes) <= 4 * 64
    assert answer.prediction in context
    passes.clear()
    short = answerer.encode("squad", [{"question": "who?", "context": "a king"}] * 6)
    assert len(answerer.answer("squad", short)) == 6
    assert [rows for rows, _ in passes] == [6]


def test_a_predictor_names_the_request_and_reads_files(tmp_path: Path) -> None:
    claf2.train("scratch/nsmc", sample=True, log_dir=tmp_path / "run", num_steps=2)
    predictor = claf2.Predictor(tmp_path / "run")
    with pytest.raises(RunError, match="request 2: malformed: text is 12, not a string"):
        predictor.predict([{"text": "a"}, {"text": 12}])
    path = tmp_path / "x.tsv"
    path.write_text("id\tdocument\tlabel\n7\tone\t1\n8\ttwo\t0\n")
    predictions = predictor.predict(predictor.read(path))
    assert [(prediction.id, prediction.gold) for prediction in predictions] == [("7", None), ("8", None)]
    assert predictions == predictor.predict([{"id": "7", "text": "one"}, {"id": "8", "text": "two"}])
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"text": "a"}) + "\n" + json.dumps({"text": "a", "text_b": "b"}) + "\n")
    with pytest.raises(RunError, match="request 2: a request needs text_a alone"):
        predictor.read(path)
