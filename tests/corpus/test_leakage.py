"""Rows of benchmarks in a corpus: the index against a plain search, the command, and what a run says of it."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import claf2
from claf2.cli.main import main
from claf2.corpus.leakage import Benchmark, find_leakage, find_reports, report_leakage
from claf2.corpus.ngrams import NgramIndex, split_characters, split_words
from claf2.corpus.sources import TextSource
from claf2.errors import RunError
from claf2.readers import TextExample
from claf2.task import tasks

LINE = "하나 둘 셋 넷 다섯 여섯 일곱 여덟 아홉 열 열하나 열둘 열셋 열넷 열다섯"
"""15 words."""


def find(texts: list[str], documents: list[str], tmp_path: Path, task: str = "nsmc", **options: Any) -> dict[str, Any]:
    """Look for rows of one text each in documents, and return the report."""
    benchmark = Benchmark()
    rows = [TextExample(id=str(number), text_a=text) for number, text in enumerate(texts)]
    file = tmp_path / "rows"
    file.touch()
    benchmark.add(tasks.get(task), "valid", file, rows)
    for index in benchmark.indexes.values():
        index.freeze()
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents), encoding="utf-8")
    counts = find_leakage(benchmark, [TextSource(path=str(path))], **options)
    return report_leakage(benchmark, counts, [path])


def leaked(*given: Any, **options: Any) -> int:
    report = find(*given, **options)
    return int(report["splits"][0]["leaked"])


@pytest.mark.parametrize(
    ("document", "count"),
    [
        pytest.param(LINE, 1, id="the text"),
        pytest.param(f"앞 {LINE.upper().replace(' ', ', ')}! 뒤", 1, id="inside, other punctuation"),
        pytest.param(unicodedata.normalize("NFD", LINE), 1, id="jamo"),
        pytest.param(" ".join(LINE.split()[1:14]), 1, id="13 words"),
        pytest.param("\n".join(LINE.split()[2:]), 1, id="13 words on lines"),
        pytest.param(" ".join(LINE.split()[:12]), 0, id="12 words"),
        pytest.param(" ".join([*LINE.split()[:12], "다른", *LINE.split()[12:]]), 0, id="a word in between"),
        pytest.param(LINE.replace(" ", ""), 0, id="no spaces"),
        pytest.param("", 0, id="nothing"),
    ],
)
def test_thirteen_words_leak(document: str, count: int, tmp_path: Path) -> None:
    assert leaked([LINE], ["다른 글", document, "다른 글"], tmp_path) == count


def test_a_short_text_leaks_as_a_whole_and_a_shorter_one_is_not_looked_up(tmp_path: Path) -> None:
    report = find(["a b c d e f", "a b c d e", "a b c d"], ["x a b c d e y", "a b c d"], tmp_path)
    (split,) = report["splits"]
    assert (split["rows"], split["too_short"], split["leaked"]) == (3, 1, 1)
    assert split["examples"] == [{"row": "1", "document": "corpus.jsonl:1"}]


def test_no_ngram_crosses_two_documents(tmp_path: Path) -> None:
    parts = LINE.split()
    assert leaked([LINE], [" ".join(parts[:8]), " ".join(parts[8:])], tmp_path) == 0


def test_japanese_is_compared_by_characters(tmp_path: Path) -> None:
    text = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"
    letters = re.sub("。", "", text)
    assert leaked([text], [f"前{letters[:26]}後"], tmp_path, "jcola") == 1
    assert leaked([text], [f"前{letters[:25]}後"], tmp_path, "jcola") == 0
    assert leaked(["吾輩は猫である、名前は"], ["「吾輩は　猫である。名前は」"], tmp_path, "jcola") == 1
    assert leaked(["吾輩は猫である"], ["吾輩は猫である"], tmp_path, "jcola") == 0  # too short


def test_a_row_of_several_texts_says_whether_all_of_them_leak(tmp_path: Path) -> None:
    benchmark = Benchmark()
    other = " ".join(f"다른{number}" for number in range(20))
    rows = [TextExample(id="a", text_a=LINE, text_b=other), TextExample(id="b", text_a=LINE, text_b="짧다")]
    file = tmp_path / "rows"
    file.touch()
    benchmark.add(tasks.get("kornli"), "valid", file, rows)
    for index in benchmark.indexes.values():
        index.freeze()
    (tmp_path / "corpus.txt").write_text(LINE)
    counts = find_leakage(benchmark, [TextSource(path=str(tmp_path / "corpus.txt"))])
    (split,) = report_leakage(benchmark, counts, [])["splits"]
    assert (split["leaked"], split["whole"]) == (2, 1)


def test_only_lines_that_leak_are_removed(tmp_path: Path) -> None:
    half = LINE.split()
    documents = [f"처음\n{LINE}\n끝", LINE, "그대로", f"앞\n{' '.join(half[:7])}\n{' '.join(half[7:])}\n뒤", ""]
    report = find([LINE], documents, tmp_path, remove_to=tmp_path / "clean")
    kept = [json.loads(line)["text"] for line in (tmp_path / "clean/corpus.jsonl").read_text().splitlines()]
    assert kept == ["처음\n끝", "그대로", "앞\n뒤", ""]
    assert report["corpus"] == {
        "documents": 5, "lines": 10, "leaked_documents": 3, "leaked_lines": 4, "emptied_documents": 1,
    }  # fmt: skip


def test_a_folder_with_one_of_the_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    (tmp_path / "clean/corpus.jsonl").touch()
    with pytest.raises(claf2.Claf2Error, match="exists already; give another folder with --remove"):
        find([LINE], [LINE], tmp_path, remove_to=tmp_path / "clean")


@pytest.mark.parametrize(("unit", "split"), [("words", split_words), ("characters", split_characters)])
@pytest.mark.parametrize("seed", range(3))
def test_the_index_agrees_with_a_plain_search(unit: str, split: Callable[[str], Any], seed: int) -> None:
    """Few different words, so that many n-grams are found, of all lengths and at all borders."""
    rng = np.random.default_rng(seed)
    separator = " " if unit == "words" else ""
    size, shortest = (13, 5) if unit == "words" else (26, 10)

    def text(least: int, most: int) -> list[str]:
        return [str(digit) for digit in rng.choice([0, 0, 0, 0, 0, 0, 0, 0, 1], rng.integers(least, most))]

    rows = [text(1, 40) for _ in range(60)]
    documents = [text(0, 60) for _ in range(30)]
    index = NgramIndex(unit)
    added = [index.add(number, separator.join(row)) for number, row in enumerate(rows)]
    assert added == [len(row) >= shortest for row in rows]
    index.freeze()

    def grams(row: list[str]) -> set[tuple[str, ...]]:
        length = min(size, len(row))
        return {tuple(row[start : start + length]) for start in range(len(row) - length + 1)}

    def occurs(gram: tuple[str, ...], document: list[str]) -> list[int]:
        return [start for start in range(len(document)) if tuple(document[start : start + len(gram)]) == gram]

    indexed = set().union(*(grams(row) for row in rows if len(row) >= shortest))
    covered: list[bool] = []
    for document in documents:
        marks = [False] * len(document)
        for gram in indexed:
            for start in occurs(gram, document):
                marks[start : start + len(gram)] = [True] * len(gram)
        covered += marks
    units = [split(separator.join(document)).units for document in documents]
    owners = np.repeat(np.arange(len(documents)), [len(part) for part in units])
    is_found, _ = index.find(np.concatenate(units), owners)
    assert is_found.tolist() == covered
    assert 0 < sum(covered) < len(covered)
    assert index.found() == {
        number
        for number, row in enumerate(rows)
        if len(row) >= shortest and any(occurs(gram, document) for gram in grams(row) for document in documents)
    }


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(["corpus", "leakage", *arguments])
    output = capsys.readouterr()
    return int(end.value.code or 0), output.out + output.err


@pytest.fixture
def nsmc(tmp_path: Path) -> Path:
    """A file of three rows."""
    path = tmp_path / "nsmc.txt"
    path.write_text(f"id\tdocument\tlabel\n1\t{LINE}\t1\n2\t좋다\t1\n3\t{LINE[::-1]}\t0\n", encoding="utf-8")
    return path


def test_the_command_prints_and_writes_reports(nsmc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "text/corpus.txt"
    source.parent.mkdir()
    source.write_text(f"처음\n{LINE}\n\n둘째 글", encoding="utf-8")
    clean = tmp_path / "clean"
    code, output = run(capsys, str(source), "--task", f"nsmc={nsmc}", "--record", "--remove", str(clean))
    assert code == 0
    assert re.search(r"nsmc +valid +3 +1 +1 +50\.00% +1\n", output)
    assert "row 1 is in corpus.txt:1" in output
    assert "corpus: 1 of 2 documents and 1 of 3 lines leak" in output
    found = find_reports([source])
    assert found == {"files": 1, "checked": 1, "removed": False, "splits": {"nsmc/valid": {"leaked": 1, "rows": 3}}}
    found = find_reports([clean / "corpus.jsonl", source])
    assert found is not None
    assert (found["files"], found["checked"], found["splits"]["nsmc/valid"]["leaked"]) == (2, 2, 1)
    found = find_reports([clean / "corpus.jsonl"])
    assert found is not None
    assert found["removed"]
    assert found["splits"]["nsmc/valid"]["leaked"] == 0
    source.write_text("다른 글")  # the report is about another text
    assert find_reports([source]) is None
    code, output = run(capsys, str(clean / "corpus.jsonl"), "--task", f"nsmc={nsmc}", "--json")
    assert code == 0
    assert json.loads(output)["splits"][0]["leaked"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["CORPUS"], "--suite: is missing"),
        (["CORPUS", "--task", "nsmcc"], "did you mean 'nsmc'"),
        (["CORPUS", "--task", "nsmc=nothing.txt"], "nothing.txt: no such file"),
        (["CORPUS", "--suite", "klue", "--data_dir", "nowhere"], "nowhere: has no file of these tasks"),
        (["nothing.txt", "--suite", "klue"], "nothing.txt: no such file"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_mistakes_are_named(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("글")
    code, output = run(capsys, *(str(corpus) if word == "CORPUS" else word for word in words))
    assert code == 2
    assert message in output


@pytest.mark.slow
def test_a_pre_training_records_what_is_known_and_its_card_says_so(
    nsmc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from generated_text import make_documents

    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join([*make_documents(200), LINE]), encoding="utf-8")

    def train(name: str) -> tuple[Any, str]:
        folder = tmp_path / name
        claf2.train(
            claf2.load(
                "scratch/pretrain",
                argv=[
                    "--log_dir", str(folder), "--eval_and_save_step_count", "2", "--keep_step_count", "2",
                    "--phases", '[{"until": 2, "batch_size": 4, "max_seq_length": 32}]', "--valid_documents", "20",
                    "--sources", json.dumps([{"path": str(corpus)}]),
                ],
            )
        )  # fmt: skip
        return json.loads((folder / "run.json").read_text())["leakage"], (folder / "README.md").read_text()

    record, card = train("before")
    assert record == {"corpus_mlm": None}
    assert "It was not checked whether rows of benchmarks occur in the training text." in card
    assert run(capsys, str(corpus), "--task", f"nsmc={nsmc}", "--record")[0] == 0
    record, card = train("after")
    assert record["corpus_mlm"]["splits"] == {"nsmc/valid": {"leaked": 1, "rows": 3}}
    assert "of which 1 of 1 files were checked: nsmc/valid 1 of 3." in card
    for name in ("steps/step-000000002", "best"):
        folder = tmp_path / f"fine-tuned-{Path(name).name}"
        claf2.train(
            claf2.load(
                "scratch/nsmc", sample=True, num_steps=3, batch_size=2,
                pretrained_model_name=tmp_path / "after" / name, token={}, log_dir=folder,
            )
        )  # fmt: skip
        assert json.loads((folder / "run.json").read_text())["weights_leakage"] == record
        assert "that the weights were pre-trained on, of which 1 of 1 files" in (folder / "README.md").read_text()


@pytest.mark.skipif("CLAF2_BENCHMARK_DATA" not in os.environ, reason="CLAF2_BENCHMARK_DATA is not set")
@pytest.mark.slow
def test_real_paragraphs_leak_and_other_texts_do_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = Path(os.environ["CLAF2_BENCHMARK_DATA"])
    dev = data / "korquad/KorQuAD_v1.0_dev_first_half.json"
    documents = json.loads(dev.read_text())["data"]
    paragraphs = tmp_path / "paragraphs.txt"
    paragraphs.write_text("\n\n".join(item["context"] for text in documents for item in text["paragraphs"]))
    code, output = run(capsys, str(paragraphs), "--task", f"korquad={dev}", "--json")
    assert code == 0
    (split,) = json.loads(output)["splits"]
    assert split["leaked"] == split["rows"] > 2000
    assert split["whole"] < 0.2 * split["rows"]  # few questions repeat 13 words of their paragraph
    petitions = data / "corpus/petitions_ko.jsonl.gz"
    code, output = run(capsys, str(petitions), "--task", f"korquad={dev}", "--suite", "larva_klue",
                       "--data_dir", str(data), "--json")  # fmt: skip
    assert code == 0
    report = json.loads(output[: output.rindex("\n}") + 2])
    assert report["corpus"]["documents"] > 1000
    assert all(entry["leaked"] <= 0.001 * entry["rows"] for entry in report["splits"])


def test_files_of_equal_names_are_written_to_different_ones(tmp_path: Path) -> None:
    names = ["a/part.txt", "a/part-2.txt", "b/part.txt", "b/part-2.txt", "c/part.txt"]
    sources = []
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"the text of {name}\n")
        sources.append(TextSource(path=str(path)))
    written = find_leakage(Benchmark(), sources, remove_to=tmp_path / "clean").written
    assert [path.stem for path in written] == ["part", "part-2", "part-3", "part-2-2", "part-4"]
    assert [json.loads(path.read_text())["text"] for path in written] == [f"the text of {name}" for name in names]


def test_a_file_is_no_folder_for_the_corpus(tmp_path: Path) -> None:
    from claf2.corpus.leakage import _targets

    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file: is not a folder; give another one with --remove"):
        _targets([tmp_path / "text.txt"], tmp_path / "file")


def test_a_corpus_without_documents_is_not_called_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.txt").write_text("")
    rows = tmp_path / "rows.tsv"
    rows.write_text("id\tdocument\tlabel\n1\t가 나 다 라 마 바 사 아 자 차 카 타 파 하\t1\n")
    with pytest.raises(SystemExit) as end:
        main(["corpus", "leakage", str(tmp_path / "empty.txt"), "--task", f"nsmc={rows}", "--record"])
    assert end.value.code == 2
    assert "SOURCE: holds no documents" in capsys.readouterr().err
    assert not list(tmp_path.glob("*leakage.json"))
