"""GLUE (Wang et al., 2019), in the official file layout of the benchmark's own download."""

from __future__ import annotations

from claf2 import Task, register_task
from claf2.readers import Delimited

BINARY = ("0", "1")
ENTAILMENT = ("entailment", "not_entailment")
MNLI = ("entailment", "neutral", "contradiction")
SOURCE = "https://gluebenchmark.com/tasks"

# name, folder and hub configuration, head, labels, metrics, columns of text_a, text_b, label
ROWS = (
    ("cola", "CoLA", "cola", "classify", BINARY, ("matthews", "accuracy"), (3, None, 1)),
    ("sst", "SST-2", "sst2", "classify", BINARY, ("accuracy",), ("sentence", None, "label")),
    ("mrpc", "MRPC", "mrpc", "classify", BINARY, ("accuracy_and_f1",), ("#1 String", "#2 String", "Quality")),
    ("stsb", "STS-B", "stsb", "regress", (), ("pearson_spearman",), ("sentence1", "sentence2", "score")),
    ("qqp", "QQP", "qqp", "classify", BINARY, ("accuracy_and_f1",), ("question1", "question2", "is_duplicate")),
    ("mnli", "MNLI", "mnli", "classify", MNLI, ("accuracy",), ("sentence1", "sentence2", "gold_label")),
    ("qnli", "QNLI", "qnli", "classify", ENTAILMENT, ("accuracy",), ("question", "sentence", "label")),
    ("rte", "RTE", "rte", "classify", ENTAILMENT, ("accuracy",), ("sentence1", "sentence2", "label")),
    ("wnli", "WNLI", "wnli", "classify", BINARY, ("accuracy",), ("sentence1", "sentence2", "label")),
)

HUB_TEXTS = {
    "cola": ("sentence",),
    "sst": ("sentence",),
    "mrpc": ("sentence1", "sentence2"),
    "stsb": ("sentence1", "sentence2"),
    "qqp": ("question1", "question2"),
    "mnli": ("premise", "hypothesis"),
    "qnli": ("question", "sentence"),
    "rte": ("sentence1", "sentence2"),
    "wnli": ("sentence1", "sentence2"),
}

for name, folder, hub, head, labels, scores, (first, second, label) in ROWS:
    matched = "_matched" if name == "mnli" else ""
    texts = {"text_a": first} if second is None else {"text_a": first, "text_b": second}
    register_task(
        Task(
            name=name,
            language="en",
            head=head,
            labels=labels,
            reader=Delimited(columns={**texts, "label": label}, header=name != "cola"),
            metrics=scores,
            files={
                "train": f"glue_data/{folder}/train.tsv",
                "valid": f"glue_data/{folder}/dev{matched}.tsv",
                "test": f"glue_data/{folder}/test{matched}.tsv",
            }
            | ({"valid_mismatched": f"glue_data/{folder}/dev_mismatched.tsv"} if name == "mnli" else {}),
            test_reader=Delimited(columns={"id": "index", **({"text_a": "sentence"} if name == "cola" else texts)}),
            hub=f"nyu-mll/glue:{hub}",
            hub_columns=dict(zip(("text_a", "text_b"), HUB_TEXTS[name], strict=False)),
            hub_splits={
                "valid": f"validation{matched}",
                "test": f"test{matched}",
                "valid_mismatched": "validation_mismatched",
            },
            source=SOURCE,
            aliases=(f"{name}_bert", f"{name}_roberta"),
        )
    )

# The diagnostic set has no training data: evaluate.py RUN FILE --task ax judges a run of mnli. Its labels are hidden.
register_task(
    Task(
        name="ax",
        language="en",
        head="classify",
        labels=MNLI,
        reader=Delimited(columns={"id": "index", "text_a": "sentence1", "text_b": "sentence2", "label": "gold_label"}),
        metrics=("matthews",),
        files={"test": "glue_data/diagnostic/diagnostic.tsv"},
        hub="nyu-mll/glue:ax",
        hub_columns={"text_a": "premise", "text_b": "hypothesis"},
        source=SOURCE,
    )
)
