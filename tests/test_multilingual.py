"""A real multilingual encoder: what is trained on Korean data, and what of it is stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from claf2 import config
from claf2.export.predictor import Predictor
from claf2.runs.train import train

pytestmark = pytest.mark.slow


def test_it_knows_three_languages(multilingual_encoder: Path) -> None:
    """Sentences that mean the same are closer than others, whatever their language (mean of all tokens)."""
    tokenizer, model = (
        AutoTokenizer.from_pretrained(multilingual_encoder),
        AutoModel.from_pretrained(multilingual_encoder),
    )
    groups = [
        ["query: 오늘은 날씨가 좋다.", "query: 今日は天気がいいです。", "query: The weather is fine today."],
        ["query: 그는 은행에서 일한다.", "query: 彼は銀行で働いています。", "query: He works at a bank."],
    ]
    inputs = tokenizer([text for group in groups for text in group], padding=True, return_tensors="pt")
    assert tokenizer.unk_token_id not in inputs["input_ids"]
    with torch.no_grad():
        hidden = model.eval()(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    same = (vectors @ vectors.T).view(2, 3, 2, 3).amin((1, 3))
    other = (vectors @ vectors.T).view(2, 3, 2, 3).amax((1, 3))
    assert min(same[0, 0], same[1, 1]) > other[0, 1]


def test_korean_reviews_are_learnt_with_the_rows_that_they_use(
    multilingual_encoder: Path, benchmark_data: Path, tmp_path: Path
) -> None:
    data = tmp_path / "nsmc"
    data.mkdir()
    for name, rows in (("ratings_train.txt", 960), ("ratings_test.txt", 300)):
        lines = (benchmark_data / "nsmc" / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (data / name).write_text("".join(lines[: rows + 1]), encoding="utf-8")
    words = ["--pretrained_model_name", str(multilingual_encoder), "--data_dir", str(tmp_path), "--num_epochs", "2"]
    words += ["--learning_rate", "2e-4", "--max_seq_length", "64", "--log_dir", str(tmp_path / "run")]
    report = train(config.load("klue/nsmc_bert", words))
    accuracy = report.value("accuracy")
    assert accuracy is not None
    assert accuracy > 60
    rows = json.loads((tmp_path / "run/run.json").read_text())["embedding_rows"]
    assert rows["of"] == 250_037  # the vocabulary has 250,002 pieces
    assert rows["trained"] < 8_000
    name = "embeddings.word_embeddings.weight"
    before = load_file(multilingual_encoder / "model.safetensors")[name]
    after = load_file(tmp_path / "run/best/model.safetensors")[f"bert.{name}"]
    assert after.shape == before.shape
    changed = ((after - before).abs().amax(-1) > 1e-3 * before.abs().amax(-1)).sum()
    assert 1_000 < int(changed) <= rows["trained"]
    good, bad = Predictor(tmp_path / "run").predict([{"text": "정말 재미있다 최고"}, {"text": "쓰레기 돈 아깝다"}])
    assert good.details["probabilities"]["1"] > bad.details["probabilities"]["1"]
