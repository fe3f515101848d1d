"""The invariants: same bytes again, after any interruption, however often one looks."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from stored import last_bytes

from claf2 import config
from claf2.data.batch import BatchStream
from claf2.errors import Interrupted, RunError
from claf2.models.encoder import EncoderWithHeads
from claf2.runs.inference import evaluate_run
from claf2.runs.train import train
from claf2.runtime.files import replace_dir_atomic
from claf2.training import loop
from claf2.training.checkpoint import CheckpointManager
from claf2.training.state import State

SMALL = ["--num_steps", "12", "--eval_and_save_step_count", "4", "--batch_size", "8", "--eval_batch_size", "200"]


def load(folder: Path, model: Path, *words: str, base: str = "scratch/nsmc") -> config.Experiment:
    """Return a short run of a small model with dropout on a generated sample."""
    given = ["--pretrained_model_name", str(model), "--token", "null", "--data_reader.source", "sample"]
    return config.load(base, [*given, *SMALL, "--log_dir", str(folder), *words])


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Return what a run's numbers are made of."""
    names = [
        "metrics.json",
        "metrics.jsonl",
        "best/model.safetensors",
    ]
    names += [str(path.relative_to(folder)) for path in sorted((folder / "predictions").iterdir())]
    return {**{name: (folder / name).read_bytes() for name in names}, **last_bytes(folder)}


@pytest.fixture
def finished(tmp_path: Path, model_folder: Callable[..., Path]) -> Path:
    """A run that nothing disturbed."""
    train(load(tmp_path / "whole", model_folder()))
    return tmp_path / "whole"


def test_the_same_bytes_again(finished: Path, tmp_path: Path, model_folder: Callable[..., Path]) -> None:
    train(load(tmp_path / "again", model_folder()))
    assert bytes_of(tmp_path / "again") == bytes_of(finished)
    train(load(tmp_path / "other", model_folder(), "--seed_num", "43"))
    assert last_bytes(tmp_path / "other") != last_bytes(finished)


def test_the_stored_config_repeats_the_run(finished: Path, tmp_path: Path) -> None:
    experiment = config.load(str(finished / "config.json"), ["--log_dir", str(tmp_path / "again")])
    train(experiment)
    assert bytes_of(tmp_path / "again") == bytes_of(finished)


@pytest.mark.parametrize("workers", ["0", "3"])
def test_workers_change_nothing(
    workers: str, finished: Path, tmp_path: Path, model_folder: Callable[..., Path]
) -> None:
    train(load(tmp_path / "w", model_folder(), "--workers", workers))
    assert bytes_of(tmp_path / "w") == bytes_of(finished)


def test_evaluating_more_often_changes_no_weight(
    finished: Path, tmp_path: Path, model_folder: Callable[..., Path]
) -> None:
    train(load(tmp_path / "often", model_folder(), "--eval_and_save_step_count", "1"))
    assert last_bytes(tmp_path / "often") == last_bytes(finished)


class Stop(Exception):
    """Ends a run as a crash would."""


