"""Fine-tuning: one stage, all weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claf2.training.trainers import Trainer, register_trainer

if TYPE_CHECKING:
    from claf2.training.loop import TrainingContext


@register_trainer("finetune")
class FineTuneTrainer(Trainer):
    """Train encoder and heads together from the first step to the last."""

    def run(self, context: TrainingContext) -> None:
        from claf2.training.loop import fit

        fit(context)
