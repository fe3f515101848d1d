"""What an export costs and loses against its run, in ``parity.json``."""

from __future__ import annotations

import logging
from pathlib import Path

from claf2.benchmarking.latency import LatencyReport, latency_to_dict
from claf2.benchmarking.noninferiority import NonInferiority, measure_noninferiority, noninferiority_to_dict
from claf2.benchmarking.timed_models import time_models
from claf2.errors import Claf2Error
from claf2.export.build import Export
from claf2.export.folder import PARITY
from claf2.export.opening import open_model_folder
from claf2.runtime.files import write_json

__all__ = ["prove_export"]

logger = logging.getLogger("claf2")

TIMED_TOKENS = 128
"""The tokens of the row whose latency is measured, or as many as the longest input of the task has."""
PASSES = 100
PROOF_SECONDS = 10.0


def prove_export(run_dir: Path, export: Export, *, margin: float = 1.0, costs: bool = True) -> NonInferiority:
    """Test whether an export is as good as its run, except for a margin, and add the result to its ``parity.json``.

    Args:
        run_dir: the folder of the run.
        export: the export, with its predictions and those of the run.
        margin: by how many points the export may be worse.
        costs: also measure the latency and the memory of both.

    Raises:
        Claf2Error: if a score is undefined.
    """
    experiment = open_model_folder(export.folder).experiment
    task = experiment.only_task.task
    predictions = export.report.tasks[export.task].predictions
    result = measure_noninferiority(task, [export.origin["valid"]], [predictions], margin=margin)
    parity = {**export.parity, "noninferiority": noninferiority_to_dict(result)}
    if costs:
        parity["costs"] = _measure_costs(run_dir, export, experiment.only_task.featurizer.max_seq_length)
    write_json(export.folder / PARITY, parity)
    return result


def _measure_costs(run_dir: Path, export: Export, longest: int) -> dict[str, object] | None:
    try:
        report: LatencyReport = time_models(
            [run_dir, export.folder], [(1, min(TIMED_TOKENS, longest))], task=export.task, passes=PASSES,
            max_seconds=PROOF_SECONDS, memory=True,
        )  # fmt: skip
    except Claf2Error as error:  # no reason to lose the export
        logger.warning("the latency was not measured: %s", error)
        return None
    return latency_to_dict(report)
