"""The BaseConfigs of distillation: each is filled, takes two steps on a sample from a small teacher, and is resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pretraining_runs import shrink, train_until
from stored import last_bytes

from claf2 import config
from claf2.config import source
from claf2.errors import Interrupted
from claf2.runs.train import train

CONFIGS = [name for name in source.list_configs() if name.startswith("distil/")]
TEACHERS = {"squad": "squad/v1_bert", "sst": "glue/sst_bert", "nsmc": "klue/nsmc_bert", "klue_ner": "klue/ner_bert"}


def load(base: str, folder: Path, model: Path, *words: str) -> config.Experiment:
    given = ["--source", "sample", "--log_dir", str(folder), "--pretrained_model_name", str(model), "--num_steps", "2",
             "--eval_and_save_step_count", "1", "--batch_size", "8", "--max_seq_length", "64"]  # fmt: skip
    return config.load(base, [*given, *words])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_stepped_and_resumed(
    name: str, tmp_path: Path, model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = config.load(name)
    (task,) = shipped.tasks
    kept = ["--keep_layers", "[1]"] if shipped.model.keep_layers else []
    experiments = []
    for run in ("whole", "parts"):
        if "relations" in shipped.objectives:
            words = shrink(name, tmp_path / run, model_folder())
            words += ["--relations.teacher", str(model_folder("bert", num_hidden_layers=3))]
            experiments.append(config.load(name, [*words, *kept]))
        else:
            if run == "whole":
                train(load(TEACHERS[task], tmp_path / "teacher", model_folder()))
            words = ["--distil.teachers", json.dumps({task: str(tmp_path / "teacher")})]
            experiments.append(load(name, tmp_path / run, model_folder(), *words, *kept))
    whole, parts = experiments
    train(whole)
    with pytest.raises(Interrupted):
        train_until(parts, 1, monkeypatch)
    train(parts, resume=True)
    assert last_bytes(tmp_path / "parts") == last_bytes(tmp_path / "whole")


def test_the_teachers_are_the_folders_in_which_their_configs_train() -> None:
    for name in CONFIGS:
        for objective in config.load(name).objectives.values():
            for task, folder in objective.teacher_folders().items():
                if task in TEACHERS:
                    assert config.load(TEACHERS[task]).trainer_config.log_dir == folder
