"""Several processes: the same run as one makes, shared fairly, resumed, and ended together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from stored import last
from transformers import AutoModel

from claf2 import config
from claf2.data.microbatch import partition_by_length
from claf2.data.samples import write_sample
from claf2.errors import RunError
from claf2.evaluation.predictions import read_predictions
from claf2.runs.train import train
from claf2.runtime import distributed
from claf2.task import tasks

ROOT = Path(__file__).parents[1]
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def start(*words: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [str(word) for word in words],
        check=False,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
    )


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]

USUAL = ["--num_steps", "8", "--eval_and_save_step_count", "4", "--learning_rate", "1e-3", "--source", "sample"]

DRIVER = """
import json, sys
from claf2 import config
from claf2.runtime import distributed
from claf2.runs.train import train
from claf2.runtime import distributed
from claf2.task import tasks
with distributed.process_group():
    for base, words in json.load(open(sys.argv[1])):
        train(config.load(base, words))
"""
"""Makes one run after another, so that processes are started once."""


def scores(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in last(folder).items() if not name.startswith("optimizer.")}


SEVERAL = ["--tasks", "glue/rte_bert,glue/stsb_bert,squad/v1_bert", "--trainer.name", "finetune", "--batch_size", "5",
           "--op_type", "sgd"]  # fmt: skip
"""Adam would make steps of rounding, in the bias of a span, which shifts nothing."""

FSDP = ("--engine", "fsdp")

CASES: dict[str, tuple[str, list[str], list[tuple[str, ...]]]] = {
    "packed": ("glue/mrpc_bert", ["--batch_size", "15"], [(), FSDP, (*FSDP, "--activation_checkpointing", "true")]),
    "split, uneven, accumulated": (
        "conll2003/ner_bert",
        ["--padding", "split", "--micro_batch_overhead", "4", "--batch_size", "7",
         "--gradient_accumulation_steps", "2"],
        [(), FSDP],
    ),
    "a batch smaller than the processes": ("glue/mrpc_bert", ["--batch_size", "1"], [(), FSDP]),
    "several tasks": ("multi_task/mtdnn", SEVERAL, [(), FSDP]),
    "several tasks with objectives": (
        "multi_task/mtdnn", [*SEVERAL, "--objectives.uncertainty", "{}", "--objectives.smart", "{}"], [(), FSDP]
    ),
    "bf16": ("glue/mrpc_bert", ["--batch_size", "15", "--precision", "bf16"], [(), FSDP]),
    "fp16": ("glue/mrpc_bert", ["--batch_size", "15", "--precision", "fp16"], [(), FSDP]),
}  # fmt: skip
"""A BaseConfig, what is set besides, and how two processes share the run."""


@pytest.mark.parametrize(
    "names",
    [
        ["split, uneven, accumulated"],
        pytest.param([name for name in CASES if "split" not in name], marks=pytest.mark.slow),
    ],
    ids=["split", "others"],
)
def test_two_processes_make_the_run_of_one(names: list[str], model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """The same losses, scores, predictions in the same order, and weights, up to rounding."""
    model = model_folder(**NO_DROPOUT)
    jobs = []
    cases = {name: CASES[name] for name in names}
    for name, (base, words, ways) in cases.items():
        usual = ["--pretrained_model_name", str(model), *USUAL, *words]
        train(config.load(base, [*usual, "--log_dir", str(tmp_path / name)]))
        jobs += [(base, [*usual, *way, "--log_dir", str(tmp_path / "".join([name, *way, " 2"]))]) for way in ways]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    (tmp_path / "driver.py").write_text(DRIVER)
    ended = start(*TORCHRUN, tmp_path / "driver.py", tmp_path / "jobs.json")
    assert not ended.returncode, ended.stderr[-3000:]
    for name, (_, _, ways) in cases.items():
        for way in ways:
            same_run(tmp_path / name, tmp_path / "".join([name, *way, " 2"]), rough=name in ("bf16", "fp16"))


def same_run(expected: Path, other: Path, *, rough: bool) -> None:
    one, two = scores(expected), scores(other)
    assert one[0]["train/loss"] == pytest.approx(two[0]["train/loss"], abs=1e-2 if rough else 1e-5), other
    for ours, other_scores in zip(one, two, strict=True):
        assert ours.keys() == other_scores.keys()
        for key, value in ours.items():
            close = pytest.approx(value, abs=(2e-2 if rough else 2e-3) if "loss" in key else 2.1)
            assert other_scores[key] == close, (other, key)
    if not rough:
        left, right = weights(expected), weights(other)
        for tensors in (left, right):  # with fsdp, all word embeddings are trained
            tensors.pop("heads.0.bert.embeddings.word_embeddings.factor", None)
        assert left.keys() == right.keys()
        for key, tensor in left.items():
            torch.testing.assert_close(tensor, right[key], atol=2e-4, rtol=1e-3)
    for path in sorted((expected / "predictions").iterdir()):
        answers = [read_predictions(folder / "predictions" / path.name) for folder in (expected, other)]
        assert [answer.id for answer in answers[0]] == [answer.id for answer in answers[1]]
    rows = [json.loads((folder / "last/state.json").read_text())["rows"] for folder in (expected, other)]
    assert rows[0] == rows[1]
    for best in (other / "best").rglob("model.safetensors"):
        assert load_file(best).keys() == load_file(expected / best.relative_to(other)).keys()
    assert AutoModel.from_pretrained(next((other / "best").rglob("config.json")).parent)


@given(lengths=st.lists(st.integers(1, 200), min_size=1, max_size=64), of=st.integers(1, 8))
def test_shares_are_disjoint_whole_and_even(lengths: list[int], of: int) -> None:
    tokens = np.array(lengths)
    shares = [partition_by_length(tokens, which, of) for which in range(of)]
    assert sorted(int(row) for share in shares for row in share) == list(range(len(lengths)))
    sums = [int(tokens[share].sum()) for share in shares]
    assert max(sums) - min(sums) <= max(lengths)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1 + (len(lengths) % (2 * of) > of)


INTERRUPTED = """
import json, signal, sys
from claf2 import config, errors
from claf2.training import loop
from claf2.runtime import distributed
from claf2.runs.train import train
from claf2.runtime import distributed
from claf2.task import tasks
step, base, words = json.loads(sys.argv[1])
is_due = loop.Plan.is_due
# Several processes tell each other of an interruption at the beginning of a step, and stop after it.
def interrupting(self, state):
    if state.step == step - (distributed.world_size() > 1):
        signal.raise_signal(signal.SIGINT)
    return is_due(self, state)
