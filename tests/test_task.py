"""Task tables on the benchmarks' own files, with the counts that their publishers state."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from claf2 import Task, register_task
from claf2.errors import DataError, RegistryError
from claf2.readers import (
    ChoiceExample,
    Delimited,
    DialogueExample,
    Jsonl,
    ParseExample,
    SpanExample,
    TextExample,
    TokenExample,
)
from claf2.task import tasks

COUNTS: list[tuple[str, str, int, dict[str, int]]] = [
    ("rte", "glue_data/RTE/train.tsv", 2490, {"entailment": 1249, "not_entailment": 1241}),
    ("mrpc", "glue_data/MRPC/train.tsv", 3668, {"1": 2474, "0": 1194}),
    ("mrpc", "glue_data/MRPC/dev.tsv", 408, {"1": 279, "0": 129}),
    ("cola", "glue_data/CoLA/train.tsv", 8551, {"1": 6023, "0": 2528}),
    ("sst", "glue_data/SST-2/train.tsv", 67349, {"1": 37569, "0": 29780}),
    ("qqp", "glue_data/QQP/train.tsv", 20000, {"0": 12577, "1": 7423}),
    ("mnli", "glue_data/MNLI/train.tsv", 8999, {"entailment": 3061, "neutral": 2980, "contradiction": 2958}),
    ("qnli", "glue_data/QNLI/dev.tsv", 5463, {"not_entailment": 2761, "entailment": 2702}),
    ("wnli", "glue_data/WNLI/train.tsv", 635, {"0": 323, "1": 312}),
    ("nsmc", "nsmc/ratings_train.txt", 30000, {"1": 15021, "0": 14979}),
    ("kornli", "kornlu/KorNLI/xnli.dev.ko.tsv", 2490, {"neutral": 830, "contradiction": 830, "entailment": 830}),
    ("ynat", "klue_benchmark/ynat-v1.1/ynat_dacon_train.json.gz", 43654,
     {"세계": 7297, "사회": 7023, "스포츠": 6624, "정치": 6476, "경제": 5941, "생활문화": 5680, "IT과학": 4613}),
    ("jnli", "jglue/datasets/jnli-v1.3/valid-v1.3.json", 2434,
     {"neutral": 1350, "contradiction": 735, "entailment": 349}),
    ("jcola", "jglue/jcola-v1.0/in_domain_train-v1.0.json", 6919, {"1": 5769, "0": 1150}),
    ("jcola", "jglue/jcola-v1.0/out_of_domain_valid-v1.0.json", 685, {"1": 502, "0": 183}),
    ("paws_ko", "pawsx/ko/dev_2k.tsv", 1965, {"0": 1125, "1": 840}),
    ("question_pair", "question_pair/kor_pair_train.csv", 6888, {"0": 4750, "1": 2138}),
    ("question_pair", "question_pair/kor_Pair_test.csv", 688, {"0": 359, "1": 329}),
    ("3i4k", "3i4k/fci_train_val.txt", 55134,
     {"1": 16470, "2": 16083, "3": 11672, "0": 5409, "6": 2950, "4": 1571, "5": 979}),
    ("korean_hate_speech", "korean_hate_speech/train.tsv", 7896, {"none": 3486, "offensive": 2499, "hate": 1911}),
    ("korean_hate_speech_bias", "korean_hate_speech/train.tsv", 7896, {"none": 5148, "others": 1516, "gender": 1232}),
    ("klue_nli", "klue_benchmark/klue-nli-v1.1/klue-nli-v1.1_train.json.gz", 24998,
     {"entailment": 8561, "contradiction": 8489, "neutral": 7948}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "rows", "labels"), COUNTS)
def test_labels_of_the_real_files(
    name: str, file: str, rows: int, labels: dict[str, int], benchmark_data: Path
) -> None:
    examples = list(tasks.get(name).read(benchmark_data / file))
    assert len(examples) == rows
    assert Counter(example.label for example in examples if isinstance(example, TextExample)) == labels


@pytest.mark.parametrize(
    ("name", "file", "rows", "mean"),
    [
        ("stsb", "glue_data/STS-B/train.tsv", 5749, 2.701),
        ("korsts", "kornlu/KorSTS/sts-train.tsv", 5749, 2.701),
        ("korsts", "kornlu/KorSTS/sts-dev.tsv", 1500, 2.364),
        ("klue_sts", "klue_benchmark/klue-sts-v1.1/klue-sts-v1.1_dev.json", 519, None),
        ("jsts", "jglue/datasets/jsts-v1.3/train-v1.3.json", 12451, 2.283),
    ],
)
def test_scores_of_the_real_files(name: str, file: str, rows: int, mean: float | None, benchmark_data: Path) -> None:
    values = [
        float(e.label or "nan") for e in tasks.get(name).read(benchmark_data / file) if isinstance(e, TextExample)
    ]
    assert len(values) == rows
    assert 0.0 <= min(values) <= max(values) <= 5.0
    assert mean is None or sum(values) / rows == pytest.approx(mean, abs=5e-4)


@pytest.mark.parametrize(
    ("name", "file", "rows", "begins"),
    [
        ("klue_ner", "klue_benchmark/klue-ner-v1.1/klue-ner-v1.1_dev.tsv", 5000,
         {"PS": 4418, "QT": 3151, "DT": 2312, "OG": 2182, "LC": 1649, "TI": 545}),
        ("naver_ner", "naver_ner/test.tsv", 9000,
         {"CVL": 5763, "NUM": 5620, "PER": 4430, "ORG": 4097, "DAT": 2528, "LOC": 2127, "TRM": 1995, "EVT": 1091,
          "ANM": 701, "AFW": 388, "TIM": 313, "FLD": 228, "PLT": 34, "MAT": 12}),
        ("wnut17", "wnut17/wnut17train.conll", 3394,
         {"person": 660, "location": 548, "group": 264, "corporation": 221, "product": 142, "creative-work": 140}),
        ("wnut17", "wnut17/emerging.test.annotated", 1287,
         {"person": 429, "group": 165, "location": 150, "creative-work": 142, "product": 127, "corporation": 66}),
    ],
)  # fmt: skip
def test_tags_of_the_real_files(name: str, file: str, rows: int, begins: dict[str, int], benchmark_data: Path) -> None:
    examples = [example for example in tasks.get(name).read(benchmark_data / file) if isinstance(example, TokenExample)]
    assert len(examples) == rows
    assert Counter(tag[2:] for example in examples for tag in example.tags or () if tag.startswith("B-")) == begins


@pytest.mark.parametrize(
    ("name", "file", "rows", "impossible"),
    [
        ("korquad", "korquad/KorQuAD_v1.0_dev_first_half.json", 2865, 0),
        ("squad", "squad/dev-v1.1_answerable_subset.json", 2910, 0),
        ("jsquad", "jglue/datasets/jsquad-v1.3/valid-v1.3.json", 4442, 0),
        ("klue_mrc", "format_fixtures/klue/klue-mrc-v1_dev.json", 1, 0),
        ("squad_v2", "squad/dev-v2.0_cs224n_half.json", 6078, 3168),
    ],
)
def test_questions_of_the_real_files(name: str, file: str, rows: int, impossible: int, benchmark_data: Path) -> None:
    examples = [example for example in tasks.get(name).read(benchmark_data / file) if isinstance(example, SpanExample)]
    assert len(examples) == rows
    assert sum(example.is_impossible for example in examples) == impossible


def test_relations_choices_trees_and_dialogues_of_the_real_files(benchmark_data: Path) -> None:
    folder = benchmark_data / "klue_benchmark"
    relations = list(tasks.get("klue_re").read(folder / "klue-re-v1.1/klue-re-v1.1_train_sample_3247.json"))
    assert len(relations) == 3247
    assert Counter(e.label for e in relations if isinstance(e, TextExample)).most_common(2) == [
        ("no_relation", 953), ("org:top_members/employees", 428),
    ]  # fmt: skip
    assert "(<obj>영산대학교</obj>, 총장 <subj>부구욱</subj>)" in next(iter(relations[0].texts()))
    listed = json.loads((folder / "klue-re-v1.1/relation_list.json").read_text(encoding="utf-8"))
    assert list(tasks.get("klue_re").labels) == listed["relations"]

    file = benchmark_data / "jglue/datasets/jcommonsenseqa-v1.3/valid-v1.3.json"
    choices = list(tasks.get("jcommonsenseqa").read(file))
    assert Counter(e.label for e in choices if isinstance(e, ChoiceExample)) == {
        "2": 240, "1": 237, "3": 228, "0": 216, "4": 198,
    }  # fmt: skip

    trees = [
        e
        for e in tasks.get("klue_dp").read(folder / "klue-dp-v1.1/klue-dp-v1.1_dev.tsv")
        if isinstance(e, ParseExample)
    ]
    assert len(trees) == 2000
    names = Counter(name for e in trees for name in e.relations or ())
    assert (names["NP"], names["NP_AJT"], names["VP"], len(names)) == (4559, 3415, 3322, 32)
    assert all((e.heads or ()).count(0) == 1 for e in trees)

    turns = list(tasks.get("wos").read(folder / "wos-v1.1/wos-v1.1_dev_sample_10.json"))
    assert len(turns) == 76 + 5 - 5
    ontology = json.loads((folder / "wos-v1.1/ontology.json").read_text(encoding="utf-8"))
    assert list(tasks.get("wos").labels) == list(ontology)
    last = turns[4]
    assert isinstance(last, DialogueExample)
    assert last.state is not None
    assert last.state["식당-예약 시간"] == "23:20"
    assert len(last.turns) == 9


def test_glue_test_files_have_no_labels(benchmark_data: Path) -> None:
    assert {
        e.label for e in tasks.get("rte").read(benchmark_data / "glue_data/RTE/test.tsv") if isinstance(e, TextExample)
    } == {None}


def a_task(name: str, **changes: object) -> Task:
    row: dict[str, object] = {
        "name": name,
        "language": "en",
        "head": "classify",
        "labels": ("0", "1"),
        "reader": Delimited(columns={"text_a": "a", "label": "label"}),
        "metrics": ("accuracy",),
    }
    return Task.model_validate(row | changes)


def test_unknown_labels_empty_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("a\tlabel\nfine\t0\nbad\tone\n")
    with pytest.raises(DataError, match=r"x\.tsv:3: label 'one' of example '3' is not a label of .*'t'; valid: 0, 1"):
        list(a_task("t").read(path))
    path.write_text("a\tlabel\nfine\t-1\n")
    with pytest.raises(DataError, match=r"x\.tsv:2: example '2' has a hidden label"):
        list(a_task("t").read(path))
    path.write_text("a\tlabel\n")
    with pytest.raises(DataError, match="contains no examples"):
        list(a_task("t").read(path))
    with pytest.raises(DataError, match="no such file; set --data_dir, or download t from https://x"):
        list(a_task("t", source="https://x").read(tmp_path / "no.tsv"))


def test_a_second_owner_of_a_name_is_refused() -> None:
    tasks.discover()  # so that the shipped tables come first
    with pytest.raises(RegistryError, match="task 'rte' is registered twice"):
        register_task(a_task("rte"))


def test_identity_changes_with_what_is_measured_only() -> None:
    same = a_task("t", source="elsewhere", files={"train": "x"})
    assert a_task("t").identity() == same.identity()
    assert a_task("t").identity() != a_task("t", version=2).identity()
    assert a_task("t").identity() != a_task("t", metrics=("macro_f1",)).identity()


RELATION = {
    "guid": "r", "sentence": "나는 너", "label": "no_relation",
    "subject_entity": {"word": "나", "start_idx": 0, "end_idx": 0},
    "object_entity": {"word": "너", "start_idx": 3, "end_idx": 3},
}  # fmt: skip
DIALOGUE = {"guid": "w", "dialogue": [{"role": "user", "text": "a", "state": ["관광-이름-탑"]}]}
TREE = "## t\t나는 간다\n1\t나는\t\tNP\t2\tNP_SBJ\n2\t간다\t\tVV\t0\tVP\n"


def entity(**changes: object) -> str:
    return json.dumps([{**RELATION, "object_entity": {"word": "너", "start_idx": 3, "end_idx": 3, **changes}}])


def turns(*rows: object) -> str:
    return json.dumps([{"guid": "w", "dialogue": list(rows)}])


MALFORMED: list[tuple[str, str | bytes, str]] = [
    ("klue_re", json.dumps([RELATION], ensure_ascii=False).encode("cp949"), "not in UTF-8.*iconv -f CP949"),
    ("klue_re", json.dumps([RELATION]).replace('"r"', '"\\ud800"'), r"bad\.txt:1: contains a lone surrogate"),
    ("klue_re", entity(start_idx=9, end_idx=9), "the sentence has no '너' at character 9"),
    ("klue_re", entity(word="나", start_idx=0, end_idx=0), "subject and object are the same characters"),
    ("klue_re", entity(start_idx=3, end_idx=1), "not a row in KLUE RE format"),
    ("klue_re", json.dumps([{**RELATION, "sentence": None}]), "sentence is null, not a string"),
    ("klue_re", json.dumps([{**RELATION, "label": "per:boss"}]), "label 'per:boss' of example 'r' is not a label"),
    ("klue_re", "[" * 100_000, "nested too deeply: RecursionError|not valid JSON"),
    ("klue_dp", TREE.replace("\t2\t", "\t3\t"), "word 1 has the head 3, expected 0 to 2"),
    ("klue_dp", TREE.replace("\t2\t", f"\t{'9' * 5000}\t"), "word 1 has the head 9+, expected 0 to 2"),
    ("klue_dp", TREE.replace("\tNP_SBJ", ""), "expected 6 columns, got 5"),
    ("klue_dp", TREE.replace("2\t간다", "3\t간다"), "expected word 2, got word 3"),
    ("wos", turns({"role": "sys", "text": "a"}), "expected a turn of 'user', got one of 'sys'"),
    ("wos", turns({"role": "user", "text": None, "state": []}), "text is null, not a string"),
    ("wos", turns({"role": "user", "text": "a", "state": [5]}), "not a dialogue in WoS format"),
    ("wos", turns({"role": "user", "text": "a", "state": ["a-b"]}), "not a dialogue in WoS format"),
    ("wos", turns({"role": "user", "text": "a", "state": ["달-이름-탑"]}),
     "label '달-이름' of example 'w-0' is not a label"),
    ("jcommonsenseqa", '{"q_id": 1, "question": "q", "choice0": "a"}', "no key 'choice1' in the row"),
    ("jcommonsenseqa", '{"q_id": 1, "question": null}', "'question' is null, not a string"),
    ("jcola", '{"uid": 1, "sentence": ["a"], "label": 0}', "'sentence' is list, not a string or a number"),
    ("jcola", '{"uid": 1, "sentence": "a", "label": 7}', "label '7' of example '1' is not a label"),
    ("jsquad", '{"data": [{"paragraphs": [{"context": "abc", "qas": [{"id": "1", "question": "q", "answers": '
               '[{"text": "c", "answer_start": -1}]}]}]}]}', "the context has no 'c' at character -1"),
    ("jsquad", '{"data": [{"paragraphs": [{"context": "abc", "qas": [{"id": "1", "question": "q", "answers": '
               '[{"text": "c", "answer_start": "x"}]}]}]}]}', "is not in SQuAD format"),
    ("naver_ner", "a b\tO\n", "expected 2 tags, one per word, got 1"),
    ("cola", "x\n", "no column at position 3 for 'text_a': the first row has 1"),
    ("question_pair", "question1,question2,is_duplicate\n\"a,b,0\n", ":2: a quote .* is not closed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "end", "text"),
    [("나는", 1, "<subj>나</subj><obj>나는</obj> 너"), ("나는 너", 3, "<subj>나</subj><obj>나는 너</obj>")],
)
def test_entities_that_overlap_are_marked_as_in_klue_baseline(word: str, end: int, text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(entity(word=word, start_idx=0, end_idx=end))
    (example,) = tasks.get("klue_re").read(path)
    assert list(example.texts()) == [text]


@pytest.mark.parametrize(("name", "content", "message"), MALFORMED)
def test_malformed_files_are_one_line_with_file_and_reason(
    name: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as caught:
        list(tasks.get(name).read(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_well_formed_ones_are_read(tmp_path: Path) -> None:
    path = tmp_path / "good.txt"
    for name, content in (("klue_re", json.dumps([RELATION])), ("klue_dp", TREE), ("wos", json.dumps(DIALOGUE))):
        path.write_text(content, encoding="utf-8")
        assert len(list(tasks.get(name).read(path))) == 1
    path.write_text("a\u2028b c\tO O\n\n", encoding="utf-8")  # no line break, and a blank line at the end
    (example,) = tasks.get("naver_ner").read(path)
    assert list(example.texts()) == ["a\u2028b c"]


def test_a_cut_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json.gz"
    path.write_bytes(gzip.compress(json.dumps([RELATION] * 500).encode())[:-20])
    with pytest.raises(DataError, match=r"damaged: EOFError: .*; download it again"):
        list(tasks.get("klue_re").read(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "x.jsonl",
            b'{"t": "a", "l": "x"}\n{"t": "\\ud83d"}\n',
            r":2: contains a lone surrogate, .*; remove it",
        ),
        (
            "x.jsonl.gz",
            gzip.compress(b'{"t": "a"}\n' * 50, mtime=0)[:-12],
            ": damaged: EOFError: .*; download it again",
        ),
        ("x.jsonl", '{"t": "a", "l": "x"}'.encode("utf-16"), ": in UTF-16, not in UTF-8; .*iconv -f UTF-16"),
        ("x.jsonl", b"[" * 10**5, ": nested too deeply: .*; check its brackets"),
        ("x.jsonl", b'{"t": "a", "l": "x"}\n' + b'{"t": ' * 10**5, ":2: not valid JSON: maximum recursion"),
        ("x.jsonl", json.dumps({"t": "a", "l": "\u1100\u1161"}).encode(), r":1: label .* \(NFD\); convert .* any-nfc"),
    ],
)
def test_damage_is_told_from_another_encoding(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    task = a_task("damaged", reader=Jsonl(columns={"text_a": "t", "label": "l"}), labels=("x", "가"))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}{message}") as raised:
        list(task.read(tmp_path / name))
    assert "CP949" not in str(raised.value)
