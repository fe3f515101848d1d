"""Several models with equal encoders as one model, which keeps the encoder once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from claf2.models.encoder import EncoderWithHeads

__all__ = ["join_heads"]


def join_heads(models: Mapping[str, EncoderWithHeads]) -> EncoderWithHeads | None:
    """Return one model with the heads of several, which are changed; ``None`` where their encoders differ.

    Args:
        models: a model with one head for each task, all of the same architecture.
    """
    if any(model.bound for model in models.values()):
        return None
    encoders = {task: model.encoder for task, model in models.items()}
    # Some heads have no pooler, so the encoder with most weights serves all.
    fullest = max(models, key=lambda task: len(encoders[task].state_dict()))
    weights = encoders[fullest].state_dict()
    for encoder in encoders.values():
        if type(encoder) is not type(encoders[fullest]):
            return None
        own = encoder.state_dict()
        if not all(name in weights and torch.equal(tensor, weights[name]) for name, tensor in own.items()):
            return None
    heads: dict[str, nn.Module] = {}
    for task, model in models.items():
        module: Any = model.head(task)
        setattr(module, module.base_model_prefix, encoders[fullest])
        heads[task] = module
    joined = EncoderWithHeads(
        heads,
        takes_segments=models[fullest].takes_segments,
        extra_inputs={task: model.extra_inputs[task] for task, model in models.items()},
        first_token_tasks=[task for task, model in models.items() if task in model.first_token_tasks],
    )
    joined.packing, joined.device = models[fullest].packing, models[fullest].device
    joined.adapted = models[fullest].adapted
    return joined.train(models[fullest].training)
