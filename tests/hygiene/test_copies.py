"""Cleaned copies lose nothing that can be restored, and what cannot be cleaned is refused."""

from __future__ import annotations

import gzip
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from claf2.cli.main import main
from claf2.errors import Claf2Error
from claf2.hygiene.check import check_data
from claf2.hygiene.damage import find_damage, repair_text
from claf2.hygiene.fix import CHANGES, clean_copies
from claf2.hygiene.rows import DataRow, RowSplit, read_task_split, read_untyped_split
from claf2.task import tasks

GOOD, BAD = {"text": "good film", "label": "1"}, {"text": "bad film", "label": "0"}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return int(str(stopped.value.code or 0))


def test_rows_of_several_lines_are_refused(tmp_path: Path) -> None:
    conll = tmp_path / "train.conll"
    conll.write_text("the\tO\nking\tB-person\n\nthe\tO\nking\tB-person\n\n", encoding="utf-8")
    split = read_task_split("train", conll, tasks.get("wnut17"))
    assert len(split.rows) == 2
    with pytest.raises(Claf2Error, match=r"train\.conll: its rows are not one line each"):
        clean_copies([split], tmp_path / "clean")
    assert not (tmp_path / "clean").exists()


def test_rows_inside_one_document_are_refused(tmp_path: Path) -> None:
    document = tmp_path / "train.json"
    document.write_text(json.dumps({"rows": [GOOD, GOOD]}), encoding="utf-8")
    rows = [DataRow(str(number), number, (GOOD["text"],), "1", ("1",), ()) for number in (1, 2)]
    with pytest.raises(Claf2Error, match="not one line each"):
        clean_copies([RowSplit("train", document, rows, ("text",), "en")], tmp_path / "clean")


def test_files_of_one_split_share_its_name(tmp_path: Path) -> None:
    first = write_rows(tmp_path / "train_1.jsonl", [GOOD, GOOD])
    second = write_rows(tmp_path / "train_2.jsonl", [GOOD, BAD])
    splits = [read_untyped_split(first), read_untyped_split(second)]
    assert [(finding["check"], finding["rows"]) for finding in check_data(splits)["findings"]] == [
        ("duplicates", 1), ("duplicates", 1),
    ]  # fmt: skip
    clean_copies(splits, tmp_path / "clean")
    assert read_rows(tmp_path / "clean/train_1.jsonl") == [GOOD]
    assert read_rows(tmp_path / "clean/train_2.jsonl") == [BAD]


def test_a_file_is_given_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write_rows(tmp_path / "train.jsonl", [GOOD, BAD])
    assert run("data", "check", str(train), str(tmp_path / "." / train.name)) == 2
    assert "is given twice" in capsys.readouterr().err


def test_bytes_without_a_character_are_restored() -> None:
    garbled = "\u00ec\u009d\u20ac"  # 은: the byte 9D has no character in code page 1252, 80 is the sign of the euro
    assert (find_damage(garbled), repair_text(garbled)) == ({"wrong decoding": 1}, "은")
    assert repair_text("\u00e2\u20ac\u0153quoted\u00e2\u20ac\u009d") == "“quoted”"
    # What cannot be restored here is left as it is.
    assert repair_text("\u00ec\u009d.") == "\u00ec\u009d."
    assert repair_text("a\u009db") == "ab"
    assert (find_damage("\ue000"), repair_text("\ue000")) == ({"private-use characters": 1}, "\ue000")


def garble(text: str) -> str:
    """Decode UTF-8 as code page 1252; what that has no characters for becomes control characters."""
    return "".join(bytes([byte]).decode("cp1252" if byte not in b"\x81\x8d\x8f\x90\x9d" else "latin-1")
                   for byte in text.encode())  # fmt: skip


@pytest.mark.parametrize("text", [
    "déjà vu à Noël, où Là-bas",
    "Österreich und Ägypten sind schön, die Straße über 20 °C",
    "it’s a “quoted” word… and — well – another",
    "« Bonjour » 3 × 4 = 12 ® ½ ■ ▲ ○ →",
    "영화 참 재미있다 그 은 날씨",
    "映画はとても面白い。の",
    "В Москве и я с ним у дома",
    "κόσμος, α and β, 5 µm",
    "Łódź, zażółć gęślą jaźń",
    "cafe\u0301 u\u0308ber",
    "👍 great 😀",
])  # fmt: skip
def test_garbled_text_is_restored(text: str) -> None:
    repaired = unicodedata.normalize("NFC", text)
    assert (repair_text(garble(text)), repair_text(text.encode().decode("latin-1"))) == (repaired, repaired)
    assert find_damage(garble(text))["wrong decoding"]


