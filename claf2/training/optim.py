"""Optimizers, their parameter groups, and learning-rate schedules."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field

from claf2.errors import ConfigError
from claf2.registry import LARGEST, Component, Registry

if TYPE_CHECKING:
    import torch

__all__ = [
    "Optimizer",
    "Schedule",
    "build_optimizer",
    "optimizers",
    "parameter_groups",
    "register_optimizer",
    "register_schedule",
    "schedules",
]


class Optimizer(Component, ABC):
    """An update rule with its constants; the learning rate is a field of the optimizer section."""

    weight_decay: float = Field(0.0, ge=0, le=LARGEST)
    """Decay of all weights except biases and normalization: decoupled for AdamW, L2 for others."""

    @abstractmethod
    def build(self, model: torch.nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        """Return the optimizer of the model's trainable parameters in two groups: decayed, not decayed."""

    def idle_factor(self, learning_rate: float) -> float | None:
        """Return the factor by which a step multiplies a decayed weight whose gradient has been 0 since the beginning;
        ``None`` where the step is not a multiplication, or depends on the other weights of its matrix."""
        return None


class Schedule(Component, ABC):
    """The learning rate as a function of the optimizer step alone, so that it has no state to save."""

    warmup_proportion: float = Field(0.0, ge=0, lt=1)
    """The share of all steps over which the rate rises from 0."""
    warmup_steps: int | None = Field(None, ge=0, le=LARGEST)
    """The number of those steps; takes precedence over the proportion."""

    def warmup(self, total_steps: int) -> int:
        """Return the number of warm-up steps of a run of ``total_steps``.

        Raises:
            ConfigError: when the warm-up is as long as the run, or longer.
        """
        steps = math.ceil(self.warmup_proportion * total_steps) if self.warmup_steps is None else self.warmup_steps
        if steps >= total_steps and steps > 0:
            raise ConfigError(
                f"optimizer.{schedules.name_of(type(self))}."
                + ("warmup_proportion" if self.warmup_steps is None else "warmup_steps"),
                f"{steps} warm-up steps in a run of {total_steps}: the full learning rate would never be reached",
                hint="give fewer warm-up steps or more epochs",
            )
        return steps

    def factor(self, step: int, total_steps: int) -> float:
        """Return the factor of the learning rate at ``step``, counted from 0 as in `transformers`."""
        warmup = self.warmup(total_steps)
        if step < warmup:
            return step / max(1, warmup)
        return self.decay((step - warmup) / max(1, total_steps - warmup))

    @abstractmethod
    def decay(self, progress: float) -> float:
        """Return the factor after warm-up; ``progress`` runs from 0 to 1."""


optimizers: Registry[type[Optimizer]] = Registry("optimizer")
"""The registered optimizers."""
register_optimizer = optimizers.register
schedules: Registry[type[Schedule]] = Registry("learning-rate schedule")
"""The registered learning-rate schedules."""
register_schedule = schedules.register


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two groups of trainable parameters: matrices with decay; biases and normalization (parameters with one
    dimension) without."""
    decayed: list[torch.nn.Parameter] = []
    kept: list[torch.nn.Parameter] = []
    # By dimension, since the names of biases and normalization differ between architectures.
    for parameter in model.parameters():
        if parameter.requires_grad:
            (kept if parameter.ndim < 2 else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


def build_optimizer(spec: Optimizer, model: torch.nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """Return the optimizer of a model. Embeddings of which only some rows are trained decay with its steps."""
    from claf2.models.embeddings import trained_rows

    optimizer = spec.build(model, learning_rate)
    restricted = trained_rows(model)
    if restricted is not None:
        _, embedding = restricted

        def decay(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            # A fused optimizer is called for fp16's overflowing gradients as well, and skips them itself.
            overflow = getattr(optimizer, "found_inf", None)
            factor = spec.idle_factor(optimizer.param_groups[0]["lr"])
            if factor is not None and (overflow is None or not overflow):
                embedding.factor *= factor

        optimizer.register_step_post_hook(decay)
    return optimizer


Beta: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
"""The decay rate of a running mean."""


@register_optimizer("adamw")
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019), bias-corrected."""

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0, le=1)

    def build(self, model: torch.nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        import torch

        groups = parameter_groups(model, self.weight_decay)
        # One kernel updates all parameters; other devices do not have it.
        fused = next(model.parameters()).device.type in ("cpu", "cuda")
        return torch.optim.AdamW(groups, lr=learning_rate, betas=self.betas, eps=self.eps, fused=fused)

    def idle_factor(self, learning_rate: float) -> float | None:
        return 1.0 - learning_rate * self.weight_decay


@register_optimizer("stable_adamw")
class StableAdamW(Optimizer):
    """AdamW whose step is shortened for each parameter while its gradients are larger than their running mean says
    (Wortsman et al., 2023, https://arxiv.org/abs/2304.13013, algorithm 2), which takes the place of clipping."""

    betas: tuple[Beta, Beta] = (0.9, 0.98)
    eps: float = Field(1e-6, gt=0, le=1)

    def build(self, model: torch.nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        from claf2.training.stable_adamw import ClippedAdamW

        groups = parameter_groups(model, self.weight_decay)
        return ClippedAdamW(groups, lr=learning_rate, betas=self.betas, eps=self.eps)


@register_optimizer("adamax")
class Adamax(Optimizer):
    """Adam with the infinity norm (Kingma and Ba, 2015): MT-DNN's choice."""

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0, le=1)

    def build(self, model: torch.nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        import torch

        groups = parameter_groups(model, self.weight_decay)
        return torch.optim.Adamax(groups, lr=learning_rate, betas=self.betas, eps=self.eps)

    def idle_factor(self, learning_rate: float) -> float | None:
        return 1.0 if self.weight_decay == 0 else None


@register_optimizer("sgd")
class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    momentum: float = Field(0.0, ge=0, lt=1)

    def build(self, model: torch.nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        import torch

        return torch.optim.SGD(parameter_groups(model, self.weight_decay), lr=learning_rate, momentum=self.momentum)

    def idle_factor(self, learning_rate: float) -> float | None:
        return 1.0 if self.weight_decay == 0 else None


@register_schedule("warmup_linear", "linear")
class WarmupLinear(Schedule):
    """Linear warm-up, then linear decay to 0: BERT's schedule."""

    def decay(self, progress: float) -> float:
        return max(0.0, 1.0 - progress)


@register_schedule("warmup_cosine", "cosine")
class WarmupCosine(Schedule):
    """Linear warm-up, then ``cycles`` periods of a cosine (half a period by default)."""

    cycles: float = Field(0.5, gt=0, le=LARGEST)

    def decay(self, progress: float) -> float:
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * self.cycles * 2.0 * progress)))


