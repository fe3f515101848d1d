"""The commands ``index`` and ``search``. Heavy modules are imported when they run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claf2.cli.options import PATH
from claf2.errors import RunError

if TYPE_CHECKING:
    from claf2.benchmarking.statistics import ScoreEstimate
    from claf2.retrieval.index import Hit
    from claf2.retrieval.passages import Passage

__all__ = ["format_scores", "index_command", "method_option", "search_command"]

SHOWN_CHARACTERS = 200
"""How many characters of a passage are printed as text."""

method_option = click.option(
    "--method", type=click.Choice(["bm25", "dense", "hybrid"]),
    help="How to search. Default: hybrid if the index has vectors, else bm25.",
)  # fmt: skip
"""The option that says how to search."""


@click.command("index", epilog="""\b
Examples:
  claf2 index DATA/KorQuAD_v1.0_dev.json -o indexes/korquad
  claf2 index 'news/*.jsonl' --text_field body -o indexes/news
  claf2 index new.txt --add -o indexes/news
  claf2 index articles.txt -o indexes/articles --encoder ENCODER --query_prefix "query: " --passage_prefix "passage: "
""")  # fmt: skip
@click.argument("texts", metavar="TEXTS...", nargs=-1, required=True)
@click.option("-o", "--out", required=True, metavar="DIR", type=PATH, help="The folder of the index.")
@click.option("--add", is_flag=True, help="Add to the index in the folder, with its settings.")
@click.option("--overwrite", is_flag=True, help="Replace the index in the folder, even a damaged one.")
@click.option("--terms", default="auto", show_default=True, metavar="KIND",
              help="bigrams, words, or a tokenizer of morphemes: korean, japanese; auto: bigrams for Korean, Japanese, "
                   "and Chinese, else words.")  # fmt: skip
@click.option("--encoder", metavar="FOLDER|RUN", type=PATH, help="Add vectors of an encoder, or of that of a run.")
@click.option("--query_prefix", metavar="TEXT",
              help="What the encoder expects before a question. Default: prefix_a of a run, or the default prompt of a "
                   "folder of sentence-transformers.")  # fmt: skip
@click.option("--passage_prefix", metavar="TEXT",
              help="What the encoder expects before a passage. Default: prefix_b of a run, or the "
                   "default prompt.")  # fmt: skip
@click.option("--approximate", is_flag=True,
              help="Compare a question only with passages in clusters near it, which FAISS finds. For more than "
                   "100,000 passages; needs --encoder.")  # fmt: skip
@click.option("--text_field", default="text", show_default=True, metavar="KEY", help="The key of the text in .jsonl.")
@click.option("--titles", is_flag=True, help="Search the titles of a file in SQuAD's format, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def index_command(
    texts: tuple[str, ...], out: Path, add: bool, overwrite: bool, text_field: str, as_json: bool, **settings: Any
) -> None:
    """Make an index of passages for claf2 search and claf2 machine qa.

    TEXTS are text files, whose passages end in a blank line, .jsonl or .parquet files with one passage per row, and
    .json files in SQuAD's format. A passage that occurs several times is stored once.
    """
    from claf2.retrieval.index import IndexSettings, PassageIndex, build_index
    from claf2.retrieval.passages import find_files, read_passages
    from claf2.runs.progress import show_progress

    changed = [name for name, value in settings.items() if value not in (None, "", "auto", False)]
    if add and changed:
        raise RunError(
            f"--{changed[0]}: cannot be used with --add, which keeps the settings of the index; leave it out"
        )
    of_encoder = [name for name in ("query_prefix", "passage_prefix", "approximate") if settings[name]]
    if of_encoder and settings["encoder"] is None:
        raise RunError(f"--{of_encoder[0]}: is for an encoder; name one with --encoder, or leave it out")
    files = find_files(texts)
    if settings["encoder"] is not None:
        settings["encoder"] = str(settings["encoder"].expanduser().absolute())

    def read() -> Iterator[Passage]:
        done = 0
        titles = PassageIndex(out).settings.titles if add else settings["titles"]
        with show_progress("reading", sum(path.stat().st_size for path in files), "B") as progress:
            for path in files:
                yield from read_passages(path, text_field=text_field, with_titles=titles)
                done += path.stat().st_size
                progress.update(done)

    index = build_index(out, read(), IndexSettings(**settings), add=add, overwrite=overwrite)
    if as_json:
        click.echo(json.dumps(index.manifest, ensure_ascii=False))
        return
    vectors = f", vectors of {index.vectors.shape[1]} numbers" if index.settings.encoder else ""
    click.echo(f"{out}: {len(index):,} passages, terms: {index.settings.terms}{vectors}")


@click.command("search", epilog="""\b
Examples:
  claf2 search indexes/korquad "임종석이 수배된 날짜는?"
  claf2 search indexes/korquad "임종석이 수배된 날짜는?" -k 3 --json
  claf2 search indexes/korquad --evaluate DATA/KorQuAD_v1.0_dev.json
