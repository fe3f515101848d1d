"""Public stand-ins for the KLUE of NAVER's LaRva team (2019), a private set of eight; not the public KLUE of 2021."""

from __future__ import annotations

from claf2 import Task, register_task
from claf2.metrics.span import SquadScore
from claf2.readers import Delimited, Squad

register_task(
    Task(
        name="korquad",
        language="ko",
        head="span",
        reader=Squad(),
        metrics=(SquadScore(language="ko"),),
        files={"train": "korquad/KorQuAD_v1.0_train.json", "valid": "korquad/KorQuAD_v1.0_dev.json"},
        hub="KorQuAD/squad_kor_v1",
        source="https://korquad.github.io/KorQuad%201.0/",
        licence="CC BY-ND 2.0 KR",
        aliases=("korquad_bert", "korquad_roberta"),
    )
)

register_task(
    Task(
        name="nsmc",
        language="ko",
        head="classify",
        labels=("0", "1"),
        reader=Delimited(columns={"id": "id", "text_a": "document", "label": "label"}),
        metrics=("accuracy",),
        # The published test set, which everybody uses as the development set; cut your own with valid_fraction.
        files={"train": "nsmc/ratings_train.txt", "valid": "nsmc/ratings_test.txt"},
        hub="e9t/nsmc",
        hub_columns={"id": "id", "text_a": "document", "label": "label"},
        hub_splits={"valid": "test"},
        source="https://github.com/e9t/nsmc",
        licence="CC0 1.0",
        aliases=("nsmc_bert", "nsmc_roberta"),
    )
)

register_task(
    Task(
        name="korsts",
        language="ko",
        head="regress",
        reader=Delimited(columns={"text_a": "sentence1", "text_b": "sentence2", "label": "score"}),
        metrics=("spearman", "pearson"),
        files={
            "train": "kornlu/KorSTS/sts-train.tsv",
            "valid": "kornlu/KorSTS/sts-dev.tsv",
            "test": "kornlu/KorSTS/sts-test.tsv",
        },
        source="https://github.com/kakaobrain/KorNLUDatasets",
        licence="CC BY-SA 4.0",
        aliases=("korsts_bert", "korsts_roberta"),
    )
)

register_task(
    Task(
        name="kornli",
        language="ko",
        head="classify",
        labels=("entailment", "contradiction", "neutral"),
        reader=Delimited(columns={"text_a": "sentence1", "text_b": "sentence2", "label": "gold_label"}),
        metrics=("accuracy",),
        files={
            "train": "kornlu/KorNLI/multinli.train.ko.tsv",
            "valid": "kornlu/KorNLI/xnli.dev.ko.tsv",
            "test": "kornlu/KorNLI/xnli.test.ko.tsv",
        },
        source="https://github.com/kakaobrain/KorNLUDatasets",
        licence="CC BY-SA 4.0",
        aliases=("kornli_bert", "kornli_roberta"),
    )
)
