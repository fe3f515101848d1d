"""KLUE 1.1 (Park et al., 2021), the public benchmark, as https://github.com/KLUE-benchmark/KLUE publishes it."""

from __future__ import annotations

from claf2 import Task, register_task
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
        hub_columns={"id": "guid", "text_a": "title"},
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
        source=SOURCE,
        licence=LICENCE,
        aliases=("klue_mrc_bert", "klue_mrc_roberta"),
    )
)

SLOTS = {
    "관광": "경치 좋은|교육적|도보 가능|문화 예술|역사적|이름|종류|주차 가능|지역",
    "숙소": "가격대|도보 가능|수영장 유무|스파 유무|예약 기간|예약 명수|예약 요일|이름|인터넷 가능|조식 가능|종류|주차 가능|지역|헬스장 유무|흡연 가능",
    "식당": "가격대|도보 가능|야외석 유무|예약 명수|예약 시간|예약 요일|이름|인터넷 가능|종류|주류 판매|주차 가능|지역|흡연 가능",
    "지하철": "도착지|출발 시간|출발지",
    "택시": "도착 시간|도착지|종류|출발 시간|출발지",
}
"""The 45 slots of ontology.json, in its order, which is the alphabet's."""

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
        source=SOURCE,
        licence=LICENCE,
        aliases=("klue_dst", "wos_bert", "wos_roberta"),
    )
)