@pytest.mark.parametrize("text", [
    "Das macht „Spaß“! Ein Gruß – bis bald, Gruß–Formel, »Spaß« und »SPASS«, der ‚Strauß‘, Maß®, (Gieß™), Café–„Bar“",
    "BEYONCÉ’S NEW ALBUM, CAFÉ…, « voilà\xa0», « café\xa0», à\xa0« Paris\xa0», “passé”…, passé…”, DÉJÀ—VU",
    "IRMÃ–FILHA, AMANHÃ…, “MAÇÔ, «MANHû, É’É, avó—avô, «é»",
    "la letra Ñ», ESPAÑ… ¿qué? «Así»…, “¡Olé!”, LUNEDÌ’, COSÌ…, hâlâ…",
    "10×², 120 Å², 10 Å–20 Å, Ø…, É\x85",
])  # fmt: skip
def test_correct_text_stays(text: str) -> None:
    assert (find_damage(text)["wrong decoding"], repair_text(text)) == (0, text)


def test_a_labelled_row_is_kept_of_equal_ones(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{**GOOD, "label": label} for label in (None, float("nan"), "1", "1", "")]
    train = write_rows(tmp_path / "train.jsonl", [*rows, {**BAD, "label": None}, {**BAD, "label": None}])
    assert clean_copies([read_untyped_split(train)], tmp_path / "clean") == {
        "removed: the same as a labelled row": 2, "removed: the same as an earlier row": 3,
    }  # fmt: skip
    assert read_rows(tmp_path / "clean/train.jsonl") == [GOOD, {**BAD, "label": None}]
    assert read_rows(tmp_path / "clean" / CHANGES)[0]["change"] == "removed: the same as a labelled row: row 3"


def test_held_out_rows_stay(tmp_path: Path) -> None:
    rows = [GOOD, GOOD, BAD, {**BAD, "label": "1"}]
    held_out = write_rows(tmp_path / "dev.jsonl", rows)
    assert clean_copies([read_untyped_split(held_out)], tmp_path / "clean") == {}
    assert (tmp_path / "clean/dev.jsonl").read_bytes() == held_out.read_bytes()


def test_positions_stay_right(tmp_path: Path) -> None:
    entity = {"word": "비틀즈", "start_idx": 3, "end_idx": 5}
    rows = [{"text": "a\u200b 비틀즈", "subject": entity}, {"text": "a\u200bb", "idx": 7}, {"text": "a \u200b b"}]
    train = write_rows(tmp_path / "train.jsonl", rows)
    table = tmp_path / "dev.tsv"
    table.write_text("text\tstart\nc\u200bd\t2\n", encoding="utf-8")
    counts = clean_copies([read_untyped_split(train), read_untyped_split(table)], tmp_path / "clean")
    assert read_rows(tmp_path / "clean/train.jsonl") == [rows[0], {"text": "ab", "idx": 7}, rows[2]]
    assert (tmp_path / "clean/dev.tsv").read_bytes() == table.read_bytes()
    assert counts == {
        "not repaired: it has positions of characters": 2, "repaired: text": 1,
        "not repaired: it would lose a word, which may have a tag": 1,
    }  # fmt: skip


def test_lists_are_seen_behind_gzip_and_byte_order_marks(tmp_path: Path) -> None:
    rows = [GOOD, GOOD, BAD]
    packed, marked = tmp_path / "train.json.gz", tmp_path / "train.json"
    packed.write_bytes(gzip.compress(json.dumps(rows).encode()))
    marked.write_text(json.dumps(rows), encoding="utf-8-sig")
    for number, path in enumerate((packed, marked)):
        clean_copies([read_untyped_split(path)], tmp_path / str(number))
        assert json.loads((tmp_path / str(number) / "train.json").read_text()) == [GOOD, BAD]
    squad = {"data": [{"title": "t", "paragraphs": [{"context": "a b", "qas": [
        {"id": "1", "question": "who?", "answers": [{"text": "a", "answer_start": 0}]}]}]}]}  # fmt: skip
    packed.write_bytes(gzip.compress(json.dumps(squad).encode()))
    assert read_untyped_split(packed).fields == ("question", "context")


