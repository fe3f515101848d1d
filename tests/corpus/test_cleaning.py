"""Cleaning: what each rule does, and that every dropped line is counted by one rule."""

from __future__ import annotations

import random
import unicodedata
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claf2.corpus.cleaning import (
    DEFAULT_RULES,
    Cleaner,
    cleaning_rules,
    describe_rule,
    make_rule,
)
from claf2.corpus.sources import Document
from claf2.errors import Claf2Error

CHEAP_RULES = sorted(set(cleaning_rules.names()) - {"near_duplicates"})
NEEDED: dict[str, dict[str, Any]] = {"language": {"language": "ko"}}


def apply(name: str, text: str, **fields: Any) -> tuple[str, dict[str, int]]:
    """Apply a rule to one text, and return the result and what was replaced."""
    replacements: Counter[str] = Counter()
    return make_rule(name, fields).make_filter(replacements)(text), dict(replacements)


@pytest.mark.parametrize(
    ("name", "fields", "before", "after"),
    [
        ("unicode", {}, "\u1112\u1161\u11ab\u1100\u1173\u11af", "한글"),
        ("unicode", {}, "ｱ㈜①", "ｱ㈜①"),
        ("unicode", {"form": "NFKC"}, "ｱ㈜①", "ア(주)1"),
        ("control", {}, "가\ufeff나\u200b다\x00라\t마\r\nbar\u2028baz\ufffd", "가나다라 마 \nbar baz"),
        ("control", {}, "👩\u200d🚀 ❤\ufe0f", "👩\u200d🚀 ❤\ufe0f"),
        ("whitespace", {}, "  a   b \n\n \u3000 \nc\u00a0d\n", "a b\nc d"),
        ("whitespace", {}, "plain text\nof lines", "plain text\nof lines"),
        ("repeats", {}, "ㅋㅋㅋㅋㅋ 와아아아아!!!! 1000000 ---", "ㅋㅋㅋ 와아아아!!! 1000000 ---"),
        ("repeats", {"limit": 1}, "aabb\n\n11", "ab\n\n11"),
        ("cjk", {}, "서울特別市와 漢字", "서울 特 別 市 와 漢 字"),
        ("length", {"min_characters": 2, "max_characters": 4}, "a\nbb\ncccc\nddddd", "bb\ncccc"),
        ("length", {"min_document": 10}, "short", ""),
        (
            "language",
            {"language": "ko"},
            "한국어 문장\nEnglish only here\n12345\n섞인 mixed 문장",
            "한국어 문장\n섞인 mixed 문장",
        ),
        ("language", {"language": "ja"}, "日本語です\nEnglish", "日本語です"),
        ("language", {"language": "en", "min_share": 1}, "English!\nmostly 한", "English!"),
    ],
)
def test_what_rules_do(name: str, fields: dict[str, Any], before: str, after: str) -> None:
    assert apply(name, before, **fields)[0] == after


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("someone.else+tag@mail.example.co.kr", "<email>"),
        ("010-1234-5678", "<phone>"),
        ("01012345678", "<phone>"),
        ("02-123-4567", "<phone>"),
        ("(031) 123-4567", "<phone>"),
        ("+82 10-1234-5678", "<phone>"),
        ("090-1234-5678", "<phone>"),
        ("03-1234-5678", "<phone>"),
        ("900101-1234567", "<resident>"),
        ("9001011234568", "<resident>"),
        ("4111 1111 1111 1111", "<card>"),
        ("5500-0000-0000-0004", "<card>"),
        ("378282246310005", "<card>"),
        ("3782 822463 10005", "<card>"),
    ],
)
def test_personal_data_is_replaced_and_counted(text: str, kind: str) -> None:
    for before, after in (("", ""), ("연락처: ", "로 주세요."), ("(", ")")):
        cleaned, counts = apply("personal", f"{before}{text}{after}")
        assert cleaned == f"{before}{kind}{after}"
        assert sum(counts.values()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "2018-01-02 12:30:45",
        "1234-5678",
        "4111 1111 1111 1112",  # the check digit of Luhn is wrong
        "9001011234567",  # that of a resident number is wrong
        "991301-1234567",  # there is no thirteenth month
        "0000 0000 0000 0000",
        "원주율은 3.14159265358979323846이다",
        "12,345,678,901원",
        "user@localhost",
        "123456789012345678901234567890",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert apply("personal", text) == (text, {})


def test_several_kinds_in_one_text() -> None:
    text = "a@b.co 010-1234-5678 010-2222-3333, 4111111111111111\n900101-1234567"
    cleaned, counts = apply("personal", text)
    assert cleaned == "<email> <phone> <phone>, <card>\n<resident>"
    assert counts == {"e-mail addresses": 1, "telephone numbers": 2, "card numbers": 1, "resident numbers": 1}


@pytest.mark.parametrize(
    "form", ["010-{}-{} 010-{}-{}", "(02) 123-{} 010-{}-{}", "+82 10-{}-{} 02-123-{}", "010-{}-{} (02) 123-{}"]
)
def test_two_telephone_numbers_are_no_card(form: str) -> None:
    """A tenth of them has the check digit of a card."""
    rng = random.Random(0)
    for _ in range(200):
        text = form.format(*(f"{rng.randrange(10_000):04}" for _ in range(form.count("{}"))))
        assert apply("personal", text) == ("<phone> <phone>", {"telephone numbers": 2}), text


def test_duplicates_are_dropped_across_documents() -> None:
    rules = [make_rule("duplicate_documents", {}), make_rule("duplicate_lines", {"min_characters": 3})]
    cleaner = Cleaner(rules)
    texts = ["one\ntwo", "one\ntwo", "two\nhi\nthree", "hi"]
    assert [cleaner.clean(text) for text in texts] == ["one\ntwo", "", "hi\nthree", "hi"]
    documents, lines = cleaner.counts.rules
    assert (documents.documents_dropped, documents.lines_dropped) == (1, 2)
    assert (lines.documents_dropped, lines.lines_dropped, lines.documents_changed) == (0, 1, 1)


def test_the_memory_for_duplicates_is_bounded_but_frequent_ones_stay() -> None:
    drop = make_rule("duplicate_documents", {"memory": 10}).make_filter(Counter())
    assert drop("rare")
    assert drop("frequent")
    for number in range(100):
        assert drop(f"text {number}")
        if number % 5 == 0:
            assert not drop("frequent")
    assert drop("rare")  # long forgotten
    assert not drop("text 99")


def test_near_duplicates_are_dropped() -> None:
    pytest.importorskip("datasketch", reason="the package datasketch (extra corpus) is not installed")
    text = (
        "국회는 헌법개정안이 공고된 날로부터 60일 이내에 의결하여야 하며, 재적의원 3분의 2 이상의 찬성을 얻어야 한다. "
        * 4
    )
    other = (
        "모든 국민은 인간으로서의 존엄과 가치를 가지며, 국가는 개인의 기본적 인권을 확인하고 이를 보장할 의무를 진다. "
        * 4
    )
    drop = make_rule("near_duplicates", {}).make_filter(Counter())
    assert [bool(drop(one)) for one in (text, other, text + "끝.", "또한 " + other)] == [
        True, True, False, False,
    ]  # fmt: skip


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasketch", None)
    with pytest.raises(Claf2Error, match=r"pip install 'claf2\[corpus\]'"):
        make_rule("near_duplicates", {}).make_filter(Counter())


def test_every_document_and_line_is_kept_or_counted_by_one_rule() -> None:
    texts = [
        "a\n\n  b c  \none longer line of text\none longer line of text",
        "",
        "x",
        "one longer line of text",
        "\t\n\t",
        "another new line of text",
    ]
    cleaner = Cleaner([make_rule(name, {}) for name in DEFAULT_RULES])
    kept = list(cleaner.clean_documents(Document(text, 0, str(number)) for number, text in enumerate(texts)))
    counts = cleaner.counts
    assert [document.text for document in kept] == ["b c\none longer line of text", "another new line of text"]
    assert counts.documents_read == len(texts)
    assert counts.lines_read == sum(text.count("\n") + 1 for text in texts if text)
    assert counts.lines_kept == sum(document.text.count("\n") + 1 for document in kept)
    assert counts.lines_read == counts.lines_kept + sum(rule.lines_dropped for rule in counts.rules)
    assert {rule.name: rule.lines_dropped for rule in counts.rules if rule.lines_dropped} == {
        "whitespace": 3, "length": 2, "duplicate_lines": 2,
    }  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), max_size=8), st.permutations(CHEAP_RULES)
)
def test_counts_add_up_for_any_text(texts: list[str], names: list[str]) -> None:
    cleaner = Cleaner([make_rule(name, NEEDED.get(name, {})) for name in names])
    kept = [text for text in map(cleaner.clean, texts) if text]
    counts = cleaner.counts
    empty = sum(not text for text in texts)
    assert counts.documents_kept == len(kept)
    assert len(texts) == empty + len(kept) + sum(rule.documents_dropped for rule in counts.rules)
    assert counts.lines_read == counts.lines_kept + sum(rule.lines_dropped for rule in counts.rules)


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), st.sampled_from(CHEAP_RULES))
def test_rules_are_idempotent_and_never_lengthen_a_text_in_lines(text: str, name: str) -> None:
    rule = make_rule(name, NEEDED.get(name, {}))
    once = rule.make_filter(Counter())(text)
    assert once.count("\n") <= text.count("\n")
    # A rule with a memory drops what it has seen, so that each pass gets its own.
    if name != "duplicate_lines":
        assert rule.make_filter(Counter())(once) == once


def test_hangul_survives_all_rules_in_composed_form() -> None:
    text = unicodedata.normalize("NFD", "학생들이 학교에서 공부했다.")
    cleaner = Cleaner([make_rule(name, {}) for name in DEFAULT_RULES])
    assert cleaner.clean(text) == "학생들이 학교에서 공부했다."


@pytest.mark.parametrize("name", cleaning_rules.names())
def test_a_rule_can_be_made_again_from_its_description(name: str) -> None:
    rule = make_rule(name, NEEDED.get(name, {}))
    described = describe_rule(rule)
    assert make_rule(described.pop("name"), described) == rule


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("lengths", {}, "did you mean 'length'"),
        ("length", {"min_character": 3}, "length.min_character: no such field; did you mean"),
        ("length", {"min_characters": "many"}, "length.min_characters: Input should be a valid integer"),
        ("length", {"min_characters": 9, "max_characters": 8}, "min_characters 9 exceeds max_characters 8"),
        ("language", {}, "language.language: Field required"),
    ],
)
def test_wrong_rules_are_reported(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(Claf2Error) as caught:
        make_rule(name, fields)
    assert message in str(caught.value)
