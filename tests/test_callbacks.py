"""Callbacks: a plug-in's own, and the trackers, which write with their real libraries."""

from __future__ import annotations

import json
import logging
import signal
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

import claf2
from claf2.errors import ConfigError, Interrupted
from claf2.training.callbacks import Callback, CallbackList, callbacks

STEPS = 6


class StepRecorder(claf2.CallbackSpec):
    """Writes what it observes into a file beside the folder of the run."""

    interrupt_at: int | None = Field(None, ge=1, le=100)
    fail_at: int | None = Field(None, ge=1, le=100)

    def build(self, run: claf2.RunInfo) -> claf2.Callback:
        path, spec = run.folder.with_suffix(".observed"), self

        class Recorder(claf2.Callback):
            def on_step(self, state: Any, loss: Any, learning_rate: float) -> None:
                with path.open("a") as file:
                    file.write(f"step {state.step}\n")
                if state.step == spec.interrupt_at:
                    signal.raise_signal(signal.SIGINT)
                if state.step == spec.fail_at:
                    raise OSError("the server does not answer")

            def on_report(self, state: Any, report: claf2.Report, logs: Mapping[str, float | None]) -> None:
                with path.open("a") as file:
                    file.write(f"report {sorted(logs)}\n")

            def close(self) -> None:
                with path.open("a") as file:
                    file.write("closed\n")

        return Recorder()


callbacks.add("recorder", StepRecorder, origin=__name__)


@pytest.fixture
def load(tmp_path: Path, model_folder: Callable[..., Path]) -> Callable[..., claf2.Experiment]:
    """Load a short experiment in ``tmp_path / "run"``, with callbacks by name."""

    def load(*words: str, **settings: Mapping[str, Any] | None) -> claf2.Experiment:
        return claf2.load(
            "scratch/nsmc",
            sample=True,
            argv=[
                "--log_dir", str(tmp_path / "run"), "--pretrained_model_name", str(model_folder()),
                "--num_steps", str(STEPS), "--eval_and_save_step_count", "3", "--verbose_step_count", "2",
                *words,
                *(word for name, values in settings.items()
                  for word in (f"--runtime.callbacks.{name}", json.dumps(values))),
            ],
        )  # fmt: skip

    return load


