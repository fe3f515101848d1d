"""The first commands of a user, as processes and in order: train, resume, evaluate, predict, bench.

`make test-lowest` runs these and the other tests marked `smoke` with the lowest versions that setup.py allows.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from claf2.task import shipped_dir

pytestmark = pytest.mark.smoke

TRAIN, EVALUATE = (shipped_dir("tasks").parent / name for name in ("train.py", "evaluate.py"))
CLAF2 = [sys.executable, "-c", "from claf2.cli.main import main; main()"]
DEMO = ["--base_config", "scratch/korquad", "--sample", "--num_steps", "40", "--batch_size", "8"]


def output_of(*words: object, cwd: Path) -> str:
    """Run a command in a folder, check that it succeeds without a warning, and return what it prints."""
    process = subprocess.run(list(map(str, words)), cwd=cwd, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "Warning" not in process.stderr
    return process.stdout


def interrupt_after_two_steps(words: list[str], cwd: Path) -> None:
    """Train until the second step, and send Ctrl-C."""
    with subprocess.Popen(words, cwd=cwd, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "Step: 2/" not in (line := process.stderr.readline()):
            assert line, f"the run ended before its second step: {process.wait()}"
        process.send_signal(signal.SIGINT)
        process.stderr.read()
    assert process.returncode == 130


@pytest.mark.slow
def test_train_resume_evaluate_predict(tmp_path: Path) -> None:
    # One test, not four: parallel workers would train once each.
    words = [sys.executable, str(TRAIN), *DEMO, "--verbose_step_count", "1"]
    interrupt_after_two_steps(words, tmp_path)
    scores = output_of(*words, "--resume", cwd=tmp_path)
    run = tmp_path / "logs/scratch/korquad"
    metrics = json.loads((run / "metrics.json").read_text())
    assert scores.startswith(f"valid/f1: {metrics['best_score']:.4f}")
    assert metrics["best_global_step"] == 40
    (resumed,) = json.loads((run / "run.json").read_text())["resumed"]
    assert 2 <= resumed["step"] < 40
    assert resumed["changed"] == {}
    assert (run / "best/model.safetensors").is_file()
    assert [path for path in run.iterdir() if "tfevents" in path.name]

    assert output_of(sys.executable, EVALUATE, run, cwd=tmp_path) == scores

    context = "서울은 한국의 수도이다"
    request = ["--question", "수도는 어디인가", "--context", context]
    answer = json.loads(output_of(*CLAF2, "predict", run, *request, cwd=tmp_path))
    assert answer["prediction"] in context


def test_bench_and_its_report(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    words = ["--models", model_folder(), "--suite", "glue", "--tasks", "rte", "--seeds", "1", "--sample"]
    table = output_of(*CLAF2, "bench", "run", *words, "--num_steps", "2", "--out", "bench", cwd=tmp_path)
    assert "rte" in table
    output_of(*CLAF2, "bench", "report", "bench", "--output", "report.html", cwd=tmp_path)
    assert "rte" in (tmp_path / "report.html").read_text(encoding="utf-8")
