"""Activation checkpointing: the layers of the encoder are computed again, whatever head or objective reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from head_configs import CONFIGS
from stored import last_bytes

from claf2 import config
from claf2.errors import ConfigError
from claf2.runs.resolve import resolve
from claf2.runs.train import train


def load(kind: str, model: Path, folder: Path, *words: str) -> config.Experiment:
    base, *more = CONFIGS[kind]
    given = ["--pretrained_model_name", str(model), "--source", "sample", "--log_dir", str(folder), "--num_steps", "2",
             "--batch_size", "4", "--eval_and_save_step_count", "2", *more]  # fmt: skip
    return config.load(base, [*given, *words])


@pytest.mark.parametrize("kind", ["classify", "san", "parse", "dialogue", "embed"])
def test_layers_under_every_head_are_computed_again(
    kind: str, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    run, _ = resolve(load(kind, model_folder(), tmp_path, "--activation_checkpointing", "true"))
    encoder: Any = run.model().train().encoder
    passes = []
    encoder.encoder.layer[0].attention.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    ids = torch.tensor([[2, 10, 11, 3]])
    encoder(input_ids=ids, attention_mask=ids * 0 + 1).last_hidden_state.square().sum().backward()
    assert len(passes) == 2


def test_an_encoder_that_cannot_do_so_is_named(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    run, _ = resolve(load("san", model_folder("bert"), tmp_path, "--activation_checkpointing", "true"))
    run.model()
    run, _ = resolve(load("classify", model_folder("albert"), tmp_path, "--activation_checkpointing", "true"))
    with pytest.raises(ConfigError, match=r"activation_checkpointing: albert cannot .*use false"):
        run.model()


@pytest.mark.parametrize("padding", ["pack", "split"])
def test_relations_are_learned_from_layers_that_are_computed_again(
    padding: str, model_folder: Callable[..., Path], tmp_path: Path
) -> None:
    teacher = model_folder("bert", hidden_size=48, num_attention_heads=4, num_hidden_layers=3)
    words = ["--objectives.relations.teacher", str(teacher), "--padding", padding]
    for name in ("false", "true"):
        train(load("tag", model_folder(), tmp_path / name, *words, "--activation_checkpointing", name))
    assert last_bytes(tmp_path / "true") == last_bytes(tmp_path / "false")
