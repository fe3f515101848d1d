"""Objectives: what a step minimizes in addition to the head's own loss or instead of it, and on what inputs."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from claf2.errors import ConfigError, nearest
from claf2.heads import WIDEST_LAYER, Head
from claf2.registry import LARGEST, Component, Registry, UserPath

if TYPE_CHECKING:
    import torch

    from claf2.models.encoder import EncoderWithHeads
    from claf2.models.relations import RelationTeacher
    from claf2.tokenizers import Tokenizer

__all__ = ["Distillation", "ForwardPass", "Objective", "objectives", "register_objective", "soft_field"]

FP16_SIZE = 1024.0
"""The size of the gradient with which a backward pass in fp16 begins where only its direction counts."""


def soft_field(name: str) -> str:
    """Return the field of a batch that holds a teacher's answers, (B, …), which ``Head.soft_answers`` calls ``name``;
    minus infinity stands for what is not part of an answer."""
    return f"soft_{name}"


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass over a micro-batch."""

    model: EncoderWithHeads
    task: str
    head: Head[Any, Any]
    batch: Mapping[str, torch.Tensor]
    outputs: Any
    share: torch.Tensor
    """The factor of a loss summed over rows, a scalar: the task's weight over the rows of the whole batch."""
    shares: torch.Tensor
    """The factors of the terms of the head's loss, each summed over its targets, a scalar or (T,): the task's weight
    over the targets of the whole batch."""
    companions: Mapping[str, Any] = field(default_factory=dict)
    """What the objectives use besides the model, by their names."""


class Objective(Component, ABC):
    """A change of the inputs or the loss of a step; its fields are the block of section `objectives` with its name."""

    reads_all_tokens: ClassVar[bool] = True
    """Whether it may read hidden states of other tokens than the first. Where no objective does, the last layer
    computes only what the heads read."""

    def check(self, tasks: Collection[str]) -> None:
        """Check that the objective fits the tasks.

        Raises:
            ConfigError: where it does not, with a path within the objective's block.
        """
        return None

    def learned(self, tasks: Collection[str]) -> torch.nn.Module | None:
        """Return what is learned besides the model, if anything; ``loss`` finds it in ``model.learned`` under the
        objective's name."""
        return None

    def teacher_folders(self) -> Mapping[str, str]:
        """Return the models that it learns from: what each is for → a run, or another source of a model."""
        return {}

    def companion(self, model: EncoderWithHeads, tokenizer: Tokenizer, cache: Path) -> object | None:
        """Return what it uses in training besides the model, and what is neither trained nor stored, such as a teacher;
        ``loss`` finds it in ``ForwardPass.companions`` under the objective's name.

        Args:
            model: the model that is trained, on its device.
            tokenizer: what makes its ids.
            cache: where archives of models are unpacked.

        Raises:
            Claf2Error: when it cannot be used with the model.
        """
        return None

    @property
    def changes_inputs(self) -> bool:
        """Whether it changes the inputs or targets of micro-batches; see ``change_inputs``."""
        return type(self).change_inputs is not Objective.change_inputs

    def change_inputs(
        self, model: EncoderWithHeads, task: str, tensors: Mapping[str, torch.Tensor]
    ) -> Mapping[str, torch.Tensor]:
        """Return the inputs and targets of a micro-batch, unchanged by default. It is called once, before the targets
        are counted and before the first pass.

        Random numbers must come from PyTorch's global generator, which a resume restores.

        Args:
            model: the model that is trained.
            task: whose rows they are.
            tensors: ``input_ids``, ``attention_mask`` (B, L) …, and the fields of the head; ``lengths``, the numbers of
                tokens of the rows, are counted again afterwards. In the mask, tokens must come before padding.
        """
        return tensors

    def loss(self, loss: torch.Tensor, forward_pass: ForwardPass) -> torch.Tensor:
        """Return the loss of a micro-batch, a scalar, given the one of the head and the objectives before; unchanged by
        default."""
        return loss


objectives: Registry[type[Objective]] = Registry("objective")
"""The registered objectives."""
register_objective = objectives.register


