"""Does training on many tasks help each of them? ``python benchmarks/mtdnn.py --out FOLDER -- OVERRIDES``.

Trains a multi_task BaseConfig with several seeds, each task alone, mixed, and mixed and then alone, and prints the
three columns as mean ± standard deviation. Behind them stands what the third is above the first, with a 95 % interval
and a two-sided p from a paired bootstrap over the examples: the same examples are drawn for both columns and all seeds.
What is finished in the folder is not trained again.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

DRAWS = 1000
COLUMNS = ("single", "refined", "fine_tuned")


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base_config", default="multi_task/glue_mtdnn")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("words", nargs="*", help="overrides, behind --")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    from claf2 import config
    from claf2.runs.train import train

    folders = []
    for seed in given.seeds.split(","):
        folder = given.out / f"seed-{seed}"
        experiment = config.load(given.base_config, [*given.words, "--seed_num", seed, "--log_dir", str(folder)])
        train(experiment, resume=True)
        folders.append(folder)
    print("| task | score | single | refined | refined, fine-tuned | above single | 95 % interval | p |")
    print("| --- " * 8 + "|")
    for task, part in experiment.tasks.items():
        print(_row(task, part.task, folders))


def _row(task: str, row: Any, folders: list[Path]) -> str:
    from claf2.evaluation.predictions import read_predictions
    from claf2.evaluation.report import compute_scores

    places = {"single": "stages/single/{}", "refined": ".", "fine_tuned": "stages/fine_tuned/{}"}
    predictions_of: dict[str, list[Any]] = {}
    for column, place in places.items():
        files = [folder / place.format(task) / "predictions" for folder in folders]
        if all(path.is_dir() for path in files):
            name = task if column == "refined" else row.name
            predictions_of[column] = [read_predictions(path / f"{name}-valid.jsonl") for path in files]
    key, metric = row.metrics[0].selects, row.metrics[:1]

    def value(predictions: list[Any]) -> float:
        return compute_scores(metric, predictions, row.labels)[key] or 0.0

    shown = [f"| {task} | {key} |"]
    for column in COLUMNS:
        scores = [value(predictions) for predictions in predictions_of.get(column, [])]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        shown.append(f"{statistics.fmean(scores):.1f} ± {spread:.1f} |" if scores else "– |")
    if "single" not in predictions_of or "fine_tuned" not in predictions_of:
        return " ".join([*shown, "– | – | – |"])
    dice, size = np.random.default_rng(0), len(predictions_of["single"][0])

    def above(rows: Any) -> float:
        picked = [
            [value([predictions[index] for index in rows]) for predictions in predictions_of[column]]
            for column in ("fine_tuned", "single")
        ]
        return float(np.mean(picked[0]) - np.mean(picked[1]))

    draws = np.array([above(dice.integers(0, size, size)) for _ in range(DRAWS)])
    low, high = np.percentile(draws, [2.5, 97.5])
    p = min(1.0, 2 * min((draws <= 0).mean(), (draws >= 0).mean()))
    return " ".join([*shown, f"{above(range(size)):+.1f} | {low:+.1f} to {high:+.1f} | {max(p, 1 / DRAWS):.3f} |"])


if __name__ == "__main__":
    main()
