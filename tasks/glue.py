"""GLUE (Wang et al., 2019), in the official file layout of the benchmark's own download: https://gluebenchmark.com/tasks."""

from __future__ import annotations

from claf2 import Task, register_task
from claf2.readers import Delimited

SOURCE = "https://gluebenchmark.com/tasks"
ENTAILMENT = ("entailment", "not_entailment")
BINARY = ("0", "1")


def files(folder: str, valid: str = "dev.tsv", test: str = "test.tsv") -> dict[str, str]:
    """Return the official files of a task."""
    return {"train": f"glue_data/{folder}/train.tsv", "valid": f"glue_data/{folder}/{valid}", "test": f"glue_data/{folder}/{test}"}


def pair(a: str, b: str, label: str, identity: str | None = "index") -> Delimited:
    """Return the reader of a TSV of sentence pairs."""
    columns = {"text_a": a, "text_b": b, "label": label}
    return Delimited(columns=columns if identity is None else {"id": identity, **columns})


def glue(name: str, hub: str, head: str, reader: Delimited, metrics: tuple[str, ...], **rest: object) -> None:
    """Register a row of GLUE."""
    register_task(
        Task(
            name=name, language="en", head=head, reader=reader, metrics=metrics, hub=f"nyu-mll/glue:{hub}",
            source=SOURCE, aliases=(f"{name}_bert", f"{name}_roberta"), **rest,
        )  # fmt: skip
    )


glue("cola", "cola", "classify", Delimited(columns={"text_a": 3, "label": 1}, header=False), ("matthews", "accuracy"),
     labels=BINARY, files=files("CoLA"), hub_columns={"text_a": "sentence"})  # fmt: skip
glue("sst", "sst2", "classify", Delimited(columns={"text_a": "sentence", "label": "label"}), ("accuracy",),
     labels=BINARY, files=files("SST-2"), hub_columns={"text_a": "sentence"})  # fmt: skip
glue("mrpc", "mrpc", "classify", pair("#1 String", "#2 String", "Quality", None), ("accuracy_and_f1",),
     labels=BINARY, files=files("MRPC"), hub_columns={"text_a": "sentence1", "text_b": "sentence2"})  # fmt: skip
glue("stsb", "stsb", "regress", pair("sentence1", "sentence2", "score"), ("pearson_spearman",),
     files=files("STS-B"), hub_columns={"text_a": "sentence1", "text_b": "sentence2"})  # fmt: skip
glue("qqp", "qqp", "classify", pair("question1", "question2", "is_duplicate", "id"), ("accuracy_and_f1",),
     labels=BINARY, files=files("QQP"), hub_columns={"text_a": "question1", "text_b": "question2"})  # fmt: skip
glue("mnli", "mnli", "classify", pair("sentence1", "sentence2", "gold_label"), ("accuracy",),
     labels=("entailment", "neutral", "contradiction"), files=files("MNLI", "dev_matched.tsv", "test_matched.tsv"),
     hub_columns={"text_a": "premise", "text_b": "hypothesis"}, hub_splits={"valid": "validation_matched"})  # fmt: skip
glue("qnli", "qnli", "classify", pair("question", "sentence", "label"), ("accuracy",),
     labels=ENTAILMENT, files=files("QNLI"), hub_columns={"text_a": "question", "text_b": "sentence"})  # fmt: skip
glue("rte", "rte", "classify", pair("sentence1", "sentence2", "label"), ("accuracy",),
     labels=ENTAILMENT, files=files("RTE"), hub_columns={"text_a": "sentence1", "text_b": "sentence2"})  # fmt: skip
glue("wnli", "wnli", "classify", pair("sentence1", "sentence2", "label"), ("accuracy",),
     labels=BINARY, files=files("WNLI"), hub_columns={"text_a": "sentence1", "text_b": "sentence2"})  # fmt: skip
