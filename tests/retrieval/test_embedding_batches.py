"""Vectors of many texts: batches by tokens, packed passes, and the same numbers as one text at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from claf2.models.sentence_modules import SentenceModules
from claf2.retrieval import encoders
from claf2.retrieval.encoders import EncoderFolder, batches_of_tokens

TEXTS = ["the king", "a dog and a cat sat in the house .", "film", "the river of the north is great . " * 12] * 9


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_vectors_are_those_of_each_text_alone(
    model_folder: Callable[..., Path], tmp_path: Path, pooling: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(model_folder(), tmp_path / "encoder"))
    SentenceModules(pooling, 48).write(folder, 1)
    monkeypatch.setitem(encoders.BATCH_TOKENS, "cpu", 128)
    encoder = EncoderFolder(folder)
    assert encoder._packing is not None
    done: list[int] = []
    vectors = encoder.encode(TEXTS, done.append)
    assert (len(done) > 3, done == sorted(done), done[-1]) == (True, True, len(TEXTS))
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    for text, vector in zip(TEXTS[:4], vectors, strict=False):
        with torch.inference_mode():
            hidden = model(**tokenizer(text, truncation=True, max_length=48, return_tensors="pt")).last_hidden_state[0]
        expected = {"mean": hidden.mean(0), "cls": hidden[0], "max": hidden.amax(0)}[pooling]
        np.testing.assert_allclose(vector, torch.nn.functional.normalize(expected, dim=0).numpy(), atol=1e-5)
    np.testing.assert_allclose(vectors[:4], vectors[4:8], atol=1e-6)


def test_padding_is_on_the_right_whatever_the_tokenizer_prefers(
    model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(model_folder(), tmp_path / "encoder"))
    SentenceModules("cls", 48).write(folder, 1)
    expected = EncoderFolder(folder).encode(TEXTS[:4])
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.save_pretrained(folder)
    np.testing.assert_allclose(EncoderFolder(folder).encode(TEXTS[:4]), expected, atol=1e-5)


def test_batches_have_a_limit_and_every_text_once() -> None:
    lengths = [3, 50, 1, 8, 8, 2, 120, 7]
    batches = list(batches_of_tokens(lengths, 32))
    assert sorted(place for batch in batches for place in batch) == list(range(8))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= 32
    assert [max(lengths[place] for place in batch) for batch in batches] == [7, 8, 50, 120]
    assert list(batches_of_tokens([], 32)) == []
