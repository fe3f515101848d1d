"""Fine-tuning: one stage, all weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claf2.trainers import Trainer, register_trainer

if TYPE_CHECKING:
    from claf2.loop import Job


@register_trainer("finetune")
class FineTune(Trainer):
    """Train encoder and heads together from the first step to the last."""

    def run(self, job: Job) -> None:
        from claf2.loop import fit

        fit(job)
