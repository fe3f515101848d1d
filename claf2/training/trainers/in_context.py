"""In-context learning: no stage at all. The examples of the training data that a model sees stand in its prompts."""

from __future__ import annotations

from claf2.training.trainers import EvaluationTrainer, register_trainer


@register_trainer("in_context")
class InContextTrainer(EvaluationTrainer):
    """Take no step: evaluate the model as it is, with the demonstrations that `seed_num` draws (Brown et al., 2020)."""
