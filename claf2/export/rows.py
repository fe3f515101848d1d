"""The rows that an export is traced, compared and calibrated with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from transformers import PreTrainedModel

from claf2.data.batch import TaskDataset
from claf2.data.features import featurize_in_memory
from claf2.data.splits import SplitData
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
        features = featurize_in_memory(examples, task_config.featurizer, run.tokenizer, run.labels[task])
        takes_segments = getattr(module.config, "type_vocab_size", 0) > 1
        inputs = {task: tuple(task_config.head.inputs)}
        model = EncoderWithHeads({task: module}, takes_segments=takes_segments, extra_inputs=inputs)
        return cls(task, run.dataset(task, features), model)

    def __len__(self) -> int:
        return len(self.dataset.features)

    def arguments(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Return the arguments of the module for some rows, (B,), as one batch."""
        return self.model.arguments(self.task, self.dataset.batch(rows).tensors(torch.device("cpu")))

    def single_passes(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the arguments of a pass over each row alone, as arrays."""
        for row in range(len(self)):
            yield {name: tensor.numpy() for name, tensor in self.arguments(np.array([row])).items()}

    def free_axes(self) -> Mapping[str, list[int]]:
        """Return the axes in which rows differ in size, besides the first one, for each argument."""
        shapes: dict[str, set[tuple[int, ...]]] = {}
        for arrays in self.single_passes():
            for name, array in arrays.items():
                shapes.setdefault(name, set()).add(array.shape)
        return {
            name: [axis for axis, sizes in enumerate(zip(*of_name, strict=True)) if len(set(sizes)) > 1]
            for name, of_name in shapes.items()
        }
