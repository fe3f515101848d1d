"""GLUE (Wang et al., 2019), in the official file layout of the benchmark's own download."""

from __future__ import annotations

from typing import Literal

from claf2 import Published, Suite, Task, register_suite, register_task
from claf2.readers import Delimited, Ranked

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

NOTES = {
    "rte": ("277 development rows: a score has a standard error of 2.8 points.",),
    "wnli": (
        "71 development rows: a score has a standard error of 5.9 points, and the majority class reaches 56.3.",
        "development rows repeat sentences of the training set with the opposite label, so fitting the training set "
        "well lowers the score.",
    ),
    "mnli": ("matched and mismatched rows have scores of their own in each run: `valid/…` and `valid_mismatched/…`.",),
    "qnli": ("version 2 of the data (104,743 training rows).",),
}

for name, folder, hub, head, labels, scores, (first, second, label) in ROWS:
    matched = "_matched" if name == "mnli" else ""
    texts = {"text_a": first} if second is None else {"text_a": first, "text_b": second}
    # The published files of QQP have rows with missing cells, which the code of BERT and MT-DNN skips as well.
    on_malformed: Literal["fail", "skip"] = "skip" if name == "qqp" else "fail"
    register_task(
        Task(
            name=name,
            language="en",
            head=head,
            labels=labels,
            reader=Delimited(columns={**texts, "label": label}, header=name != "cola", on_malformed=on_malformed),
            metrics=scores,
            files={
                "train": f"glue_data/{folder}/train.tsv",
                "valid": f"glue_data/{folder}/dev{matched}.tsv",
                "test": f"glue_data/{folder}/test{matched}.tsv",
            }
            | ({"valid_mismatched": f"glue_data/{folder}/dev_mismatched.tsv"} if name == "mnli" else {}),
            test_reader=Delimited(
                columns={
                    "id": "id" if name == "qqp" else "index",
                    **({"text_a": "sentence"} if name == "cola" else texts),
                },
                on_malformed=on_malformed,
            ),
            hub=f"nyu-mll/glue:{hub}",
            hub_columns=dict(zip(("text_a", "text_b"), HUB_TEXTS[name], strict=False)),
            hub_splits={
                "valid": f"validation{matched}",
                "test": f"test{matched}",
                "valid_mismatched": "validation_mismatched",
            },
            source=SOURCE,
            notes=NOTES.get(name, ()),
            aliases=(f"{name}_bert", f"{name}_roberta"),
        )
    )

# The diagnostic set has no training data. `evaluate.py RUN FILE --task ax` evaluates a run of mnli; labels are hidden.
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

# MT-DNN's ranking: which of two sentences answers the question? The score is not comparable to GLUE's QNLI.
register_task(
    Task(
        name="qnli_rank",
        language="en",
        head="choice",
        labels=BINARY,
        reader=Ranked(
            of=Delimited(columns={"text_a": "question", "text_b": "sentence", "label": "label"}), right="entailment"
        ),
        metrics=("accuracy",),
        files={"train": "glue_data/QNLI/train.tsv", "valid": "glue_data/QNLI/dev.tsv"},
        source=SOURCE,
        notes=("Only questions with an answering and a non-answering sentence: 1,362 of 4,100 in the dev file.",),
    )
)

HF = "transformers, run_glue README, one run"
CLAF = "CLaF README, one run"
FAIRSEQ = "fairseq, examples/roberta"


def published(model: str, source: str, **scores: tuple[float | None, ...]) -> Published:
    """Return a row of development scores, where ``None`` is a score that was not published."""
    return Published(model=model, source=source, split="dev", scores=scores)


