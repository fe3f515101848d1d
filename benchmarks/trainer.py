"""transformers.Trainer on the rows and by the recipe of a claf2 experiment: what the comparisons here measure
against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from claf2.config import Experiment
from claf2.readers import TextExample
from claf2.runs.locate import locate_splits


def rows(experiment: Experiment, tokenizer: Any, split: str, padding: bool | str = False) -> list[dict[str, Any]]:
    """Return a split's rows, encoded as `transformers`' own examples do it."""
    labels = list(experiment.only_task.task.labels)
    examples = [
        example
        for example in locate_splits(experiment)[experiment.only_task.task.name][split].examples()
        if isinstance(example, TextExample)
    ]
    pairs = [example.text_b for example in examples]
    encoded = tokenizer(
        [example.text_a for example in examples],
        None if None in pairs else pairs,
        truncation=True,
        padding=padding,
        max_length=experiment.only_task.featurizer.max_seq_length,
    )
    targets = [labels.index(str(example.label)) if labels else float(str(example.label)) for example in examples]
    return [{**{name: encoded[name][i] for name in encoded}, "labels": target} for i, target in enumerate(targets)]


def trainer(
    experiment: Experiment, model_folder: str, folder: Path, *, train: list[dict[str, Any]], **settings: Any
) -> Any:
    """Return a Trainer ready to train on encoded rows, which it pads to the longest of each batch.

    Args:
        experiment: what is trained.
        model_folder: the folder of the model to begin with.
        folder: where the Trainer writes.
        train: the rows; rows of one length are padded already.
        settings: what ``TrainingArguments`` takes besides the recipe.
    """
    import transformers

    transformers.set_seed(experiment.seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    config = transformers.AutoConfig.from_pretrained(model_folder)
    experiment.only_task.head.configure(config, experiment.only_task.task.labels)
    kind = getattr(transformers, str(experiment.only_task.head.auto_class))
    model = kind.from_pretrained(model_folder, config=config, dtype="float32")
    given: Mapping[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": experiment.only_task.iterator.batch_size,
        "per_device_eval_batch_size": experiment.only_task.iterator.eval_batch_size,
        "learning_rate": experiment.optimizer_config.learning_rate,
        "num_train_epochs": experiment.trainer_config.num_epochs,
        "warmup_steps": experiment.schedule.warmup_proportion,
        "weight_decay": experiment.optimizer.weight_decay,
        "max_grad_norm": experiment.trainer_config.grad_max_norm,
        "lr_scheduler_type": "linear",
        "optim": "adamw_torch",
        "seed": experiment.seed,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **settings,
    }
    tagged = isinstance(train[0].get("labels"), list)
    collator = transformers.DataCollatorForTokenClassification if tagged else transformers.DataCollatorWithPadding
    made = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(**given),
        train_dataset=train,
        data_collator=collator(tokenizer),
    )
    made.remove_callback(transformers.PrinterCallback)
    return made
