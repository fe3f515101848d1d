"""JGLUE 1.3 (Kurihara et al., 2022), as https://github.com/yahoojapan/JGLUE publishes it, and JCoLA (Someya et al., 2024)."""

from __future__ import annotations

from claf2 import Task, register_task
from claf2.metrics.span import SquadScore
from claf2.readers import Jsonl, Squad

SOURCE = "https://github.com/yahoojapan/JGLUE"
LICENCE = "CC BY-SA 4.0"
PAIR = {"id": "sentence_pair_id", "text_a": "sentence1", "text_b": "sentence2", "label": "label"}


def files(name: str, *splits: str) -> dict[str, str]:
    """Return the files of version 1.3; the test labels of some tasks were published with it."""
    return {split: f"jglue/datasets/{name}-v1.3/{split}-v1.3.json" for split in splits}


register_task(
    Task(
        name="marc_ja",
        language="ja",
        head="classify",
        labels=("positive", "negative"),
        reader=Jsonl(columns={"id": "review_id", "text_a": "sentence", "label": "label"}),
        metrics=("accuracy",),
        files={split: f"jglue/datasets/marc_ja-v1.1/{split}-v1.1.json" for split in ("train", "valid", "test")},
        source=SOURCE,
        licence="Amazon's, who no longer distribute the reviews; JGLUE's scripts build the files from a copy",
        aliases=("marc_ja_bert", "marc_ja_roberta"),
    )
)

register_task(
    Task(
        name="jcola",
        language="ja",
        head="classify",
        labels=("0", "1"),
        reader=Jsonl(columns={"id": "uid", "text_a": "sentence", "label": "label"}),
        metrics=("accuracy", "matthews"),
        files={
            "train": "jglue/jcola-v1.0/in_domain_train-v1.0.json",
            "valid": "jglue/jcola-v1.0/in_domain_valid-v1.0.json",
            "valid_out_of_domain": "jglue/jcola-v1.0/out_of_domain_valid-v1.0.json",
        },
        hub="shunk031/JGLUE:JCoLA",
        hub_columns={"id": "uid", "text_a": "sentence"},
        hub_splits={"valid_out_of_domain": "validation_out_of_domain"},
        source="https://github.com/osekilab/JCoLA",
        licence=LICENCE,
        aliases=("jcola_bert", "jcola_roberta"),
    )
)

register_task(
    Task(
        name="jsts",
        language="ja",
        head="regress",
        reader=Jsonl(columns=PAIR),
        metrics=("pearson", "spearman"),
        files=files("jsts", "train", "valid", "test"),
        hub="shunk031/JGLUE:JSTS",
        hub_columns={"id": "sentence_pair_id", "text_a": "sentence1", "text_b": "sentence2"},
        source=SOURCE,
        licence=LICENCE,
        aliases=("jsts_bert", "jsts_roberta"),
    )
)

register_task(
    Task(
        name="jnli",
        language="ja",
        head="classify",
        labels=("entailment", "contradiction", "neutral"),
        reader=Jsonl(columns=PAIR),
        metrics=("accuracy",),
        files=files("jnli", "train", "valid", "test"),
        hub="shunk031/JGLUE:JNLI",
        hub_columns={"id": "sentence_pair_id", "text_a": "sentence1", "text_b": "sentence2"},
        source=SOURCE,
        licence=LICENCE,
        aliases=("jnli_bert", "jnli_roberta"),
    )
)

register_task(
    Task(
        name="jsquad",
        language="ja",
        head="span",
        reader=Squad(),
        metrics=(SquadScore(language="ja"),),
        files=files("jsquad", "train", "valid", "test"),
        hub="shunk031/JGLUE:JSQuAD",
        source=SOURCE,
        licence=LICENCE,
        aliases=("jsquad_bert", "jsquad_roberta"),
    )
)

register_task(
    Task(
        name="jcommonsenseqa",
        language="ja",
        head="choice",
        labels=("0", "1", "2", "3", "4"),
        reader=Jsonl(
            columns={"id": "q_id", "text_a": "question", "label": "label"},
            choices=("choice0", "choice1", "choice2", "choice3", "choice4"),
        ),
        metrics=("accuracy",),
        files=files("jcommonsenseqa", "train", "valid", "test"),
        hub="shunk031/JGLUE:JCommonsenseQA",
        hub_columns={"id": "q_id"},
        source=SOURCE,
        licence=LICENCE,
        aliases=("jcommonsenseqa_bert", "jcommonsenseqa_roberta"),
    )
)