def scores_of(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of ``metrics.jsonl``."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_plugin_observes_a_run(tmp_path: Path, load: Callable[..., claf2.Experiment]) -> None:
    claf2.train(load(recorder={}))
    report = "report ['train/loss', 'valid/accuracy', 'valid/loss']"
    lines = (tmp_path / "run.observed").read_text().splitlines()
    assert lines == ["step 1", "step 2", "step 3", report, "step 4", "step 5", "step 6", report, "closed"]


def test_a_callback_that_fails_is_removed_and_the_run_continues(
    tmp_path: Path, load: Callable[..., claf2.Experiment], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, logger="claf2"):
        logging.getLogger("claf2").propagate = True
        claf2.train(load(recorder={"fail_at": 2}))
    assert "Recorder failed and is disabled; the run continues" in caplog.text
    assert (tmp_path / "run.observed").read_text().splitlines() == ["step 1", "step 2"]
    assert [line["step"] for line in scores_of(tmp_path / "run")] == [3, 6]


def test_callbacks_are_no_part_of_the_recipe_or_of_the_run(load: Callable[..., claf2.Experiment]) -> None:
    plain, observed = load(), load(recorder={})
    assert plain.recipe_digest() == observed.recipe_digest()
    assert plain.digest() == observed.digest()


def test_tensorboard_is_the_default_and_can_be_left_out(tmp_path: Path, load: Callable[..., claf2.Experiment]) -> None:
    claf2.train(load())
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))
    claf2.train(load(tensorboard=None), overwrite=True)
    assert not list((tmp_path / "run").glob("events.out.tfevents.*"))


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_library_is_named_before_anything_is_replaced(
    name: str, tmp_path: Path, load: Callable[..., claf2.Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    claf2.train(load())
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError) as caught:
        claf2.train(load(**{name: {}}), overwrite=True)
    assert str(caught.value) == f"runtime.callbacks.{name}: {name} is not installed; pip install 'claf2[{name}]'"
    assert (tmp_path / "run/metrics.json").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries under MLflow
def test_a_tracker_that_cannot_start_ends_the_run_before_its_first_step(
    tmp_path: Path, load: Callable[..., claf2.Experiment]
) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'claf2[mlflow]'")
    with pytest.raises(ConfigError, match=r"mlflow: cannot start: .*--runtime\.callbacks\.mlflow null"):
        claf2.train(load(mlflow={"tracking_uri": "nonsense://"}))
    assert not (tmp_path / "run/last").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries under MLflow
def test_mlflow_records_a_run_that_is_interrupted_and_resumed(
    tmp_path: Path, load: Callable[..., claf2.Experiment]
) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'claf2[mlflow]'")
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracker = {"tracking_uri": uri, "experiment_name": "nsmc", "tags": {"team": "a"}}
    with pytest.raises(Interrupted):
        claf2.train(load(mlflow=tracker, recorder={"interrupt_at": 4}))
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("nsmc")
    assert experiment is not None
    (record,) = client.search_runs([experiment.experiment_id])
    assert record.info.status == "KILLED"

    finished = load(mlflow=tracker)
    claf2.train(finished, resume=True)
    (record,) = client.search_runs([experiment.experiment_id])  # the same record
    assert record.info.status == "FINISHED"
    assert record.info.run_name == str(tmp_path / "run")
    assert record.data.tags["team"] == "a"
    assert record.data.tags["claf2.recipe"] == finished.recipe_digest()
    assert record.data.params["trainer.num_steps"] == str(STEPS)
    history = client.get_metric_history(record.info.run_id, "valid/loss")
    assert {(metric.step, metric.value) for metric in history} == {
        (line["step"], line["valid/loss"]) for line in scores_of(tmp_path / "run")
    }
    losses = client.get_metric_history(record.info.run_id, "train/batch_loss")
    assert {metric.step for metric in losses} == {2, 4, 6}

    claf2.train(finished, overwrite=True)  # another run, in the same folder
    assert len(client.search_runs([experiment.experiment_id])) == 2


def records(path: Path) -> Iterator[Any]:
    """Yield the records of an offline run of Weights & Biases: protocol buffers in a log of blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    content, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(content):
        left = 32768 - position % 32768
        if left < 7:  # the rest of a block that is too short for a header
            position += left
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def test_weights_and_biases_records_a_run_offline(tmp_path: Path, load: Callable[..., claf2.Experiment]) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed: pip install 'claf2[wandb]'")
    (tmp_path / "w").mkdir()
    tracker = {"mode": "offline", "dir": str(tmp_path / "w"), "project": "nsmc", "group": "seeds"}
    claf2.train(load(wandb=tracker))
    (path,) = (tmp_path / "w").rglob("*.wandb")
    run, history = None, []
    for record in records(path):
        if record.WhichOneof("record_type") == "run":
            run = record.run
        elif record.WhichOneof("record_type") == "history":
            items = {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
            history.append(items)
    assert run is not None
    assert (run.project, run.run_group, run.display_name) == ("nsmc", "seeds", str(tmp_path / "run"))
    assert run.run_id == json.loads((tmp_path / "run/run.json").read_text())["id"]
    assert {item.key: json.loads(item.value_json) for item in run.config.update}["trainer"]["num_steps"] == STEPS
    assert [entry["step"] for entry in history if "train/batch_loss" in entry] == [2, 4, 6]
    recorded = [{name: entry[name] for name in ("step", "valid/loss")} for entry in history if "valid/loss" in entry]
    assert recorded == [{name: line[name] for name in ("step", "valid/loss")} for line in scores_of(tmp_path / "run")]


def test_the_last_callback_is_closed_first() -> None:
    closed = []

    class Closes(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def close(self) -> None:
            closed.append(self.name)

    with CallbackList([Closes("notify"), Closes("store")]):
        pass
    assert closed == ["store", "notify"]
