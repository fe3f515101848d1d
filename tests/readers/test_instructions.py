"""Instructions and conversations, in all the layouts in which they are published."""

from __future__ import annotations

import json
import logging
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from claf2.errors import DataError
from claf2.readers import Instructions, Turn

ROWS: dict[str, tuple[Any, Sequence[Turn]]] = {
    "alpaca": (
        {"instruction": "Sort.", "input": "b a", "output": "a b"},
        [Turn("user", "Sort.", "b a"), Turn("assistant", "a b")],
    ),
    "no input": ({"instruction": "Go.", "output": "ok"}, [Turn("user", "Go."), Turn("assistant", "ok")]),
    "instances": (
        {"id": "seed_1", "instruction": "Go.", "instances": [{"input": "", "output": "ok"}]},
        [Turn("user", "Go."), Turn("assistant", "ok")],
    ),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        [Turn("user", "Hi"), Turn("assistant", "Hello")],
    ),
    "messages": (
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"},
                      {"role": "assistant", "content": "Hello"}]},
        [Turn("system", "Be kind."), Turn("user", "Hi"), Turn("assistant", "Hello")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ROWS)
def test_rows_say_what_they_are(kind: str, tmp_path: Path) -> None:
    row, turns = ROWS[kind]
    for name, text in (("rows.jsonl", json.dumps(row) + "\n"), ("rows.json", json.dumps([row]))):
        (tmp_path / name).write_text(text)
        (example,) = Instructions().read(tmp_path / name)
        assert list(example.turns) == list(turns)  # type: ignore[attr-defined]
    Instructions().write([example], tmp_path / "again.jsonl")
    (again,) = Instructions().read(tmp_path / "again.jsonl")
    assert again.turns == example.turns  # type: ignore[attr-defined]


def test_tables_and_instances(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text('Q,A,label\n12시 땡!,"하루가 또, 가네요.",0\n', encoding="utf-8")
    (example,) = Instructions().read(tmp_path / "pairs.csv")
    assert list(example.texts()) == ["12시 땡!", "하루가 또, 가네요."]
    row = {"id": "s", "instruction": "Go.", "instances": [{"input": "a", "output": "1"}, {"input": "b", "output": "2"}]}
    (tmp_path / "seeds.jsonl").write_text(json.dumps(row))
    assert [example.id for example in Instructions().read(tmp_path / "seeds.jsonl")] == ["s", "s/1"]


def test_cells_of_a_table_may_be_long_and_have_several_lines(tmp_path: Path) -> None:
    long = "긴 대답 " * 40_000  # more than the 131,072 characters that Python's csv module reads by default
    (tmp_path / "pairs.csv").write_text(f'Q,A\n"Two\nlines",one\nNext,{long}\n', encoding="utf-8")
    examples = list(Instructions().read(tmp_path / "pairs.csv"))
    assert [(example.id, example.line) for example in examples] == [("2", 2), ("4", 4)]
    assert list(examples[1].texts()) == ["Next", long]


def test_what_is_left_out_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outputs = ["a good answer", "좋은 대답", "", "a good answer", "x" * 99, "12 34"]
    rows = [
        {"instruction": "Go." if index == 3 else f"Go {index % 3}.", "output": text}
        for index, text in enumerate(outputs)
    ]
    rows[3]["instruction"] = rows[0]["instruction"]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    reader = Instructions(languages=("en",), max_characters=50)
    with caplog.at_level(logging.INFO, logger="claf2"):
        (kept,) = reader.read(tmp_path / "rows.json")
    assert list(kept.texts()) == ["Go 0.", "a good answer"]
    assert "left out 1 duplicates, 2 in another language, 1 too long, 1 without an answer" in caplog.text


def test_conversations_that_cannot_be_learned_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The dumps of ShareGPT have many of them."""
    sides = [("gpt", "human", "gpt"), ("human",), ("human", "human", "gpt"), (), ("human", "gpt")]
    rows = [{"conversations": [{"from": side, "value": "x"} for side in row]} for row in sides]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    with caplog.at_level(logging.INFO, logger="claf2"):
        (kept,) = Instructions(min_characters=0).read(tmp_path / "rows.json")
    assert kept.line == 5
    assert "left out 3 not in alternation, 1 without an answer" in caplog.text
    (tmp_path / "rows.json").write_text(json.dumps(rows[:-1]))
    with pytest.raises(DataError, match="no conversation is left: left out 3 not in alternation, 1 without an answer"):
        list(Instructions(min_characters=0).read(tmp_path / "rows.json"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"instruction": "Go."}', "line 1|:1: not a conversation: 'output'"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "'robot' is not one of"),
        ('{"instruction": "Go.", "output": 3}', "output is 3, not a string"),
        ("A,B\n1,2\n", "no columns Q and A, only A, B"),
        ("Q,A\n1\n", "a row has too few columns"),
        ('Q,A\n1,2\n"3,4\n5,"6"\n', ":3: a quote that opens in this row is not closed"),
    ],
)
def test_rows_that_are_no_conversations_are_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        list(Instructions().read(tmp_path / "rows.txt"))


def test_published_files_are_read_whole(benchmark_data: Path) -> None:
    """The numbers of rows are those of the files' own description."""
    folder = benchmark_data / "instruction"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing")
    reader = Instructions(drop_duplicates=False, min_characters=0)
    sizes = {"alpaca_head2000.json": 2000, "kullm_user_oriented_instructions_eval.jsonl": 252,
             "seed_tasks.jsonl": 175, "ChatbotData.csv": 11823}  # fmt: skip
    assert {name: sum(1 for _ in reader.read(folder / name)) for name in sizes} == sizes
    with_input = [turns[0].context != "" for turns in (e.turns for e in reader.read(folder / "alpaca_head2000.json"))]  # type: ignore[attr-defined]
    assert sum(with_input) == 795


def test_a_null_id_is_the_number_of_the_line(tmp_path: Path) -> None:
    rows = [{"instruction": text, "output": "c", "id": None} for text in "ab"]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [row.id for row in Instructions().read(tmp_path / "a.jsonl")] == ["1", "2"]


@pytest.mark.parametrize("drop_duplicates", [True, False])
def test_texts_are_not_kept_for_the_search_of_duplicates(drop_duplicates: bool, tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("w") as file:
        for number in range(500):
            file.write(json.dumps({"instruction": f"{number} {'x' * 4000}", "output": "y"}) + "\n")
    tracemalloc.start()
    assert sum(1 for _ in Instructions(drop_duplicates=drop_duplicates).read(tmp_path / "a.jsonl")) == 500
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
