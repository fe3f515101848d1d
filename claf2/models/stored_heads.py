"""The heads that a checkpoint brings: their label names, and what becomes of their weights for a task's labels."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from claf2.errors import ModelError
from claf2.heads import Head

__all__ = ["find_label_order", "fresh_module", "read_label_names", "reorder_head", "reset_head"]


def fresh_module(kind: Any, config: PreTrainedConfig) -> PreTrainedModel:
    """Make a module from its configuration alone; ``kind`` is an ``Auto`` class, or a class of models."""
    return kind(config) if isinstance(kind, type) and issubclass(kind, PreTrainedModel) else kind.from_config(config)


def read_label_names(config: PreTrainedConfig) -> list[str]:
    """Return the label names of a configuration in the order of their outputs."""
    return [str(name) for _, name in sorted((config.id2label or {}).items())]


def find_label_order(stored: Sequence[str], labels: Sequence[str]) -> list[int] | None:
    """Return which stored output stands for each label; ``None`` where they have the same order or other names."""
    if list(stored) == list(labels) or sorted(stored) != sorted(labels):
        return None
    return [stored.index(label) for label in labels]


def reorder_head(
    module: PreTrainedModel, kind: Any, head: Head[Any, Any], labels: Sequence[str], order: Sequence[int]
) -> None:
    """Put the outputs of a stored head into the order of the task's labels, so that the order is the same in features,
    weights, predictions and metrics. A dimension of a weight counts labels if one more label makes it longer by one.

    Raises:
        ModelError: when a weight depends on the labels in another way.
    """
    config = copy.deepcopy(module.config)
    head.configure(config, [*labels, ""])
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in fresh_module(kind, config).state_dict().items()}
    for name, tensor in module.state_dict().items():
        for dim, (size, longer) in enumerate(zip(tensor.shape, shapes[name], strict=True)):
            if size != longer and (size, longer) != (len(order), len(order) + 1):
                raise ModelError(f"the labels of {name} cannot be put into the order of the task's: {labels}")
            if size != longer:
                tensor.copy_(tensor.index_select(dim, torch.tensor(order)))


def reset_head(module: nn.Module, fresh: nn.Module) -> None:
    """Give all but the encoder fresh weights, so that a stored head for other labels is not used."""
    prefix = f"{module.base_model_prefix}."
    weights = fresh.state_dict()
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if not name.startswith(prefix):
                tensor.copy_(weights[name])
