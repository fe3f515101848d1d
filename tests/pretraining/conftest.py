"""A small corpus, and a pre-training on it that takes seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claf2.data.samples import generate
from claf2.task import tasks

ARCHITECTURE = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 48,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.1,
}
PHASES = [
    {"until": 8, "batch_size": 16, "max_seq_length": 24},
    {"until": 12, "batch_size": 8, "max_seq_length": 48},
]
"""A change of the length of rows after 8 of 12 steps."""


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text file with 400 documents of a few sentences."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    task = tasks.get("corpus_mlm")
    task.reader.write(generate(task, "train", 400), path)
    return path


@pytest.fixture
def words(corpus_file: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Make the words of the command line of a small pre-training; ``dropout=False`` for comparisons of losses."""

    def make(*more: str, phases: Any = PHASES, dropout: bool = True, **architecture: Any) -> list[str]:
        settings = {**ARCHITECTURE, **architecture}
        if not dropout:
            settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        return [
            "--sources", json.dumps([{"path": str(corpus_file)}]),
            "--valid_documents", "20",
            "--shard_bytes", "8192",
            "--window", "2",
            "--architecture", json.dumps(settings),
            "--vocab_size", "500",
            "--trainer.pretrain.phases", json.dumps(phases),
            "--eval_and_save_step_count", "4",
            "--keep_step_count", "null",
            "--device", "cpu",
            "--log_dir", str(tmp_path / "run"),
            *more,
        ]  # fmt: skip

    return make
