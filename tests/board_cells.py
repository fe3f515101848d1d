"""Cells of benches with invented predictions, for tests of the board."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

from claf2.benchmarking.cells import Cell, read_cell
from claf2.benchmarking.runs import CELL_FILE
from claf2.board.cell_record import CellRecord, record_cell
from claf2.metrics import Prediction
from claf2.task import tasks

CONFIGS = {"rte": "glue/rte_bert", "sst": "glue/sst_bert"}


def write_cell(
    out: Path, model: str = "a", task: str = "rte", seed: int = 1, *, share: float = 0.7, step: int | None = None,
    rows: int = 40, failure: str = "", suite: str = "glue", overrides: tuple[str, ...] = (),
) -> Path:  # fmt: skip
    """Write the folder of a cell that has about this share of the examples right, and return it."""
    labels = tasks.get(task).labels
    chance = random.Random(f"{model} {task} {seed} {step} {overrides}")
    lines = []
    for number in range(rows):
        gold = labels[number % len(labels)]
        other = labels[(number + 1) % len(labels)]
        lines.append(Prediction(f"{task}-{number}", gold, gold if chance.random() < share else other, 0.9))
    folder = out / f"{model[:40]}-{step}".replace("/", "_") / f"{task}-{seed}{''.join(overrides)}"
    cell = Cell(suite, model, model, task, seed, "bert", CONFIGS[task], overrides, step)
    (folder / "predictions").mkdir(parents=True)
    (folder / CELL_FILE).write_text(json.dumps({**asdict(cell), "failure": failure}))
    if failure:
        return folder
    score = 100 * sum(line.gold == line.prediction for line in lines) / rows
    text = "".join(json.dumps(asdict(line)) + "\n" for line in lines)
    (folder / f"predictions/{task}-valid.jsonl").write_text(text)
    curve = [{"step": at, "epoch": at / 10, "train/loss": 1 / at, "valid/accuracy": score} for at in (10, 20)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(point) + "\n" for point in curve))
    (folder / "run.json").write_text(json.dumps(make_provenance(model, task, seed, step)))
    (folder / "metrics.json").write_text(json.dumps({"best": {"train/loss": 0.1, "valid/accuracy": score}}))
    return folder


def make_provenance(model: str, task: str, seed: int, step: int | None) -> dict[str, Any]:
    """Return the content of a ``run.json``."""
    return {
        "recipe": "r", "experiment": f"{task} {seed}", "data": {"train": "t", "valid": f"v {task}"}, "tokenizer": "k",
        "weights": f"{model} {step}", "config": {"seed_num": seed, "optimizer": {"learning_rate": 2e-5}},
    }  # fmt: skip


def make_record(out: Path, *names: Any, **settings: Any) -> CellRecord:
    """Return the record of such a cell."""
    return record_cell(read_cell(write_cell(out, *names, **settings)))


def change_record(record: CellRecord, **fields: Any) -> CellRecord:
    """Return a record with other fields; those of ``cell`` are given with the prefix ``cell_``."""
    content = json.loads(record.model_dump_json())
    for name, value in fields.items():
        place = content["cell"] if name.startswith("cell_") else content
        place[name.removeprefix("cell_")] = value
    return CellRecord.model_validate_json(json.dumps(content))
