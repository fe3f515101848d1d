"""Config: from a BaseConfig and the command line to an Experiment.

Two passes live here: *fill* adds the command line and every default, *validate* returns a typed, frozen Experiment.
The third pass, which finds data, weights and tokenizer, is ``claf2.runs.resolve``.
"""

from __future__ import annotations

from claf2.config.experiment import Experiment, TaskConfig
from claf2.config.fill import FilledConfig, diff, fill
from claf2.config.schema import json_schema
from claf2.config.validation import load, replace_values, validate

__all__ = [
    "Experiment",
    "FilledConfig",
    "TaskConfig",
    "diff",
    "fill",
    "json_schema",
    "load",
    "replace_values",
    "validate",
]
