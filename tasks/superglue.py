"""Classification tasks of SuperGLUE (Wang et al., 2019) whose rows are plain texts, in its own JSON Lines."""

from __future__ import annotations

from claf2 import Task, register_task
from claf2.readers import Jsonl

ROWS = (
    ("boolq", "BoolQ", ("False", "True"), {"text_a": "question", "text_b": "passage"}, ("accuracy",)),
    (
        "cb",
        "CB",
        ("entailment", "contradiction", "neutral"),
        {"text_a": "premise", "text_b": "hypothesis"},
        ("accuracy", "macro_f1"),
    ),
)

for name, folder, labels, texts, scores in ROWS:
    register_task(
        Task(
            name=name,
            language="en",
            head="classify",
            labels=labels,
            reader=Jsonl(columns={"id": "idx", **texts, "label": "label"}),
            metrics=scores,
            files={
                split: f"superglue/{folder}/{file}.jsonl"
                for split, file in (("train", "train"), ("valid", "val"), ("test", "test"))
            },
            hub=f"aps/super_glue:{name}",
            source="https://super.gluebenchmark.com/tasks",
            aliases=(f"{name}_bert", f"{name}_roberta"),
        )
    )
