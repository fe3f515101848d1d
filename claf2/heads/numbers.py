"""Labels that are numbers, as `regress` and `embed` learn them."""

from __future__ import annotations

import math
from typing import Any

from claf2.heads import CollectedOutputs
from claf2.metrics import Prediction


def read_number(label: str) -> float:
    """Return the number that a file's label states.

    Raises:
        ValueError: when it states none, or an infinite one.
    """
    try:
        value = float(label)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"the label {label!r} is not a finite number; correct or remove the row, or name the column that has the "
            "numbers in the task's reader"
        )
    return value


def predict_numbers(collected: CollectedOutputs[Any]) -> list[Prediction]:
    """Return the predictions of a head that collects one ``value`` for each example."""
    return [
        Prediction(example.id, None if example.label is None else float(example.label), float(row["value"]))
        for example, row in zip(collected.examples, collected.outputs, strict=True)
    ]
