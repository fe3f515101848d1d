"""Fine-tunes the same model on the same rows by the same recipe twice, with claf2 and with transformers.Trainer, and
appends one line of JSON a run: ``python benchmarks/parity.py --model FOLDER --out FILE``. Not a test: it
takes an hour on one core. The scores are those after the last step, on the development rows."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

TASKS: dict[str, list[str]] = {
    "mrpc": ["--num_epochs", "1"],
    "stsb": ["--num_epochs", "1"],
    "rte": ["--num_epochs", "2", "--valid_fraction", "0.1"],
}
RECIPE = ["--max_seq_length", "64", "--learning_rate", "1e-4", "--eval_and_save_step_count", "1000000"]


def with_claf2(experiment: Any) -> dict[str, float | None]:
    """Train with claf2 and return its scores."""
    from claf2.runs.train import train

    report = train(experiment, overwrite=True)
    return dict(report.tasks[experiment.only_task.task.name].scores)


def with_trainer(experiment: Any, model_folder: str, folder: Path) -> dict[str, float | None]:
    """Train with transformers.Trainer on the rows that the experiment reads, and return the same metrics' scores."""
    import numpy as np
    from trainer import rows, trainer
    from transformers import AutoTokenizer

    from claf2.evaluation.report import compute_scores
    from claf2.metrics import Prediction

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    made = trainer(experiment, model_folder, folder, train=rows(experiment, tokenizer, "train"), use_cpu=True)
    valid = rows(experiment, tokenizer, "valid")
    made.train()
    logits = made.predict(valid).predictions
    labels = list(experiment.only_task.task.labels)
    predicted = [labels[int(np.argmax(row))] if labels else float(row[0]) for row in logits]
    gold = [labels[row["labels"]] if labels else row["labels"] for row in valid]
    pairs = zip(gold, predicted, strict=True)
    predictions = [Prediction(id=str(index), gold=g, prediction=p) for index, (g, p) in enumerate(pairs)]
    return dict(compute_scores(experiment.only_task.task.metrics, predictions, labels))


def main() -> None:
    """Run every task, seed and system in turn, the two systems next to each other."""
    from claf2 import config

    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--tasks", default=",".join(TASKS))
    given = parser.parse_args()
    for seed in given.seeds.split(","):
        for task in given.tasks.split(","):
            overrides = TASKS[task]
            for system in ("claf2", "transformers.Trainer"):
                folder = given.out.parent / f"{task}-{seed}-{system}"
                words = [*RECIPE, *overrides, "--pretrained_model_name", given.model, "--seed_num", seed]
                experiment = config.load(f"glue/{task}_bert", [*words, "--log_dir", str(folder)])
                started = time.monotonic()
                scores = with_claf2(experiment) if system == "claf2" else with_trainer(experiment, given.model, folder)
                seconds = round(time.monotonic() - started, 1)
                line = {"task": task, "seed": int(seed), "system": system, "scores": scores, "seconds": seconds}
                with given.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
