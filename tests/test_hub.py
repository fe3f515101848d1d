"""Hub data sets, from local folders of the layout that the hub has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from claf2.data.hub import convert_split
from claf2.errors import DataError
from claf2.metrics import Prediction
from claf2.readers import Answer, SpanExample, TextExample, TokenExample
from claf2.task import task_tables, tasks


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
    path = convert_split(task, "train", tmp_path / "glue", "rte", tmp_path / "cache")
    rows = [example for example in task.read(path) if isinstance(example, TextExample)]
    assert [(row.text_a, row.text_b, row.label) for row in rows] == [
        ("a", "b", "not_entailment"),
        ("a", "b", "entailment"),
    ]
    assert convert_split(task, "train", tmp_path / "glue", "rte", tmp_path / "cache") == path
    with pytest.raises(DataError, match="no Parquet file for the split 'validation'"):
        convert_split(task, "valid", tmp_path / "glue", "rte", tmp_path / "cache")


def test_labels_that_the_hub_calls_otherwise_keep_their_number(tmp_path: Path) -> None:
    names = {"label": {"names": ["unacceptable", "acceptable"], "_type": "ClassLabel"}}
    parquet(tmp_path / "cola/train-0.parquet", {"sentence": ["a", "b"], "label": [1, 0]}, names)
    task = tasks.get("cola")
    rows = list(task.read(convert_split(task, "train", tmp_path, "cola", tmp_path / "cache")))
    assert [row.label for row in rows if isinstance(row, TextExample)] == ["1", "0"]


def test_numbers_questions_and_tags(tmp_path: Path) -> None:
    parquet(tmp_path / "s/stsb/train-0.parquet", {"sentence1": ["a"], "sentence2": ["b"], "label": [3.25]}, {})
    (row,) = tasks.get("stsb").read(
        convert_split(tasks.get("stsb"), "train", tmp_path / "s", "stsb", tmp_path / "cache")
    )
    assert isinstance(row, TextExample)
    assert float(row.label or "") == 3.25
    columns: dict[str, list[Any]] = {
        "id": ["1", "2"], "title": ["t", "t"], "context": ["abc", "abc"], "question": ["q", "r"],
        "answers": [{"text": ["bc"], "answer_start": [1]}, {"text": [], "answer_start": []}],
    }  # fmt: skip
    parquet(tmp_path / "q/squad_v2/train-0.parquet", columns, {})
    task = tasks.get("squad_v2")
    first, second = task.read(convert_split(task, "train", tmp_path / "q", "", tmp_path / "cache"))
    assert isinstance(first, SpanExample)
    assert isinstance(second, SpanExample)
    assert (first.answers, second.is_impossible) == ((Answer("bc", 1),), True)
    tags = {"ner_tags": {"feature": {"names": ["O", "B-person", "I-person"]}, "_type": "Sequence"}}
    parquet(tmp_path / "w/train-0.parquet", {"id": ["1"], "tokens": [["Ann", "ran"]], "ner_tags": [[1, 0]]}, tags)
    (row,) = tasks.get("wnut17").read(
        convert_split(tasks.get("wnut17"), "train", tmp_path / "w", "", tmp_path / "cache")
    )
    assert isinstance(row, TokenExample)
    assert (row.tokens, row.tags) == (("Ann", "ran"), ("B-person", "O"))


def test_plausible_answers_are_no_answers(tmp_path: Path) -> None:
    """KLUE MRC's rows list them among the answers of unanswerable questions."""
    columns: dict[str, list[Any]] = {
        "guid": ["a", "b", "c"], "title": ["t"] * 3, "context": ["a river"] * 3, "question": ["q"] * 3,
        "is_impossible": [False, True, True], "question_type": [1, 3, 3],
        "answers": [{"answer_start": [2], "text": ["river"]}] * 2 + [{"answer_start": [], "text": []}],
    }  # fmt: skip
    parquet(tmp_path / "mrc/validation-0.parquet", columns, {})
    task = tasks.get("klue_mrc")
    rows = [e for e in task.read(convert_split(task, "valid", tmp_path, "mrc", tmp_path / "cache"))
            if isinstance(e, SpanExample)]  # fmt: skip
    assert [(row.id, row.answers, row.is_impossible) for row in rows] == [
        ("a", (Answer("river", 2),), False), ("b", (), True), ("c", (), True),
    ]  # fmt: skip
    silent = [Prediction(row.id, [answer.text for answer in row.answers or ()], "") for row in rows]
    assert task.metrics[0].compute(silent, [])["em"] == pytest.approx(200 / 3)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    parquet(tmp_path / "rte/train-0.parquet", {"sentence1": ["a"], "label": [0]}, {})
    with pytest.raises(DataError, match="no column 'sentence2'; did you mean 'sentence1'"):
        convert_split(tasks.get("rte"), "train", tmp_path, "rte", tmp_path / "cache")


def label(*names: str) -> dict[str, Any]:
    return {"label": {"names": list(names), "_type": "ClassLabel"}}


