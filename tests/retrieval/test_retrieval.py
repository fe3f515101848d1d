"""Indexes of passages: terms, BM25, vectors, both together, and their scores."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from claf2.cli.main import main
from claf2.errors import Claf2Error, RunError
from claf2.metrics import Prediction
from claf2.metrics.retrieval import RetrievalScore
from claf2.retrieval.bm25 import K1, LENGTH_WEIGHT, best_places
from claf2.retrieval.evaluation import evaluate_search, read_questions
from claf2.retrieval.index import IndexSettings, PassageIndex, build_index
from claf2.retrieval.passages import Passage, find_files, read_passages
from claf2.retrieval.terms import choose_terms, find_splitter

TEXTS = [
    "대한민국의 수도는 서울이다. 서울에는 한강이 흐른다.",
    "부산은 바다가 있는 도시이다.",
    "The capital of France is Paris, and Paris lies on the Seine.",
    "京都は日本の都市である。",
    "북극에는 펭귄이 없다.",
]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return int(str(stopped.value.code or 0))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def reference_scores(texts: list[str], question: str) -> list[float]:
    """BM25 of words, term by term, as Lucene defines it."""
    bags = [Counter(text.lower().replace(".", "").replace(",", "").split()) for text in texts]
    lengths = [sum(bag.values()) for bag in bags]
    mean = sum(lengths) / len(lengths)
    scores = [0.0] * len(texts)
    for word in question.lower().split():
        holding = sum(word in bag for bag in bags)
        rarity = math.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
        for place, bag in enumerate(bags):
            weight = K1 * (1 - LENGTH_WEIGHT + LENGTH_WEIGHT * lengths[place] / mean)
            scores[place] += rarity * bag[word] / (bag[word] + weight)
    return scores


def test_bm25_is_the_formula(tmp_path: Path) -> None:
    texts = ["a dog and a cat and a dog", "a dog", "the cat sat on the mat", "birds"]
    index = build_index(tmp_path / "index", map(Passage, texts), IndexSettings("words"))
    for question in ("a dog", "cat dog dog", "the"):
        expected = reference_scores(texts, question)
        found = {hit.passage.text: hit.score for hit in index.search(question, k=4)}
        assert set(found) == {text for text, score in zip(texts, expected, strict=True) if score > 0}
        assert [found.get(text, 0.0) for text in texts] == pytest.approx(expected, rel=1e-6)
    assert index.search("xylophone") == []
    for k in (0, -1):
        with pytest.raises(RunError, match=f"k: {k} is not a number of passages; give 1 or more"):
            index.search("a dog", k)


def test_bm25_equals_bm25s(tmp_path: Path) -> None:
    bm25s = pytest.importorskip("bm25s")
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{number}" for number in rng.zipf(1.5, size) % 50) for size in rng.integers(1, 40, 60)]
    texts = list(dict.fromkeys(texts))
    index = build_index(tmp_path / "index", map(Passage, texts), IndexSettings("words"))
    other = bm25s.BM25(method="lucene", k1=K1, b=LENGTH_WEIGHT)
    other.index([text.split() for text in texts], show_progress=False)
    for question in ("w1 w2 w49", "w3", "w7 w7 w1"):
        expected = other.get_scores(question.split())
        found = dict(index.find_places([question], len(texts))[0])
        assert [found.get(place, 0.0) for place in range(len(texts))] == pytest.approx(expected.tolist(), rel=1e-5)


def test_bigrams_do_not_cross_words_or_texts() -> None:
    terms, counts = find_splitter("bigrams")(["서울은 ab", "", "a. ＡＢ", "!"])

    def pair(text: str) -> int:
        return (ord(text[0]) << 21) | (ord(text[1]) if len(text) > 1 else 0)

    assert counts.tolist() == [3, 0, 2, 0]
    assert terms.tolist() == [pair("서울"), pair("울은"), pair("ab"), pair("a"), pair("ab")]


def test_the_terms_follow_from_the_language() -> None:
    assert [choose_terms([text]) for text in TEXTS] == ["bigrams", "bigrams", "words", "bigrams", "bigrams"]
    with pytest.raises(Claf2Error, match="did you mean 'bigrams'"):
        find_splitter("bigram")


def test_morphemes_are_terms() -> None:
    pytest.importorskip("kiwipiepy")
    split = find_splitter("korean")
    (first, _), (second, _) = split(["서울은 수도이다"]), split(["서울에서"])
    assert set(first.tolist()) & set(second.tolist())


def test_adding_equals_making_at_once(tmp_path: Path) -> None:
    passages = [Passage(text) for text in TEXTS]
    whole = build_index(tmp_path / "whole", passages, IndexSettings())
    parts = build_index(tmp_path / "parts", passages[:2], IndexSettings())
    assert parts.search("Paris") == []
    parts = build_index(tmp_path / "parts", [*passages[1:], passages[2]], IndexSettings(), add=True)
    assert files_of(parts.folder) == files_of(whole.folder)
    assert list(parts) == passages
    assert parts.search("수도가 어디")[0].passage == passages[0]
    parts.check()
    with (parts.folder / "passages.jsonl").open("a") as file:
        file.write(" ")
    with pytest.raises(Claf2Error, match=r"passages\.jsonl: changed"):
        parts.check()


def test_titles_are_a_setting_of_the_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, (first, second) = str(tmp_path / "index"), (tmp_path / "first.json", tmp_path / "second.json")
    for path, text in ((first, TEXTS[0]), (second, TEXTS[1])):
        paragraphs = [{"context": text, "qas": []}]
        path.write_text(json.dumps({"data": [{"title": path.stem, "paragraphs": paragraphs}]}), encoding="utf-8")
    assert run("index", str(first), "--titles", "-o", out) == 0
    assert run("index", str(second), "--titles", "--add", "-o", out) == 2
    assert "--titles: cannot be used with --add" in capsys.readouterr().err
    assert run("index", str(second), "--add", "-o", out) == 0
    assert run("index", str(first), str(second), "--titles", "-o", str(tmp_path / "whole")) == 0
    assert files_of(tmp_path / "index") == files_of(tmp_path / "whole")
    # Older indexes do not know the setting.
    manifest = json.loads((tmp_path / "index/index.json").read_text())
    del manifest["settings"]["titles"]
    (tmp_path / "index/index.json").write_text(json.dumps(manifest))
    assert not PassageIndex(out).settings.titles


def test_texts_of_another_language_are_added_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = build_index(tmp_path / "index", [Passage(TEXTS[2])], IndexSettings())
    index = build_index(index.folder, [Passage("The king lives in the north.")], IndexSettings(), add=True)
    assert not caplog.messages
    build_index(index.folder, [Passage(TEXTS[0])], IndexSettings(), add=True)
    assert "its terms are words, and the added texts call for bigrams" in caplog.text


def test_an_index_survives_a_kill_while_it_is_replaced(tmp_path: Path) -> None:
    passages = [Passage(text) for text in TEXTS]
    index = build_index(tmp_path / "index", passages[:2], IndexSettings())
    index.folder.rename(tmp_path / ".index.old")
    (tmp_path / ".others.old").mkdir()
    (tmp_path / ".others.new").touch()
    assert len(build_index(tmp_path / "index", passages, IndexSettings(), add=True)) == 5
    # Nothing else in the folder is touched.
    names = {path.name for path in tmp_path.iterdir()}
    assert names - {".index.lock"} == {"index", ".others.old", ".others.new"}


def test_equal_scores_keep_their_order() -> None:
    assert best_places(np.array([1.0, 2.0, 1.0, 2.0, 1.0]), 4).tolist() == [1, 3, 0, 2]
    assert best_places(np.array([1.0]), 5).tolist() == [0]


def test_vectors_and_both_together(tmp_path: Path, model_folder: Callable[..., Path]) -> None:
    encoder = tmp_path / "encoder"
    shutil.copytree(model_folder(), encoder)
    passages = [Passage(text) for text in TEXTS]
    settings = IndexSettings(encoder=str(encoder), query_prefix="q: ", passage_prefix="p: ")
    index = build_index(tmp_path / "index", passages[:3], settings)
    index = build_index(index.folder, passages, IndexSettings(), add=True)
    assert index.settings.query_prefix == "q: "
    assert index.vectors.shape == (5, 32)
    # The same texts in other batches: equal but for the last digits.
    alone = np.concatenate([index.encoder.encode([f"p: {passage.text}"]) for passage in passages])
    assert np.abs(alone - index.vectors).max() < 1e-5
    assert np.linalg.norm(index.vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    vector = index.encoder.encode(["q: 수도는 서울"])[0]
    dense = index.find_places(["수도는 서울"], 5, "dense")[0]
    assert dict(dense) == pytest.approx(dict(enumerate((index.vectors @ vector).tolist())), abs=1e-6)
    # Both together: from 0.8 of the share of the vectors to 1.
    terms = dict(index.find_places(["수도는 서울"], 5, "bm25")[0])
    best_term, best_cosine = max(terms.values()), max(score for _, score in dense)
    expected = {
        place: 0.2 * terms.get(place, 0.0) / best_term + 0.8 * (cosine + 1) / (best_cosine + 1)
        for place, cosine in dense
    }
    assert dict(index.find_places(["수도는 서울"], 5)[0]) == pytest.approx(expected, abs=1e-6)

    (encoder / "config.json").write_text((encoder / "config.json").read_text() + " ")
    with pytest.raises(Claf2Error, match="has changed since"):
        PassageIndex(index.folder).search("서울", method="dense")
    plain = build_index(tmp_path / "plain", passages, IndexSettings())
    with pytest.raises(Claf2Error, match="has no vectors"):
        plain.search("서울", method="hybrid")


def squad_file(folder: Path) -> Path:
    questions = ["수도는 어디인가", "바다가 있는 곳", "What is the capital of France?", "일본의 都市"]
    paragraphs = [
        {"context": text, "qas": [{"id": str(number), "question": question, "answers": [
            {"text": text[:2], "answer_start": 0}]}]}
        for number, (text, question) in enumerate(zip(TEXTS, questions, strict=False))
    ]  # fmt: skip
    path = folder / "questions.json"
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}), encoding="utf-8")
    return path


def test_files_of_all_formats(tmp_path: Path) -> None:
    squad = squad_file(tmp_path)
    (tmp_path / "a.txt").write_text("first\nline\n\nsecond\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"body": "third"}\n{"body": " "}\n', encoding="utf-8")
    assert [passage.text for passage in read_passages(tmp_path / "a.txt")] == ["first\nline", "second"]
    assert [passage.text for passage in read_passages(tmp_path / "b.jsonl", text_field="body")] == ["third"]
    assert next(read_passages(squad, with_titles=True)).searched == f"t\n{TEXTS[0]}"
    assert find_files([str(squad), str(tmp_path / "*.txt")]) == [squad, tmp_path / "a.txt"]
    squad.write_text('{"data": [{"paragraphs": [{}]}]}')
    with pytest.raises(Claf2Error, match="article 0 is not in SQuAD format"):
        list(read_passages(squad))


def test_the_scores_are_the_definitions() -> None:
    predictions = [
        Prediction("1", ["a"], ["a", "b"]),
        Prediction("2", ["a"], ["b", "c", "a"]),
        Prediction("3", ["a", "b"], ["c", *"defgh", "b"]),
        Prediction("4", ["a"], []),
    ]
    scores = RetrievalScore().compute(predictions, [])
    assert scores["recall_at_1"] == 25.0
    assert scores["recall_at_5"] == 50.0
    assert scores["recall_at_10"] == 62.5
    assert scores["mrr_at_10"] == pytest.approx(100 * (1 + 1 / 3 + 1 / 7) / 4)
    best = 1 + 1 / math.log2(3)
    assert scores["ndcg_at_10"] == pytest.approx(100 * (1 + 1 / 2 + (1 / 3) / best) / 4)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    squad, out = squad_file(tmp_path), str(tmp_path / "index")
    assert run("index", str(squad), "-o", out) == 0
    assert "4 passages, terms: bigrams" in capsys.readouterr().out
    assert run("index", str(squad), "-o", out) == 2
    assert "add to it with --add" in capsys.readouterr().err
    (tmp_path / "more.txt").write_text(TEXTS[4], encoding="utf-8")
    assert run("index", str(tmp_path / "more.txt"), "--add", "--terms", "words", "-o", out) == 2
    assert "keeps the settings" in capsys.readouterr().err
    assert run("index", str(tmp_path / "more.txt"), "--add", "-o", out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["passages"] == 5
    assert run("search", out, "펭귄", "--json") == 0
    (hit,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (hit["rank"], hit["text"]) == (1, TEXTS[4])
    assert run("search", out, "zzz") == 0
    assert capsys.readouterr().out == "nothing found\n"
    assert run("search", out, "zzz", "--json") == 0
    assert capsys.readouterr().out == ""
    assert run("search", out, "--evaluate", str(squad), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["questions"], report["scores"]["recall_at_1"]["value"]) == (4, 100.0)
    assert report["scores"]["recall_at_1"]["low"] < 100.0
    assert run("search", out) == 2


def test_questions_about_other_paragraphs_are_counted(tmp_path: Path) -> None:
    index = build_index(tmp_path / "index", map(Passage, TEXTS[:3]), IndexSettings())
    report = evaluate_search(index, read_questions(squad_file(tmp_path)))
    assert (report.not_indexed, len(report.predictions)) == (1, 3)
    small = build_index(tmp_path / "small", map(Passage, TEXTS[:1]), IndexSettings())
    with pytest.raises(Claf2Error, match="1 of 4 questions"):
        evaluate_search(small, read_questions(squad_file(tmp_path)))


def test_korquad_is_found_by_bigrams(benchmark_data: Path, tmp_path: Path) -> None:
    path = benchmark_data / "korquad/KorQuAD_v1.0_dev_first_half.json"
    index = build_index(tmp_path / "index", read_passages(path), IndexSettings())
    report = evaluate_search(index, read_questions(path))
    assert report.scores["recall_at_5"].value >= 99.0
    assert report.scores["recall_at_1"].value >= 90.0
