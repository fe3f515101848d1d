"""No training: a model is evaluated as it was pre-trained."""

from __future__ import annotations

from claf2.training.trainers import EvaluationTrainer, register_trainer


@register_trainer("zero_shot")
class ZeroShotTrainer(EvaluationTrainer):
    """Take no step, and evaluate the encoder before training."""
