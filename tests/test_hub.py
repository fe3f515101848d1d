"""Hub data sets, from local folders of the layout that the hub has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from claf2.errors import DataError
from claf2.hub import convert
from claf2.readers import Answer, SpanExample, TextExample, TokenExample
from claf2.task import tasks


def parquet(path: Path, columns: dict[str, list[Any]], features: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noted = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(pa.table(columns).replace_schema_metadata(noted), path)


def test_classes_by_name_hidden_labels_and_shards(tmp_path: Path) -> None:
    names = {"label": {"names": ["entailment", "not_entailment"], "_type": "ClassLabel"}}
    for shard, label in ((0, 1), (1, 0)):
        columns = {"sentence1": ["a"], "sentence2": ["b"], "label": [label], "idx": [shard]}
        parquet(tmp_path / f"glue/rte/train-0000{shard}-of-00002.parquet", columns, names)
    columns = {"sentence1": ["c"], "sentence2": ["d"], "label": [-1], "idx": [0]}
    parquet(tmp_path / "glue/rte/test-00000-of-00001.parquet", columns, names)
    parquet(tmp_path / "glue/wnli/train-00000-of-00001.parquet", columns, names)
    task = tasks.get("rte")
    path = convert(task, "train", tmp_path / "glue", "rte", tmp_path / "cache")
    rows = [each for each in task.read(path) if isinstance(each, TextExample)]
    assert [(each.text_a, each.text_b, each.label) for each in rows] == [
        ("a", "b", "not_entailment"),
        ("a", "b", "entailment"),
    ]
    assert convert(task, "train", tmp_path / "glue", "rte", tmp_path / "cache") == path
    with pytest.raises(DataError, match="no Parquet file of the split 'validation'"):
        convert(task, "valid", tmp_path / "glue", "rte", tmp_path / "cache")


def test_labels_that_the_hub_calls_otherwise_keep_their_number(tmp_path: Path) -> None:
    names = {"label": {"names": ["unacceptable", "acceptable"], "_type": "ClassLabel"}}
    parquet(tmp_path / "cola/train-0.parquet", {"sentence": ["a", "b"], "label": [1, 0]}, names)
    task = tasks.get("cola")
    rows = list(task.read(convert(task, "train", tmp_path, "cola", tmp_path / "cache")))
    assert [each.label for each in rows if isinstance(each, TextExample)] == ["1", "0"]


def test_numbers_questions_and_tags(tmp_path: Path) -> None:
    parquet(tmp_path / "s/stsb/train-0.parquet", {"sentence1": ["a"], "sentence2": ["b"], "label": [3.25]}, {})
    (row,) = tasks.get("stsb").read(convert(tasks.get("stsb"), "train", tmp_path / "s", "stsb", tmp_path / "cache"))
    assert isinstance(row, TextExample)
    assert float(row.label or "") == 3.25
    columns: dict[str, list[Any]] = {
        "id": ["1", "2"], "title": ["t", "t"], "context": ["abc", "abc"], "question": ["q", "r"],
        "answers": [{"text": ["bc"], "answer_start": [1]}, {"text": [], "answer_start": []}],
    }  # fmt: skip
    parquet(tmp_path / "q/squad_v2/train-0.parquet", columns, {})
    task = tasks.get("squad_v2")
    first, second = task.read(convert(task, "train", tmp_path / "q", "", tmp_path / "cache"))
    assert isinstance(first, SpanExample)
    assert isinstance(second, SpanExample)
    assert (first.answers, second.is_impossible) == ((Answer("bc", 1),), True)
    tags = {"ner_tags": {"feature": {"names": ["O", "B-person", "I-person"]}, "_type": "Sequence"}}
    parquet(tmp_path / "w/train-0.parquet", {"id": ["1"], "tokens": [["Ann", "ran"]], "ner_tags": [[1, 0]]}, tags)
    (row,) = tasks.get("wnut17").read(convert(tasks.get("wnut17"), "train", tmp_path / "w", "", tmp_path / "cache"))
    assert isinstance(row, TokenExample)
    assert (row.tokens, row.tags) == (("Ann", "ran"), ("B-person", "O"))


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    parquet(tmp_path / "rte/train-0.parquet", {"sentence1": ["a"], "label": [0]}, {})
    with pytest.raises(DataError, match="no column 'sentence2'; did you mean 'sentence1'"):
        convert(tasks.get("rte"), "train", tmp_path, "rte", tmp_path / "cache")
