"""Heads of sentence encoders: features, losses against formulas written by hand, and rankings."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModel

import claf2
from claf2 import config, get_task
from claf2.data.batch import Batch, TaskDataset
from claf2.data.features import FeatureList
from claf2.data.samples import write_sample
from claf2.errors import Claf2Error, ConfigError
from claf2.evaluation.predictions import read_predictions
from claf2.heads import CollectedOutputs
from claf2.heads.embed import (
    ContrastiveHead,
    GroupFeaturizer,
    PairLabelFeaturizer,
    SimilarityFeaturizer,
    SimilarityHead,
)
from claf2.heads.networks.sentence import TextVectors
from claf2.models import ModelSpec
from claf2.models.encoder import EncoderWithHeads, TaskHead, build_model
from claf2.readers import ChoiceExample, SpanExample, TextExample, TripletExample, Triplets
from claf2.readers.delimited import Delimited
from claf2.retrieval.encoders import open_encoder
from claf2.retrieval.index import IndexSettings, build_index
from claf2.retrieval.passages import Passage
from claf2.runs.answerer import Answerer
from claf2.runs.embedding import Embedder
from claf2.runs.train import train
from claf2.tokenizers import Tokenizer
from claf2.tokenizers.build import load_tokenizer


@pytest.fixture
def tokenizer(model_folder: Callable[..., Path]) -> Tokenizer:
    return load_tokenizer(model_folder())


def pair(label: str | None = None, **fields: Any) -> TextExample:
    return TextExample(**{"id": "0", "text_a": "the film", "text_b": "a dog ran", "label": label, **fields})


def test_texts_are_encoded_separately_and_numbers_scaled(tokenizer: Tokenizer) -> None:
    counts: Counter[str] = Counter()
    (feature,) = SimilarityFeaturizer(max_seq_length=8, prefix_b="good ").features([pair("2")], tokenizer, [], counts)
    assert [tokenizer.decode(ids[1:-1]) for ids in feature["input_ids"]] == ["the film", "good a dog ran"]
    assert feature["labels"] == 0.4
    scaled = SimilarityFeaturizer(lowest=1, highest=5).features([pair("2")], tokenizer, [], counts)
    assert next(scaled)["labels"] == 0.25
    list(SimilarityFeaturizer(max_seq_length=4).features([pair("2")], tokenizer, [], counts))
    assert counts["truncated"] == 1


@pytest.mark.parametrize(
    ("example", "problem"),
    [
        (pair("5.5"), r"example '0' \(row 0\): 5.5 is not a number from 0 to 5"),
        (pair("nan"), "'nan' is not a finite number"),
        (pair("maybe"), r"example '0' \(row 0\): the label 'maybe' is not a finite number; .*the task's reader"),
        (pair("1", text_b=None), "has only one text"),
    ],
)
def test_rows_that_are_no_similarities_are_one_line(tokenizer: Tokenizer, example: TextExample, problem: str) -> None:
    with pytest.raises(Claf2Error, match=problem):
        list(SimilarityFeaturizer().features([example], tokenizer, [], Counter()))


@pytest.mark.parametrize("settings", [{"lowest": 2, "highest": 2}, {"lowest": 5}])
def test_a_range_of_one_number_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=r"highest\n.*lowest and highest are both [25], which leaves no range"):
        SimilarityFeaturizer(**settings)


def test_a_reversed_range_is_refused_where_the_score_is_a_correlation() -> None:
    """A perfect model would have a score of −100. Pairs that belong together have no order."""
    reversed_range = SimilarityFeaturizer(lowest=5, highest=0)
    with pytest.raises(ConfigError, match=r"korsts_embed\.highest: 0 is less than lowest, 5, and the score is a corr"):
        reversed_range.for_task(get_task("korsts_embed"))
    pairs = get_task("question_pair_embed")
    assert reversed_range.for_task(pairs) is reversed_range
    assert SimilarityFeaturizer().for_task(get_task("korsts_embed")) == SimilarityFeaturizer()


def test_rows_of_one_two_and_three_texts(tokenizer: Tokenizer) -> None:
    """A single text comes twice, a missing negative has no tokens, and equal texts have equal keys."""
    rows = [
        TripletExample(id="0", anchor="the film", positive="a dog", negative="the film"),
        TripletExample(id="1", anchor="the film", positive="a dog"),
    ]
    first, second = GroupFeaturizer().features(rows, tokenizer, [], Counter())
    assert first["keys"] == [first["keys"][0], first["keys"][1], first["keys"][0]]
    assert second["keys"] == [*first["keys"][:2], 0]
    assert second["input_ids"][2] == []
    (alone,) = GroupFeaturizer().features([TextExample(id="0", text_a="a dog")], tokenizer, [], Counter())
    assert alone["input_ids"][0] == alone["input_ids"][1]
    assert next(PairLabelFeaturizer().features([pair("b")], tokenizer, ["a", "b"], Counter()))["labels"] == 1


def by_hand(vectors: torch.Tensor, keys: torch.Tensor, temperature: float) -> float:
    """Return the contrastive loss, summed over rows, in plain loops."""
    rows, texts = keys.shape
    total = 0.0
    for row in range(rows):
        terms = {}
        for other in range(rows):
            for place in range(1, texts):
                is_own = (other, place) == (row, 1)
                is_equal = keys[other, place] == keys[row, 1]
                if keys[other, place] and (is_own or not is_equal):
                    cosine = torch.cosine_similarity(vectors[row, 0], vectors[other, place], dim=0)
                    terms[other, place] = math.exp(float(cosine) / temperature)
        total -= math.log(terms[row, 1] / sum(terms.values()))
    return total


def test_contrastive_losses_leave_out_equal_and_missing_texts() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(5, 3, 8)
    keys = torch.tensor([[1, 2, 3], [4, 2, 0], [5, 6, 7], [8, 9, 6], [10, 11, 0]])
    expected = by_hand(vectors, keys, 0.1)
    head = ContrastiveHead(temperature=0.1)
    assert float(head.loss(TextVectors(vectors), {"keys": keys})) == pytest.approx(expected, rel=1e-5)
    # In half precision, cosines are still compared in single precision.
    with torch.autocast("cpu", torch.bfloat16):
        assert float(head.loss(TextVectors(vectors), {"keys": keys})) == pytest.approx(expected, rel=1e-5)


def test_matryoshka_losses_are_those_of_the_first_numbers() -> None:
    torch.manual_seed(0)
    vectors, labels = torch.randn(4, 2, 8), torch.rand(4)
    parts = [float(SimilarityHead().loss(TextVectors(vectors[..., :size]), {"labels": labels})) for size in (2, 8)]
    loss = SimilarityHead(dimensions=[2, 8]).loss(TextVectors(vectors), {"labels": labels})
    assert float(loss) == pytest.approx(sum(parts))
    cosines = torch.cosine_similarity(vectors[:, 0], vectors[:, 1])
    assert parts[1] == pytest.approx(float((cosines - labels).pow(2).sum()))


def model(folder: Path, head: Any, labels: list[str] | None = None) -> EncoderWithHeads:
    size = load_tokenizer(folder).vocab_size
    return build_model(ModelSpec(), folder, {"t": TaskHead(head, labels or [])}, vocab_size=size, pad_id=0, seed=1)


def test_dimensions_beyond_the_vector_are_refused(model_folder: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="64 exceeds the 32 numbers of a vector"):
        model(model_folder(), SimilarityHead(dimensions=[64]))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "electra", "modernbert"])
def test_vectors_are_those_of_the_encoder(
    kind: str, pooling: Any, model_folder: Callable[..., Path], tokenizer: Tokenizer
) -> None:
    """Padded, packed, and beside a missing text."""
    folder, head = model_folder(kind), ContrastiveHead(pooling=pooling)
    rows = [
        TripletExample(id="0", anchor="the film", positive="a very good dog ran", negative="not"),
        TripletExample(id="1", anchor="king", positive="queen of the river"),
    ]
    features = list(GroupFeaturizer().features(rows, tokenizer, [], Counter()))
    batch = TaskDataset(FeatureList(features), pad_id=0, fields=head.targets).batch(np.arange(2))
    encoder = AutoModel.from_pretrained(folder).eval()
    built = model(folder, head).eval()
    packs = [False, True] if built.pack() else [False]
    for pack in packs:
        built.packing = built.packing if pack else None
        fresh = model(folder, head).eval()
        if pack:
            fresh.pack()
        with torch.no_grad():
            vectors = fresh("t", batch.tensors(torch.device("cpu"))).vectors
            for row, feature in enumerate(features):
                for place, ids in enumerate(feature["input_ids"]):
                    if ids:
                        hidden = encoder(torch.tensor([ids])).last_hidden_state[0]
                        expected = {"mean": hidden.mean(0), "cls": hidden[0], "max": hidden.amax(0)}[pooling]
                        torch.testing.assert_close(vectors[row, place], expected, atol=2e-6, rtol=1e-5)
        assert vectors.isfinite().all()


def collected(examples: list[Any], vectors: np.ndarray, tokenizer: Tokenizer) -> CollectedOutputs[Any]:
    rows = [{"vectors": row} for row in vectors]
    return CollectedOutputs(examples, [{"example": index} for index in range(len(examples))], rows, [], tokenizer)


def test_rows_are_ranked_among_all_different_texts(tokenizer: Tokenizer) -> None:
    examples = [
        SpanExample(id=name, question=name, context=context, answers=())
        for name, context in (("a", "x"), ("b", "y"), ("c", "x"), ("d", "z"))
    ]
    x, y, z = np.eye(3, dtype=np.float32)
    mixed = np.array([0.6, 0.8, 0.0], dtype=np.float32)
    vectors = np.stack([np.stack(row) for row in ((x, x), (x, y), (mixed, x), (z, z))])
    predictions = ContrastiveHead().predict(collected(examples, vectors, tokenizer))
    assert [(p.gold, p.prediction) for p in predictions] == [
        (["a"], ["a", "b", "d"]), (["b"], ["a", "b", "d"]), (["a"], ["b", "a", "d"]), (["d"], ["d", "a", "b"]),
    ]  # fmt: skip
    assert [p.score for p in predictions] == pytest.approx([1.0, 0.0, 0.6, 1.0])


def test_texts_of_rows_with_one_id_are_told_apart(tokenizer: Tokenizer) -> None:
    examples = [SpanExample(id="1", question="q", context=context, answers=()) for context in "xy"]
    x, y = np.eye(2, dtype=np.float32)
    predictions = ContrastiveHead().predict(collected(examples, np.stack([[y, x], [y, y]]), tokenizer))
    assert [(p.gold, p.prediction) for p in predictions] == [(["1"], ["1#2", "1"]), (["1#2"], ["1#2", "1"])]


def test_an_evaluation_computes_each_paragraph_once(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The predictions are those of an evaluation that computes all texts."""
    contexts = ["서울 은 도시 이다", "왕 은 남자 이다", "서울 은 도시 이다", "고양이 는 좋다", "왕 은 남자 이다"]
    rows = [
        {"context": context, "qas": [{"id": str(row), "question": f"{row} 누구", "answers": []}]}
        for row, context in enumerate(contexts)
    ]
    (tmp_path / "dev.json").write_text(json.dumps({"data": [{"paragraphs": rows}]}))
    words = ["--pretrained_model_name", str(model_folder()), "--valid_file_path", str(tmp_path / "dev.json")]
    texts, rankings = [], []
    for name in ("once", "all"):
        seen = []
        original = TaskDataset.batch

        def batch(dataset: TaskDataset, rows: np.ndarray, seen: list[int] = seen, original: Any = original) -> Batch:
            made: Batch = original(dataset, rows)
            seen.append(int(made.arrays["attention_mask"].any(-1).sum()))
            return made

        with monkeypatch.context() as patch:
            patch.setattr(TaskDataset, "batch", batch)
            if name == "all":
                patch.setattr(ContrastiveHead, "unread_texts", lambda head, examples: None)
            train(config.load("embed/korquad_zero_shot", [*words, "--log_dir", str(tmp_path / name)]))
        texts.append(sum(seen))
        rankings.append(read_predictions(next((tmp_path / name / "predictions").iterdir())))
    assert texts == [5 + 3, 5 + 5]
    for ours, theirs in zip(*rankings, strict=True):
        assert (ours.gold, ours.prediction) == (theirs.gold, theirs.prediction)
        assert ours.score == pytest.approx(theirs.score, abs=1e-5)