HUB_ROWS: list[tuple[str, str, dict[str, list[Any]], dict[str, Any], dict[str, Any]]] = [
    ("ynat", "ynat", {"guid": ["y0"], "title": ["a"], "url": ["u"], "label": [1]}, label("IT과학", "경제"),
     {"id": "y0", "text_a": "a", "label": "경제"}),
    ("klue_nli", "nli", {"guid": ["n0"], "premise": ["a"], "hypothesis": ["b"], "label": [2]},
     label("entailment", "neutral", "contradiction"), {"text_b": "b", "label": "contradiction"}),
    ("klue_sts", "sts", {"guid": ["s0"], "sentence1": ["a"], "sentence2": ["b"],
                         "labels": [{"label": 3.7, "real-label": 3.714, "binary-label": 1}]}, {}, {"label": "3.714"}),
    ("klue_re", "re", {"guid": ["r0"], "sentence": ["나는 너"], "label": [1],
                       "subject_entity": [{"word": "나", "start_idx": 0, "end_idx": 0, "type": "PER"}],
                       "object_entity": [{"word": "너", "start_idx": 3, "end_idx": 3, "type": "PER"}]},
     label("no_relation", "org:dissolved"), {"text_a": "<subj>나</subj>는 <obj>너</obj>", "label": "org:dissolved"}),
    ("klue_dp", "dp", {"sentence": ["나는 간다"], "index": [[1, 2]], "word_form": [["나는", "간다"]],
                       "lemma": [["", ""]], "pos": [["NP+JX", "VV+EF"]], "head": [[2, 0]],
                       "deprel": [["NP_SBJ", "VP"]]}, {},
     {"words": ("나는", "간다"), "pos": ("JX", "EF"), "heads": (2, 0), "relations": ("NP_SBJ", "VP")}),
    ("klue_mrc", "mrc", {"title": ["t"], "context": ["abc"], "guid": ["m0"], "question": ["q"],
                         "is_impossible": [False], "question_type": [1],
                         "answers": [{"answer_start": [1], "text": ["b"]}]}, {},
     {"id": "m0", "answers": (Answer("b", 1),)}),
    ("wos", "wos", {"guid": ["w0"], "domains": [["관광"]],
                    "dialogue": [[{"role": "user", "text": "a", "state": ["관광-이름-탑"]}]]}, {},
     {"id": "w0-0", "turns": ("a",), "state": {"관광-이름": "탑"}}),
    ("jcommonsenseqa", "JCommonsenseQA",
     {"q_id": [5], "question": ["q"], **{f"choice{n}": [str(n)] for n in range(5)}, "label": [3]},
     label(*(f"choice{n}" for n in range(5))), {"id": "5", "choices": ("0", "1", "2", "3", "4"), "label": "3"}),
    ("jnli", "JNLI", {"sentence_pair_id": ["7"], "sentence1": ["a"], "sentence2": ["b"], "label": [0]},
     label("entailment", "contradiction", "neutral"), {"id": "7", "label": "entailment"}),
    ("boolq", "boolq", {"question": ["q"], "passage": ["p"], "idx": [4], "label": [1]}, label("False", "True"),
     {"id": "4", "text_b": "p", "label": "True"}),
    ("paws_ko", "ko", {"id": [1], "sentence1": ["a"], "sentence2": ["b"], "label": [0]}, label("0", "1"),
     {"id": "1", "text_b": "b", "label": "0"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "configuration", "columns", "features", "expected"), HUB_ROWS)
def test_rows_of_every_kind(
    name: str, configuration: str, columns: dict[str, list[Any]], features: dict[str, Any], expected: dict[str, Any],
    tmp_path: Path,
) -> None:  # fmt: skip
    parquet(tmp_path / f"{configuration}/train-0.parquet", columns, features)
    task = tasks.get(name)
    assert (task.hub or "").endswith(configuration)
    (row,) = task.read(convert_split(task, "train", tmp_path, configuration, tmp_path / "cache"))
    assert {key: getattr(row, key) for key in expected} == expected


def test_every_task_with_files_names_its_hub_data_set_or_has_none_to_name() -> None:
    shipped = [name for name in tasks.names() if tasks.origin(name).startswith(str(task_tables()))]
    without = {task.name for task in map(tasks.get, shipped) if task.hub is None}
    assert len(shipped) > 40
    assert without == {
        "marc_ja", "qnli_rank", "korsts", "kornli", "question_pair", "3i4k", "parakqc", "korean_hate_speech",
        "korean_hate_speech_bias", "naver_ner", "corpus_mlm", "corpus_mlm_nsp", "masked_text", "masked_pairs",
        "corpus_clm", "continued_text", "alpaca", "korean_chat", "kullm", "corpus_tsdae", "korsts_embed", "sentences",
        "korquad_retrieval", "jsquad_retrieval", "squad_retrieval", "klue_nli_triplets", "kornli_triplets",
        "question_pair_embed",
    }  # fmt: skip


def test_line_ends_and_tabs_of_texts_become_spaces(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    columns = {"sentence1": ["a\tb", "c\nd", "e\rf"], "sentence2": ["x"] * 3, "label": [0] * 3, "idx": [0, 1, 2]}
    parquet(tmp_path / "rte/train-0.parquet", columns, label("entailment", "not_entailment"))
    task = tasks.get("rte")
    rows = task.read(convert_split(task, "train", tmp_path, "rte", tmp_path / "cache"))
    assert [next(iter(row.texts())) for row in rows] == ["a b", "c d", "e f"]
    assert "wrote spaces for the separators and line ends inside 3 rows" in caplog.text
