"""The examples of the training data that stand in prompts: drawn by the seed of a run, and stored in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from claf2.config import Experiment
from claf2.data.splits import SplitData
from claf2.errors import ConfigError
from claf2.heads.prompts import CausalPromptFeaturizer
from claf2.readers import Example
from claf2.runs.locate import TaskSplits
from claf2.runtime.files import read_json, write_json
from claf2.runtime.seed import generator

__all__ = ["draw_demonstrations", "restore_demonstrations", "write_demonstrations"]

FILE = "demonstrations.json"
"""Task → its demonstrations, in the folder of a run."""


def draw_demonstrations(experiment: Experiment, data: TaskSplits) -> Experiment:
    """Return the experiment with the demonstrations that its prompts need, drawn from the training data.

    The order of the drawn examples depends on the seed, the task and the data alone, and texts that occur twice are
    drawn once. More shots begin with the fewer ones.

    Raises:
        ConfigError: if the training data has too few examples.
    """
    drawn: dict[str, list[Example]] = {}
    for name, config in experiment.tasks.items():
        count, split = config.featurizer.shots_to_draw, data[name]["train"]
        if not count or not isinstance(split, SplitData):
            continue
        distinct = list({tuple(example.texts()): example for example in split.examples()}.values())
        if len(distinct) < count:
            problem = f"the training data has {len(distinct)} different examples, and {count} are needed"
            raise ConfigError(f"data_reader.{config.data.dataset}.prompt_shots", problem, hint="use fewer shots")
        order = generator(experiment.seed, "shots", name).permutation(len(distinct))[:count]
        drawn[name] = [distinct[index] for index in order.tolist()]
    tasks = {
        name: replace(config, featurizer=config.featurizer.with_shots(drawn[name])) if name in drawn else config
        for name, config in experiment.tasks.items()
    }
    return replace(experiment, tasks=tasks)


def _stored_values(experiment: Experiment) -> dict[str, Any]:
    prompts = {name: config.featurizer for name, config in experiment.tasks.items()}
    return {
        name: prompt.demonstrations
        for name, prompt in prompts.items()
        if isinstance(prompt, CausalPromptFeaturizer) and prompt.demonstrations
    }


def write_demonstrations(experiment: Experiment, folder: Path) -> None:
    """Write the demonstrations into the folder of a run, if it has any."""
    values = _stored_values(experiment)
    if values:
        write_json(folder / FILE, values)


def restore_demonstrations(experiment: Experiment, folder: Path) -> Experiment:
    """Return the experiment of a run with the demonstrations in its folder.

    Raises:
        RunError: if they are missing or damaged.
    """
    names = [name for name, config in experiment.tasks.items() if config.featurizer.shots_to_draw]
    if not names:
        return experiment
    stored: Mapping[str, Any] = read_json(folder / FILE)
    tasks = dict(experiment.tasks)
    for name in names:
        featurizer = tasks[name].featurizer.model_copy(update={"demonstrations": stored[name]})
        tasks[name] = replace(tasks[name], featurizer=featurizer)
    return replace(experiment, tasks=tasks)
