"""KLUE 1.1 (Park et al., 2021), the public benchmark, as https://github.com/KLUE-benchmark/KLUE publishes it."""

from __future__ import annotations

from claf2 import Task, register_task
from claf2.readers import Conll, Jsonl

SOURCE = "https://github.com/KLUE-benchmark/KLUE"
LICENCE = "CC BY-SA 4.0"


def files(name: str, ending: str = "json") -> dict[str, str]:
    """Return the official files of a task; the test labels were never published."""
    stem = f"klue_benchmark/{name}-v1.1/{name}-v1.1"
    return {"train": f"{stem}_train.{ending}", "valid": f"{stem}_dev.{ending}"}


register_task(
    Task(
        name="klue_nli",
        language="ko",
        head="classify",
        labels=("entailment", "contradiction", "neutral"),
        reader=Jsonl(columns={"id": "guid", "text_a": "premise", "text_b": "hypothesis", "label": "gold_label"}),
        metrics=("accuracy",),
        files=files("klue-nli"),
        hub="klue/klue:nli",
        hub_columns={"id": "guid", "text_a": "premise", "text_b": "hypothesis", "label": "label"},
        source=SOURCE,
        licence=LICENCE,
        aliases=("klue_nli_bert", "klue_nli_roberta"),
    )
)

register_task(
    Task(
        name="klue_sts",
        language="ko",
        head="regress",
        reader=Jsonl(
            columns={"id": "guid", "text_a": "sentence1", "text_b": "sentence2", "label": "labels.real-label"}
        ),
        metrics=("klue_sts",),
        files=files("klue-sts"),
        hub="klue/klue:sts",
        source=SOURCE,
        licence=LICENCE,
        aliases=("klue_sts_bert", "klue_sts_roberta"),
    )
)

register_task(
    Task(
        name="klue_ner",
        language="ko",
        head="tag",
        labels=(
            "B-PS", "I-PS", "B-LC", "I-LC", "B-OG", "I-OG", "B-DT", "I-DT", "B-TI", "I-TI", "B-QT", "I-QT", "O",
        ),
        reader=Conll(unit="character", comment="##"),
        metrics=("klue_ner",),
        files=files("klue-ner", "tsv"),
        hub="klue/klue:ner",
        source=SOURCE,
        licence=LICENCE,
        aliases=("klue_ner_bert", "klue_ner_roberta"),
    )
)  # fmt: skip
