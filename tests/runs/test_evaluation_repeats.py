"""The invariant of evaluation: a finished run, evaluated again, writes the files that its training wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from head_configs import CONFIGS, CORPUS_HEADS, MODELS

from claf2 import config
from claf2.heads import heads
from claf2.runs.inference import evaluate_run
from claf2.runs.train import train


def written(folder: Path) -> dict[str, bytes]:
    """Return the bytes of a run's prediction files."""
    return {path.name: path.read_bytes() for path in sorted((folder / "predictions").iterdir())}


def test_every_head_is_covered() -> None:
    assert set(CONFIGS) == set(heads.names()) - CORPUS_HEADS


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("head", CONFIGS)
def test_evaluating_after_training_writes_the_same_predictions(
    head: str, precision: str, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """Byte for byte: probabilities have all their digits in these files. The width is that of real models' layers, for
    which MKL has kernels that depend on alignment."""
    model = model_folder(**MODELS.get(head, {}), hidden_size=96, intermediate_size=192)
    name, *words = CONFIGS[head]
    words += ["--pretrained_model_name", str(model), "--data_reader.source", "sample", "--num_steps", "2"]
    words += ["--runtime.precision", precision]
    train(config.load(name, [*words, "--batch_size", "8", "--log_dir", str(tmp_path)]))
    before = written(tmp_path)
    assert before
    for path in (tmp_path / "predictions").iterdir():
        path.unlink()
    evaluate_run(tmp_path)
    assert written(tmp_path) == before
