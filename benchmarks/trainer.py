"""transformers.Trainer on the rows and by the recipe of a claf2 experiment: what the comparisons here measure
against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from claf2.build import splits
from claf2.config import Experiment
from claf2.readers import TextExample


def rows(experiment: Experiment, tokenizer: Any, split: str, padding: bool | str = False) -> list[dict[str, Any]]:
    """Return a split's rows, encoded as `transformers`' own examples do it."""
    labels = list(experiment.task.labels)
    examples = [each for each in splits(experiment)[split].examples() if isinstance(each, TextExample)]
    pairs = [each.text_b for each in examples]
    encoded = tokenizer(
        [each.text_a for each in examples],
        None if None in pairs else pairs,
        truncation=True,
        padding=padding,
        max_length=experiment.featurizer.max_seq_length,
    )
    targets = [labels.index(str(each.label)) if labels else float(str(each.label)) for each in examples]
    return [{**{name: encoded[name][i] for name in encoded}, "labels": target} for i, target in enumerate(targets)]


def trainer(
    experiment: Experiment, model_folder: str, folder: Path, *, padded: bool = False, **settings: Any
) -> tuple[Any, Any]:
    """Return a Trainer ready to train, and its tokenizer.

    Args:
        padded: whether every row is padded to the longest input, as run_glue does unless told otherwise.
        settings: what ``TrainingArguments`` takes besides the recipe.
    """
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        default_data_collator,
        set_seed,
    )

    set_seed(experiment.seed)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForSequenceClassification.from_pretrained(
        model_folder, num_labels=len(experiment.task.labels) or 1, dtype="float32"
    )
    given: Mapping[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": experiment.iterator.batch_size,
        "per_device_eval_batch_size": experiment.iterator.eval_batch_size,
        "learning_rate": experiment.optimizer.learning_rate,
        "num_train_epochs": experiment.trainer.num_epochs,
        "warmup_steps": experiment.schedule.warmup_proportion,
        "weight_decay": experiment.update.weight_decay,
        "max_grad_norm": experiment.trainer.grad_max_norm,
        "lr_scheduler_type": "linear",
        "optim": "adamw_torch",
        "seed": experiment.seed,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **settings,
    }
    made = Trainer(
        model=model,
        args=TrainingArguments(**given),
        train_dataset=rows(experiment, tokenizer, "train", "max_length" if padded else False),
        data_collator=default_data_collator if padded else DataCollatorWithPadding(tokenizer),
    )
    return made, tokenizer