@pytest.mark.parametrize("step", [1, 4, 7, 8, 11])
def test_interrupted_at_any_step_and_resumed(
    step: int, finished: Path, tmp_path: Path, model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C: the run saves itself after the step."""
    experiment = load(tmp_path / "cut", model_folder())
    with monkeypatch.context() as patch:
        epoch = BatchStream.epoch

        def interrupting(self: BatchStream, number: int, start: int = 0, paused: Any = ()) -> Any:
            for index, batch in enumerate(epoch(self, number, start, paused), start=1):
                if index == step:
                    signal.raise_signal(signal.SIGINT)
                yield batch

        patch.setattr(BatchStream, "epoch", interrupting)
        with pytest.raises(Interrupted, match=f"stopped after step {step}"):
            train(experiment)
    train(experiment, resume=True)
    assert bytes_of(tmp_path / "cut") == bytes_of(finished)
    for name in ("last/sha256.json", "best/sha256.json"):  # all files
        assert (tmp_path / "cut" / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.parametrize("moment", ["best/", "last/", "between"])
def test_killed_while_saving_and_resumed(
    moment: str, finished: Path, tmp_path: Path, model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second save dies before, within and between the two folders."""
    experiment = load(tmp_path / "cut", model_folder())
    saves = []
    with monkeypatch.context() as patch:
        keep_best, keep_last = CheckpointManager.save_best, CheckpointManager.save_last

        def dying_best(self: CheckpointManager, report: Any) -> None:
            saves.append("best")
            if len(saves) > 1 and moment == "best/":
                replace_dir_atomic(self._run_dir / "best", lambda new: (_ for _ in ()).throw(Stop()))
            keep_best(self, report)
            if len(saves) > 1 and moment == "between":
                raise Stop

        def dying_last(self: CheckpointManager, state: State) -> None:
            if state.step > 4 and moment in ("last/", "best/", "between"):
                os.replace(self._run_dir / "last", self._run_dir / ".last.old")  # killed between the two renames
                raise Stop
            keep_last(self, state)

        patch.setattr(CheckpointManager, "save_best", dying_best)
        patch.setattr(CheckpointManager, "save_last", dying_last)
        with pytest.raises(Stop):
            train(experiment)
    train(experiment, resume=True)
    assert bytes_of(tmp_path / "cut") == bytes_of(finished)


def test_a_best_checkpoint_of_a_lost_evaluation_is_forgotten(
    tmp_path: Path, model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second evaluation is the best one, and the process dies before `last/` says so. With other padding, dropout
    draws other masks, so that it does not repeat exactly."""
    with monkeypatch.context() as patch:
        keep_last = CheckpointManager.save_last

        def dying_last(self: CheckpointManager, state: State) -> None:
            if state.step > 4:
                raise Stop
            keep_last(self, state)

        patch.setattr(CheckpointManager, "save_last", dying_last)
        patch.setattr(loop, "is_better", lambda *_, **__: True)
        with pytest.raises(Stop):
            train(load(tmp_path / "cut", model_folder()))
    monkeypatch.setattr(loop, "is_better", lambda *_, **__: False)
    train(load(tmp_path / "cut", model_folder(), "--padding", "keep"), resume=True)
    metrics = json.loads((tmp_path / "cut/metrics.json").read_text())
    assert metrics["best_global_step"] == 8
    predictions = (tmp_path / "cut/predictions/nsmc-valid.jsonl").read_bytes()
    report = evaluate_run(tmp_path / "cut")
    assert (tmp_path / "cut/predictions/nsmc-valid.jsonl").read_bytes() == predictions
    assert report.logs()["valid/accuracy"] == metrics["best_score"]


@pytest.mark.slow
def test_kill_minus_nine_at_random_moments(tmp_path: Path, model_folder: Callable[..., Path]) -> None:
    """Real processes, killed without warning until one gets through."""
    words = ["--eval_and_save_step_count", "3", "--num_steps", "24"]
    train(load(tmp_path / "whole", model_folder(), *words))
    experiment = load(tmp_path / "cut", model_folder(), *words)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(experiment.values))
    code = "from claf2 import config; from claf2.runs.train import train; "
    code += f"train(config.load({str(path)!r}), resume=True)"
    dice, kills = random.Random(7), 0
    for _ in range(20):
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
        started = time.monotonic()
        while not (tmp_path / "cut/metrics.jsonl").exists() and process.poll() is None:
            time.sleep(0.02)
        if kills < 3:
            time.sleep(dice.random() * 1.5 + (6.0 if time.monotonic() - started < 1 else 0.0))
            process.kill()
            kills += 1
        _, errors = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors.decode()
    assert process.returncode == 0
    assert bytes_of(tmp_path / "cut") == bytes_of(tmp_path / "whole")


def test_a_resume_refuses_what_has_changed(tmp_path: Path, model_folder: Callable[..., Path]) -> None:
    data = tmp_path / "train.txt"
    data.write_text("id\tdocument\tlabel\n" + "".join(f"{n}\tthe film {n}\t{n % 2}\n" for n in range(64)))
    words = ["--data_reader.source", "local", "--train_file_path", str(data), "--valid_file_path", str(data)]
    experiment = load(tmp_path / "run", model_folder(), *words)
    train(experiment)
    (tmp_path / "run/metrics.json").unlink()
    with pytest.raises(RunError, match="experiment has changed since the run began"):
        train(load(tmp_path / "run", model_folder(), *words, "--learning_rate", "0.5"), resume=True)
    with pytest.raises(RunError, match="experiment has changed since the run began"):
        train(load(tmp_path / "run", model_folder(), *words, "--num_steps", "8"), resume=True)
    shutil.copy(data, tmp_path / "moved.txt")  # the same bytes
    train(load(tmp_path / "run", model_folder(), *words, "--train_file_path", str(tmp_path / "moved.txt")), resume=True)
    (tmp_path / "run/metrics.json").unlink()
    data.write_text(data.read_text() + "99\tmore\t1\n")
    with pytest.raises(RunError, match="data train has changed since the run began"):
        train(experiment, resume=True)


def test_a_run_is_not_replaced_unasked(finished: Path, model_folder: Callable[..., Path]) -> None:
    before = bytes_of(finished)
    with pytest.raises(RunError, match="holds a finished run: add --resume to continue it, or --overwrite"):
        train(load(finished, model_folder()))
    train(load(finished, model_folder()), resume=True)
    assert bytes_of(finished) == before
    train(load(finished, model_folder()), overwrite=True)
    assert bytes_of(finished) == before


def test_a_damaged_checkpoint_is_refused(finished: Path, model_folder: Callable[..., Path]) -> None:
    (finished / "metrics.json").unlink()
    weights = finished / "last/shard-00001-model-00001-of-00001.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"\.safetensors: changed since it was saved; last/ is damaged"):
        train(load(finished, model_folder()), resume=True)


def test_a_task_among_one_is_the_single_task(model_folder: Callable[..., Path]) -> None:
    """There is no second code path: the stream of one task is plain shuffling, and a model of one head that head."""
    import numpy as np
    import pyarrow as pa

    from claf2.data.batch import TaskDataset
    from claf2.data.features import FeatureSet
    from claf2.runtime.seed import generator

    table = pa.table({"input_ids": [[2, n, 3] for n in range(4, 24)], "labels": [n % 2 for n in range(20)]})
    table = table.append_column("token_type_ids", pa.array([[0, 0, 0]] * 20))
    stream = BatchStream(
        {"t": TaskDataset(FeatureSet(table, {}, np.zeros(20)), 0, {"labels": 0})}, batch_sizes={"t": 8}, seed=5
    )
    seen = np.concatenate([parts[0].arrays["input_ids"][:, 1] for _, parts in stream.epoch(2)])
    assert (seen - 4 == generator(5, "order", "t", 2).permutation(20)).all()
    assert [task for task, _ in stream.epoch(2)] == ["t"] * 3


def test_a_mix_of_tasks_is_shuffled_by_seed_and_epoch_alone(model_folder: Callable[..., Path]) -> None:
    import numpy as np
    import pyarrow as pa

    from claf2.data.batch import TaskDataset
    from claf2.data.features import FeatureSet

    table = pa.table({"input_ids": [[2, 3]] * 20, "token_type_ids": [[0, 0]] * 20, "labels": [0] * 20})
    source = TaskDataset(FeatureSet(table, {}, np.zeros(20)), 0, {"labels": 0})
    stream = BatchStream({"a": source, "b": source}, batch_sizes={"a": 4, "b": 4}, seed=5)
    first, second = ([task for task, _ in stream.epoch(epoch)] for epoch in (0, 1))
    assert sorted(first) == ["a"] * 5 + ["b"] * 5
    assert first != second
    assert [task for task, _ in stream.epoch(0, start=3)] == first[3:]


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    from claf2.errors import ModelError
    from claf2.training.shards import load_shards, save_shards

    def make(size: int | None) -> tuple[EncoderWithHeads, torch.optim.Optimizer]:
        head = torch.nn.Identity() if size is None else torch.nn.Linear(size, 1)
        model = EncoderWithHeads({"t": head}, takes_segments=False, extra_inputs={"t": ()})
        return model, torch.optim.SGD([*model.parameters(), torch.nn.Parameter(torch.zeros(1))], 0.1)

    save_shards(tmp_path, *make(2))
    load_shards(tmp_path, *make(2))
    for other in (None, 3):
        with pytest.raises(ModelError, match="another model"):
            load_shards(tmp_path, *make(other))