@register_objective("smart")
class SmartRegularization(Objective):
    """Smoothness-inducing adversarial regularization: the answer should change little when the word embeddings are
    perturbed where it changes most (Jiang et al., 2020, https://arxiv.org/abs/1911.03437; one ascent step, symmetric
    KL divergence, squared difference for numbers). For heads with one answer per input; others keep their own loss."""

    reads_all_tokens: ClassVar[bool] = False
    weight: float = Field(1.0, gt=0, le=LARGEST)
    """The weight of the regularizer, relative to the loss."""
    noise: float = Field(1e-5, gt=0, le=1)
    """The standard deviation of the initial perturbation."""
    step: float = Field(1e-3, gt=0, le=LARGEST)
    """The largest coordinate of the final perturbation."""

    def loss(self, loss: torch.Tensor, forward_pass: ForwardPass) -> torch.Tensor:
        import torch

        clean = forward_pass.head.pooled_logits(forward_pass.outputs)
        if clean is None:
            return loss
        perturbations: list[torch.Tensor] = []

        def add_noise(embedded: torch.Tensor) -> torch.Tensor:
            perturbations.append((torch.randn_like(embedded) * self.noise).requires_grad_())
            return embedded + perturbations[0]

        with _changed_embeddings(forward_pass, add_noise):
            noisy = _pooled_logits(forward_pass)
        gradient = _direction(noisy, clean.detach(), perturbations[0])
        perturbation = self.step * gradient / (gradient.abs().amax(-1, keepdim=True) + 1e-12)
        with _changed_embeddings(forward_pass, lambda embedded: embedded + perturbation):
            adversarial = _pooled_logits(forward_pass)
        return loss + self.weight * forward_pass.share * _difference(adversarial, clean).sum()


@register_objective("distil")
class Distillation(Objective):
    """Knowledge distillation: part of the loss is the cross-entropy with the soft labels of a teacher, a fine-tuned run
    of the same task, as in MT-DNN-KD (Liu et al., 2019, https://arxiv.org/abs/1904.09482; Hinton et al., 2015); for
    numbers, the squared difference. Tags are learned token by token, spans as a distribution of starts and one of ends,
    and parses as one of heads and one of relations for each word. A teacher's answers for the training rows are cached.
    Tasks without a teacher keep their own loss."""

    reads_all_tokens: ClassVar[bool] = False
    teachers: Mapping[str, Annotated[str, UserPath]] = {}
    """Task → the folder of a run."""
    weight: float = Field(0.5, ge=0, le=1)
    """The teacher's share of the loss."""
    temperature: float = Field(1.0, gt=0, le=LARGEST)
    """The divisor of logits before they are compared; the loss is multiplied by its square."""

    def check(self, tasks: Collection[str]) -> None:
        if not self.teachers:
            raise ConfigError("teachers", "names no teacher", hint='write {"rte": "FOLDER OF A RUN"}')
        for name in self.teachers:
            if name not in tasks:
                raise ConfigError("teachers", f"{name!r} is not a task of this run", hint=nearest(name, tasks))

    def teacher_folders(self) -> Mapping[str, str]:
        return self.teachers

    def loss(self, loss: torch.Tensor, forward_pass: ForwardPass) -> torch.Tensor:
        import torch

        if forward_pass.task not in self.teachers:
            return loss
        batch = forward_pass.batch
        terms = forward_pass.head.soft_answers(forward_pass.outputs, batch)
        teacher_loss = torch.zeros((), device=loss.device)
        for share, answers in zip(forward_pass.shares.reshape(-1), terms, strict=True):
            for name, answer in answers.items():
                soft_loss = _soft_loss(answer.logits.float(), batch[soft_field(name)], self.temperature)
                teacher_loss = teacher_loss + share * soft_loss / len(answers)
        return (1 - self.weight) * loss + self.weight * teacher_loss


@register_objective("relations")
class RelationDistillation(Objective):
    """MiniLM: the student's last layer learns the self-attention of the teacher's (Wang et al., 2020,
    https://arxiv.org/abs/2002.10957), as distributions of the queries over the keys, and of the values over each other.
    The loss of a text is the KL divergence of both, each the mean over heads and tokens. The teacher may be wider and
    have more layers, but must read the same token ids. For other numbers of heads than those of attention, queries,
    keys and values are divided anew, as in MiniLMv2 (https://arxiv.org/abs/2012.15828)."""

    teacher: Annotated[str, UserPath] = ""
    """A model: a folder, an archive, a URL, a hub id, or the folder of a run."""
    weight: float = Field(0.5, ge=0, le=1)
    """The share of the relations in the loss; with 1, the labels do not count."""
    relation_heads: int | None = Field(None, ge=1, le=WIDEST_LAYER)
    """How many heads are compared; `null`: as many as the teacher's attention has."""

    def check(self, tasks: Collection[str]) -> None:
        if not self.teacher:
            raise ConfigError("teacher", "names no teacher", hint="give the folder of a model or of a run")

    def teacher_folders(self) -> Mapping[str, str]:
        return {"objectives.relations": self.teacher}

    def companion(self, model: EncoderWithHeads, tokenizer: Tokenizer, cache: Path) -> RelationTeacher:
        from claf2.models.relations import RelationTeacher
        from claf2.models.source import resolve_model
        from claf2.tokenizers.build import load_tokenizer

        best = Path(self.teacher).expanduser() / "best"
        source = best if (best / "config.json").is_file() else resolve_model(self.teacher, cache=cache)
        if load_tokenizer(source).digest != tokenizer.digest:
            problem = f"{self.teacher} has another tokenizer than the student"
            raise ConfigError(
                "objectives.relations.teacher", problem, hint="relations need the same tokens: use distil"
            )
        return RelationTeacher(source, model, self.relation_heads)

    def loss(self, loss: torch.Tensor, forward_pass: ForwardPass) -> torch.Tensor:
        teacher: RelationTeacher = forward_pass.companions[objectives.name_of(type(self))]
        distances = teacher.distances(forward_pass.batch)
        return (1 - self.weight) * loss + self.weight * forward_pass.share * distances.sum()


