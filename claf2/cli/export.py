"""``claf2 export``: a run's best checkpoint as a folder for ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from claf2.cli.options import PATH

__all__ = ["export_command"]


@click.command("export", epilog="""\b
Examples:
  claf2 export logs/klue/korquad -o exports/korquad
  claf2 export logs/scratch/nsmc -o exports/nsmc-int8 --int8 dynamic
  claf2 export logs/glue --task rte -o exports/rte
""")  # fmt: skip
@click.argument("run_dir", metavar="RUN", type=PATH)
@click.option("-o", "--out", type=PATH, required=True, metavar="DIR", help="The folder of the export.")
@click.option("--int8", type=click.Choice(("dynamic", "blocks", "static")),
              help="Quantize to 8-bit integers: by the range of each row, in blocks, or by calibration.")  # fmt: skip
@click.option("--task", metavar="NAME", help="One of the run's tasks, if it has several.")
@click.option("--overwrite", is_flag=True, help="Replace the export in the folder, if there is one.")
def export_command(run_dir: Path, out: Path, task: str | None, overwrite: bool, **given: Any) -> None:
    """Export the best checkpoint of a run to ONNX, and evaluate the export.

    The folder answers with claf2 evaluate, predict and serve as the run does. It holds the graph, the tokenizer, the
    predictions for the run's validation rows, and in parity.json how far outputs and scores are from those of the run.
    """
    from claf2.export.build import export_run
    from claf2.runtime.device import preserve_backends

    with preserve_backends():
        export = export_run(run_dir, out, task=task, overwrite=overwrite, **given)
    click.echo(export.summary())
