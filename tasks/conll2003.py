"""CoNLL-2003 (Tjong Kim Sang & De Meulder, 2003), English, in its original files."""

from __future__ import annotations

from claf2 import Task, register_task
from claf2.readers import Conll

register_task(
    Task(
        name="conll2003",
        language="en",
        head="tag",
        labels=("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"),
        # The original files are IOB1; copies in IOB2 stay as they are.
        reader=Conll(delimiter=None, scheme="iob1"),
        metrics=("seqeval",),
        files={
            "train": "conll2003/eng.train",
            "valid": "conll2003/eng.testa",
            "test": "conll2003/eng.testb",
        },
        hub="eriktks/conll2003",
        notes=("The original files use IOB1, which is converted to IOB2; document boundaries are skipped.",),
        source="https://www.clips.uantwerpen.be/conll2003/ner/",
        licence="the annotation is free; the texts belong to Reuters (RCV1) and must not be redistributed",
        aliases=("conll2003_bert", "conll2003_roberta"),
    )
)