@register_objective("uncertainty")
class UncertaintyWeighting(Objective):
    """Each task's loss is multiplied by exp(-s), and s / 2 is added; s, the logarithm of the task's noise, is learned
    (Kendall et al., 2018, https://arxiv.org/abs/1705.07115)."""

    reads_all_tokens: ClassVar[bool] = False
    rate: float = Field(100.0, gt=0, le=LARGEST)
    """How many times faster than the weights s changes."""

    def learned(self, tasks: Collection[str]) -> torch.nn.Module:
        import torch

        return torch.nn.ParameterDict({task: torch.nn.Parameter(torch.zeros(1)) for task in sorted(tasks)})

    def loss(self, loss: torch.Tensor, forward_pass: ForwardPass) -> torch.Tensor:
        log_noise: Any = forward_pass.model.learned[objectives.name_of(type(self))]
        s: torch.Tensor = self.rate * log_noise[forward_pass.task][0]
        rows = len(forward_pass.batch["input_ids"])
        return loss * (-s).exp() + forward_pass.share * rows * s / 2


def _soft_loss(logits: torch.Tensor, soft: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the loss of a student summed over its answers, a scalar.

    Args:
        logits: the student's answers, (B, …, C), or numbers, (B, 1).
        soft: the teacher's, of the same shape or smaller, since what no row of a batch has at the end of an axis is not
            stored.
        temperature: the divisor of logits.
    """
    from torch.nn.functional import mse_loss

    if logits.shape[-1] == 1:
        return mse_loss(logits, soft, reduction="sum")
    logits = logits[tuple(slice(size) for size in soft.shape)]
    present = soft.isfinite()
    is_taught = present.any(-1, keepdim=True)
    # Distributions that are not taught are uniform here, and left out of the sum: nothing is undefined, so gradients
    # are not either, and a GPU need not tell how many there are.
    probabilities = (soft.where(is_taught, 0.0) / temperature).softmax(-1)
    log_probabilities = (logits / temperature).masked_fill(~present & is_taught, float("-inf")).log_softmax(-1)
    # Gradients of the softened cross-entropy shrink with the square of the temperature (Hinton et al., §2).
    return -(probabilities * log_probabilities.masked_fill(~present, 0.0)).sum() * temperature**2


def _pooled_logits(forward_pass: ForwardPass) -> torch.Tensor:
    """Make the pass once more, and return its answers."""
    logits = forward_pass.head.pooled_logits(forward_pass.model(forward_pass.task, forward_pass.batch))
    assert logits is not None
    return logits


def _difference(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the distance of two answers, (B,): the symmetric KL divergence of logits (B, C), the squared difference of
    numbers (B, 1)."""
    if one.shape[-1] == 1:
        return (one - other).pow(2).sum(-1)
    first, second = one.log_softmax(-1), other.log_softmax(-1)
    divergence: torch.Tensor = ((first.exp() - second.exp()) * (first - second)).sum(-1)
    return divergence


def _direction(noisy: torch.Tensor, clean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the distance of two answers, (B, C), for the noise of the first one, (B, …, H), up to a
    factor for each row."""
    import torch

    device = noisy.device.type
    if not torch.is_autocast_enabled(device) or torch.get_autocast_dtype(device) != torch.float16:
        (gradient,) = torch.autograd.grad(_difference(noisy, clean).sum(), noise)
        return gradient
    # A small distance has a small gradient, which fp16 would make 0 in the backward pass. So that pass begins with
    # numbers of the size that scaled losses have.
    logits = noisy.detach().float().requires_grad_()
    (outer,) = torch.autograd.grad(_difference(logits, clean).sum(), logits)
    outer = FP16_SIZE * outer / outer.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(outer.dtype).tiny)
    (gradient,) = torch.autograd.grad(noisy, noise, outer.to(noisy.dtype))
    return gradient.nan_to_num(0.0, 0.0, 0.0)  # tokens whose gradient exceeds fp16 are not moved


@contextmanager
def _changed_embeddings(forward_pass: ForwardPass, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Change the word embeddings, (B, L, H), in the forward passes inside."""
    module: Any = forward_pass.model.head(forward_pass.task)
    embedding = module.get_input_embeddings()
    handle = embedding.register_forward_hook(lambda _, __, embedded: change(embedded))
    try:
        yield
    finally:
        handle.remove()