def test_a_request_ranks_its_own_choices(tokenizer: Tokenizer) -> None:
    """Whatever is asked at the same time."""
    asked = [
        ChoiceExample(id="0", question="q", choices=("a", "b")),
        ChoiceExample(id="1", question="r", choices=("c",)),
    ]
    vectors = np.array([[[1, 0], [0, 1], [1, 0]], [[0, 1], [0, 1], [7, 7]]], dtype=np.float32)
    first, second = ContrastiveHead().predict(collected(asked, vectors, tokenizer))
    assert (first.prediction, first.score, first.details) == (["1", "0"], 1.0, {"cosines": [0.0, 1.0]})
    assert (second.prediction, second.details) == (["0"], {"cosines": [1.0]})


def test_triplets_are_made_from_pairs_with_the_same_first_text(tmp_path: Path) -> None:
    rows = ["a\tb\tlabel", "p\t1\tyes", "q\t2\tyes", "p\t3\tno", "p\t4\tyes", "r\t5\tno", "q\t6\tmaybe"]
    (tmp_path / "pairs.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    pairs = Delimited(columns={"text_a": "a", "text_b": "b", "label": "label"})
    reader = Triplets(of=pairs, positive="yes", negative="no")
    read = [tuple(example.texts()) for example in reader.read(tmp_path / "pairs.tsv")]
    assert read == [("p", "1", "3"), ("p", "4", "3"), ("q", "2")]
    with pytest.raises(claf2.DataError, match="no row has the label 'entailment'"):
        list(Triplets(of=pairs).read(tmp_path / "pairs.tsv"))


def test_an_encoder_is_scored_before_training(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """The cosines are those of the encoder's own vectors."""
    folder = model_folder()
    words = ["--pretrained_model_name", str(folder), "--source", "sample", "--log_dir", str(tmp_path)]
    report = train(config.load("embed/korsts_zero_shot", words))
    assert report.tasks["korsts_embed"].scores["spearman"] is not None
    predictor = claf2.Predictor(tmp_path)
    encoder, tokenizer = AutoModel.from_pretrained(folder).eval(), load_tokenizer(folder)
    with torch.no_grad():
        one, two = (
            encoder(torch.tensor([tokenizer.encode([text], None, max_length=64, offsets=False)[0][0].ids]))
            .last_hidden_state[0].mean(0)
            for text in ("영화 사람", "도시")
        )  # fmt: skip
    predicted = predictor(text_a="영화 사람", text_b="도시").prediction
    assert predicted == pytest.approx(float(torch.cosine_similarity(one, two, dim=0)), abs=1e-5)
    with pytest.raises(ConfigError, match="'zero_shot' takes no step, and the head of task 'klue_nli' would"):
        config.load("embed/klue_nli_alone", ["--trainer.name", "zero_shot"])


def test_vectors_of_a_run_are_pooled_as_it_was_trained(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Those of the server, of an index with the run, and of an index with its `best/` alone."""
    folder = model_folder()
    words = ["--pretrained_model_name", str(folder), "--source", "sample", "--pooling", "max"]
    train(config.load("embed/korsts_zero_shot", [*words, "--log_dir", str(tmp_path)]))
    assert Embedder(Answerer.open(tmp_path)).pooling == "max"
    ids = load_tokenizer(folder).encode(["영화 사람"], None, max_length=64, offsets=False)[0][0].ids
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder).eval()(torch.tensor([ids])).last_hidden_state[0]
    expected = torch.nn.functional.normalize(hidden.amax(0), dim=0).numpy()
    for source in (tmp_path, tmp_path / "best"):
        assert open_encoder(source).encode(["영화 사람"])[0] == pytest.approx(expected, abs=1e-5)


def test_tasks_that_are_only_evaluated_select_the_checkpoint(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    words = ["--pretrained_model_name", str(model_folder()), "--runtime.padding", "split", "--log_dir", str(tmp_path)]
    words += ["--klue_nli_triplets.source", "sample", "--korsts_embed.source", "sample"]
    words += ["--klue_sts_embed.source", "sample", "--num_steps", "2", "--eval_and_save_step_count", "1"]
    report = train(config.load("embed/klue_nli_simcse", words))
    scores = [report.tasks[task].scores["spearman"] for task in ("korsts_embed", "klue_sts_embed")]
    assert report.average == pytest.approx(sum(score or 0.0 for score in scores) / 2)
    (first, *_) = read_predictions(tmp_path / "predictions/klue_nli_triplets-valid.jsonl")
    assert first.gold == ["klue_nli_triplets-valid-00000-entailment"]
    # `best/` opens as the encoder alone.
    AutoModel.from_pretrained(tmp_path / "best/korsts_embed")


def test_a_run_without_steps_needs_no_training_file(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    files = write_sample(get_task("korsts_embed"), tmp_path / "sample")
    shutil.copy(files["valid"], tmp_path / "valid.tsv")
    words = ["--pretrained_model_name", str(model_folder()), "--data_dir", str(tmp_path)]
    words += ["--valid_file_path", "valid.tsv", "--log_dir", str(tmp_path / "run")]
    report = train(config.load("embed/korsts_zero_shot", words))
    assert report.tasks["korsts_embed"].scores["spearman"] is not None
    assert list(json.loads((tmp_path / "run/run.json").read_text())["data"]) == ["valid"]


def test_an_index_has_the_prefixes_of_its_run(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Unless others are named."""
    words = ["--pretrained_model_name", str(model_folder()), "--source", "sample", "--log_dir", str(tmp_path / "run")]
    train(config.load("embed/korquad_zero_shot", [*words, "--prefix_a", "query: ", "--prefix_b", "passage: "]))
    passages = [Passage("영화 사람"), Passage("도시 바다")]
    made = build_index(tmp_path / "own", passages, IndexSettings("words", encoder=str(tmp_path / "run")))
    assert (made.settings.query_prefix, made.settings.passage_prefix) == ("query: ", "passage: ")
    predictor = claf2.Predictor(tmp_path / "run")
    (hit, other) = made.search("사람", k=2, method="dense")
    details = predictor(question="사람", choices=[hit.passage.text, other.passage.text]).details
    assert details is not None
    assert [hit.score, other.score] == pytest.approx(details["cosines"], abs=1e-5)
    settings = IndexSettings("words", encoder=str(tmp_path / "run"), query_prefix="", passage_prefix="")
    assert build_index(tmp_path / "none", passages, settings).vectors[0] != pytest.approx(made.vectors[0], abs=1e-4)


def test_vectors_are_made_as_the_task_of_texts_learned_them(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Even where another task comes first."""
    tasks = {
        "nsmc": {"base_config": "klue/nsmc_bert"},
        "korsts_embed": {"base_config": "embed/korsts_cosine", "model": {"embed": {"pooling": "max"}}},
    }
    raw = {"tasks": tasks, "model": {"name": "encoder", "encoder": {"pretrained_model_name": str(model_folder())}}}
    raw |= {"trainer": {"name": "finetune", "num_steps": 1}, "optimizer": {"op_type": "adamw", "learning_rate": 1e-4}}
    (tmp_path / "both.json").write_text(json.dumps(raw))
    words = ["--nsmc.source", "sample", "--korsts_embed.source", "sample", "--log_dir", str(tmp_path / "run")]
    train(config.load(str(tmp_path / "both.json"), words))
    embedder = Embedder(Answerer.open(tmp_path / "run"))
    assert (embedder.task, embedder.pooling) == ("korsts_embed", "max")
    one, two = (open_encoder(tmp_path / "run" / name).encode(["영화"])[0] for name in ("", "best/korsts_embed"))
    assert one == pytest.approx(two, abs=1e-5)