loop.Plan.is_due = interrupting
with distributed.process_group():
    try:
        train(config.load(base, words), resume=True)
    except errors.Interrupted:
        pass
"""


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, "they cannot connect: .*MASTER_ADDR"),
        ({"WORLD_SIZE": "two"}, "'two' is not a number of processes"),
    ],
)
def test_an_environment_of_half_a_launcher_names_the_way_out(
    variables: dict[str, str], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match=f"{problem}.*; start them with torchrun"), distributed.process_group():
        pass


@pytest.mark.slow
def test_resumed_with_other_processes(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Two that share the weights, then one, then two that have them whole: the numbers go on."""
    base, words, _ = CASES["packed"]
    given = ["--pretrained_model_name", str(model_folder(**NO_DROPOUT)), *USUAL, *words, "--num_steps", "12"]
    train(config.load(base, [*given, "--log_dir", str(tmp_path / "whole")]))
    done = tmp_path / "parts"
    script = tmp_path / "driver.py"
    script.write_text(INTERRUPTED)
    for step, launcher, engine in ((4, TORCHRUN, "fsdp"), (8, [sys.executable], "fsdp"), (12, TORCHRUN, "ddp")):
        job = [step if step < 12 else 0, base, [*given, "--engine", engine, "--log_dir", str(done)]]
        ended = start(*launcher, script, json.dumps(job))
        state = json.loads((done / "last/state.json").read_text())
        assert state["step"] == step, ended.stderr[-3000:]
        assert len(list((done / "last").glob("*.safetensors"))) == (1 if step == 8 else 2)
    assert [score["step"] for score in scores(done)] == [4, 8, 12]
    same_run(tmp_path / "whole", done, rough=False)


