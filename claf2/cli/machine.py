"""The commands ``machine …``. Heavy modules are imported when they run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claf2.cli.options import PATH, NumberRange
from claf2.cli.retrieval import format_scores, method_option
from claf2.errors import RunError

if TYPE_CHECKING:
    from claf2.machine.evaluation import MachineReport
    from claf2.machine.nlu import NluAnswer
    from claf2.machine.qa import QaAnswer

__all__ = ["machine_group"]


@click.group("machine")
def machine_group() -> None:
    """Answer questions about a collection, or say several things about a text."""


@machine_group.command("qa", epilog="""\b
Examples:
  claf2 machine qa --index indexes/korquad --reader logs/klue/korquad "대한민국의 수도는 어디인가?"
  claf2 machine qa --index indexes/korquad --reader logs/klue/korquad --evaluate DATA/KorQuAD_v1.0_dev.json
""")  # fmt: skip
@click.argument("question", metavar="[QUESTION]", required=False)
@click.option("--index", required=True, metavar="INDEX", type=PATH, help="What claf2 index has made.")
@click.option("--reader", required=True, metavar="RUN|EXPORT", type=PATH, help="A model that extracts answers.")
@click.option("--task", metavar="NAME", help="One of the reader's tasks, if it has several.")
@click.option("-k", default=5, show_default=True, type=click.IntRange(1, 1000), help="How many passages are read.")
@method_option
@click.option("--threshold", metavar="X", type=NumberRange(),
              help="Answer nothing below this score.  [default: as the reader itself does]")  # fmt: skip
@click.option("--search_weight", default=0.0, show_default=True, metavar="X", type=NumberRange(0),
              help="How much the score of the search adds to that of the reader.")  # fmt: skip
@click.option("--evaluate", "questions", metavar="FILE", type=PATH,
              help="Score the machine on the questions of a file in SQuAD's format.")  # fmt: skip
@click.option("--limit", metavar="N", type=click.IntRange(2), help="With --evaluate: draw N of the questions.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def qa_command(
    question: str | None, index: Path, reader: Path, questions: Path | None, limit: int | None, as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Find passages for a question, and extract the answer from them.

    Answers of different passages are compared by the logits of their start and end minus those of "no answer".
    """
    if (question is None) == (questions is None):
        raise RunError("machine qa needs a question, or --evaluate with a file of questions")
    if limit is not None and questions is None:
        raise RunError("--limit: is for --evaluate; leave it out")

    from claf2.machine.qa import QaMachine

    machine = QaMachine(index, reader, **options)
    if question is not None:
        answer = machine.ask(question)
        click.echo(json.dumps(answer.to_json(), ensure_ascii=False) if as_json else _format_answer(answer))
        return

    from claf2.machine.evaluation import evaluate_machine
    from claf2.retrieval.evaluation import read_questions
    from claf2.runtime.files import format_json

    assert questions is not None
    report = evaluate_machine(machine, read_questions(questions), limit)
    if as_json:
        scores = {key: vars(estimate) for key, estimate in report.scores.items()}
        click.echo(format_json({
            "questions": len(report.predictions), "k": machine.k, "scores": scores, "losses": report.losses,
            "kept": report.kept,
        }))  # fmt: skip
        return
    click.echo(_format_report(report, machine.k, len(machine.index)))


def _format_answer(answer: QaAnswer) -> str:
    lines = [answer.answer or f"no answer: {answer.reason}"]
    for candidate in answer.answers:
        homes = ", ".join(f"{hit.passage.id} (rank {hit.rank})" for hit in candidate.passages)
        lines.append(f"  {candidate.score:8.2f}  {candidate.text}  in {homes}")
    return "\n".join(lines)


def _format_report(report: MachineReport, k: int, passages: int) -> str:
    losses = ", ".join(f"{name} {points:.2f}" for name, points in report.losses.items())
    lines = [
        f"{len(report.predictions):,} questions, {passages:,} passages, {min(k, passages):,} of them read",
        *format_scores(report.scores.items()),
        f"points of F1 lost: {losses}",
    ]
    if report.kept is not None:
        lines.append(f"{report.kept:.1%} of the F1 with the right passage is left from end to end")
    return "\n".join(lines)


@machine_group.command("nlu", epilog="""\b
Examples:
  claf2 machine nlu logs/intent_and_slots "내일 서울 날씨 알려줘"
  claf2 machine nlu logs/intent_and_slots "내일 서울 날씨 알려줘" --tasks intent,slots --json
""")  # fmt: skip
@click.argument("folder", metavar="RUN|EXPORT", type=PATH)
@click.argument("text")
@click.option("--tasks", default="", metavar="A,B,…", help="The tasks that are asked.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def nlu_command(folder: Path, text: str, tasks: str, as_json: bool) -> None:
    """Say what all tasks of a run say about a text, such as its intent and its slots, in one pass of the encoder."""
    from claf2.machine.nlu import NluMachine

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    answer = NluMachine(folder, names or None)(text)
    if as_json:
        click.echo(json.dumps(answer.to_json(), ensure_ascii=False))
        return
    click.echo(_format_nlu(answer))


def _format_nlu(answer: NluAnswer) -> str:
    lines = []
    for task, prediction in answer.predictions.items():
        if task in answer.slots:
            named = ", ".join(f"{slot.name}: {slot.text}" for slot in answer.slots[task]) or "nothing"
            lines.append(f"{task}: {named}")
        else:
            score = "" if prediction.score is None else f" ({prediction.score:.2f})"
            lines.append(f"{task}: {prediction.prediction}{score}")
    return "\n".join(lines)