register_suite(
    Suite(
        name="glue",
        columns={
            "cola": ("valid/matthews",),
            "sst": ("valid/accuracy",),
            "mrpc": ("valid/accuracy", "valid/f1"),
            "stsb": ("valid/pearson", "valid/spearman"),
            "qqp": ("valid/accuracy", "valid/f1"),
            "mnli": ("valid/accuracy", "valid_mismatched/accuracy"),
            "qnli": ("valid/accuracy",),
            "rte": ("valid/accuracy",),
            "wnli": ("valid/accuracy",),
        },
        configs={row[0]: f"glue/{row[0]}" for row in ROWS},
        recipes=("bert", "roberta", "claf_bert", "claf_roberta"),
        averaged=("cola", "sst", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"),
        published=(
            published(
                "bert-base-cased", HF,
                cola=(56.53,), sst=(92.32,), mrpc=(84.07, 88.85), stsb=(88.64, 88.48), qqp=(90.71, 87.49),
                mnli=(83.91, 84.10), qnli=(90.66,), rte=(65.70,), wnli=(56.34,),
            ),
            published(
                "bert-base-cased, fp16", HF,
                cola=(56.78,), sst=(91.74,), mrpc=(83.58, 88.12), stsb=(88.71, 88.55), qqp=(90.67, 87.43),
                mnli=(84.04, 84.06), qnli=(90.96,), rte=(65.34,), wnli=(56.34,),
            ),
            published(
                "bert-base-uncased", CLAF,
                cola=(59.39,), sst=(92.55,), mrpc=(87.50, 91.28), stsb=(88.07, 87.88), qqp=(90.38, 87.17),
                mnli=(83.92, 84.31), qnli=(88.52,), rte=(69.31,), wnli=(56.34,),
            ),
            published(
                "bert-large-uncased", CLAF,
                cola=(61.15,), sst=(93.35,), mrpc=(87.26, 90.85), stsb=(90.04, 89.74), qqp=(91.64, 88.75),
                qnli=(90.44,), rte=(69.68,), wnli=(59.16,),
            ),
            published(
                "roberta-base", CLAF,
                cola=(64.83,), sst=(94.50,), mrpc=(88.48, 91.68), stsb=(89.00, 89.09), qqp=(91.54, 88.77),
                mnli=(87.31, 87.24), qnli=(90.82,), rte=(73.65,), wnli=(60.56,),
            ),
            published(
                "roberta-base", FAIRSEQ,
                cola=(63.6,), sst=(94.8,), mrpc=(90.2, None), stsb=(91.2, None), qqp=(91.9, None), mnli=(87.6, None),
                qnli=(92.8,), rte=(78.7,),
            ),
            published(
                "roberta-large", FAIRSEQ,
                cola=(68.0,), sst=(96.4,), mrpc=(90.9, None), stsb=(92.4, None), qqp=(92.2, None), mnli=(90.2, None),
                qnli=(94.7,), rte=(86.6,), wnli=(91.3,),
            ),
            published(
                "MT-DNN large", "Liu et al., 2019, as CLaF quotes it †",
                cola=(63.5,), sst=(94.3,), mrpc=(87.5, 91.0), stsb=(90.7, 90.6), qqp=(91.9, 89.2), mnli=(87.1, 86.7),
                qnli=(92.9,), rte=(83.4,),
            ),
        ),
        submission={
            "CoLA.tsv": ("cola", "glue_data/CoLA/test.tsv"),
            "SST-2.tsv": ("sst", "glue_data/SST-2/test.tsv"),
            "MRPC.tsv": ("mrpc", "glue_data/MRPC/test.tsv"),
            "STS-B.tsv": ("stsb", "glue_data/STS-B/test.tsv"),
            "QQP.tsv": ("qqp", "glue_data/QQP/test.tsv"),
            "MNLI-m.tsv": ("mnli", "glue_data/MNLI/test_matched.tsv"),
            "MNLI-mm.tsv": ("mnli", "glue_data/MNLI/test_mismatched.tsv"),
            "QNLI.tsv": ("qnli", "glue_data/QNLI/test.tsv"),
            "RTE.tsv": ("rte", "glue_data/RTE/test.tsv"),
            "WNLI.tsv": ("wnli", "glue_data/WNLI/test.tsv"),
            "AX.tsv": ("mnli", "glue_data/diagnostic/diagnostic.tsv"),
        },
        notes="As in the BERT paper, the average excludes WNLI; a task with two scores counts as their mean. "
        "CLaF's QNLI scores are two points below those of others. fairseq publishes one score for MRPC, STS-B, QQP and "
        "MNLI.",
    )
)  # fmt: skip
