"""``claf2 export``: a run's best checkpoint as a folder for ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from claf2.cli.bench import SCORE_DROPPED
from claf2.cli.options import PATH, NumberRange
from claf2.cli.vocab import parse_source

__all__ = ["export_command"]


def parse_layers(context: click.Context, option: click.Parameter, text: str | None) -> list[int] | None:
    """Return the positions of layers, which are separated by commas."""
    try:
        return None if text is None else [int(layer) for layer in text.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a list of layers such as 0,2,4.") from error


@click.command("export", epilog="""\b
Examples:
  claf2 export logs/klue/korquad -o exports/korquad
  claf2 export logs/scratch/nsmc -o exports/nsmc-int8 --int8 dynamic
  claf2 export logs/scratch/nsmc -o exports/nsmc-int4 --int8 blocks --bits 4
  claf2 export logs/glue --task rte -o exports/rte
  claf2 export logs/scratch/nsmc -o exports/nsmc-small --layers 0 --ffn-width 256 --trim-vocab reviews.txt
""")  # fmt: skip
@click.argument("run_dir", metavar="RUN", type=PATH)
@click.option("-o", "--out", type=PATH, required=True, metavar="DIR", help="The folder of the export.")
@click.option("--int8", type=click.Choice(("dynamic", "blocks", "static")),
              help="Quantize to 8-bit integers: by the range of each row, in blocks, or by calibration.")  # fmt: skip
@click.option("--bits", type=click.Choice(("4", "8")), default="8", show_default=True,
              help="The bits of a weight, with --int8 blocks.")  # fmt: skip
@click.option("--task", metavar="NAME", help="One of the run's tasks, if it has several.")
@click.option(
    "--layers", callback=parse_layers, metavar="A,B,…", help="The layers to keep, from 0. Others are removed."
)
@click.option(
    "--ffn-width",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many neurons each feed-forward network keeps: those with the largest weights.",
)
@click.option(
    "--trim-vocab",
    multiple=True,
    metavar="TEXTS",
    help="Remove the entries of the vocabulary that these texts do not use (repeatable).",
)
@click.option("--overwrite", is_flag=True, help="Replace the export in the folder, if there is one.")
@click.option("--non-inferior", "margin", type=NumberRange(0), default=1.0, show_default=True, metavar="POINTS",
              help="The exit code is 3 unless it is shown that the score dropped by less.")  # fmt: skip
@click.option("--costs/--no-costs", default=True, show_default=True, help="Measure latency and memory.")
def export_command(run_dir: Path, out: Path, task: str | None, int8: str | None, bits: str, layers: list[int] | None,
                   ffn_width: int | None, trim_vocab: tuple[str, ...], overwrite: bool, margin: float,
                   costs: bool) -> int:  # fmt: skip
    """Export the best checkpoint of a run to ONNX, and evaluate the export.

    The folder answers with claf2 evaluate, predict and serve as the run does. It holds the graph, the tokenizer, the
    predictions for the run's validation rows, and in parity.json how far outputs and scores are from those of the run,
    and what both cost.

    --layers, --ffn-width and --trim-vocab make the model smaller first. The scores of the smaller model are compared
    with those of the run.

    The exit code is 3 unless the validation rows show that the export is not worse by more than the margin.
    """
    from claf2.benchmarking.noninferiority import format_noninferiority
    from claf2.benchmarking.proof import prove_export
    from claf2.export.build import export_run
    from claf2.runtime.device import preserve_backends

    if bits == "4" and int8 != "blocks":
        raise click.UsageError("--bits 4 needs --int8 blocks.")
    quantization: Any = "blocks-4bit" if bits == "4" else int8
    changes = []
    if trim_vocab:
        from claf2.vocabulary.trim_export import trim_export

        changes.append(trim_export([parse_source(text) for text in trim_vocab]))
    with preserve_backends():
        export = export_run(
            run_dir, out, task=task, int8=quantization, layers=layers, ffn_width=ffn_width, changes=changes,
            overwrite=overwrite,
        )  # fmt: skip
        click.echo(export.summary())
        result = prove_export(run_dir, export, margin=margin, costs=costs)
    click.echo(format_noninferiority(result), nl=False)
    return 0 if result.verdict == "non-inferior" else SCORE_DROPPED
