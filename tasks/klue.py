"""KLUE 1.1 (Park et al., 2021), the public benchmark, as https://github.com/KLUE-benchmark/KLUE publishes it."""

from __future__ import annotations

from claf2 import Published, Suite, Task, register_suite, register_task
from claf2.readers import Conll, Dialogues, Jsonl, Relations, Squad, Treebank

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
        hub_columns={"gold_label": "label"},
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
        notes=("As in KLUE-baseline, `real-label` is the target, and F1 uses a threshold of 3 on both sides.",),
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
        notes=(
            'Version 1.1 still has broken tags (KLUE issue 39).',
            "KLUE-baseline's character F1 includes O (its issue 7), as `char_macro_f1` does. Its wrong alignment of "
            "characters in words with [UNK] (its issue 9, KLUE issue 40) does not occur here.",
        ),
        source=SOURCE,
        licence=LICENCE,
        aliases=("klue_ner_bert", "klue_ner_roberta"),
    )
)  # fmt: skip

register_task(
    Task(
        name="ynat",
        language="ko",
        head="classify",
        labels=("정치", "경제", "사회", "생활문화", "세계", "IT과학", "스포츠"),
        reader=Jsonl(columns={"id": "guid", "text_a": "title", "label": "label"}),
        metrics=("macro_f1",),
        files=files("ynat"),
        hub="klue/klue:ynat",
        notes=("Dacon's copy splits the official train and dev data differently, so scores on it are not comparable.",),
        source=SOURCE,
        licence=LICENCE,
        aliases=("klue_tc", "ynat_bert", "ynat_roberta"),
    )
)

RELATIONS = """
no_relation org:dissolved org:founded org:place_of_headquarters org:alternate_names org:member_of org:members
org:political/religious_affiliation org:product org:founded_by org:top_members/employees
org:number_of_employees/members per:date_of_birth per:date_of_death per:place_of_birth per:place_of_death
per:place_of_residence per:origin per:employee_of per:schools_attended per:alternate_names per:parents per:children
per:siblings per:spouse per:other_family per:colleagues per:product per:religion per:title
"""

register_task(
    Task(
        name="klue_re",
        language="ko",
        head="classify",
        labels=tuple(RELATIONS.split()),
        reader=Relations(),
        markers=(("<subj>", "</subj>"), ("<obj>", "</obj>")),
        metrics=("klue_re",),
        files=files("klue-re"),
        hub="klue/klue:re",
        notes=(
            "As in KLUE-baseline, what follows a closing marker without a space continues the word before it: a piece "
            "of Hangul gets `##`, or loses its `▁`, if the vocabulary has the resulting piece.",
        ),
        source=SOURCE,
        licence=LICENCE,
        aliases=("klue_re_bert", "klue_re_roberta"),
    )
)

DEPENDENCIES = """
NP NP_AJT VP NP_SBJ VP_MOD NP_OBJ AP NP_CNJ NP_MOD VNP DP VP_AJT VNP_MOD NP_CMP VP_SBJ VP_CMP VP_OBJ VNP_CMP AP_MOD
X_AJT VP_CNJ VNP_AJT IP X X_SBJ VNP_OBJ VNP_SBJ X_OBJ AP_AJT L X_MOD X_CNJ VNP_CNJ X_CMP AP_CMP AP_SBJ R NP_SVJ
"""

register_task(
    Task(
        name="klue_dp",
        language="ko",
        head="parse",
        labels=tuple(DEPENDENCIES.split()),
        reader=Treebank(),
        metrics=("klue_dp",),
        files=files("klue-dp", "tsv"),
        hub="klue/klue:dp",
        hub_columns={"words": "word_form", "pos": "pos", "heads": "head", "relations": "deprel"},
        notes=(
            "KLUE-baseline's UAS and LAS are macro F1 over positions and relations. The attachment scores are `uas` "
            "and `las`.",
        ),
        source=SOURCE,
        licence=LICENCE,
        aliases=("klue_dp_bert", "klue_dp_roberta"),
    )
)

register_task(
    Task(
        name="klue_mrc",
        language="ko",
        head="span",
        reader=Squad(version="2.0", id_key="guid"),
        metrics=("klue_mrc",),
        files=files("klue-mrc"),
        hub="klue/klue:mrc",
        hub_columns={"id": "guid"},
        notes=(
            '"ROUGE-W" is the character F1 of the longest common substring. Because of a bug in KLUE-baseline\'s '
            "normalizer, 《》〈〉‘’ stay in the answers; `rouge_w_fixed` removes them.",
            "On the hub, `answers` of an unanswerable question are plausible answers; `is_impossible` decides.",
        ),
        source=SOURCE,
        licence=LICENCE,
        aliases=("klue_mrc_bert", "klue_mrc_roberta"),
    )
)