@register_schedule("warmup_constant", "constant")
class WarmupConstant(Schedule):
    """Linear warm-up, then constant."""

    def decay(self, progress: float) -> float:
        return 1.0


@register_schedule("warmup_polynomial", "polynomial")
class WarmupPolynomial(Schedule):
    """Linear warm-up, then ``(1 - progress) ** power`` down to ``end_factor``: fairseq's RoBERTa (power 1)."""

    power: float = Field(1.0, gt=0, le=LARGEST)
    end_factor: float = Field(0.0, ge=0, le=1)

    def decay(self, progress: float) -> float:
        remaining: float = max(0.0, 1.0 - progress) ** self.power
        return (1.0 - self.end_factor) * remaining + self.end_factor


@register_schedule("warmup_stable_decay", "wsd")
class WarmupStableDecay(Schedule):
    """Linear warm-up, then constant, then a decay to ``end_factor`` over the last steps. Without decay steps, training
    can go on from the last step of the constant phase. With a warm-up up to the decay it is Cramming's triangle."""

    start_factor: float = Field(0.0, ge=0, le=1)
    """The factor at the beginning of the warm-up."""
    decay_proportion: float = Field(0.1, ge=0, le=1)
    """The share of all steps over which the rate falls."""
    decay_steps: int | None = Field(None, ge=0, le=LARGEST)
    """The number of those steps; takes precedence over the proportion."""
    decay_shape: Literal["linear", "one_minus_sqrt"] = "linear"
    """How the rate falls: in proportion to the steps, or as 1 - √progress (Hägele et al., 2024,
    https://arxiv.org/abs/2405.18392), quickly at first."""
    end_factor: float = Field(0.0, ge=0, le=1)

    def warmup(self, total_steps: int) -> int:
        warmup, decay = super().warmup(total_steps), self._decay_steps(total_steps)
        if warmup + decay > total_steps:
            problem = f"{warmup} warm-up steps and {decay} decay steps in a run of {total_steps}"
            hint = "give fewer of either, or more steps"
            raise ConfigError("optimizer.warmup_stable_decay.decay_steps", problem, hint=hint)
        return warmup

    def _decay_steps(self, total_steps: int) -> int:
        return math.ceil(self.decay_proportion * total_steps) if self.decay_steps is None else self.decay_steps

    def factor(self, step: int, total_steps: int) -> float:
        warmup, decay = self.warmup(total_steps), self._decay_steps(total_steps)
        if step < warmup:
            return self.start_factor + (1.0 - self.start_factor) * step / warmup
        return self.decay(max(0.0, step - (total_steps - decay)) / max(1, decay))

    def decay(self, progress: float) -> float:
        remaining = 1.0 - (math.sqrt(progress) if self.decay_shape == "one_minus_sqrt" else progress)
        return (1.0 - self.end_factor) * max(0.0, remaining) + self.end_factor
