"""What moves the weights: parameter groups, optimizers, learning-rate schedules."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from pydantic import Field

from claf2.errors import ConfigError
from claf2.registry import Component, Registry

if TYPE_CHECKING:
    import torch

__all__ = ["Optimizer", "Schedule", "optimizers", "parameter_groups", "schedules"]


class Optimizer(Component, ABC):
    """An update rule with its constants; the learning rate is the optimizer section's own field."""

    weight_decay: float = Field(0.0, ge=0)
    """Decoupled or L2 decay of all weights but biases and normalisation."""

    @abstractmethod
    def build(self, model: torch.nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """Return the optimizer of the model's trainable parameters in two groups: decayed, not decayed."""


class Schedule(Component, ABC):
    """The learning rate as a function of the optimizer step alone, so that it has no state to save."""

    warmup_proportion: float = Field(0.0, ge=0, lt=1)
    """The part of all steps over which the rate rises from 0."""
    warmup_steps: int | None = Field(None, ge=0)
    """The number of those steps, when given: it wins over the proportion."""

    def warmup(self, total_steps: int) -> int:
        """Return the number of warm-up steps of a run of ``total_steps``.

        Raises:
            ConfigError: when the run would end before its warm-up does.
        """
        steps = math.ceil(self.warmup_proportion * total_steps) if self.warmup_steps is None else self.warmup_steps
        if steps >= total_steps and steps > 0:
            raise ConfigError(
                f"optimizer.{schedules.name_of(type(self))}."
                + ("warmup_proportion" if self.warmup_steps is None else "warmup_steps"),
                f"{steps} warm-up steps, but the whole run has {total_steps}: the learning rate would never be reached",
                hint="give fewer warm-up steps or more epochs",
            )
        return steps

    def factor(self, step: int, total_steps: int) -> float:
        """Return what the learning rate is multiplied by at ``step``, counted from 0 as `transformers` does."""
        warmup = self.warmup(total_steps)
        if step < warmup:
            return step / max(1, warmup)
        return self.decay((step - warmup) / max(1, total_steps - warmup))

    @abstractmethod
    def decay(self, progress: float) -> float:
        """Return the factor after warm-up; ``progress`` runs from 0 to 1."""


optimizers: Registry[type[Optimizer]] = Registry("optimizer")
schedules: Registry[type[Schedule]] = Registry("learning-rate schedule")


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split trainable parameters: matrices decay, biases and normalisation (one-dimensional parameters) do not."""
    decayed: list[torch.nn.Parameter] = []
    kept: list[torch.nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (kept if parameter.ndim < 2 else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


@optimizers.register("adamw")
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019), bias-corrected."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)

    def build(self, model: torch.nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        import torch

        groups = parameter_groups(model, self.weight_decay)
        fused = next(model.parameters()).device.type in ("cpu", "cuda")
        return torch.optim.AdamW(groups, lr=learning_rate, betas=self.betas, eps=self.eps, fused=fused)


@optimizers.register("adamax")
class Adamax(Optimizer):
    """Adam with the infinity norm (Kingma and Ba, 2015): MT-DNN's choice."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)

    def build(self, model: torch.nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        import torch

        groups = parameter_groups(model, self.weight_decay)
        return torch.optim.Adamax(groups, lr=learning_rate, betas=self.betas, eps=self.eps)


@optimizers.register("sgd")
class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    momentum: float = Field(0.0, ge=0, lt=1)

    def build(self, model: torch.nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        import torch

        return torch.optim.SGD(parameter_groups(model, self.weight_decay), lr=learning_rate, momentum=self.momentum)


@schedules.register("warmup_linear", "linear")
class WarmupLinear(Schedule):
    """Rise to the learning rate, then fall to 0 in a straight line: BERT's schedule."""

    def decay(self, progress: float) -> float:
        return max(0.0, 1.0 - progress)


@schedules.register("warmup_cosine", "cosine")
class WarmupCosine(Schedule):
    """Rise, then fall along ``cycles`` of a cosine (half a period by default)."""

    cycles: float = Field(0.5, gt=0)

    def decay(self, progress: float) -> float:
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * self.cycles * 2.0 * progress)))


@schedules.register("warmup_constant", "constant")
class WarmupConstant(Schedule):
    """Rise, then stay."""

    def decay(self, progress: float) -> float:
        return 1.0


@schedules.register("warmup_polynomial", "polynomial")
class WarmupPolynomial(Schedule):
    """Rise, then fall to ``end_factor`` of the rate as ``(1 - progress) ** power``: fairseq's RoBERTa (power 1)."""

    power: float = Field(1.0, gt=0)
    end_factor: float = Field(0.0, ge=0, le=1)

    def decay(self, progress: float) -> float:
        left: float = max(0.0, 1.0 - progress) ** self.power
        return (1.0 - self.end_factor) * left + self.end_factor
