"""Sources of a corpus: every format gives the same documents, and damage is named with its place."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from claf2.corpus import sources
from claf2.corpus.blocks import list_blocks
from claf2.corpus.sources import TextSource, list_files, read_documents, read_sources, source_files
from claf2.errors import Claf2Error, DataError

TEXTS = ["첫 문서의 첫 줄.\n둘째 줄.", "A second document.", "三つ目の文書。"]


def write_jsonl(path: Path, texts: Sequence[str], key: str = "text") -> Path:
    path.write_text("".join(json.dumps({key: text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
    return path


def write_files(folder: Path) -> list[Path]:
    """Write the same documents in every format, plain and compressed."""
    folder.mkdir(exist_ok=True)
    (folder / "a.txt").write_text("\n\n".join(TEXTS) + "\n", encoding="utf-8")
    write_jsonl(folder / "a.jsonl", TEXTS)
    pq.write_table(pa.table({"text": TEXTS, "other": [1, 2, 3]}), folder / "a.parquet")
    for name in ("a.txt", "a.jsonl", "a.parquet"):
        content = (folder / name).read_bytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        with pa.output_stream(str(folder / f"{name}.zst"), compression="zstd") as stream:
            stream.write(content)
    return sorted(folder.iterdir())


def test_every_format_gives_the_same_documents(tmp_path: Path) -> None:
    files = write_files(tmp_path)
    assert len(files) == 9
    for file in files:
        documents = list(read_documents(file, source=4))
        assert [document.text for document in documents] == TEXTS, file
        assert {document.source for document in documents} == {4}
        expected = ["1", "4", "6"] if ".txt" in file.name else ["1", "2", "3"]
        assert [document.id for document in documents] == [f"{file.name}:{number}" for number in expected]


def test_progress_is_reported_up_to_the_size_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "REPORTED_EVERY", 1)
    for file in write_files(tmp_path):
        positions: list[int] = []
        list(read_documents(file, on_read=positions.append))
        assert positions == sorted(positions), file
        assert len(positions) == 4
        assert positions[-1] == file.stat().st_size


def test_sources_are_read_one_after_another(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "b2.jsonl", ["two"])
    write_jsonl(tmp_path / "b1.jsonl", ["one"])
    write_jsonl(tmp_path / "c[1].jsonl", ["three"], key="body")
    given = [TextSource(path="b*.jsonl"), TextSource(path="c[1].jsonl", text_field="body")]
    documents = list(read_sources(given, tmp_path))
    assert [(document.text, document.source) for document in documents] == [("one", 0), ("two", 0), ("three", 1)]


def test_a_block_that_is_too_long_is_divided_at_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LONGEST_DOCUMENT", 10)
    (tmp_path / "a.txt").write_text("1234\n5678\n90\n\r\nx\n")
    assert [document.text for document in read_documents(tmp_path / "a.txt")] == ["1234\n5678", "90", "x"]


def test_null_is_an_empty_document(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": null}\n')
    pq.write_table(pa.table({"text": pa.array([None, "x"], pa.string())}), tmp_path / "a.parquet")
    assert [document.text for document in read_documents(tmp_path / "a.jsonl")] == [""]
    assert [document.text for document in read_documents(tmp_path / "a.parquet")] == ["", "x"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "a.jsonl:2: not valid JSON"),
        ("a.jsonl", b'{"text": "x"}\n["y"]\n', "a.jsonl:2: expected a JSON object, got list"),
        ("a.jsonl", b'{"txt": "x"}\n', "a.jsonl:1: no key 'text' in the row; did you mean 'txt'?"),
        ("a.jsonl", b'{"text": 3}\n', "a.jsonl:1: 'text' is int, not a string"),
        ("a.jsonl", b'{"text": "\\ud83d"}\n', "a.jsonl:1: 'text' contains a lone surrogate"),
        ("a.txt", "\n".join(["가나다"] * 5000).encode() + "\n라".encode("cp949"), "a.txt:5001: not in UTF-8"),
        ("a.txt", "x\ny".encode("utf-16-le"), "a.txt:1: contains a NUL character"),
        ("a.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer"),
        ("a.txt.gz", b"<!DOCTYPE html><html>", "an HTML page, not the file"),
        ("a.parquet", b"<html>" + b" " * 100, "an HTML page, not the file"),
        ("a.txt.gz", gzip.compress(b"x" * 1000, mtime=0)[:-6], "damaged"),
        ("a.jsonl.zst", b"not zstandard at all", "damaged"),
        ("a.parquet", b"PAR1 and nothing else", "damaged"),
    ],
)
def test_damage_is_named_with_its_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(read_documents(tmp_path / name))
    assert message in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_a_truncated_zstandard_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.zst"
    with pa.output_stream(str(path), compression="zstd") as stream:
        stream.write(b"hello world\n" * 1000)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"damaged: Truncated"):
        list(read_documents(path))


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LONGEST_LINE", 100)
    (tmp_path / "a.txt").write_text("short\n" + "x" * 200)
    with pytest.raises(DataError, match=r"a.txt:2: the line is longer than 100 characters"):
        list(read_documents(tmp_path / "a.txt"))


def test_a_column_must_exist_and_hold_strings(tmp_path: Path) -> None:
    pq.write_table(pa.table({"texts": ["x"], "number": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"no column 'text'; did you mean 'texts'\?"):
        list(read_documents(tmp_path / "a.parquet"))
    with pytest.raises(DataError, match=r"the column 'number' is int64, not a string"):
        list(read_documents(tmp_path / "a.parquet", text_field="number"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing*.txt", "no such file, and no file matches it"),
        ("foldr", "did you mean 'folder'?"),
        ("folder", "is a folder; name its files"),
        ("table.csv.gz", "the format .csv cannot be read"),
    ],
)
def test_sources_that_cannot_be_found_or_read(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "table.csv.gz").write_bytes(b"")
    with pytest.raises(Claf2Error) as caught:
        source_files(TextSource(path=path), tmp_path)
    assert message in str(caught.value)


def test_a_weight_is_not_negative() -> None:
    with pytest.raises(ValidationError):
        TextSource(path="x", weight=-1)


def test_a_file_is_named_once(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", TEXTS)
    write_jsonl(tmp_path / "b.jsonl", TEXTS)
    everything, one = TextSource(path=str(tmp_path / "*.jsonl")), TextSource(path=str(tmp_path / "b.jsonl"))
    assert list_files([everything]) == [[tmp_path / "a.jsonl", tmp_path / "b.jsonl"]]
    for sources_ in ([everything, one], [one, one]):
        with pytest.raises(DataError, match=r"b\.jsonl: belongs to two sources"):
            list_blocks(sources_, 4096)
    (tmp_path / "c.jsonl").symlink_to(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match=r"c\.jsonl: is the same file as .*a\.jsonl; name it once"):
        list_blocks([everything], 4096)


def test_a_pattern_in_a_folder_with_brackets(tmp_path: Path) -> None:
    folder = tmp_path / "d[1]*"
    folder.mkdir()
    write_jsonl(folder / "a.jsonl", TEXTS)
    assert source_files(TextSource(path="*.jsonl"), folder) == [folder / "a.jsonl"]
    assert source_files(TextSource(path=str(tmp_path / "d*" / "*.jsonl")), folder) == [folder / "a.jsonl"]


def test_a_name_that_is_not_in_utf_8_is_refused(tmp_path: Path) -> None:
    try:
        write_jsonl(tmp_path / os.fsdecode(b"bad\xff.jsonl"), TEXTS)
    except OSError:
        pytest.skip("the file system only has names in UTF-8")
    with pytest.raises(DataError, match=r"bad\ufffd\.jsonl: the name is not in UTF-8; rename it"):
        source_files(TextSource(path=str(tmp_path / "*.jsonl")))


@pytest.mark.parametrize("weight", [1e-320, 9e-7, 1000.5, 1e12, float("inf"), float("nan"), -1])
def test_weights_have_bounds(weight: float) -> None:
    with pytest.raises(ValidationError, match="weight"):
        TextSource(path="a", weight=weight)
    assert [TextSource(path="a", weight=fine).weight for fine in (0, 1e-6, 1000)] == [0, 1e-6, 1000]
