"""Objectives: what a step minimises besides the head's own loss, or instead of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from claf2.errors import ConfigError, nearest
from claf2.heads import Head
from claf2.registry import Component, Registry

if TYPE_CHECKING:
    import torch

    from claf2.models.encoder import EncoderWithHeads

__all__ = ["TEACHER", "Distil", "Objective", "Pass", "objectives", "register_objective"]

TEACHER = "teacher"
"""The field of a batch that holds what a teacher says of its rows, (B, C): logits, or (B, 1) a number."""


@dataclass(frozen=True)
class Pass:
    """One forward pass over a part of a step's batch."""

    model: EncoderWithHeads
    task: str
    head: Head
    batch: Mapping[str, torch.Tensor]
    outputs: Any
    share: torch.Tensor
    """What a loss summed over rows is to be multiplied by, a scalar: one over the rows of the whole batch, times the
    task's weight."""


class Objective(Component, ABC):
    """A change of the loss; its fields are the block of section `objectives` that is named after it."""

    def check(self, tasks: Collection[str]) -> None:
        """Raise ``ConfigError``, its path within the objective's block, where it does not fit the tasks."""
        return None

    def learned(self, tasks: Collection[str]) -> torch.nn.Module | None:
        """Return what is learned beside the model; ``loss`` finds it in the model's ``learned`` under the objective's
        name."""
        return None

    @abstractmethod
    def loss(self, own: torch.Tensor, at: Pass) -> torch.Tensor:
        """Return the loss of a part, a scalar, given the one so far."""


objectives: Registry[type[Objective]] = Registry("objective")
register_objective = objectives.register


@register_objective("smart")
class Smart(Objective):
    """Smoothness-inducing adversarial regularisation: the answer may change little when the word embeddings are moved
    to where it changes most (Jiang et al., 2020, https://arxiv.org/abs/1911.03437; one ascent step, symmetric KL,
    squared difference for numbers). For heads that answer for a whole input; others keep their own loss."""

    weight: float = Field(1.0, gt=0)
    """What the regulariser counts beside the loss."""
    noise: float = Field(1e-5, gt=0)
    """The standard deviation of the first move."""
    step: float = Field(1e-3, gt=0)
    """The largest coordinate of the move that is taken."""

    def loss(self, own: torch.Tensor, at: Pass) -> torch.Tensor:
        import torch

        before = at.head.answer(at.outputs)
        if before is None:
            return own
        moves: list[torch.Tensor] = []

        def first(embedded: torch.Tensor) -> torch.Tensor:
            moves.append((torch.randn_like(embedded) * self.noise).requires_grad_())
            return embedded + moves[0]

        with _embedding(at, first):
            moved = _answer(at)
        (direction,) = torch.autograd.grad(_difference(moved, before.detach()).sum(), moves[0])
        move = self.step * direction / (direction.abs().amax(-1, keepdim=True) + 1e-12)
        with _embedding(at, lambda embedded: embedded + move):
            moved = _answer(at)
        return own + self.weight * at.share * _difference(moved, before).sum()


@register_objective("distil")
class Distil(Objective):
    """Knowledge distillation: a part of the loss is the cross-entropy with the soft labels of a teacher, a fine-tuned
    run of the same task, as MT-DNN-KD does it (Liu et al., 2019, https://arxiv.org/abs/1904.09482; Hinton et al.,
    2015); for numbers the squared difference. What a teacher says of the training rows is kept in the cache. Tasks
    without a teacher keep their own loss."""

    teachers: Mapping[str, str] = {}
    """Task → the folder of a run."""
    weight: float = Field(0.5, ge=0, le=1)
    """The teacher's part of the loss."""
    temperature: float = Field(1.0, gt=0)
    """What logits are divided by before they are compared; the loss grows by its square."""

    def check(self, tasks: Collection[str]) -> None:
        if not self.teachers:
            raise ConfigError("teachers", "names no teacher", hint='{"rte": "FOLDER OF A RUN"}')
        for name in self.teachers:
            if name not in tasks:
                raise ConfigError("teachers", f"{name!r} is no task of this run", hint=nearest(name, tasks))

    def loss(self, own: torch.Tensor, at: Pass) -> torch.Tensor:
        from torch.nn.functional import mse_loss

        answer = at.head.answer(at.outputs)
        if answer is None or TEACHER not in at.batch:
            return own
        said = at.batch[TEACHER]
        if said.shape[-1] == 1:
            soft = mse_loss(answer, said, reduction="sum")
        else:
            wanted = (said / self.temperature).softmax(-1)
            soft = -(wanted * (answer / self.temperature).log_softmax(-1)).sum() * self.temperature**2
        return (1 - self.weight) * own + self.weight * at.share * soft


@register_objective("uncertainty")
class Uncertainty(Objective):
    """Each task's loss is weighted by exp(-s), and s / 2 added, with s learned: the log of the task's own noise
    (Kendall et al., 2018, https://arxiv.org/abs/1705.07115)."""

    rate: float = Field(100.0, gt=0)
    """How many times faster than the weights s moves."""

    def learned(self, tasks: Collection[str]) -> torch.nn.Module:
        import torch

        return torch.nn.ParameterDict({task: torch.nn.Parameter(torch.zeros(1)) for task in sorted(tasks)})

    def loss(self, own: torch.Tensor, at: Pass) -> torch.Tensor:
        table: Any = at.model.learned[objectives.name_of(type(self))]
        s: torch.Tensor = self.rate * table[at.task][0]
        rows = len(at.batch["input_ids"])
        return own * (-s).exp() + at.share * rows * s / 2


def _answer(at: Pass) -> torch.Tensor:
    answer = at.head.answer(at.model(at.task, at.batch))
    assert answer is not None
    return answer


def _difference(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return how far two answers are apart, (B,): the symmetric KL divergence of (B, C) logits, the squared difference
    of (B, 1) numbers."""
    if one.shape[-1] == 1:
        return (one - other).pow(2).sum(-1)
    first, second = one.log_softmax(-1), other.log_softmax(-1)
    apart: torch.Tensor = ((first.exp() - second.exp()) * (first - second)).sum(-1)
    return apart


@contextmanager
def _embedding(at: Pass, change: Any) -> Iterator[None]:
    """Change the word embeddings of the forward passes inside."""
    module: Any = at.model.head(at.task)
    handle = module.get_input_embeddings().register_forward_hook(lambda _, __, embedded: change(embedded))
    try:
        yield
    finally:
        handle.remove()