@pytest.mark.slow
def test_processes_of_different_runs_refuse_each_other(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    code = """
import os, sys
sys.argv = ["train.py", *sys.argv[1:], "--seed_num", os.environ["RANK"]]
from claf2.cli.main import train
train()
"""
    script = tmp_path / "apart.py"
    script.write_text(code)
    model, folder = model_folder(), tmp_path / "run"
    words = ["--base_config", "glue/mrpc_bert", "--pretrained_model_name", model, "--log_dir", folder, *USUAL]
    ended = start(*TORCHRUN, script, *words)
    assert ended.returncode
    assert "process 1 differs from process 0 in experiment: start all processes with" in ended.stderr


@pytest.mark.slow
def test_a_killed_process_ends_the_run_which_can_be_resumed(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    base, words, _ = CASES["packed"]
    given = ["--pretrained_model_name", str(model_folder(**NO_DROPOUT)), *USUAL, *words]
    code = """
import os, signal, sys
from claf2.training import loop
is_due = loop.Plan.is_due
def dying(self, state):
    if state.step == 6 and os.environ["RANK"] == "1" and not os.path.exists(sys.argv[0] + ".died"):
        open(sys.argv[0] + ".died", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return is_due(self, state)
loop.Plan.is_due = dying
from claf2.cli.main import train
train()
"""
    script = tmp_path / "dies.py"
    script.write_text(code)
    job = [str(script), "--base_config", base, *given, "--log_dir", str(tmp_path / "run"), "--resume"]
    ended = start(*TORCHRUN, *job)
    assert ended.returncode
    assert json.loads((tmp_path / "run/last/state.json").read_text())["step"] == 4
    (tmp_path / "dies.py.died").unlink()
    ended = start(*TORCHRUN, "--max-restarts", "1", *job)
    assert not ended.returncode, ended.stderr[-3000:]
    train(config.load(base, [*given, "--log_dir", str(tmp_path / "whole")]))
    same_run(tmp_path / "whole", tmp_path / "run", rough=False)


STOPPED = """
import os, signal, sys, time
from claf2.training import loop
is_due = loop.Plan.is_due
def stopping(self, state):
    if state.step == 2 and os.environ["RANK"] == "0":
        os.kill(os.getppid(), signal.SIGTERM)  # the launcher, which forwards it
    time.sleep(0.2)
    return is_due(self, state)
loop.Plan.is_due = stopping
from claf2.cli.main import train
train()
"""


@pytest.mark.slow
def test_a_stopped_launcher_and_a_refused_folder(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Every process saves its share, or ends with one line."""
    script = tmp_path / "stops.py"
    script.write_text(STOPPED)
    model, folder = model_folder(**NO_DROPOUT), tmp_path / "run"
    words = ["--base_config", "glue/mrpc_bert", "--pretrained_model_name", model, "--log_dir", folder, *USUAL]
    words += ["--num_steps", "500", "--eval_and_save_step_count", "500", "--engine", "fsdp"]
    ended = start(*TORCHRUN, script, *words)
    assert (folder / "last").exists(), ended.stderr[-3000:]
    step = json.loads((folder / "last/state.json").read_text())["step"]
    assert 2 <= step < 500
    assert len(list((folder / "last").glob("*.safetensors"))) == 2
    assert ended.stderr.count(f"error: stopped after step {step} and saved") == 2
    refused = start(*TORCHRUN, script, *words)
    assert f"error: {folder} holds an unfinished run: add --resume" in refused.stderr
    assert f"error: process 1 ends with the main process: {folder} holds an unfinished run" in refused.stderr
    assert "claf2/runs/" not in refused.stderr, "no traceback"


@pytest.mark.slow
def test_two_processes_evaluate_one_of_several_tasks(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """`evaluate RUN DATA_FILE --task NAME`: the predictions of one process, in the same order."""
    run = tmp_path / "run"
    words = [*SEVERAL, *USUAL, "--pretrained_model_name", str(model_folder()), "--log_dir", str(run)]
    train(config.load("multi_task/mtdnn", words))
    file = write_sample(tasks.get("rte"), tmp_path / "data")["valid"]
    alone = start(sys.executable, "-m", "claf2", "evaluate", run, file, "--task", "rte")
    assert not alone.returncode, alone.stderr[-3000:]
    path = run / "predictions/rte-eval.jsonl"
    expected = read_predictions(path)
    path.unlink()
    together = start(*TORCHRUN, "-m", "claf2", "evaluate", run, file, "--task", "rte")
    assert not together.returncode, together.stderr[-3000:]
    assert together.stdout == alone.stdout  # the main process prints, and only it
    predictions = read_predictions(path)
    assert [(one.id, one.prediction) for one in predictions] == [(one.id, one.prediction) for one in expected]
    assert [one.score for one in predictions] == pytest.approx([one.score for one in expected], rel=1e-4)