def test_changes_are_counted_by_kind(tmp_path: Path) -> None:
    rows = [GOOD, GOOD, BAD, BAD, {"text": "go\u200bod film", "label": "1"}]
    train = write_rows(tmp_path / "train.jsonl", rows)
    # The last row repeats the first one only after its repair.
    assert clean_copies([read_untyped_split(train)], tmp_path / "clean") == {"removed: the same as an earlier row": 3}
    assert read_rows(tmp_path / "clean/train.jsonl") == [GOOD, BAD]
    assert read_rows(tmp_path / "clean" / CHANGES)[1]["change"] == "removed: the same as an earlier row: row 3"


def test_targets_are_looked_at_before_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = write_rows(tmp_path / "train.jsonl", [GOOD, BAD])
    monkeypatch.setattr("claf2.hygiene.check.check_data", lambda *_, **__: pytest.fail("checked"))
    assert run("data", "check", str(train), "--fix", str(tmp_path)) == 2
    before = train.read_bytes()
    for place in (train, train / "below"):
        assert run("data", "check", str(train), "--fix", str(place)) == 2
    assert train.read_bytes() == before


@pytest.mark.parametrize("spans", [
    {"label": [[1, 5, "PER"], [15, 20, "LOC"]]},
    {"entities": [{"begin": 1, "length": 4}]},
    {"entities": [{"position": 1, "len": 3}]},
    {"tags": {"PER": [["1", "5"]]}},
    {"links": [{"from": 1, "to": 5}]},
    {"charPos": 1},
    {"cell": '{"label": [[1, 5, "PER"]]}'},
    {"cell": "[(1, 5, 'PER')]"},
])  # fmt: skip
def test_spans_of_all_forms_stay_right(tmp_path: Path, spans: dict[str, Any]) -> None:
    row = {"text": "\u200bAnna lives in Cafe\u0301 town", **spans}
    train = write_rows(tmp_path / "train.jsonl", [row])
    counts = clean_copies([read_untyped_split(train)], tmp_path / "clean")
    assert counts == {"not repaired: it has positions of characters": 1}
    assert read_rows(tmp_path / "clean/train.jsonl") == [row]


@pytest.mark.parametrize("cell", ['[[1,5,"PER"]]', "[1, 5]", '{"begin": 1}'])
@pytest.mark.parametrize("name", ["train.csv", "train.tsv"])
def test_spans_in_cells_stay_right(tmp_path: Path, cell: str, name: str) -> None:
    if name == "train.csv":
        cell = '"' + cell.replace('"', '""') + '"'
    row = f"{cell}{',' if name == 'train.csv' else chr(9)}\u200bAnna"
    train = tmp_path / name
    train.write_text(f"gold{row[len(cell)]}text\n{row}\n", encoding="utf-8")
    clean_copies([read_untyped_split(train)], tmp_path / "clean")
    assert (tmp_path / "clean" / name).read_bytes() == train.read_bytes()


def test_other_numbers_are_no_positions(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "a\u200b [1, 2] (3, 4)", "score": [1.5, 2.5], "label": 3, "is_long": True, "tokens": 4, "posture": 1},
        {"text": "a\u200b", "scores": [1], "names": ["a", "1"], "flags": [True, False]},
    ]
    train = write_rows(tmp_path / "train.jsonl", rows)
    assert clean_copies([read_untyped_split(train)], tmp_path / "clean") == {"repaired: text": 2}


def test_ids_with_personal_data_are_masked(tmp_path: Path) -> None:
    rows = [{"id": f"{name}@example.org", **GOOD} for name in ("a.person", "b.person")]
    train = write_rows(tmp_path / "train.jsonl", rows)
    clean_copies([read_untyped_split(train)], tmp_path / "clean")
    (change,) = read_rows(tmp_path / "clean" / CHANGES)
    assert (change["id"], change["change"]) == ("<email>", "removed: the same as an earlier row: row <email>")
