"""The rows that an export is traced, compared and calibrated with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
from transformers import PreTrainedModel

from claf2.data.batch import TaskDataset
from claf2.data.features import featurize_in_memory
from claf2.data.splits import SplitData
from claf2.errors import Claf2Error
from claf2.export.onnx import TOKEN_INPUTS
from claf2.models.configuration import takes_segments
from claf2.models.encoder import EncoderWithHeads
from claf2.runs.locate import locate_splits
from claf2.runs.resolve import Run

__all__ = ["ModelRows"]


@dataclass(frozen=True)
class ModelRows:
    """Rows of a task's data as the arguments of its module."""

    task: str
    dataset: TaskDataset
    model: EncoderWithHeads
    shortened: Sequence[TaskDataset] = ()
    """The longest row cut to fewer tokens, where a head reads more than tokens: rows of one size each."""

    @classmethod
    def read(cls, run: Run, module: PreTrainedModel, split: str, count: int) -> ModelRows:
        """Read the rows of the first ``count`` examples of a split.

        Args:
            run: a run with one task.
            module: the head of the task with its encoder.
            split: ``train`` or ``valid``.
            count: the number of examples.

        Raises:
            DataError: when the file of the split is missing or damaged.
        """
        ((task, task_config),) = run.experiment.tasks.items()
        data = locate_splits(run.experiment)[task][split]
        assert isinstance(data, SplitData)  # a corpus has no head that answers
        examples = [example.unlabelled() for example in islice(data.examples(), count)]
        featurize = partial(featurize_in_memory, tokenizer=run.tokenizer, labels=run.labels[task])
        features = featurize(examples, task_config.featurizer)
        shortened: list[TaskDataset] = []
        if not set(task_config.head.inputs) <= set(TOKEN_INPUTS):
            longest = int(features.lengths().argmax())
            example = examples[features.features[longest]["example"]]
            for length in (features.lengths()[longest] // 2, features.lengths()[longest] - 1):
                featurizer = task_config.featurizer.model_copy(update={"max_seq_length": int(length)})
                with suppress(Claf2Error):  # there is no such row: nothing of the example fits
                    shortened.append(run.dataset(task, featurize([example], featurizer)))
        inputs = {task: tuple(task_config.head.inputs)}
        model = EncoderWithHeads({task: module}, takes_segments=takes_segments(module.config), extra_inputs=inputs)
        return cls(task, run.dataset(task, features), model, shortened)

    def __len__(self) -> int:
        return len(self.dataset.features)

    def arguments(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Return the arguments of the module for some rows, (B,), as one batch."""
        return self._arguments(self.dataset, rows)

    def example(self, count: int) -> dict[str, torch.Tensor]:
        """Return the arguments for the ``count`` longest rows, some of them repeated if there are fewer. A graph has
        an axis of size 1 for good, and these rows are the least likely to have one."""
        longest = np.argsort(-self.dataset.features.lengths(), kind="stable")
        return self.arguments(np.resize(longest[:count], count))

    def single_passes(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the arguments of a pass over each row alone, as arrays."""
        for row in range(len(self)):
            yield {name: tensor.numpy() for name, tensor in self.arguments(np.array([row])).items()}

    def free_axes(self) -> Mapping[str, list[int]]:
        """Return the axes in which rows differ in size, besides the first one, for each argument.

        The rows may happen to have one size, so those that are cut to fewer tokens count as well.
        """
        shapes: dict[str, set[tuple[int, ...]]] = {}
        for dataset in (self.dataset, *self.shortened):
            for row in range(len(dataset.features)):
                for name, tensor in self._arguments(dataset, np.array([row])).items():
                    shapes.setdefault(name, set()).add(tuple(tensor.shape))
        return {
            name: [axis for axis, sizes in enumerate(zip(*of_name, strict=True)) if len(set(sizes)) > 1]
            for name, of_name in shapes.items()
        }

    def _arguments(self, dataset: TaskDataset, rows: np.ndarray) -> dict[str, torch.Tensor]:
        return self.model.arguments(self.task, dataset.batch(rows).tensors(torch.device("cpu")))
