"""In-context learning: no stage at all. The examples of the training data that a model sees stand in its prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from claf2.training.trainers import Trainer, register_trainer

if TYPE_CHECKING:
    from claf2.training.loop import TrainingContext


@register_trainer("in_context")
class InContextTrainer(Trainer):
    """Take no step: evaluate the model as it is, with the demonstrations that `seed_num` draws (Brown et al., 2020)."""

    trains: ClassVar[bool] = False

    def run(self, context: TrainingContext) -> None:
        from claf2.training.loop import evaluate_and_save

        context.model.eval()
        evaluate_and_save(context)
