"""JGLUE 1.3 (Kurihara et al., 2022), from https://github.com/yahoojapan/JGLUE, and JCoLA (Someya et al., 2024)."""

from __future__ import annotations

from claf2 import Published, Suite, Task, register_suite, register_task
from claf2.metrics.span import SquadScore
from claf2.readers import Jsonl, Squad

SOURCE = "https://github.com/yahoojapan/JGLUE"
LICENCE = "CC BY-SA 4.0"
PAIR = {"id": "sentence_pair_id", "text_a": "sentence1", "text_b": "sentence2", "label": "label"}


def files(name: str, *splits: str) -> dict[str, str]:
    """Return the files of version 1.3, which has the test labels of some tasks."""
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
        notes=("Amazon no longer distributes the reviews; JGLUE's scripts build the files from a copy of them.",),
        source=SOURCE,
        licence="Amazon's; the reviews are no longer distributed",
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
        hub_splits={"valid_out_of_domain": "validation_out_of_domain"},
        notes=(
            "In-domain and out-of-domain rows have scores of their own: `valid/…` and `valid_out_of_domain/…`. "
            "XLM-R large collapses on some seeds (in-domain MCC .214 ± .128).",
        ),
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
        notes=(
            "A context is `title [SEP] paragraph`, in which `[SEP]` becomes the special token.",
            "Scores are low if answers do not end at token boundaries, which is why JGLUE reports none for XLM-R.",
        ),
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
        source=SOURCE,
        licence=LICENCE,
        aliases=("jcommonsenseqa_bert", "jcommonsenseqa_roberta"),
    )
)

README = "JGLUE README, tuned on dev, one run"
NOBU_G = "nobu-g/JGLUE-benchmark, tuned on dev"


def published(
    model: str, source: str, marc_ja: float | None, jsts: tuple[float, float] | None, jnli: float,
    jsquad: tuple[float, float] | None, choice: float, jcola: float | None = None,
) -> Published:  # fmt: skip
    """Return a row of development scores, 0–100, given what was published, 0–1."""
    scores = {
        "marc_ja": (marc_ja,),
        "jcola": (jcola, None, None, None),
        "jsts": jsts,
        "jnli": (jnli,),
        "jsquad": jsquad,
    }
    known = {
        **{task: values for task, values in scores.items() if values and values[0] is not None},
        "jcommonsenseqa": (choice,),
    }
    percent = {task: tuple(None if v is None else round(100 * v, 2) for v in values) for task, values in known.items()}
    return Published(model=model, source=source, split="dev", scores=percent)


register_suite(
    Suite(
        name="jglue",
        columns={
            "marc_ja": ("valid/accuracy",),
            "jcola": (
                "valid/accuracy", "valid/matthews", "valid_out_of_domain/accuracy", "valid_out_of_domain/matthews",
            ),
            "jsts": ("valid/pearson", "valid/spearman"),
            "jnli": ("valid/accuracy",),
            "jsquad": ("valid/em", "valid/f1"),
            "jcommonsenseqa": ("valid/accuracy",),
        },
        configs={
            task: f"jglue/{task}" for task in ("marc_ja", "jcola", "jsts", "jnli", "jsquad", "jcommonsenseqa")
        },
        recipes=("bert", "roberta"),
        published=(
            published("Tohoku BERT base v2", README, 0.958, (0.909, 0.868), 0.906, (0.871, 0.941), 0.808),
            published("Tohoku BERT base v2 char", README, 0.956, (0.893, 0.851), 0.896, (0.864, 0.937), 0.718),
            published("Tohoku BERT large", README, 0.955, (0.913, 0.872), 0.905, (0.880, 0.946), 0.816),
            published("NICT BERT base", README, 0.958, (0.910, 0.871), 0.909, (0.897, 0.947), 0.823),
            published("Waseda RoBERTa base", README, 0.962, (0.913, 0.873), 0.900, (0.864, 0.927), 0.840),
            published("Waseda RoBERTa large s128", README, 0.954, (0.930, 0.896), 0.931, (0.884, 0.940), 0.907),
            published("Waseda RoBERTa large s512", README, 0.961, (0.926, 0.892), 0.934, (0.918, 0.963), 0.891),
            published("XLM-R base", README, 0.961, (0.877, 0.831), 0.898, None, 0.687),
            published("XLM-R large", README, 0.964, (0.918, 0.884), 0.924, None, 0.840),
            published("human", "JGLUE README", 0.989, (0.899, 0.861), 0.925, (0.871, 0.944), 0.986),
            published("Waseda RoBERTa base", NOBU_G, 0.965, (0.913, 0.876), 0.905, (0.853, 0.916), 0.853, 0.867),
            published("DeBERTa-v2 base", NOBU_G, 0.970, (0.922, 0.886), 0.922, (0.899, 0.951), 0.873, 0.879),
            published("DeBERTa-v2 large", NOBU_G, 0.968, (0.925, 0.892), 0.924, (0.912, 0.959), 0.890, 0.882),
        ),
        notes="Published scores are the best of a grid search on the same development sets, which makes them slightly "
        "optimistic. The reviews of MARC-ja are no longer distributed.",
        aliases=("jlue",),
    )
)  # fmt: skip
