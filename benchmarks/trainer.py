"""transformers.Trainer on the rows and by the recipe of a claf2 experiment: what the comparisons here measure
against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from claf2.config import Experiment
from claf2.data.features import FeatureSet
from claf2.models.encoder import EncoderWithHeads
from claf2.runs.resolve import Run


def encode(run: Run, features: FeatureSet, *, padded: bool = False) -> list[dict[str, Any]]:
    """Return features as rows for a Trainer, each padded to the longest input where that is asked for."""
    (config,) = run.experiment.tasks.values()
    fills = {"input_ids": run.tokenizer.pad_id, "token_type_ids": 0, **config.head.targets}
    rows = []
    for row in features.table.select(list(fills)).to_pylist():
        row["attention_mask"] = [1] * len(row["input_ids"])
        missing = config.featurizer.max_seq_length - len(row["input_ids"]) if padded else 0
        for name, fill in ({**fills, "attention_mask": 0} if missing else {}).items():
            if isinstance(row[name], list):
                row[name] = [*row[name], *[fill] * missing]
        rows.append(row)
    return rows


def wrap(run: Run, model: PreTrainedModel) -> EncoderWithHeads:
    """Return a Trainer's model as claf2 evaluates it, so that both systems are evaluated by the same code."""
    (task,) = run.experiment.tasks
    return EncoderWithHeads({task: model}, takes_segments=True, extra_inputs={task: ()})


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
