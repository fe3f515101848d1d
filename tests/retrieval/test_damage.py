"""What is damaged, missing, or does not fit is named in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from claf2.cli.main import main
from claf2.errors import Claf2Error, DataError, ModelError
from claf2.metrics import Prediction
from claf2.metrics.retrieval import RetrievalScore
from claf2.retrieval import encoders
from claf2.retrieval import index as index_module
from claf2.retrieval.encoders import EncoderFolder
from claf2.retrieval.evaluation import evaluate_search, read_questions
from claf2.retrieval.index import IndexSettings, PassageIndex, build_index
from claf2.retrieval.passages import Passage, read_passages

TEXTS = ["the king lives in the north", "the queen lives in the south", "a dog and a cat", "a river"]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return int(str(stopped.value.code or 0))


@pytest.fixture
def index(tmp_path: Path) -> PassageIndex:
    return build_index(tmp_path / "index", map(Passage, TEXTS), IndexSettings("words"))


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change_manifest(**changes: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("offsets.npy", cut_in_half),
        ("scores.npy", cut_in_half),
        ("terms.npy", Path.unlink),
        ("passages.jsonl", cut_in_half),
        ("passages.jsonl", lambda path: path.write_bytes(b"")),
        ("passages.jsonl", Path.unlink),
        ("index.json", lambda path: path.write_text('{"version": 1}')),
        ("index.json", lambda path: path.write_text("{")),
        ("index.json", change_manifest(settings={"stemmer": "x"})),
        ("index.json", change_manifest(settings={"terms": 5})),
        ("index.json", change_manifest(settings={"terms": "stems"})),
        ("index.json", change_manifest(passages=7)),
    ],
)
def test_damaged_indexes_name_the_way_out(index: PassageIndex, name: str, damage: Callable[[Path], Any]) -> None:
    damage(index.folder / name)
    way_out = rf"make it again: claf2 index TEXTS -o {index.folder} --overwrite"
    with pytest.raises(Claf2Error, match=rf"the index is damaged \(.*\); {way_out}"):
        PassageIndex(index.folder)


def test_the_way_out_of_damage_leads_out(
    index: PassageIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_in_half(index.folder / "scores.npy")
    texts, out = tmp_path / "texts.txt", str(index.folder)
    texts.write_text("\n\n".join(TEXTS))
    assert run("index", str(texts), "-o", out) == 2
    assert "replace it with --overwrite" in capsys.readouterr().err
    assert run("index", str(texts), "-o", out, "--overwrite", "--add") == 2
    assert "--add: cannot be used with --overwrite" in capsys.readouterr().err
    assert run("index", str(texts), "-o", out, "--overwrite") == 0
    assert list(PassageIndex(index.folder)) == list(map(Passage, TEXTS))
    # What is no index is not replaced.
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/notes.txt").write_text("notes")
    assert run("index", str(texts), "-o", str(tmp_path / "folder"), "--overwrite") == 2
    assert "it is not an index, so give another folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["notes.txt"]


def test_an_index_behind_a_link_is_added_to(index: PassageIndex, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    link = tmp_path / "links/index"
    link.symlink_to(index.folder)
    for number in range(2):
        build_index(link, [Passage(f"new {number}")], IndexSettings(), add=True)
    assert link.is_symlink()
    assert len(PassageIndex(index.folder)) == len(PassageIndex(link)) == len(TEXTS) + 2


def test_a_passage_that_is_damaged_is_named(index: PassageIndex) -> None:
    path = index.folder / "passages.jsonl"
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(Claf2Error, match="the index is damaged"):
        PassageIndex(index.folder).search("king")


def test_nothing_is_added_to_a_damaged_index(index: PassageIndex) -> None:
    path = index.folder / "scores.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(Claf2Error, match=r"scores\.npy: changed.*make it again"):
        build_index(index.folder, [Passage("new")], IndexSettings(), add=True)
    assert path.read_bytes() == content
    # A call that fails leaves no lock.
    assert [entry.name for entry in index.folder.parent.iterdir()] == ["index"]


def test_an_index_that_is_replaced_is_opened_again(
    index: PassageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(tmp_path / "other", map(Passage, TEXTS[:2]), IndexSettings("words"))
    real, opened = index_module.np.load, []

    def load(path: Path, **options: Any) -> Any:
        if not opened:
            shutil.rmtree(index.folder)
            (tmp_path / "other").rename(index.folder)
        opened.append(path)
        return real(path, **options)

    monkeypatch.setattr(index_module.np, "load", load)
    again = PassageIndex(index.folder)
    assert (len(again), again.manifest["passages"]) == (2, 2)
    assert [hit.passage.text for hit in again.search("king")] == TEXTS[:1]


def save_model(folder: Path, model: Any, pad_token: str | None = None) -> Path:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(WordLevel({"[PAD]": 0, "king": 1, "queen": 2}))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad_token).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def make_bert() -> Any:
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(vocab_size=3, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                                intermediate_size=8))  # fmt: skip


def test_models_that_are_no_encoders_are_refused(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2Model, T5Config, T5Model

    decoder = save_model(tmp_path / "gpt", GPT2Model(GPT2Config(vocab_size=3, n_embd=8, n_layer=1, n_head=1)))
    with pytest.raises(ModelError, match=r"no padding token.*give an encoder"):
        EncoderFolder(decoder)
    small = T5Config(vocab_size=3, d_model=8, d_ff=8, d_kv=8, num_layers=1, num_heads=1)
    with pytest.raises(ModelError, match="is an encoder-decoder; give an encoder"):
        EncoderFolder(save_model(tmp_path / "t5", T5Model(small), "[PAD]"))


def test_texts_without_tokens_and_vectors_that_are_not_finite(tmp_path: Path) -> None:
    import torch

    model = make_bert()
    encoder = EncoderFolder(save_model(tmp_path / "bert", model, "[PAD]"))
    assert np.isfinite(encoder.encode(["king", "queen king"])).all()
    with pytest.raises(ModelError, match="finds no token in ''"):
        encoder.encode(["king", ""])
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="its vectors are not finite"):
        EncoderFolder(save_model(tmp_path / "nan", model, "[PAD]")).encode(["king"])


def test_parts_of_a_collection_are_encoded_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = EncoderFolder(save_model(tmp_path / "bert", make_bert(), "[PAD]"))
    texts = ["king", "queen king", "queen", "king king queen", "queen queen"]
    whole = encoder.encode(texts)
    monkeypatch.setattr(encoders, "TOKENIZED_AT_ONCE", 2)
    done: list[int] = []
    assert np.abs(encoder.encode(texts, done.append) - whole).max() < 1e-5
    assert done == [2, 4, 5]


def test_an_encoder_that_was_moved_is_named_with_its_index(tmp_path: Path) -> None:
    encoder = save_model(tmp_path / "bert", make_bert(), "[PAD]")
    texts = ["king queen", "queen"]
    made = build_index(tmp_path / "index", map(Passage, texts), IndexSettings("words", encoder=str(encoder)))
    encoder.rename(tmp_path / "moved")
    with pytest.raises(ModelError, match=rf"the encoder of {made.folder} cannot be opened.*--method bm25"):
        PassageIndex(made.folder).search("king")
    assert len(PassageIndex(made.folder).search("king", method="bm25")) == 1


def test_an_encoder_whose_tokenizer_has_changed_is_refused(tmp_path: Path) -> None:
    encoder = save_model(tmp_path / "bert", make_bert(), "[PAD]")
    texts = ["king queen", "queen"]
    made = build_index(tmp_path / "index", map(Passage, texts), IndexSettings("words", encoder=str(encoder)))
    path = encoder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["vocab"] |= {"king": 2, "queen": 1}
    path.write_text(json.dumps(tokenizer))
    way_out = rf"make the index again: claf2 index TEXTS -o {made.folder} --overwrite, or search with --method bm25"
    with pytest.raises(Claf2Error, match=f"has changed since .* was made; {way_out}"):
        PassageIndex(made.folder).search("king", method="dense")
    # Older indexes do not know what the tokenizer was.
    manifest = json.loads((made.folder / "index.json").read_text())
    del manifest["tokenizer_digest"]
    (made.folder / "index.json").write_text(json.dumps(manifest))
    assert len(PassageIndex(made.folder).search("king", method="dense")) == 2
    del manifest["encoder_digest"]
    (made.folder / "index.json").write_text(json.dumps(manifest))
    with pytest.raises(Claf2Error, match="the index is damaged"):
        PassageIndex(made.folder)


def test_questions_and_methods_that_cannot_be_are_refused(
    index: PassageIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Claf2Error, match="a question is empty"):
        index.search(" ")
    with pytest.raises(Claf2Error, match="there is no method 'bm52'; did you mean 'bm25'"):
        index.search("king", method="bm52")  # type: ignore[arg-type]
    assert run("search", str(index.folder), "\udcff") == 2
    assert "a question contains a lone surrogate" in capsys.readouterr().err


def test_what_is_no_text_is_named_in_files_in_squad_format(tmp_path: Path) -> None:
    path = write_squad(tmp_path / "a.json", [("t", TEXTS[:2]), ("u", ["half \ud83d"])])
    with pytest.raises(DataError, match=r"a\.json: article 1 contains a lone surrogate"):
        list(read_passages(path))
    with pytest.raises(DataError, match=r"a\.json: question 'uhalf .*' contains a lone surrogate"):
        read_questions(path)
    write_squad(path, [("t", [*TEXTS[:2], "the         king"])])
    with pytest.raises(DataError, match=r"a\.json: question 'tthe king' is empty; correct or remove it"):
        read_questions(path)


def test_questions_may_have_the_ids_of_klue(index: PassageIndex, tmp_path: Path) -> None:
    path = write_squad(tmp_path / "klue.json", [("t", TEXTS)])
    path.write_text(path.read_text().replace('"id"', '"guid"'))
    report = evaluate_search(index, read_questions(path))
    assert [prediction.id for prediction in report.predictions] == [f"t{text}" for text in TEXTS]


def write_squad(path: Path, articles: list[tuple[Any, list[str]]]) -> Path:
    path.write_text(json.dumps({"data": [
        {"title": title, "paragraphs": [
            {"context": text, "qas": [{"id": f"{title}{text}", "question": text[4:9], "answers": [
                {"text": text[:3], "answer_start": 0}]}]}
            for text in texts
        ]}
        for title, texts in articles
    ]}))  # fmt: skip
    return path


def test_each_article_with_the_paragraph_is_right(tmp_path: Path) -> None:
    path = write_squad(tmp_path / "questions.json", [("north", TEXTS[:2]), ("south", TEXTS[:2])])
    index = build_index(tmp_path / "index", read_passages(path, with_titles=True), IndexSettings("words"))
    assert len(index) == 4
    report = evaluate_search(index, read_questions(path))
    assert report.scores["recall_at_1"].value == report.scores["mrr_at_10"].value == 100.0
    assert all(len(prediction.prediction) == len(set(prediction.prediction)) for prediction in report.predictions)


def test_titles_may_be_missing(tmp_path: Path) -> None:
    path = write_squad(tmp_path / "questions.json", [(None, TEXTS[:1])])
    assert [passage.searched for passage in read_passages(path, with_titles=True)] == TEXTS[:1]


def test_an_item_counts_once() -> None:
    scores = RetrievalScore().compute([Prediction("1", ["a", "b"], ["a", "a", "b"])], [])
    assert (scores["recall_at_1"], scores["recall_at_5"], scores["ndcg_at_10"]) == (50.0, 100.0, 100.0)
    assert set(RetrievalScore().compute([], []).values()) == {None}


def test_options_that_do_nothing_are_refused(
    index: PassageIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("a text")
    texts = str(tmp_path / "a.txt")
    for words, message in (
        (("index", texts, "-o", str(tmp_path / "new"), "--query_prefix", "q: "), "--query_prefix: is for an encoder"),
        (("index", texts, "-o", texts), "is a file; give a folder with -o"),
        (("search", str(index.folder), "--evaluate", texts, "-k", "3"), "-k: cannot be used with --evaluate"),
        (("search", str(index.folder), "--evaluate", str(tmp_path / "none.json")), "none.json: no such file"),
        (("machine", "qa", "--index", "x", "--reader", "y", "who?", "--limit", "2"), "--limit: is for --evaluate"),
    ):
        assert run(*words) == 2
        assert message in capsys.readouterr().err
