"""Task tables on the benchmarks' own files, with the counts that their publishers state."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from claf2 import Task, register_task
from claf2.errors import DataError, RegistryError
from claf2.readers import Delimited, SpanExample, TextExample, TokenExample
from claf2.task import tasks

COUNTS: list[tuple[str, str, int, dict[str, int]]] = [
    ("rte", "glue_data/RTE/train.tsv", 2490, {"entailment": 1249, "not_entailment": 1241}),
    ("mrpc", "glue_data/MRPC/train.tsv", 3668, {"1": 2474, "0": 1194}),
    ("mrpc", "glue_data/MRPC/dev.tsv", 408, {"1": 279, "0": 129}),
    ("cola", "glue_data/CoLA/train.tsv", 8551, {"1": 6023, "0": 2528}),
    ("sst", "glue_data/SST-2/train.tsv", 67349, {"1": 37569, "0": 29780}),
    ("qqp", "glue_data/QQP/train.tsv", 20000, {"0": 12577, "1": 7423}),
    ("mnli", "glue_data/MNLI/train.tsv", 8999, {"entailment": 3061, "neutral": 2980, "contradiction": 2958}),
    ("qnli", "glue_data/QNLI/dev.tsv", 5463, {"not_entailment": 2761, "entailment": 2702}),
    ("wnli", "glue_data/WNLI/train.tsv", 635, {"0": 323, "1": 312}),
    ("nsmc", "nsmc/ratings_train.txt", 30000, {"1": 15021, "0": 14979}),
    ("kornli", "kornlu/KorNLI/xnli.dev.ko.tsv", 2490, {"neutral": 830, "contradiction": 830, "entailment": 830}),
    ("klue_nli", "klue_benchmark/klue-nli-v1.1/klue-nli-v1.1_train.json.gz", 24998,
     {"entailment": 8561, "contradiction": 8489, "neutral": 7948}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "rows", "labels"), COUNTS)
def test_labels_of_the_real_files(
    name: str, file: str, rows: int, labels: dict[str, int], benchmark_data: Path
) -> None:
    examples = list(tasks.get(name).read(benchmark_data / file))
    assert len(examples) == rows
    assert Counter(each.label for each in examples if isinstance(each, TextExample)) == labels


@pytest.mark.parametrize(
    ("name", "file", "rows", "mean"),
    [
        ("stsb", "glue_data/STS-B/train.tsv", 5749, 2.701),
        ("korsts", "kornlu/KorSTS/sts-train.tsv", 5749, 2.701),
        ("korsts", "kornlu/KorSTS/sts-dev.tsv", 1500, 2.364),
        ("klue_sts", "klue_benchmark/klue-sts-v1.1/klue-sts-v1.1_dev.json", 519, None),
    ],
)
def test_scores_of_the_real_files(name: str, file: str, rows: int, mean: float | None, benchmark_data: Path) -> None:
    values = [
        float(e.label or "nan") for e in tasks.get(name).read(benchmark_data / file) if isinstance(e, TextExample)
    ]
    assert len(values) == rows
    assert 0.0 <= min(values) <= max(values) <= 5.0
    assert mean is None or sum(values) / rows == pytest.approx(mean, abs=5e-4)


@pytest.mark.parametrize(
    ("name", "file", "rows", "begins"),
    [
        ("klue_ner", "klue_benchmark/klue-ner-v1.1/klue-ner-v1.1_dev.tsv", 5000,
         {"PS": 4418, "QT": 3151, "DT": 2312, "OG": 2182, "LC": 1649, "TI": 545}),
        ("wnut17", "wnut17/wnut17train.conll", 3394,
         {"person": 660, "location": 548, "group": 264, "corporation": 221, "product": 142, "creative-work": 140}),
        ("wnut17", "wnut17/emerging.test.annotated", 1287,
         {"person": 429, "group": 165, "location": 150, "creative-work": 142, "product": 127, "corporation": 66}),
    ],
)  # fmt: skip
def test_tags_of_the_real_files(name: str, file: str, rows: int, begins: dict[str, int], benchmark_data: Path) -> None:
    examples = [each for each in tasks.get(name).read(benchmark_data / file) if isinstance(each, TokenExample)]
    assert len(examples) == rows
    assert Counter(tag[2:] for each in examples for tag in each.tags or () if tag.startswith("B-")) == begins


@pytest.mark.parametrize(
    ("name", "file", "rows", "impossible"),
    [
        ("korquad", "korquad/KorQuAD_v1.0_dev_first_half.json", 2865, 0),
        ("squad", "squad/dev-v1.1_answerable_subset.json", 2910, 0),
        ("squad_v2", "squad/dev-v2.0_cs224n_half.json", 6078, 3168),
    ],
)
def test_questions_of_the_real_files(name: str, file: str, rows: int, impossible: int, benchmark_data: Path) -> None:
    examples = [each for each in tasks.get(name).read(benchmark_data / file) if isinstance(each, SpanExample)]
    assert len(examples) == rows
    assert sum(each.is_impossible for each in examples) == impossible


def test_glue_test_files_have_no_labels(benchmark_data: Path) -> None:
    assert {
        e.label for e in tasks.get("rte").read(benchmark_data / "glue_data/RTE/test.tsv") if isinstance(e, TextExample)
    } == {None}


def a_task(name: str, **changes: object) -> Task:
    row: dict[str, object] = {
        "name": name,
        "language": "en",
        "head": "classify",
        "labels": ("0", "1"),
        "reader": Delimited(columns={"text_a": "a", "label": "label"}),
        "metrics": ("accuracy",),
    }
    return Task.model_validate(row | changes)


def test_unknown_labels_empty_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("a\tlabel\nfine\t0\nbad\tone\n")
    with pytest.raises(DataError, match=r"x\.tsv:3: label 'one' of example '3' is not one of task 't'; valid: 0, 1"):
        list(a_task("t").read(path))
    path.write_text("a\tlabel\n")
    with pytest.raises(DataError, match="holds no example"):
        list(a_task("t").read(path))
    with pytest.raises(DataError, match="no such file; t is to be had from https://x"):
        list(a_task("t", source="https://x").read(tmp_path / "no.tsv"))


def test_a_second_owner_of_a_name_is_refused() -> None:
    with pytest.raises(RegistryError, match="task 'rte' is registered twice"):
        register_task(a_task("rte"))


def test_identity_changes_with_what_is_measured_only() -> None:
    same = a_task("t", source="elsewhere", files={"train": "x"})
    assert a_task("t").identity() == same.identity()
    assert a_task("t").identity() != a_task("t", version=2).identity()
    assert a_task("t").identity() != a_task("t", metrics=("macro_f1",)).identity()
