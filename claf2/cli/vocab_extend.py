"""The command ``vocab extend``."""

from __future__ import annotations

from pathlib import Path

import click

from claf2.cli.options import PATH

__all__ = ["extend_command"]


@click.command("extend", epilog="""\b
Examples:
  claf2 vocab extend models/decoder --with vocabularies/ko_byte_bpe -o models/decoder-ko
  claf2 vocab extend meta-llama/Llama-2-7b-hf --with models/korean-tokenizer --size 46336 -o models/llama-2-ko
""")  # fmt: skip
@click.argument("model", metavar="MODEL")
@click.option("--with", "tokenizer", required=True, metavar="TOKENIZER",
              help="The tokenizer whose entries are added: a folder of claf2 vocab build, or a hub id.")  # fmt: skip
@click.option("-o", "--output", type=PATH, required=True, help="The new folder of the model.")
@click.option("--size", type=click.IntRange(1), metavar="N",
              help="The most entries of the new vocabulary.  [default: all]")  # fmt: skip
def extend_command(model: str, tokenizer: str, output: Path, size: int | None) -> None:
    """Add the entries of another tokenizer to a model and its vocabulary.

    Both tokenizers have byte-pair merges, and write spaces and bytes alike. Ids and merges of the model stay, and new
    merges come after them. The embeddings of a new entry are the mean of those of the pieces that it was before, so the
    model must be trained further, such as by a pre-training with the task corpus_clm.
    """
    from claf2.vocabulary.extend import extend_model

    result = extend_model(model, tokenizer, output, size=size)
    click.echo(f"{result.entries_before} -> {result.entries} entries")
    click.echo(f"a new entry was {result.pieces_per_entry:.1f} old ones, on average\n{output}")
