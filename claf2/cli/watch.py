"""The command ``watch``. Heavy modules are imported when it runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claf2.cli.bench import CELL_FAILED, parse_seeds, split_list, suite_name
from claf2.cli.options import PATH, WITH_OVERRIDES, NumberRange, matrix_options, overrides_argument, plugin_option
from claf2.cli.reporting import report_progress, reporting_options

if TYPE_CHECKING:
    from claf2.benchmarking.backends import Backend

__all__ = ["watch_command"]


@click.command("watch", context_settings=WITH_OVERRIDES, epilog="""\b
Examples:
  claf2 watch logs/pretraining --suite larva_klue --seeds 1-3 --data_dir DATA
  claf2 watch s3://larva/base-ko --suite larva_klue --tasks nsmc,kornli --workers 2 --until-step 1000000
  claf2 watch logs/pretraining --suite glue --tasks rte,mrpc --once --learning_rate 3e-5
  claf2 watch s3://larva/base-ko --suite larva_klue --board http://127.0.0.1:8000 --notify
""")  # fmt: skip
@click.argument("target", metavar="URL|DIR")
@matrix_options
@click.option("--out", type=PATH, help="The folder of the bench.  [default: logs/watch/MODEL/SUITE]")
@click.option("--poll", type=NumberRange(0, min_open=True), default=5.0, show_default=True, metavar="SECONDS",
              help="How often to look for new checkpoints.")  # fmt: skip
@click.option("--until-step", type=click.IntRange(1), metavar="N",
              help="End when there is a step N or a later one, and all steps up to N are measured.")  # fmt: skip
@click.option("--once", is_flag=True, help="End when the checkpoints that are there now are measured.")
@click.option("--expected", type=click.IntRange(1), default=10, show_default=True, metavar="N",
              help="How many checkpoints are expected: the error rate of verdicts is shared among them.")  # fmt: skip
@click.option("--tolerance", type=NumberRange(0, min_open=True), default=1.0, show_default=True, metavar="POINTS",
              help="What the average gains at most on a plateau.")  # fmt: skip
@click.option("--keep/--no-keep", default=False, show_default=True, help="Keep the best checkpoint of each cell.")
@reporting_options
@plugin_option
@click.option("--sample", is_flag=True, help="Use generated samples of the tasks instead of their data.")
@overrides_argument
def watch_command(target: str, name: str, tasks: str, seeds: str, recipe: str | None, out: Path | None, poll: float,
                  until_step: int | None, once: bool, expected: int, tolerance: float, backend: str, workers: int,
                  cpus: int | None, gpus: float, keep: bool, retries: int, board: str | None, notify: bool,
                  plugins: tuple[str, ...], sample: bool, overrides: tuple[str, ...]) -> int:  # fmt: skip
    """Measure the checkpoints of a pre-training as they appear, and say which moves of the curve are real.

    A checkpoint is a folder step-N with a manifest.json, in the folder of a run, in its steps/, or in a store. Each is
    trained on every task with every seed, as by claf2 bench run: ends of the curve first, then halves, seed by seed.
    Several watches may share one --out. Nothing is removed or stopped. The exit code is 2 if a cell failed.
    """
    from claf2 import api
    from claf2.benchmarking.cell_queue import CellState
    from claf2.benchmarking.watch import default_dir

    out = out or default_dir(target, suite_name(name, plugins))
    with report_progress(out, f"watch {target}", board, notify) as reporter:
        queue = api.watch(
            target, name, tasks=split_list([tasks]), seeds=parse_seeds(seeds), recipe=recipe, out=out, poll=poll,
            until_step=until_step, once=once, expected=expected, tolerance=tolerance,
            backend=_make_backend(backend, workers, cpus, gpus),
            cpus=cpus or max(1, (os.cpu_count() or 1) // workers), keep=keep, retries=retries, plugins=plugins,
            sample=sample, argv=overrides, on_progress=reporter.on_progress, on_verdict=[reporter.on_verdict],
        )  # fmt: skip
    failed = [
        queued for step in queue.steps for queued in queue.cells(step)
        if queued.state in (CellState.FAILED, CellState.DROPPED)
    ]  # fmt: skip
    for queued in failed:
        reason = queued.failure or "the checkpoint was removed before it was measured"
        click.echo(f"step {queued.step}, {queued.cell.task}, seed {queued.cell.seed}: {reason}", err=True)
    return CELL_FAILED if failed else 0


def _make_backend(name: str, workers: int, cpus: int | None, gpus: float) -> Backend:
    """Return a backend whose workers wait for checkpoints with everything imported, apart from this process."""
    from claf2.benchmarking.backends import ProcessBackend, RayBackend
    from claf2.benchmarking.watch import import_training

    return RayBackend(cpus or 1, gpus) if name == "ray" else ProcessBackend(workers, int(gpus), import_training)
