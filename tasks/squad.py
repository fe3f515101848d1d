"""SQuAD 1.1 and 2.0 (Rajpurkar et al., 2016 and 2018)."""

from __future__ import annotations

from claf2 import Task, register_task
from claf2.readers import Squad

register_task(
    Task(
        name="squad",
        language="en",
        head="span",
        reader=Squad(),
        metrics=("squad",),
        files={"train": "squad/train-v1.1.json", "valid": "squad/dev-v1.1.json"},
        hub="rajpurkar/squad",
        source="https://rajpurkar.github.io/SQuAD-explorer/",
        licence="CC BY-SA 4.0",
        aliases=("squad_bert", "squad_roberta"),
    )
)

register_task(
    Task(
        name="squad_v2",
        language="en",
        head="span",
        reader=Squad(version="2.0"),
        metrics=("squad",),
        files={"train": "squad/train-v2.0.json", "valid": "squad/dev-v2.0.json"},
        hub="rajpurkar/squad_v2",
        source="https://rajpurkar.github.io/SQuAD-explorer/",
        licence="CC BY-SA 4.0",
        aliases=("squad_v2_bert", "squad_v2_roberta"),
    )
)
