"""``claf2 generate``: texts that a finished run writes."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from claf2.cli.options import PATH, NumberRange
from claf2.errors import RunError

__all__ = ["generate_command"]


@click.command("generate", epilog="""\b
Examples:
  claf2 generate logs/instruct/kullm "한국의 수도는 어디인가요?"
  claf2 generate logs/instruct/kullm --input questions.txt --do-sample --temperature 0.7 --top_p 0.9 --seed 1
  echo '{"instruction": "Name the colour.", "input": "a ripe banana"}' | claf2 generate logs/instruct/alpaca
""")  # fmt: skip
@click.argument("folder", metavar="RUN", type=PATH)
@click.argument("text", required=False)
@click.option("--input", "file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
              help="Read prompts from a file, one per line; - is standard input.")  # fmt: skip
@click.option("--max_new_tokens", type=click.IntRange(1), help="The most tokens of a text.")
@click.option("--do-sample/--no-do-sample", "do_sample", default=None, help="Sample instead of the likeliest token.")
@click.option(
    "--temperature", type=NumberRange(0, min_open=True), help="Flattens (above 1) or sharpens what is sampled."
)
@click.option("--top_k", type=click.IntRange(1), help="Sample from so many likeliest tokens.")
@click.option("--top_p", type=NumberRange(0, 1, min_open=True), help="Sample from the likeliest tokens of this share.")
@click.option("--num_beams", type=click.IntRange(1), help="Search with so many beams.")
@click.option(
    "--repetition_penalty", type=NumberRange(0, min_open=True), help="Makes tokens that occurred less likely."
)
@click.option("--batch_size", type=click.IntRange(1), default=8, show_default=True, help="Texts at a time.")
@click.option("--seed", type=click.IntRange(0), default=42, show_default=True, help="Where sampling begins.")
def generate_command(
    folder: Path, text: str | None, file: Path | None, batch_size: int, seed: int, **settings: Any
) -> None:
    """Generate texts with the best checkpoint of a run: answers, if it was tuned on instructions (head `instruct`), or
    continuations (head `clm`).

    A line of the input is an instruction, or a JSON object with `instruction` (and `input`), `messages` or
    `conversations`. Each text is printed as one line of JSON; that of TEXT is printed as it is. How texts are generated
    is stated by the run's `decoding`; options replace its settings. Settings that have no effect are named.
    """
    from claf2.readers import decode_text
    from claf2.runs.generation import TextGenerator, parse_prompts
    from claf2.runtime.files import format_json
    from claf2.task import report_damage

    if text is not None and file is not None:
        raise RunError("--input: cannot be used with a text; leave out one of them")
    if text is not None:
        lines = [text]
    else:
        source = Path("standard input") if file is None or str(file) == "-" else file
        with source.open("rb") if source is file else nullcontext(sys.stdin.buffer) as raw, report_damage(source):
            lines = list(decode_text(raw, source))
    conversations = list(parse_prompts(lines))
    if not conversations:
        raise RunError("there is no prompt; give a text, --input FILE, or lines on standard input")
    generator = TextGenerator(folder, {name: value for name, value in settings.items() if value is not None})
    for generated in generator.stream(conversations, batch_size=batch_size, seed=seed):
        if text is not None:
            click.echo(generated.text)
        else:
            click.echo(format_json(vars(generated)))
