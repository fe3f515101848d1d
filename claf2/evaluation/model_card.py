"""Model cards: what a run was trained on, by which recipe, and its scores, as the Hugging Face hub shows them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from claf2.adapters import adapters
from claf2.heads import heads
from claf2.models import SCRATCH
from claf2.task import Task

__all__ = ["card_licence", "model_card"]

PIPELINE_TAGS = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForMultipleChoice": "multiple-choice",
}
"""Class of `transformers` → the hub's name of what its models do. Heads without such a class have none."""

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def model_card(
    tasks: Mapping[str, Task], provenance: Mapping[str, Any], logs: Mapping[str, Any], licence: str | None = None
) -> str:
    """Return the model card of a run in Markdown. Its metadata are those of the hub, with the scores as `model-index`.

    Args:
        tasks: the tasks to describe, by their names in the run.
        provenance: the content of ``run.json``.
        logs: the Metric Logs; a key is ``split/score``, or ``split/task/score`` where the run has several tasks.
        licence: the licence of the weights, by the hub's name for it; ``None``: unknown.
    """
    names = ", ".join(task.name for task in tasks.values())
    readers = _reader_sections(provenance["config"], tasks)
    on_samples = any(reader["source"] == "sample" for reader in readers.values())
    several = len(provenance["config"].get("tasks", ())) > 1
    # A generated sample is not the data set whose name the task has, so its scores must not be shown as such.
    scores = [] if on_samples else _scores_of(tasks, readers, logs["best"], several=several)
    caution = "Trained on a generated sample: these scores say nothing about the task.\n\n" if on_samples else ""
    rows = "\n".join(f"| {key} | {value} |" for key, value in logs["best"].items())
    count_lines = "\n".join(
        f"- {split}: {', '.join(f'{name} {value}' for name, value in counts.items() if value)}"
        for split, counts in provenance["counts"].items()
    )
    data = "\n".join(f"- {split}: `{digest}`" for split, digest in provenance["data"].items())
    sources = "\n".join(
        f"Data of {task.name}: {task.source or 'see its publisher'}; licence: {task.licence or 'not stated'}."
        for task in tasks.values()
    )
    leakage = _leakage_text(provenance)
    adapter = _adapter_text(provenance)
    return f"""---
{_metadata(tasks, provenance, scores, licence)}
---

# {names}

Fine-tuned by claf2 from the BaseConfig `{provenance["base_config"]}`, seed {provenance["seed"]}; best evaluation of the
run by `{logs["metric_key"]}`, at step {logs["best_global_step"]}. These are the scores of one seed; they do not show
the spread over seeds.

{adapter}{caution}| score | value |
| --- | --- |
{rows}

Rows of each split, and what was counted in them (`in_train`: rows that also occur in the training data):

{count_lines}

{leakage}\
Recipe digest `{provenance["recipe"]}`: scores of runs with another recipe are not comparable. SHA-256 of the data:

{data}

{sources}
"""


def _leakage_text(provenance: Mapping[str, Any]) -> str:
    """Return what is known of the rows of benchmarks in the text of a pre-training, this run or an earlier one, as
    paragraphs; an empty text where there was none by claf2."""
    paragraphs = []
    reports = [("the training text", report) for report in provenance.get("leakage", {}).values()]
    earlier = provenance.get("weights_leakage", {}).values()
    reports += [("the text that the weights were pre-trained on", report) for report in earlier]
    for text, report in reports:
        if report is None:
            paragraphs.append(f"It was not checked whether rows of benchmarks occur in {text}.")
            continue
        removed = "; the lines with these rows were removed" if report["removed"] else ""
        splits = ", ".join(f"{name} {entry['leaked']} of {entry['rows']}" for name, entry in report["splits"].items())
        paragraphs.append(
            f"Rows of benchmarks that occur in {text}, of which {report['checked']} of {report['files']} "
            f"files were checked{removed}: {splits}."
        )
    return "".join(f"{paragraph}\n\n" for paragraph in paragraphs)


