"""Public substitutes for the private tasks of NAVER's LaRva team (2019), who called them KLUE; not the KLUE of 2021."""

from __future__ import annotations

from claf2 import Published, Suite, Task, register_suite, register_task
from claf2.metrics.span import SquadScore
from claf2.readers import Delimited, Squad, Tagged

register_task(
    Task(
        name="korquad",
        language="ko",
        head="span",
        reader=Squad(),
        metrics=(SquadScore(language="ko"),),
        files={"train": "korquad/KorQuAD_v1.0_train.json", "valid": "korquad/KorQuAD_v1.0_dev.json"},
        hub="KorQuAD/squad_kor_v1",
        notes=("An exact match far below F1 (KoBERT 51.75 / 79.15) points to wrong offsets of the tokenizer.",),
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
        # All published scores use the test set as development set. Split the training set with valid_fraction instead.
        files={"train": "nsmc/ratings_train.txt", "valid": "nsmc/ratings_test.txt"},
        hub="e9t/nsmc",
        hub_columns={"id": "id", "text_a": "document", "label": "label"},
        hub_splits={"valid": "test"},
        notes=(
            "A few documents are empty, and quotes are part of the text.",
            "All published scores use the test set as development set.",
        ),
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

register_task(
    Task(
        name="question_pair",
        language="ko",
        head="classify",
        labels=("0", "1"),
        # In the file, 0 means that two questions ask the same, although the column is called is_duplicate.
        reader=Delimited(
            columns={"text_a": "question1", "text_b": "question2", "label": "is_duplicate"},
            delimiter=",",
            quoted=True,
        ),
        metrics=("accuracy",),
        files={"train": "question_pair/kor_pair_train.csv", "valid": "question_pair/kor_Pair_test.csv"},
        notes=("The label 0 means that two questions ask the same thing, although the column is called is_duplicate.",),
        source="https://github.com/songys/Question_pair",
        licence="MIT",
        aliases=("question_pair_bert", "question_pair_roberta"),
    )
)

register_task(
    Task(
        name="paws_ko",
        language="ko",
        head="classify",
        labels=("0", "1"),
        reader=Delimited(
            columns={"id": "id", "text_a": "sentence1", "text_b": "sentence2", "label": "label"}, placeholder="NS"
        ),
        metrics=("accuracy",),
        files={
            "train": "pawsx/ko/translated_train.tsv",
            "valid": "pawsx/ko/dev_2k.tsv",
            "test": "pawsx/ko/test_2k.tsv",
        },
        hub="google-research-datasets/paws-x:ko",
        hub_columns={"text_a": "sentence1", "text_b": "sentence2"},
        notes=(
            "Rows with the placeholder NS instead of a text are left out (35 of 2,000 in dev).",
            "Some first sentences occur in both dev and test.",
        ),
        source="https://github.com/google-research-datasets/paws/tree/master/pawsx",
        licence="free for any purpose, as the source states",
        aliases=("paws_ko_bert", "paws_ko_roberta"),
    )
)

# Further public Korean data sets, which the eight tasks do not include.

register_task(
    Task(
        name="3i4k",
        language="ko",
        head="classify",
        # fragment, statement, question, command, rhetorical question, rhetorical command, intonation-dependent
        labels=("0", "1", "2", "3", "4", "5", "6"),
        reader=Delimited(columns={"text_a": 1, "label": 0}, header=False),
        metrics=("macro_f1", "accuracy"),
        files={"train": "3i4k/fci_train_val.txt", "valid": "3i4k/fci_test.txt"},
        source="https://github.com/warnikchow/3i4k",
        licence="CC BY-SA 4.0",
        aliases=("3i4k_bert", "3i4k_roberta"),
    )
)

register_task(
    Task(
        name="parakqc",
        language="ko",
        head="classify",
        # The corpus has neither splits nor pairs, so the task is to classify the topic of a request, its first column.
        labels=("0", "1", "2", "3"),
        reader=Delimited(columns={"text_a": 2, "label": 0}, header=False),
        metrics=("accuracy",),
        files={"train": "paraKQC/paraKQC_v1.txt"},
        notes=(
            "The corpus has sets of ten paraphrases, but no splits or pairs. The task is to classify the topic. "
            "After a random split, development rows are paraphrases of training rows, so scores are optimistic.",
        ),
        source="https://github.com/warnikchow/paraKQC",
        licence="CC BY-SA 4.0",
        aliases=("parakqc_bert", "parakqc_roberta"),
    )
)

for name, column, labels in (
    ("korean_hate_speech", "hate", ("none", "offensive", "hate")),
    ("korean_hate_speech_bias", "bias", ("none", "gender", "others")),
):
    register_task(
        Task(
            name=name,
            language="ko",
            head="classify",
            labels=labels,
            reader=Delimited(columns={"text_a": "comments", "label": column}),
            metrics=("macro_f1", "accuracy"),
            files={"train": "korean_hate_speech/train.tsv", "valid": "korean_hate_speech/dev.tsv"},
            source="https://github.com/kocohub/korean-hate-speech",
            licence="CC BY-SA 4.0",
            aliases=(f"{name}_bert", f"{name}_roberta"),
        )
    )

TYPES = "CVL NUM PER ORG DAT LOC TRM EVT ANM AFW TIM FLD PLT MAT".split()

register_task(
    Task(
        name="naver_ner",
        language="ko",
        head="tag",
        labels=("O", *(f"{prefix}-{kind}" for kind in TYPES for prefix in "BI")),
        reader=Tagged(),
        metrics=("seqeval",),
        files={"train": "naver_ner/train.tsv", "valid": "naver_ner/test.tsv"},
        source="https://github.com/monologg/KoELECTRA",
        licence="Apache-2.0, as the source states; the data comes from the NAVER NLP Challenge 2018",
        aliases=("naver_ner_bert", "naver_ner_roberta"),
    )
)

KOELECTRA = "KoELECTRA README; test sets, but dev of KorQuAD"

register_suite(
    Suite(
        name="larva_klue",
        columns={
            "korquad": ("valid/em", "valid/f1"),
            "nsmc": ("valid/accuracy",),
            "question_pair": ("valid/accuracy",),
            "korsts": ("valid/spearman",),
            "kornli": ("valid/accuracy",),
            "paws_ko": ("valid/accuracy",),
        },
        configs={task: f"klue/{task}" for task in ("korquad", "nsmc", "question_pair", "korsts", "kornli", "paws_ko")},
        recipes=("bert",),
        published=(
            Published(
                model="KoELECTRA base v3", source=KOELECTRA, split="test",
                scores={
                    "korquad": (84.83, 93.45), "nsmc": (90.63,), "question_pair": (95.25,), "korsts": (85.53,),
                    "kornli": (82.24,), "paws_ko": (84.45,),
                },
            ),
            Published(
                model="KoBERT", source=KOELECTRA, split="test",
                scores={"korquad": (51.75, 79.15), "nsmc": (89.59,), "paws_ko": (81.25,)},
            ),
            Published(
                model="XLM-R base", source=KOELECTRA, split="test",
                scores={"korquad": (64.70, 88.94), "nsmc": (89.03,), "paws_ko": (82.80,)},
            ),
            Published(
                model="mBERT cased", source="CLaF README", split="dev", scores={"korquad": (82.54, 91.69)},
            ),
            Published(
                model="LaRva", source="the LaRva team's talk, their own private sets of the same kinds", split="test",
                scores={"korquad": (86.84, 94.75), "nsmc": (90.0,), "paws_ko": (84.9,)},
            ),
        ),
        notes="Public substitutes for NAVER's eight private tasks (see docs/larva_klue.md); not the public KLUE. NSMC "
        "and question pair are scored on their published test sets, which also select the checkpoint.",
    )
)  # fmt: skip
