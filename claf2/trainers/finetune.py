"""Fine-tuning: one stage, all weights."""

from __future__ import annotations

from claf2.trainers import Trainer, register_trainer


@register_trainer("finetune")
class FineTune(Trainer):
    """Train encoder and heads together from the first step to the last."""
