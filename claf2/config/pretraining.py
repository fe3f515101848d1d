"""What must hold between the sections of a pre-training, which the sections themselves cannot check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from claf2.config.schema import TrainerSection
from claf2.config.source import is_override
from claf2.corpus.masks import Effect
from claf2.corpus.section import CorpusSection
from claf2.errors import ConfigError
from claf2.training.trainers import Trainer
from claf2.training.trainers.pretrain import PretrainTrainer

__all__ = ["check_pretraining", "longest_rows"]

PAIRS = "sentence_pair"
"""The instances that have two texts each."""

EFFECTS: Mapping[str, Effect] = {"clm": "predict_next", "tsdae": "delete"}
"""What the masks of a head do; those of others hide tokens."""

FITTING_MASKS: Mapping[Effect, str] = {
    "hide": "use token, word, eojeol, ngram or mixture, or the task corpus_clm",
    "predict_next": "use next_token",
    "delete": "use deletion",
}
"""What masks do → those that do it, for a hint."""

WITHOUT_EFFECT = {
    "iterator.batch_size": "set the batch size of each phase with --trainer.pretrain.phases",
    "trainer.num_epochs": "set the steps of each phase with --trainer.pretrain.phases",
    "data_reader.valid_fraction": "hold documents out with --valid_documents",
}
"""The settings that the training on a corpus does not use → what to use instead."""

LABEL_OBJECTIVES = ("objectives.smart", "objectives.distil")
"""The objectives that need the outputs of a task with labels."""


def longest_rows(section: TrainerSection) -> int:
    """Return the length of the longest rows of a pre-training, in tokens.

    Raises:
        ConfigError: when the trainer has no phases.
    """
    trainer: Any = getattr(section, section.name)
    if not isinstance(trainer, PretrainTrainer):
        problem = f"{section.name!r} cannot train on a corpus, because it has no phases"
        raise ConfigError("trainer.name", problem, hint="use pretrain")
    return max(phase.max_seq_length for phase in trainer.phases)


def check_pretraining(
    corpora: Mapping[str, tuple[str, CorpusSection | None]],
    section: TrainerSection,
    trainer: Trainer,
    origins: Mapping[str, str],
) -> None:
    """Check that task, instances, trainer and phases of an experiment fit together.

    Args:
        corpora: task → its head, and the text that it trains on, if that is a corpus.
        section: section `trainer`.
        trainer: the block that it selects.
        origins: dotted path → where its value comes from.

    Raises:
        ConfigError: naming what does not fit.
    """
    on_corpus = {task: corpus for task, (_, corpus) in corpora.items() if corpus is not None}
    if on_corpus and len(corpora) > 1:
        problem = f"task {next(iter(on_corpus))!r} trains on a corpus, so it cannot be trained with other tasks"
        raise ConfigError("tasks", problem, hint="use the task masked_text for masked tokens beside other tasks")
    if not isinstance(trainer, PretrainTrainer):
        return
    if not on_corpus:
        problem = f"'pretrain' needs a task on a corpus, and {next(iter(corpora))!r} is not one"
        raise ConfigError("trainer.name", problem, origin=origins.get("trainer.name"), hint="use corpus_mlm")
    _check_steps(section, trainer, origins)
    _check_effects(section, origins)
    for task, corpus in on_corpus.items():
        _check_blocks(f"data_reader.{task}", corpus, origins)
        head, _ = corpora[task]
        effect = EFFECTS.get(head, "hide")
        if corpus.masks.chosen().effect != effect:
            path = f"data_reader.{task}.masks.name"
            problem = f"{corpus.masks.name!r} does not fit the head {head!r}"
            raise ConfigError(path, problem, origin=origins.get(path), hint=FITTING_MASKS[effect])
        if head == "mlm_nsp" and corpus.instances.name != PAIRS:
            path = f"data_reader.{task}.instances.name"
            problem = f"{corpus.instances.name!r} makes no pairs, so there is no next sentence to predict"
            raise ConfigError(path, problem, origin=origins.get(path), hint=f"use {PAIRS}, or the task corpus_mlm")


def _check_steps(section: TrainerSection, trainer: PretrainTrainer, origins: Mapping[str, str]) -> None:
    """Check that the phases follow one another, and end with the run."""
    trainer.all_phases()
    last, steps = trainer.num_steps(), section.num_steps
    if steps is not None and last != steps:
        relation = "after" if last > steps else "before"
        raise ConfigError(
            "trainer.pretrain.phases",
            f"the last phase ends at step {last}, {relation} the end of the run at num_steps {steps}",
            origin=origins.get("trainer.pretrain.phases"),
            hint="leave out num_steps, or change the last phase",
        )
    if section.gradient_accumulation_steps > 1:
        problem = "the phases state the rows of a step"
        hint = "limit the memory of a pass with --runtime.max_tokens_per_micro_batch"
        raise ConfigError("trainer.gradient_accumulation_steps", problem, hint=hint)


def _check_effects(section: TrainerSection, origins: Mapping[str, str]) -> None:
    """Refuse what was set and would be ignored. The config of a run lists every setting with its default, so only a
    setting of the command line, another value than the default, or a block's field shows that somebody has set it."""
    for path, origin in origins.items():
        is_given = is_override(origin)
        if path == "trainer.num_epochs":
            is_given |= section.num_epochs != TrainerSection.model_fields["num_epochs"].default
        if path in WITHOUT_EFFECT and is_given:
            problem = "has no effect on a pre-training"
            raise ConfigError(path, problem, origin=origin, hint=WITHOUT_EFFECT[path])
        block = ".".join(path.split(".")[:2])
        if block in LABEL_OBJECTIVES and (is_given or (path != block and origin != "default")):
            raise ConfigError(block, "has no effect on masked tokens", origin=origin, hint="leave it out")


def _check_blocks(path: str, corpus: CorpusSection, origins: Mapping[str, str]) -> None:
    """Refuse settings of masks and instances that were given, but whose kind is not selected."""
    for block, problem in corpus.ignored_blocks().items():
        kind, _, name = block.partition(".")
        for field, origin in origins.items():
            if f"{field}.".startswith(f"{path}.{block}.") and is_override(origin):
                hint = f"add --{kind}.name {name}, or leave it out"
                raise ConfigError(f"{path}.{block}", problem, origin=origin, hint=hint)
