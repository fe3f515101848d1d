"""Scores and times of the ``scratch`` BaseConfigs on their generated samples: ``python benchmarks/scratch.py``.

Trains each BaseConfig with ``--sample`` once per seed, each run in a process and a temporary folder of its own.
Prints a Markdown table: the score that selects the best epoch (lowest, median and highest over the seeds), the epoch by
which every seed had reached 90, the steps, and the median times of a run. ``--env NAME=VALUE`` sets an environment
variable in the runs; the table has one row per BaseConfig and ``--env``. ``--env ""`` changes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

LEARNT = 90.0
"""The score, in percent, from which a sample counts as learnt."""

COLUMNS = (
    "BaseConfig", "environment", "seeds", "score", "lowest", "median", "highest", "all ≥ 90", "steps", "seconds",
    "CPU seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A BaseConfig and the environment variable, ``NAME=VALUE`` or empty, that its runs get."""

    base_config: str
    variable: str


@dataclass(frozen=True)
class Result:
    """What one run reached: ``scores`` has one value per epoch.

    ``seconds`` and ``cpu_seconds`` are of the whole process, imports included; the latter is the sum over its threads
    and depends less on what else the machine does.
    """

    metric_key: str
    best_score: float
    scores: tuple[float, ...]
    steps: int
    seconds: float
    cpu_seconds: float


def main() -> None:
    """Train, and print the table."""
    given = _parse()
    settings = [Setting(name, variable) for name in given.configs for variable in given.env]
    jobs = [(setting, seed) for setting in settings for seed in given.seeds]
    results: dict[Setting, list[Result]] = {setting: [] for setting in settings}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(given.workers) as pool:
        futures = {
            pool.submit(train, setting, seed, Path(folder, str(index)), given.threads): (setting, seed)
            for index, (setting, seed) in enumerate(jobs)
        }
        try:
            for count, future in enumerate(as_completed(futures), 1):
                setting, seed = futures[future]
                result = future.result()
                results[setting].append(result)
                remaining = (time.monotonic() - started) / count * (len(jobs) - count)
                print(
                    f"[{count}/{len(jobs)}] {setting.base_config} {setting.variable} seed {seed}: "
                    f"{result.metric_key} {result.best_score:.1f}, {result.cpu_seconds:.0f} CPU seconds; "
                    f"remaining: {remaining:.0f} s",
                    file=sys.stderr,
                )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    print("\n".join(markdown_table(results)))


def train(setting: Setting, seed: int, log_dir: Path, threads: int | None) -> Result:
    """Run ``train.py`` once.

    Raises:
        RuntimeError: if the run fails, with the end of its output.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    if setting.variable:
        name, value = setting.variable.split("=", 1)
        environment[name] = value
    command = [sys.executable, str(ROOT / "train.py"), "--base_config", setting.base_config, "--sample"]
    command += ["--seed_num", str(seed), "--log_dir", str(log_dir)]
    output = log_dir.with_suffix(".txt")
    started = time.monotonic()
    with output.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    # wait4, unlike Popen.wait, returns the CPU time of this one process.
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        end = output.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)} exited with {process.returncode}:\n{end}")
    return read_result(log_dir, seconds, usage.ru_utime + usage.ru_stime)


def read_result(log_dir: Path, seconds: float, cpu_seconds: float) -> Result:
    """Read the scores that a finished run wrote to its folder."""
    summary = json.loads((log_dir / "metrics.json").read_text(encoding="utf-8"))
    lines = (log_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines if line]
    key = summary["metric_key"]
    # An undefined score, such as a correlation with a constant, is null.
    scores = tuple(record[f"valid/{key}"] or 0.0 for record in records)
    return Result(key, summary["best_score"] or 0.0, scores, records[-1]["step"], seconds, cpu_seconds)


def markdown_table(results: dict[Setting, list[Result]]) -> Iterable[str]:
    """Yield the lines of the table, one row per setting."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "| --- " * len(COLUMNS) + "|"
    for setting, runs in results.items():
        best_scores = [run.best_score for run in runs]
        low, middle, high = min(best_scores), statistics.median(best_scores), max(best_scores)
        cells = [
            f"`{setting.base_config}`",
            f"`{setting.variable}`" if setting.variable else "",
            str(len(runs)),
            runs[0].metric_key,
            f"{low:.1f}",
            f"{middle:.1f}",
            f"{high:.1f}",
            learnt_epoch(runs),
            str(runs[0].steps),
            f"{statistics.median(run.seconds for run in runs):.0f}",
            f"{statistics.median(run.cpu_seconds for run in runs):.0f}",
        ]
        yield f"| {' | '.join(cells)} |"


def learnt_epoch(runs: list[Result]) -> str:
    """Return ``"epoch i of n"``, i being the first epoch by which every run scored at least ``LEARNT`` once."""
    epochs = len(runs[0].scores)
    for epoch in range(1, epochs + 1):
        if all(max(run.scores[:epoch]) >= LEARNT for run in runs):
            return f"epoch {epoch} of {epochs}"
    return "–"


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of ``"1-3,7"``: 1, 2, 3 and 7."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shipped = sorted(f"scratch/{path.stem}" for path in (ROOT / "base_config/scratch").glob("*.jsonnet"))
    parser.add_argument("--configs", nargs="+", default=shipped, help="all of scratch/ by default")
    parser.add_argument("--seeds", type=parse_seeds, default=parse_seeds("1-10"), help="such as 1-10 or 1,3-5")
    parser.add_argument("--workers", type=int, default=2, help="how many runs at a time")
    parser.add_argument("--threads", type=int, help="OMP_NUM_THREADS of each run, unchanged by default")
    parser.add_argument("--env", nargs="+", default=[""], metavar="NAME=VALUE", help="each is a row of the table")
    return parser.parse_args()


if __name__ == "__main__":
    main()
