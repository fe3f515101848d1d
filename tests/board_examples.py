"""A made-up suite and made-up runs, for tests of the pages."""

from __future__ import annotations

import random
import statistics
from typing import Any

from claf2.benchmarking.cells import Cell
from claf2.benchmarking.summary import Column, Delta, Failure, PublishedRow, Row, ScoreCell, Summary
from claf2.board.pages.run import RunDetails
from claf2.board.pages.suite import RowRuns
from claf2.metrics import Prediction
from claf2.registry import digest

GLUE = (
    ("cola", "mcc", 20, 60),
    ("sst2", "accuracy", 80, 93),
    ("mrpc", "accuracy", 70, 88),
    ("mrpc", "f1", 80, 91),
    ("stsb", "pearson", 60, 90),
    ("qqp", "accuracy", 84, 91),
    ("mnli", "accuracy", 68, 84.5),
    ("qnli", "accuracy", 78, 91.5),
    ("rte", "accuracy", 53, 68),
    ("wnli", "accuracy", 50, 56.3),
)
STEPS = (10_000, 25_000, 50_000, 100_000, 200_000, 400_000)
SEEDS = (11, 12, 13)


def make_cell(values: list[float | None], **more: Any) -> ScoreCell:
    """Return a cell with the mean of some values and an interval around it."""
    known = [value for value in values if value is not None]
    if not known:
        return ScoreCell(tuple(values), **more)
    mean = statistics.mean(known)
    half = 1.96 * statistics.stdev(known) / len(known) ** 0.5 if len(known) > 1 else None
    ends = {"low": mean - half, "high": mean + half} if half is not None else {}
    return ScoreCell(tuple(values), mean, **ends, **more)


def _cell(place: int, step: int, bonus: float, chance: random.Random) -> ScoreCell:
    task, _, low, high = GLUE[place]
    share = (STEPS.index(step) + 1) / len(STEPS)
    center = low + (high - low) * share**0.6 + bonus * (1 - share / 2)
    values: list[float | None] = [center + chance.gauss(0, 1.4 if task in ("cola", "rte") else 0.4) for _ in SEEDS]
    collapsed: tuple[int, ...] = ()
    if (task, step, bonus) == ("cola", 25_000, 0):
        values[1], collapsed = 0.0, (12,)
    if (task, step, bonus) == ("rte", 100_000, 1.3):
        values[2] = None
    delta = bonus - 1.1 + chance.gauss(0, 0.4)
    p = 10 ** -abs(delta * 1.6)
    mark = "**" if p < 0.01 else "*" if p < 0.05 else ""
    return make_cell(values, collapsed=collapsed, mark=mark, delta=Delta(delta, p, "worse" if mark else "no verdict"))


def _row(model: str, step: int, bonus: float, chance: random.Random, **options: str) -> Row:
    cells = [_cell(place, step, bonus, chance) for place in range(len(GLUE))]
    average = statistics.mean(cell.mean for cell in cells if cell.mean is not None)
    perplexity = None if options else make_cell([9 - STEPS.index(step) + place / 9 for place in (0, 1, 2)])
    return Row(model, SEEDS, (*cells, perplexity), step, "bert", options, average)


def glue() -> Summary:
    """Return two models × six checkpoints × GLUE × three seeds, some learning rates, and published rows."""
    chance = random.Random(7)
    models = {"moderna-base-en": 0.0, "classic-base-en": 1.3}
    rows = [_row(model, step, bonus, chance) for model, bonus in models.items() for step in STEPS]
    rows += [
        _row(model, 400_000, bonus + more, chance, learning_rate=rate)
        for model, bonus in models.items()
        for rate, more in (("3e-5", 0.4), ("5e-5", -0.5))
    ]
    columns = [Column(task, f"valid/{score}", f"{task} ({score})") for task, score, *_ in GLUE]
    columns.append(Column("lm", "valid/perplexity", "lm (perplexity)", lower_is_better=True))
    bert = (58.6, 92.7, 86.5, None, None, None, 84.3, 91.2, 67.1, 53.5, None)
    roberta = (63.6, 94.8, 90.2, None, 91.2, 91.9, 87.6, 92.8, 78.7, None, None)
    return Summary(
        suite="GLUE",
        columns=tuple(columns),
        rows=tuple(rows),
        published=(
            PublishedRow("BERT base", "transformers README, one run", bert, "development set", average=78.9),
            PublishedRow("RoBERTa base", "Liu et al. 2019, table 8", roberta, "development set", verified=True),
        ),
        failures=(Failure("classic-base-en", "rte", 13, "the loss is not a number at step 212", 100_000, "bert"),),
        title="Two encoders over pre-training, on GLUE",
        notes="Scores of the development sets, on 0–100. The average leaves WNLI out, as BERT's paper does, and takes "
        "a task of two scores by their mean.",
        when="2025-11-21T14:53:00Z",
        reference="the best row of the column",
    )


def row_runs(summary: Summary) -> list[RowRuns]:
    """Return made-up runs of every cell of a summary."""
    return [
        RowRuns(
            f"row{index:02}",
            {
                (column.task, seed): digest([index, column.task, seed])
                for column, cell in zip(summary.columns, row.cells, strict=True)
                if cell
                for seed in row.seeds
            },
        )
        for index, row in enumerate(summary.rows)
    ]


LABELS = ("entailment", "neutral", "contradiction")


def make_run(name: str, task: str = "mnli", seed: int = 11, model: str = "moderna-base-en") -> RunDetails:
    """Return a run with learning curves and 300 predictions, some of them wrong."""
    chance = random.Random(name)
    predictions = []
    for number in range(300):
        gold = LABELS[number % 3]
        shares = {label: chance.random() + (0.35 if label == gold else 0.0) for label in LABELS}
        total = sum(shares.values())
        shares = {label: value / total for label, value in shares.items()}
        answer = max(shares, key=lambda label: shares[label])
        predictions.append(Prediction(f"dev-{number:04}", gold, answer, shares[answer], {"probabilities": shares}))
    curve = [
        {
            "step": step, "epoch": 1 + step // 600, "train/loss": 1.1 * 0.75 ** (step / 200),
            "valid/loss": 1.1 * 0.8 ** (step / 200) + (step / 4000) ** 2,
            "valid/accuracy": 84 - 50 * 0.8 ** (step / 100),
        }
        for step in range(100, 2001, 100)
    ]  # fmt: skip
    cell = Cell(
        "glue",
        model,
        f"https://models.example/{model}/step-400000",
        task,
        seed,
        "bert",
        f"glue/{task}_bert",
        (),
        400_000,
    )
    provenance = {
        "base_config": f"glue/{task}_bert", "recipe": digest("recipe"), "seed": seed, "device": "cuda",
        "versions": {"claf2": "0.1.0", "torch": "2.13.0"}, "config": {"seed_num": seed, "optimizer": {"name": "adamw"}},
    }  # fmt: skip
    scores = {"valid/accuracy": 83.5, "valid/loss": 0.4512, "train/loss": 0.1034}
    return RunDetails(name, cell, scores, provenance, curve, predictions)