""")  # fmt: skip
@click.argument("folder", metavar="INDEX", type=PATH)
@click.argument("question", metavar="[QUESTION]", required=False)
@click.option("-k", type=click.IntRange(1, 1000), help="How many passages.  [default: 5]")
@method_option
@click.option("--evaluate", "questions", metavar="FILE", type=PATH,
              help="Score the search: find the paragraphs of the questions of a file in SQuAD's format.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def search_command(
    folder: Path, question: str | None, k: int | None, method: Any, questions: Path | None, as_json: bool
) -> None:
    """Search an index for the passages that fit a question.

    Scores of --evaluate are means over questions with intervals at 95 %, from a bootstrap over questions.
    """
    from claf2.retrieval.index import PassageIndex

    if (question is None) == (questions is None):
        raise RunError("search needs a question, or --evaluate with a file of questions")
    if questions is not None and k is not None:
        raise RunError("-k: cannot be used with --evaluate, which looks at 10 passages; leave it out")
    index = PassageIndex(folder)
    if questions is None:
        hits = index.search(str(question), k or 5, method)
        for line in _format_hits(hits, as_json):
            click.echo(line)
        if not hits and not as_json:
            click.echo("nothing found")
        return

    from claf2.retrieval.evaluation import evaluate_search, read_questions

    report = evaluate_search(index, read_questions(questions), method)
    if as_json:
        scores = {key: vars(estimate) for key, estimate in report.scores.items()}
        click.echo(json.dumps({
            "method": report.method, "questions": len(report.predictions), "not_indexed": report.not_indexed,
            "passages": len(index), "scores": scores,
        }))  # fmt: skip
        return
    click.echo(f"{len(report.predictions):,} questions, {len(index):,} passages, {report.method}")
    click.echo("\n".join(format_scores(report.scores.items())))
    if report.not_indexed:
        click.echo(f"{report.not_indexed:,} questions were left out: their paragraphs are not in the index")


def format_scores(scores: Iterable[tuple[str, ScoreEstimate]]) -> list[str]:
    """Return a line for each score, with its interval."""
    return [f"{key:<24} {score.value:6.2f}   [{score.low:.2f}, {score.high:.2f}]" for key, score in scores]


def _format_hits(hits: Iterable[Hit], as_json: bool) -> Iterator[str]:
    for hit in hits:
        passage = hit.passage
        if as_json:
            fields = {"rank": hit.rank, "score": hit.score, "id": passage.id, "title": passage.title}
            yield json.dumps({**fields, "text": passage.text}, ensure_ascii=False)
        else:
            text = " ".join(passage.text.split())
            shown = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} …"
            title = f"{passage.title}: " if passage.title else ""
            yield f"{hit.rank:>3}. {hit.score:8.4f}  {passage.id}  {title}{shown}"
