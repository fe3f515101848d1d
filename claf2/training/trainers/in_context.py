"""In-context learning: no stage at all. The examples of the training data that a model sees stand in its prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from claf2.errors import ConfigError
from claf2.training.trainers import Trainer, register_trainer

if TYPE_CHECKING:
    from claf2.heads import Head
    from claf2.training.loop import TrainingContext


@register_trainer("in_context")
class InContextTrainer(Trainer):
    """Take no step: evaluate the model as it is, with the demonstrations that `seed_num` draws (Brown et al., 2020)."""

    trains: ClassVar[bool] = False

    def check(self, heads: Mapping[str, Head[Any, Any]]) -> None:
        for task, head in heads.items():
            if not head.binds:  # it has weights of its own, which no language model brings
                problem = f"'in_context' takes no step, and the head of task {task!r} would stay random"
                raise ConfigError("trainer.name", problem, hint="use --model.name rank_causal, rank or rank_mask")

    def run(self, context: TrainingContext) -> None:
        from claf2.training.loop import evaluate_and_save

        context.model.eval()
        evaluate_and_save(context)
