"""The BaseConfigs of pre-trainings: each is filled, built small, stepped, and resumed to the same bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from pretraining_runs import outcome, shrink, train_until
from transformers import AutoConfig, AutoTokenizer

from claf2 import config
from claf2.config import source
from claf2.errors import ConfigError, Interrupted
from claf2.runs.train import train
from claf2.training.optim import build_optimizer, optimizers, schedules
from claf2.training.trainers.pretrain import BatchRamp, PretrainTrainer

RECIPES = [name for name in source.list_configs() if name.startswith("pretrain/")]
FAST = ("pretrain/larva_base_ko", "pretrain/modernbert_base")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in RECIPES]
)
def test_a_recipe_is_built_stepped_and_resumed(
    name: str, tmp_path: Path, model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = (config.load(name, shrink(name, tmp_path / folder, model_folder())) for folder in ("whole", "parts"))
    report = train(whole)
    (task_report,) = report.tasks.values()
    assert all(value is not None and math.isfinite(value) for value in task_report.scores.values())
    with pytest.raises(Interrupted):
        train_until(parts, 1, monkeypatch)
    train(parts, resume=True)
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")
    if whole.model.pretrained_model_name == "scratch":
        check_ids(tmp_path / "whole/best")


def check_ids(folder: Path) -> None:
    """Check that the ids of special tokens in a model's configuration are its tokenizer's, where it has any."""
    stored, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert stored.pad_token_id == tokenizer.pad_token_id
    for name in ("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id"):
        assert getattr(stored, name, None) in (None, getattr(tokenizer, name)), name


def test_batches_of_cramming_grow_for_60_percent_of_its_rows() -> None:
    trainer = config.load("pretrain/cramming").trainer
    assert isinstance(trainer, PretrainTrainer)
    *growing, full = trainer.all_phases()
    ends = [0, *(phase.until for phase in growing)]
    rows = sum((phase.until - start) * phase.batch_size for start, phase in zip(ends, growing, strict=False))
    assert rows / (rows + (full.until - ends[-1]) * full.batch_size) == pytest.approx(0.6, abs=0.002)


def test_recipes_are_as_long_as_their_sources_say() -> None:
    """Rows and tokens of the whole run, from the phases and the growing batches."""

    def tokens(name: str) -> float:
        trainer = config.load(f"pretrain/{name}").trainer
        assert isinstance(trainer, PretrainTrainer)
        start, total = 0, 0
        for phase in trainer.all_phases():
            total += (phase.until - start) * phase.batch_size * phase.max_seq_length
            start = phase.until
        return total

    assert tokens("modernbert_base") == pytest.approx(1.719e12, rel=1e-3)
    assert tokens("mosaicbert_base") == 286_720_000 * 128
    assert tokens("larva_base_ko") == 900_000 * 1024 * 128 + 100_000 * 256 * 512
    assert tokens("bert_base") == 900_000 * 256 * 128 + 100_000 * 256 * 512
    assert tokens("tohoku_base_ja") == 1_000_000 * 256 * 512


def test_batches_grow_in_equal_increments_of_equal_rows() -> None:
    first = {"until": 100, "batch_size": 64, "max_seq_length": 32}
    trainer = PretrainTrainer.model_validate(
        {"phases": [first], "batch_ramp": {"batch_size": 16, "increment": 16, "rows": 960}}
    )
    steps = [(phase.until, phase.batch_size) for phase in trainer.all_phases()]
    assert steps == [(20, 16), (30, 32), (37, 48), (100, 64)]
    with pytest.raises(ConfigError, match=r"batch_ramp\.rows: takes"):
        BatchRamp(batch_size=16, increment=16, rows=9600).phases(trainer.phases[0])
    with pytest.raises(ConfigError, match=r"batch_ramp\.batch_size: 64 is not below 64"):
        BatchRamp(batch_size=64, increment=16, rows=9600).phases(trainer.phases[0])


@pytest.mark.parametrize("shape", ["linear", "one_minus_sqrt"])
def test_the_rate_rises_stays_and_falls(shape: str) -> None:
    schedule = schedules.get("warmup_stable_decay")(
        warmup_steps=10, decay_steps=20, decay_shape=shape, end_factor=0.1, start_factor=0.5
    )
    factors = [schedule.factor(step, 100) for step in range(101)]
    assert factors[:2] == [0.5, pytest.approx(0.55)]
    assert factors[10:81] == [1.0] * 71
    middle = 0.5 if shape == "linear" else 1 - math.sqrt(0.5)
    assert factors[90] == pytest.approx(0.9 * middle + 0.1)
    assert factors[100] == pytest.approx(0.1)
    assert all(before >= after for before, after in pairwise(factors[80:]))


def test_cramming_has_the_triangle_of_its_authors() -> None:
    """min(0.25 + x * 0.75 / 0.75, 4 - 4 x) for the share x of the run."""
    schedule = config.load("pretrain/cramming").schedule
    for step in range(0, 10_000, 500):
        share = step / 10_000
        assert schedule.factor(step, 10_000) == pytest.approx(min(0.25 + share, 4 - 4 * share))


def test_more_decay_than_steps_is_refused() -> None:
    schedule = schedules.get("warmup_stable_decay")(warmup_steps=60, decay_steps=50)
    with pytest.raises(ConfigError, match="60 warm-up steps and 50 decay steps in a run of 100"):
        schedule.warmup(100)


def test_stable_adamw_is_that_of_its_paper() -> None:
    """Algorithm 2 of Wortsman et al. (2023) in NumPy, in double precision, with gradients that suddenly grow."""
    import numpy as np
    import torch

    torch.manual_seed(0)
    model = torch.nn.Linear(5, 3, dtype=torch.float64)
    spec = optimizers.get("stable_adamw")(weight_decay=0.1, betas=(0.9, 0.95), eps=1e-6)
    optimizer = build_optimizer(spec, model, 0.01)
    values = {name: parameter.detach().numpy().copy() for name, parameter in model.named_parameters()}
    means = {name: np.zeros_like(value) for name, value in values.items()}
    squares = {name: np.zeros_like(value) for name, value in values.items()}
    clipped = 0
    for step in range(1, 9):
        for name, parameter in model.named_parameters():
            gradient = torch.randn_like(parameter) * (50.0 if step == 6 else 1.0)
            parameter.grad = gradient
            g = gradient.numpy()
            beta1 = 0.9 * (1 - 0.9 ** (step - 1)) / (1 - 0.9**step)
            beta2 = 0.95 * (1 - 0.95 ** (step - 1)) / (1 - 0.95**step)
            means[name] = beta1 * means[name] + (1 - beta1) * g
            squares[name] = beta2 * squares[name] + (1 - beta2) * g * g
            rms = np.sqrt(np.mean(g * g / np.maximum(squares[name], 1e-12)))
            clipped += rms > 1
            rate = 0.01 / max(1.0, rms)
            decay = 0.1 if parameter.ndim > 1 else 0.0
            values[name] -= rate * decay * values[name] + rate * means[name] / (np.sqrt(squares[name]) + 1e-6)
        optimizer.step()
        for name, parameter in model.named_parameters():
            np.testing.assert_allclose(parameter.detach().numpy(), values[name], rtol=1e-10)
    assert clipped >= 2


def test_a_folder_without_weights_is_started_from_scratch(
    model_folder: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A configuration and a tokenizer, such as those of a new vocabulary."""
    folder = tmp_path / "config only"
    folder.mkdir()
    for path in model_folder().iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    caplog.set_level("INFO")
    train(config.load("pretrain/continue", shrink("pretrain/continue", tmp_path / "run", folder)))
    assert "has no weights, so pre-training starts with new ones" in caplog.text
