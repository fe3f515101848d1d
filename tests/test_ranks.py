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

from claf2 import config, run
from claf2.split import share
from claf2.store import read_predictions

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
from claf2 import config, ranks, run
with ranks.joined():
    for base, words in json.load(open(sys.argv[1])):
        run.train(config.load(base, words))
"""
"""Makes one run after another, so that processes are started once."""


def scores(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: each for name, each in last(folder).items() if not name.startswith("optimizer.")}


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


def test_two_processes_make_the_run_of_one(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """The same losses, scores, predictions in the same order, and weights, up to rounding."""
    model = model_folder(**NO_DROPOUT)
    jobs = []
    for name, (base, words, ways) in CASES.items():
        usual = ["--pretrained_model_name", str(model), *USUAL, *words]
        run.train(config.load(base, [*usual, "--log_dir", str(tmp_path / name)]))
        jobs += [(base, [*usual, *way, "--log_dir", str(tmp_path / "".join([name, *way, " 2"]))]) for way in ways]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    (tmp_path / "driver.py").write_text(DRIVER)
    ended = start(*TORCHRUN, tmp_path / "driver.py", tmp_path / "jobs.json")
    assert not ended.returncode, ended.stderr[-3000:]
    for name, (_, _, ways) in CASES.items():
        for way in ways:
            same_run(tmp_path / name, tmp_path / "".join([name, *way, " 2"]), rough=name in ("bf16", "fp16"))


def same_run(mine: Path, other: Path, *, rough: bool) -> None:
    one, two = scores(mine), scores(other)
    assert one[0]["train/loss"] == pytest.approx(two[0]["train/loss"], abs=1e-2 if rough else 1e-5), other
    for ours, theirs in zip(one, two, strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            close = pytest.approx(value, abs=(2e-2 if rough else 2e-3) if "loss" in key else 2.1)
            assert theirs[key] == close, (other, key)
    if not rough:
        left, right = weights(mine), weights(other)
        assert left.keys() == right.keys()
        for key, each in left.items():
            torch.testing.assert_close(each, right[key], atol=2e-4, rtol=1e-3)
    for path in sorted((mine / "predictions").iterdir()):
        answers = [read_predictions(each / "predictions" / path.name) for each in (mine, other)]
        assert [each.id for each in answers[0]] == [each.id for each in answers[1]]
    rows = [json.loads((each / "last/state.json").read_text())["rows"] for each in (mine, other)]
    assert rows[0] == rows[1]
    for best in (other / "best").rglob("model.safetensors"):
        assert load_file(best).keys() == load_file(mine / best.relative_to(other)).keys()
    assert AutoModel.from_pretrained(next((other / "best").rglob("config.json")).parent)


@given(lengths=st.lists(st.integers(1, 200), min_size=1, max_size=64), of=st.integers(1, 8))
def test_shares_are_disjoint_whole_and_even(lengths: list[int], of: int) -> None:
    tokens = np.array(lengths)
    shares = [share(tokens, which, of) for which in range(of)]
    assert sorted(int(row) for mine in shares for row in mine) == list(range(len(lengths)))
    sums = [int(tokens[mine].sum()) for mine in shares]
    assert max(sums) - min(sums) <= max(lengths)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1 + (len(lengths) % (2 * of) > of)


INTERRUPTED = """
import json, signal, sys
from claf2 import config, errors, loop, ranks, run
step, base, words = json.loads(sys.argv[1])
due = loop.Plan.due
def interrupting(self, state):
    if state.step == step:
        signal.raise_signal(signal.SIGINT)
    return due(self, state)
loop.Plan.due = interrupting
with ranks.joined():
    try:
        run.train(config.load(base, words), resume=True)
    except errors.Interrupted:
        pass
"""


def test_resumed_with_other_processes(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Two that share the weights, then one, then two that have them whole: the numbers go on."""
    base, words, _ = CASES["packed"]
    given = ["--pretrained_model_name", str(model_folder(**NO_DROPOUT)), *USUAL, *words, "--num_steps", "12"]
    run.train(config.load(base, [*given, "--log_dir", str(tmp_path / "whole")]))
    done = tmp_path / "parts"
    script = tmp_path / "driver.py"
    script.write_text(INTERRUPTED)
    for step, launcher, engine in ((4, TORCHRUN, "fsdp"), (8, [sys.executable], "fsdp"), (12, TORCHRUN, "ddp")):
        job = [step if step < 12 else 0, base, [*given, "--engine", engine, "--log_dir", str(done)]]
        ended = start(*launcher, script, json.dumps(job))
        state = json.loads((done / "last/state.json").read_text())
        assert state["step"] == step, ended.stderr[-3000:]
        assert len(list((done / "last").glob("*.safetensors"))) == (1 if step == 8 else 2)
    assert [each["step"] for each in scores(done)] == [4, 8, 12]
    same_run(tmp_path / "whole", done, rough=False)


def test_processes_of_different_runs_refuse_each_other(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    code = """
import os, sys
sys.argv = ["train.py", *sys.argv[1:], "--seed_num", os.environ["RANK"]]
from claf2.cli import train
train()
"""
    script = tmp_path / "apart.py"
    script.write_text(code)
    model, folder = model_folder(), tmp_path / "run"
    words = ["--base_config", "glue/mrpc_bert", "--pretrained_model_name", model, "--log_dir", folder, *USUAL]
    ended = start(*TORCHRUN, script, *words)
    assert ended.returncode
    assert "process 1 has another experiment than process 0: start all alike" in ended.stderr


def test_a_killed_process_ends_the_run_which_can_be_resumed(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    base, words, _ = CASES["packed"]
    given = ["--pretrained_model_name", str(model_folder(**NO_DROPOUT)), *USUAL, *words]
    code = """
import os, signal, sys
from claf2 import loop
due = loop.Plan.due
def dying(self, state):
    if state.step == 6 and os.environ["RANK"] == "1" and not os.path.exists(sys.argv[0] + ".died"):
        open(sys.argv[0] + ".died", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return due(self, state)
loop.Plan.due = dying
from claf2.cli import train
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
    run.train(config.load(base, [*given, "--log_dir", str(tmp_path / "whole")]))
    same_run(tmp_path / "whole", tmp_path / "run", rough=False)