def card_licence(folder: Path) -> str | None:
    """Return the licence that the model card in a folder states, by the hub's name for it; ``None``: none, or the
    folder has no card that can be read."""
    from huggingface_hub import ModelCard
    from yaml import YAMLError

    path = folder / "README.md"
    try:
        licence = ModelCard.load(path, ignore_metadata_errors=True).data.get("license") if path.is_file() else None
    except (ValueError, YAMLError):  # other people wrote it, and a finished run must not fail for it
        return None
    return licence if isinstance(licence, str) else None


def _reader_sections(config: Mapping[str, Any], tasks: Mapping[str, Task]) -> dict[str, Mapping[str, Any]]:
    """Return section `data_reader` of each task."""
    return {name: (config["tasks"][name] if "tasks" in config else config)["data_reader"] for name in tasks}


def _scores_of(
    tasks: Mapping[str, Task],
    readers: Mapping[str, Mapping[str, Any]],
    best: Mapping[str, float | None],
    *,
    several: bool,
) -> list[tuple[Task, str, str, float]]:
    """Return (task, split, score, value) of every defined score of the tasks on their validation sets."""
    scores = []
    for key, value in best.items():
        split, _, rest = key.partition("/")
        for name, task in tasks.items():
            prefix = f"{name}/" if several else ""
            if split != "train" and rest.startswith(prefix) and value is not None and not rest.endswith("loss"):
                held_out = split == "valid" and readers[name]["valid_fraction"] is not None
                place = "train, held out" if held_out else split
                scores.append((task, place, rest.removeprefix(prefix), value))
    return scores


def _metadata(
    tasks: Mapping[str, Task],
    provenance: Mapping[str, Any],
    scores: Sequence[tuple[Task, str, str, float]],
    licence: str | None,
) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    model = provenance["config"]["model"]
    base = model[model["name"]]["pretrained_model_name"]
    # What was loaded from a folder or an archive has a name on this machine only.
    from_hub = base != SCRATCH and provenance["weights"] == base and HUB_ID.fullmatch(base)
    tags = {PIPELINE_TAGS.get(heads.get(task.head).auto_class) for task in tasks.values()}
    card = ModelCardData(
        language=list(dict.fromkeys(task.language for task in tasks.values())),
        license=licence,
        library_name="transformers",
        base_model=base if from_hub else None,
        datasets=list(dict.fromkeys(task.hub.partition(":")[0] for task, *_ in scores if task.hub)) or None,
        metrics=list(dict.fromkeys(score for *_, score, _ in scores)) or None,
        pipeline_tag=tags.pop() if len(tags) == 1 else None,
        tags=["claf2"],
        model_name=", ".join(task.name for task in tasks.values()),
        eval_results=[
            EvalResult(
                task_type=PIPELINE_TAGS.get(heads.get(task.head).auto_class, task.head),
                dataset_type=task.hub.partition(":")[0] if task.hub else task.name,
                dataset_name=task.name,
                dataset_config=(task.hub or "").partition(":")[2] or None,
                dataset_split=split,
                metric_type=score,
                metric_name=score,
                metric_value=round(value, 4),
            )
            for task, split, score, value in scores
        ]
        or None,
    )
    return card.to_yaml().strip()


def _adapter_text(provenance: Mapping[str, Any]) -> str:
    """Return what a reader must know of a model of which a part was trained; empty for other models."""
    peft = provenance["config"]["model"].get("peft")
    if not peft:
        return ""
    name, counts = peft["name"], (provenance.get("trained_parameters"), provenance.get("parameters"))
    of = "" if None in counts else f" {counts[0]:,} of {counts[1]:,} weights were trained, heads included."
    use = "" if adapters.get(name).can_merge else " The encoder needs its adapter, so only claf2 opens this model."
    return f"Trained with the adapter `{name}`.{of}{use}\n\n"
