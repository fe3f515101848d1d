"""How often a watched curve says something wrong, and how often it finds what is there.

    python benchmarks/curve.py [--curves 2000] [--checkpoints 10] [--tasks 4] [--seeds 3] [--only flat,drop]

Simulates curves whose true scores are known: every run gets examples right at random, with a true accuracy that
depends on the checkpoint and varies over seeds; two checkpoints of equal accuracy get different examples right. The
predictions go through the analysis of `claf2 watch`, checkpoint after checkpoint. A curve counts as wrong if any
verdict at any time was. Prints the share of wrong curves for each kind of statement (nominal: at most 5 %), and of
curves in which something was found.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from claf2.benchmarking.curve import CurveAnalysis
from claf2.benchmarking.runs import ScoredRuns
from claf2.metrics import share

KINDS = ("previous", "best", "drop", "tasks", "plateau")


@dataclass(frozen=True)
class Scenario:
    """How true scores and their variance over seeds depend on the checkpoint."""

    true: Callable[[int], float]
    """Index of a checkpoint → points above that of the first one, the same on all tasks."""
    sd: Callable[[int, int], float]
    """Index of a checkpoint, index of a task → the standard deviation over seeds, in points."""
    collapse: float = 0.0
    """The probability that a run of the first task collapses."""


SCENARIOS = {
    "flat": Scenario(lambda k: 0.0, lambda k, t: 1.0),
    "flat, one task of large variance": Scenario(lambda k: 0.0, lambda k, t: 4.0 if t == 0 else 0.7),
    "flat, variance falls": Scenario(lambda k: 0.0, lambda k, t: 4.0 * 0.75**k),
    "flat, 10 % of runs collapse": Scenario(lambda k: 0.0, lambda k, t: 0.7, collapse=0.1),
    "rising by a quarter of the tolerance": Scenario(lambda k: 0.25 * k, lambda k, t: 1.0),
    "rising, then flat": Scenario(lambda k: 5.0 * min(k, 4), lambda k, t: 1.0),
    "drop of 4 points": Scenario(lambda k: -4.0 if k == 7 else 0.0, lambda k, t: 1.0),
}


def simulate(scenario: Scenario, checkpoints: int, tasks: int, seeds: int, examples: int,
             rng: np.random.Generator) -> Iterator[dict[str, ScoredRuns]]:  # fmt: skip
    """Yield the runs of each checkpoint by task."""
    names = [(str(number), 0) for number in range(examples)]
    difficulty = rng.uniform(-0.15, 0.15, (tasks, examples))
    for k in range(checkpoints):
        runs = {}
        for task in range(tasks):
            # What this checkpoint knows in particular: of mean zero over examples that are drawn anew.
            chance = 0.5 + scenario.true(k) / 100 + difficulty[task] + rng.uniform(-0.1, 0.1, examples)
            accuracy = rng.normal(0, scenario.sd(k, task) / 100, seeds)
            if task == 0 and scenario.collapse:
                accuracy -= 0.2 * (rng.random(seeds) < scenario.collapse)
            right = rng.random((seeds, examples)) < chance + accuracy[:, None]
            runs[str(task)] = ScoredRuns(tuple(names), tuple(share(run) for run in right))
        yield runs


def judge(scenario: Scenario, given: argparse.Namespace, rng: np.random.Generator) -> set[str]:
    """Return the kinds of statement that were wrong in one curve, and what was found."""
    names = [str(task) for task in range(given.tasks)]
    analysis = CurveAnalysis(names, expected=given.expected, resamples=given.resamples)
    found: set[str] = set()
    for k, runs in enumerate(simulate(scenario, given.checkpoints, given.tasks, given.seeds, given.examples, rng)):
        analysis.add(k, runs)
        since = analysis.plateau_since
        if since is not None:
            found.add("plateau found")
            if scenario.true(k) - scenario.true(since) >= analysis.tolerance:
                found.add("plateau")
    curve = analysis.curve("", "", [])
    for kind, verdicts in (("previous", curve.previous), ("best", curve.best)):
        for verdict in verdicts:
            move = np.sign(round(scenario.true(verdict.step) - scenario.true(verdict.reference), 9))
            for name, change in [("", verdict.average), *verdict.tasks.items()]:
                sign = {"better": 1, "worse": -1}.get(change.verdict, 0)
                if sign and sign != move:
                    found.add("tasks" if name else kind)
                    if not name and kind == "best" and sign < 0:
                        found.add("drop")
                elif sign and not name:
                    found.add("drop found" if kind == "best" and sign < 0 else f"{kind} found")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=int, default=2000)
    parser.add_argument("--checkpoints", type=int, default=10)
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--expected", type=int, default=10)
    parser.add_argument("--only", default="", help="Names of scenarios, or beginnings of them.")
    given = parser.parse_args()
    chosen = tuple(given.only.split(",")) if given.only else ("",)
    for name, scenario in SCENARIOS.items():
        if not name.startswith(chosen):
            continue
        counts: Counter[str] = Counter()
        rng, started = np.random.default_rng(0), time.monotonic()
        for number in range(given.curves):
            counts.update(judge(scenario, given, rng))
            if sys.stderr.isatty():
                left = (time.monotonic() - started) / (number + 1) * (given.curves - number - 1)
                print(f"\r{name}: {number + 1}/{given.curves}, {left:.0f} s left ", end="", file=sys.stderr)
        wrong = ", ".join(f"{kind} {100 * counts[kind] / given.curves:.1f} %" for kind in KINDS)
        finds = ", ".join(f"{kind} {100 * counts[kind] / given.curves:.0f} %" for kind in sorted(counts)
                          if kind.endswith("found"))  # fmt: skip
        print(f"{name} ({given.curves} curves): wrong: {wrong}; {finds or 'nothing found'}", flush=True)


if __name__ == "__main__":
    main()
