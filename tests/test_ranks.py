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

from claf2 import config, run
from claf2.split import share
from claf2.store import read_predictions

ROOT = Path(__file__).parents[1]
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def train(folder: Path, model: Path, *words: str, processes: int = 1) -> None:
    """Train in this process, or by the command line in several that talk over loopback."""
    given = ["--pretrained_model_name", str(model), "--log_dir", str(folder), "--num_steps", "8",
             "--eval_and_save_step_count", "4", "--learning_rate", "1e-3", "--source", "sample"]  # fmt: skip
    if processes == 1:
        rest = [word for word in words if word != "--base_config"]
        base = rest.pop(0) if "--base_config" in words else "multi_task/mtdnn"
        run.train(config.load(base, [*given, *rest]))
        return
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    subprocess.run([*start, str(ROOT / "train.py"), *given, *words], check=True, **SETTINGS)


SETTINGS: dict[str, Any] = {
    "cwd": ROOT, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "capture_output": True, "text": True, "timeout": 240,
}  # fmt: skip


def scores(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


CASES = {
    "packed": ["--base_config", "glue/mrpc_bert", "--batch_size", "15"],
    "split, uneven, accumulated": [
        "--base_config", "conll2003/ner_bert", "--padding", "split", "--micro_batch_overhead", "4", "--batch_size", "7",
        "--gradient_accumulation_steps", "2",
    ],
    "a batch smaller than the processes": ["--base_config", "glue/mrpc_bert", "--batch_size", "1"],
    "several tasks": [
        "--tasks", "glue/rte_bert,glue/stsb_bert,squad/v1_bert", "--trainer.name", "finetune", "--batch_size", "5",
        "--op_type", "sgd",  # Adam would make steps of rounding, in the bias of a span, which shifts nothing
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_two_processes_make_the_run_of_one(name: str, model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """The same losses, scores, predictions in the same order, and weights, up to rounding."""
    model = model_folder(**NO_DROPOUT)
    for processes in (1, 2):
        train(tmp_path / str(processes), model, *CASES[name], processes=processes)
    one, two = scores(tmp_path / "1"), scores(tmp_path / "2")
    for mine, theirs in zip(one, two, strict=True):
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            assert theirs[key] == pytest.approx(value, abs=2e-3 if "loss" in key else 2.1), key
    assert one[0]["train/loss"] == pytest.approx(two[0]["train/loss"], abs=1e-5)
    weights = [load_file(tmp_path / each / "last/model.safetensors") for each in ("1", "2")]
    for key, each in weights[0].items():
        torch.testing.assert_close(each, weights[1][key], atol=2e-4, rtol=1e-3)
    for path in sorted((tmp_path / "1/predictions").iterdir()):
        answers = [read_predictions(tmp_path / each / "predictions" / path.name) for each in ("1", "2")]
        assert [each.id for each in answers[0]] == [each.id for each in answers[1]]
    rows = [json.loads((tmp_path / each / "last/state.json").read_text())["rows"] for each in ("1", "2")]
    assert rows[0] == rows[1]


@given(lengths=st.lists(st.integers(1, 200), min_size=1, max_size=64), of=st.integers(1, 8))
def test_shares_are_disjoint_whole_and_even(lengths: list[int], of: int) -> None:
    tokens = np.array(lengths)
    shares = [share(tokens, which, of) for which in range(of)]
    assert sorted(int(row) for mine in shares for row in mine) == list(range(len(lengths)))
    sums = [int(tokens[mine].sum()) for mine in shares]
    assert max(sums) - min(sums) <= max(lengths)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1 + (len(lengths) % (2 * of) > of)


def test_resumed_with_other_processes(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Two, then one, then two again: the numbers go on."""
    model, words = model_folder(**NO_DROPOUT), CASES["packed"]
    train(tmp_path / "whole", model, *words, "--num_steps", "12")
    done = tmp_path / "parts"
    for steps, processes in ((4, 2), (8, 1), (12, 2)):
        code = f"""
import os, signal, sys
from claf2 import loop
due = loop.Plan.due
def interrupting(self, state):
    if state.step == {steps} and {steps} < 12:
        signal.raise_signal(signal.SIGINT)
    return due(self, state)
loop.Plan.due = interrupting
from claf2.cli import train
sys.argv = ["train.py", *sys.argv[1:]]
train()
"""
        script = tmp_path / f"stop{steps}.py"
        script.write_text(code)
        start = [sys.executable]
        if processes > 1:
            start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        given = ["--pretrained_model_name", str(model), "--log_dir", str(done), "--sample", "--num_steps", "12",
                 "--eval_and_save_step_count", "4", "--learning_rate", "1e-3", "--resume"]  # fmt: skip
        ended = subprocess.run([*start, str(script), *words, *given], check=False, **SETTINGS)
        state = json.loads((done / "last/state.json").read_text())
        assert state["step"] == steps, ended.stderr
    one, other = scores(tmp_path / "whole"), scores(done)
    assert [each["step"] for each in one] == [each["step"] for each in other] == [4, 8, 12]
    for mine, theirs in zip(one, other, strict=True):
        assert theirs["valid/loss"] == pytest.approx(mine["valid/loss"], abs=2e-3)


def test_processes_of_different_runs_refuse_each_other(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    code = """
import os, sys
sys.argv = ["train.py", *sys.argv[1:], "--seed_num", os.environ["RANK"]]
from claf2.cli import train
train()
"""
    script = tmp_path / "apart.py"
    script.write_text(code)
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script),
         "--sample", "--base_config", "glue/mrpc_bert", "--pretrained_model_name", str(model_folder()), "--log_dir",
         str(tmp_path / "run"), "--num_steps", "2"],
        check=False, **SETTINGS,
    )  # fmt: skip
    assert ended.returncode
    assert "process 1 has another experiment than process 0: start all alike" in ended.stderr


def test_a_killed_process_ends_the_run_which_can_be_resumed(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    model, words = model_folder(**NO_DROPOUT), CASES["packed"]
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
    given = [str(script), *words, "--pretrained_model_name", str(model), "--log_dir", str(tmp_path / "run"), "--sample",
             "--num_steps", "8", "--eval_and_save_step_count", "4", "--learning_rate", "1e-3", "--resume"]  # fmt: skip
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    ended = subprocess.run([*start, *given], check=False, **SETTINGS)
    assert ended.returncode
    assert json.loads((tmp_path / "run/last/state.json").read_text())["step"] == 4
    (tmp_path / "dies.py.died").unlink()
    subprocess.run([*start, "--max-restarts", "1", *given], check=True, **SETTINGS)
    train(tmp_path / "whole", model, *words, processes=2)
    assert scores(tmp_path / "whole") == scores(tmp_path / "run")
