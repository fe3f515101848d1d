"""What a run costs, so that it can be planned: ``python benchmarks/costs.py``.

Trains encoders with fresh weights on generated rows of random words, one value of rows, length or size changed at a
time, each run in a process of its own, and prints seconds and peak memory with the exponent between neighboring values:
1 means proportional. ``--estimates`` instead compares what ``claf2 explain`` predicts with the run that follows, for
ten runs on real data. One thread, unless ``OMP_NUM_THREADS`` says otherwise.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results import TASKS

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Setting:
    """One run of the table."""

    rows: int = 2_000
    length: int = 32
    layers: int = 2
    width: int = 128
    batch: int = 32
    steps: int = 100
    cached: bool = False
    """Whether to train again with the features of the first run."""


ROWS = [Setting(rows=rows, cached=True) for rows in (1_000, 10_000, 100_000, 1_000_000)]
LENGTHS = [Setting(length=length, layers=4, width=256, batch=16, steps=12) for length in (32, 64, 128, 256, 512)]
SIZES = [
    Setting(length=128, layers=layers, width=width, batch=16, steps=6)
    for layers, width in ((2, 128), (4, 256), (6, 384), (12, 384), (12, 768))
]

ESTIMATED: list[tuple[str, str, list[str]]] = [
    ("mrpc", "minilm", ["--num_steps", "60"]),
    ("rte", "minilm", ["--num_steps", "40"]),
    ("sst", "minilm", ["--num_steps", "120"]),
    ("stsb", "minilm", ["--num_steps", "80"]),
    ("wnut17", "minilm", ["--num_steps", "60"]),
    ("squad", "minilm", ["--num_steps", "16", "--batch_size", "8"]),
    ("nsmc", "multilingual", ["--num_steps", "40"]),
    ("klue_nli", "multilingual", ["--num_steps", "30"]),
    ("klue_ner", "multilingual", ["--num_steps", "24", "--max_seq_length", "128"]),
    ("jcommonsenseqa", "multilingual", ["--num_steps", "24", "--batch_size", "8"]),
]
"""Task, model and options of the runs whose estimate is checked."""


def claf2(words: list[str]) -> str:
    """Run a command, and return what it printed."""
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "claf2", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"claf2 {' '.join(words)}\n{done.stderr[-2000:]}")
    return done.stdout


def train(words: list[str], folder: Path) -> dict[str, Any]:
    """Train, and return the record of the run."""
    claf2(["train", *words, "--log_dir", str(folder), "--overwrite"])
    record: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return record


def write_rows(path: Path, rows: int, length: int) -> None:
    """Write labeled rows of random words, of half the length to all of it."""
    draw = random.Random(0)
    words = [f"w{number}" for number in range(3_000)]
    with path.open("w", encoding="utf-8") as file:
        file.write("id\tdocument\tlabel\n")
        for row in range(rows):
            count = draw.randint(length // 2, length) - 2
            file.write(f"{row}\t{' '.join(draw.choices(words, k=max(1, count)))}\t{row % 2}\n")


def measure(setting: Setting, folder: Path) -> dict[str, float]:
    """Return the seconds besides training without and with a cache, those of a step, and the peak in MiB."""
    data, valid = folder / "train.txt", folder / "valid.txt"
    write_rows(data, setting.rows, setting.length)
    write_rows(valid, 64, setting.length)
    architecture = {
        "model_type": "bert", "hidden_size": setting.width, "num_hidden_layers": setting.layers,
        "num_attention_heads": max(1, setting.width // 64), "intermediate_size": 4 * setting.width,
        "max_position_embeddings": 512,
    }  # fmt: skip
    words = ["--base_config", "scratch/nsmc", "--train_file_path", str(data), "--valid_file_path", str(valid)]
    words += ["--architecture", json.dumps(architecture), "--max_seq_length", str(setting.length)]
    words += ["--batch_size", str(setting.batch), "--num_steps", str(setting.steps), "--vocab_size", "4000"]
    words += ["--eval_and_save_step_count", str(setting.steps), "--verbose_step_count", "1000000"]
    words += ["--cache_dir", str(folder / "cache")]
    first = train(words, folder / "run")
    again = train(words, folder / "run") if setting.cached else first
    return {
        "before": first["wall_seconds"] - first["train_seconds"],
        "cached": again["wall_seconds"] - again["train_seconds"],
        "step": min(first["train_seconds"], again["train_seconds"]) / setting.steps,
        "memory": first["peak_memory_mib"],
    }


def print_series(name: str, settings: list[Setting], values: list[int], columns: dict[str, str]) -> None:
    """Print a row for each setting; in parentheses the exponent since the row above."""
    print(f"| {name} | " + " | ".join(columns.values()) + " |\n" + "| --- " * (len(columns) + 1) + "|")
    before: tuple[int, dict[str, float]] | None = None
    for setting, value in zip(settings, values, strict=True):
        with tempfile.TemporaryDirectory() as scratch:
            costs = measure(setting, Path(scratch))
        cells = []
        for column in columns:
            exponent = math.log(costs[column] / before[1][column]) / math.log(value / before[0]) if before else None
            cells.append(f"{costs[column]:,.3g}" + (f" ({exponent:.2f})" if exponent is not None else ""))
        print(f"| {value:,} | " + " | ".join(cells) + " |", flush=True)
        before = (value, costs)


def print_estimates(models: dict[str, str], data_dir: str) -> None:
    """Print estimate and run of ten runs."""
    print(
        "| task | model | training s: estimate | run | ratio | peak MiB: estimate | run | ratio |\n"
        + "| --- " * 8
        + "|"
    )
    ratios: dict[str, list[float]] = {"seconds": [], "memory": []}
    for task, model, options in ESTIMATED:
        base_config, fields = TASKS[task]
        words = ["--base_config", base_config, "--pretrained_model_name", models[model], "--data_dir", data_dir]
        words += [word for name, value in fields.items() for word in (f"--{name}", value)]
        words += [*options, "--eval_and_save_step_count", "1000000"]
        with tempfile.TemporaryDirectory() as scratch:
            folder = str(Path(scratch) / "run")
            estimate = json.loads(claf2(["explain", *words, "--log_dir", folder, "--json"]))
            record = train(words, Path(folder))
        # The record of the run counts the seconds of saving as training.
        seconds = estimate["seconds"]["training"] + estimate["seconds"]["saving"]
        peak = estimate["memory_mib"]["peak"]
        ratios["seconds"].append(seconds / record["train_seconds"])
        ratios["memory"].append(peak / record["peak_memory_mib"])
        print(
            f"| {task} | {model} | {seconds:.1f} | {record['train_seconds']:.1f} | {ratios['seconds'][-1]:.2f} | "
            f"{peak:,.0f} | {record['peak_memory_mib']:,.0f} | {ratios['memory'][-1]:.2f} |",
            flush=True,
        )
    for name, values in ratios.items():
        within = sum(abs(value - 1) <= 0.2 for value in values)
        print(f"{name}: median {statistics.median(values):.2f}, {within} of {len(values)} within 20 %")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--estimates", action="store_true", help="compare explain with ten runs instead")
    parser.add_argument("--minilm", help="the folder of an English model")
    parser.add_argument("--multilingual", help="the folder of a multilingual model")
    parser.add_argument("--data_dir", help="the benchmarks' files")
    parser.add_argument("--most_rows", type=int, default=1_000_000)
    given = parser.parse_args()
    if given.estimates:
        print_estimates({"minilm": given.minilm, "multilingual": given.multilingual}, given.data_dir)
        return
    rows = [setting for setting in ROWS if setting.rows <= given.most_rows]
    step = {"step": "s a step", "memory": "peak MiB"}
    columns = {"before": "s besides training", "cached": "with cached features", **step}
    print_series("rows", rows, [setting.rows for setting in rows], columns)
    print_series("length", LENGTHS, [setting.length for setting in LENGTHS], step)
    # Weights of the layers: a layer has 12 width² of them.
    print_series("weights of the layers", SIZES, [12 * size.layers * size.width**2 for size in SIZES], step)


if __name__ == "__main__":
    main()