SLOTS = {
    "관광": "경치 좋은|교육적|도보 가능|문화 예술|역사적|이름|종류|주차 가능|지역",
    "숙소": "가격대|도보 가능|수영장 유무|스파 유무|예약 기간|예약 명수|예약 요일|"
    "이름|인터넷 가능|조식 가능|종류|주차 가능|지역|헬스장 유무|흡연 가능",
    "식당": "가격대|도보 가능|야외석 유무|예약 명수|예약 시간|예약 요일|"
    "이름|인터넷 가능|종류|주류 판매|주차 가능|지역|흡연 가능",
    "지하철": "도착지|출발 시간|출발지",
    "택시": "도착 시간|도착지|종류|출발 시간|출발지",
}
"""The 45 slots of ontology.json in its order, which is alphabetical."""

register_task(
    Task(
        name="wos",
        language="ko",
        head="dialogue",
        labels=tuple(f"{domain}-{slot}" for domain, names in SLOTS.items() for slot in names.split("|")),
        reader=Dialogues(),
        metrics=("wos",),
        files=files("wos"),
        hub="klue/klue:wos",
        notes=(
            "Some values of the published states are wrong (KLUE pull request 9).",
            "KLUE-baseline's slot \"micro\" F1 is the mean of the turns' F1; `slot_f1_fixed` is micro F1 as defined.",
        ),
        source=SOURCE,
        licence=LICENCE,
        aliases=("klue_dst", "wos_bert", "wos_roberta"),
    )
)

# The table of the README (commit 3efd987) in its order. Scores are on the test set, whose labels were never published.
PUBLISHED = (
    (
        "mBERT",
        "81.55 / 84.66, 76.00 / 73.20 / 76.50, 89.23 / 57.88, 53.82 / 90.30, 86.66 / 44.66, 55.92 / 35.46, 88.63",
    ),
    (
        "XLM-R base",
        "83.52 / 89.16, 82.01 / 77.33 / 80.37, 92.12 / 57.46, 54.98 / 89.20, 87.69 / 27.48, 53.93 / 39.82, 89.61",
    ),
    (
        "XLM-R large",
        "86.06 / 92.97, 85.86 / 85.93 / 82.27, 93.22 / 58.39, 61.15 / 92.71, 88.70 / 35.99, 66.77 / 41.20, 89.80",
    ),
    (
        "KR-BERT base",
        "84.58 / 88.61, 81.07 / 77.17 / 74.58, 90.13 / 62.74, 60.94 / 89.92, 87.48 / 48.28, 58.54 / 45.33, 90.70",
    ),
    (
        "KoELECTRA base",
        "84.59 / 92.46, 84.84 / 85.63 / 86.11, 92.56 / 62.85, 58.94 / 92.90, 87.77 / 59.82, 66.05 / 41.58, 89.60",
    ),
    (
        "KLUE-BERT base",
        "85.73 / 90.85, 82.84 / 81.63 / 83.97, 91.39 / 66.44, 66.17 / 89.96, 88.05 / 62.32, 68.51 / 46.64, 91.61",
    ),
    (
        "KLUE-RoBERTa small",
        "84.98 / 91.54, 85.16 / 79.33 / 83.65, 91.14 / 60.89, 58.96 / 90.04, 88.14 / 57.32, 62.70 / 46.62, 91.44",
    ),
    (
        "KLUE-RoBERTa base",
        "85.07 / 92.50, 85.40 / 84.83 / 84.60, 91.44 / 67.65, 68.55 / 93.04, 88.32 / 68.67, 73.98 / 47.49, 91.64",
    ),
    (
        "KLUE-RoBERTa large",
        "85.69 / 93.35, 86.63 / 89.17 / 85.00, 91.86 / 71.13, 72.98 / 93.48, 88.36 / 75.58, 80.59 / 50.22, 92.23",
    ),
)
ORDER = ("ynat", "klue_sts", "klue_nli", "klue_ner", "klue_re", "klue_dp", "klue_mrc", "wos")


def published(line: str) -> dict[str, tuple[float, ...]]:
    """Return task → scores of a line of the table, in which slashes separate tasks, and commas scores."""
    return {task: tuple(map(float, cell.split(","))) for task, cell in zip(ORDER, line.split("/"), strict=True)}


register_suite(
    Suite(
        name="klue",
        columns={
            "ynat": ("valid/macro_f1",),
            "klue_sts": ("valid/pearson", "valid/f1"),
            "klue_nli": ("valid/accuracy",),
            "klue_ner": ("valid/entity_macro_f1", "valid/char_macro_f1"),
            "klue_re": ("valid/micro_f1", "valid/auprc"),
            "klue_dp": ("valid/uas_macro_f1", "valid/las_macro_f1"),
            "klue_mrc": ("valid/em", "valid/rouge_w"),
            "wos": ("valid/jga", "valid/slot_micro_f1"),
        },
        configs={task: f"klue/{task.removeprefix('klue_')}" for task in ORDER},
        recipes=("bert", "roberta", "roberta_large"),
        published=tuple(
            Published(model=model, source="KLUE README", split="test", scores=published(line))
            for model, line in PUBLISHED
        ),
        notes="Published scores are on the test sets, so scores on the development sets do not reproduce them. The "
        "benchmark defines no average; this one is the mean over tasks of their mean scores.",
    )
)
