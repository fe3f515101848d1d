"""WNUT-17: novel and emerging entities (Derczynski et al., 2017)."""

from __future__ import annotations

from claf2 import Task, register_task
from claf2.readers import Conll

TYPES = ("corporation", "creative-work", "group", "location", "person", "product")

register_task(
    Task(
        name="wnut17",
        language="en",
        head="tag",
        labels=("O", *(f"{position}-{kind}" for kind in TYPES for position in "BI")),
        reader=Conll(),
        metrics=("seqeval",),
        files={
            "train": "wnut17/wnut17train.conll",
            "valid": "wnut17/emerging.dev.conll",
            "test": "wnut17/emerging.test.annotated",
        },
        hub="leondz/wnut_17",
        source="https://github.com/leondz/emerging_entities_17",
        licence="CC BY 4.0",
        aliases=("wnut17_bert", "wnut17_roberta"),
    )
)
