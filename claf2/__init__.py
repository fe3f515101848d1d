"""claf2 makes and fine-tunes language encoders with fixed, published recipes, and gives scores that can be trusted.

This is the index of the public API: functions for whole experiments (`load`, `train`, `evaluate`, `explain`, `bench`,
`compare`, `push`), `Predictor` for single requests, and the names with which a plug-in adds components. Everything is
imported when it is first used, so that ``import claf2`` takes no time.

Data goes one way: config → readers → tokenizers and heads (features) → batch → model → loop → metrics → report.
``claf2.runs.train`` is the place to start reading; ``claf2.training.loop`` is the only place where weights change.

Examples:
    >>> experiment = claf2.load("scratch/nsmc", sample=True, num_steps=20)
    >>> report = claf2.train(experiment)
    >>> predictor = claf2.Predictor("logs/scratch/nsmc")
    >>> predictor(text="재미있다").prediction
    '1'
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # type checkers take it for true; importing typing would take longer than all the rest

if TYPE_CHECKING:
    from claf2.adapters import Adapter, register_adapter
    from claf2.api import bench, compare, evaluate, explain, load, train, watch
    from claf2.config import Experiment
    from claf2.corpus.cleaning import CleaningRule, register_cleaning_rule
    from claf2.corpus.instances import Instances, register_instances
    from claf2.corpus.masks import Masks, register_masks
    from claf2.data.samplers import Sampler, register_sampler
    from claf2.errors import Claf2Error, ConfigError, DataError, ModelError, RegistryError, RunError
    from claf2.evaluation.report import Report, TaskReport
    from claf2.export.predictor import Predictor
    from claf2.heads import (
        CollectedOutputs,
        Featurizer,
        Head,
        LabelFeaturizer,
        SingleLabelHead,
        TextFeaturizer,
        register_head,
    )
    from claf2.machine.nlu import NluMachine
    from claf2.machine.qa import QaMachine
    from claf2.metrics import Metric, Prediction, register_metric
    from claf2.models import Wrapper, register_wrapper
    from claf2.readers import Example, Reader, TextExample, register_reader
    from claf2.retrieval.index import PassageIndex
    from claf2.runs.hub import push
    from claf2.task import Published, Suite, Task, get_task, register_suite, register_task
    from claf2.tokenizers import (
        SubwordTokenizer,
        Tokenizer,
        WordTokenizer,
        register_subword_tokenizer,
        register_word_tokenizer,
    )
    from claf2.training.callbacks import Callback, CallbackSpec, RunInfo, register_callback
    from claf2.training.objectives import Objective, register_objective
    from claf2.training.optim import Optimizer, Schedule, register_optimizer, register_schedule
    from claf2.training.trainers import Trainer, register_trainer

__all__ = [
    "Adapter",
    "Callback",
    "CallbackSpec",
    "Claf2Error",
    "CleaningRule",
    "CollectedOutputs",
    "ConfigError",
    "DataError",
    "Example",
    "Experiment",
    "Featurizer",
    "Head",
    "Instances",
    "LabelFeaturizer",
    "Masks",
    "Metric",
    "ModelError",
    "NluMachine",
    "Objective",
    "Optimizer",
    "PassageIndex",
    "Prediction",
    "Predictor",
    "Published",
    "QaMachine",
    "Reader",
    "RegistryError",
    "Report",
    "RunError",
    "RunInfo",
    "Sampler",
    "Schedule",
    "SingleLabelHead",
    "SubwordTokenizer",
    "Suite",
    "Task",
    "TaskReport",
    "TextExample",
    "TextFeaturizer",
    "Tokenizer",
    "Trainer",
    "WordTokenizer",
    "Wrapper",
    "__version__",
    "bench",
    "compare",
    "evaluate",
    "explain",
    "get_task",
    "load",
    "push",
    "register_adapter",
    "register_callback",
    "register_cleaning_rule",
    "register_head",
    "register_instances",
    "register_masks",
    "register_metric",
    "register_objective",
    "register_optimizer",
    "register_reader",
    "register_sampler",
    "register_schedule",
    "register_subword_tokenizer",
    "register_suite",
    "register_task",
    "register_trainer",
    "register_word_tokenizer",
    "register_wrapper",
    "train",
    "watch",
]

__version__ = "0.1.0"

_NAMES = {
    "claf2.adapters": "Adapter register_adapter",
    "claf2.api": "bench compare evaluate explain load train watch",
    "claf2.config": "Experiment",
    "claf2.corpus.cleaning": "CleaningRule register_cleaning_rule",
    "claf2.corpus.instances": "Instances register_instances",
    "claf2.corpus.masks": "Masks register_masks",
    "claf2.data.samplers": "Sampler register_sampler",
    "claf2.errors": "Claf2Error ConfigError DataError ModelError RegistryError RunError",
    "claf2.evaluation.report": "Report TaskReport",
    "claf2.heads": "CollectedOutputs Featurizer Head LabelFeaturizer SingleLabelHead TextFeaturizer register_head",
    "claf2.machine.nlu": "NluMachine",
    "claf2.machine.qa": "QaMachine",
    "claf2.metrics": "Metric Prediction register_metric",
    "claf2.models": "Wrapper register_wrapper",
    "claf2.readers": "Example Reader TextExample register_reader",
    "claf2.export.predictor": "Predictor",
    "claf2.retrieval.index": "PassageIndex",
    "claf2.runs.hub": "push",
    "claf2.task": "Published Suite Task get_task register_suite register_task",
    "claf2.tokenizers":
        "SubwordTokenizer Tokenizer WordTokenizer register_subword_tokenizer register_word_tokenizer",
    "claf2.training.callbacks": "Callback CallbackSpec RunInfo register_callback",
    "claf2.training.objectives": "Objective register_objective",
    "claf2.training.optim": "Optimizer Schedule register_optimizer register_schedule",
    "claf2.training.trainers": "Trainer register_trainer",
}  # fmt: skip
"""Module → its public names; the same as above, where type checkers and editors look."""

_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
