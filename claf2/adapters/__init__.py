"""Adapters: ways to fine-tune a part of an encoder. Heads, and weights that the checkpoint lacks, are always trained.

A member describes one method; its verb changes the shared encoder, whose own weights are frozen before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from claf2.errors import ConfigError
from claf2.models import FIRST_TOKEN_CLASSES
from claf2.registry import Component, Registry

if TYPE_CHECKING:
    from claf2.adapters.layers.adapted import EncoderChanges
    from claf2.heads import Head

__all__ = ["NO_ADAPTER", "Adapter", "FullFineTuning", "adapters", "register_adapter"]

NO_ADAPTER = "none"
"""The value of `model.peft.name` that trains all weights, like a config without section `model.peft`."""


class Adapter(Component, ABC):
    """A method that fine-tunes a part of an encoder; its fields are the block of section `model.peft` with its name."""

    can_merge: ClassVar[bool] = True
    """Whether the trained weights can be merged into the encoder, so that `best/` loads without claf2."""
    serves_tokens: ClassVar[bool] = True
    """Whether it supports heads that read more than the first token."""

    def check(self, heads: Mapping[str, Head[Any, Any]]) -> None:
        """Refuse the heads of a run that the method does not support.

        Args:
            heads: task → its head.

        Raises:
            ConfigError: naming the task.
        """
        for task, head in heads.items():
            if not self.serves_tokens and head.auto_class not in FIRST_TOKEN_CLASSES:
                name = adapters.name_of(type(self))
                problem = (
                    f"{name!r} serves heads of labels and numbers, and task {task!r} reads the vectors of all tokens"
                )
                is_decoder = head.auto_class == "AutoModelForCausalLM"
                hint = "use 'lora'" if is_decoder else "use 'lora', 'ia3', 'prefix' or 'bottleneck'"
                raise ConfigError("model.peft.name", problem, hint=hint)

    @property
    def extra_tokens(self) -> int:
        """How many tokens the encoder reads in addition to those of the texts."""
        return 0

    @property
    def is_quantized(self) -> bool:
        """Whether frozen weights are kept in fewer bits."""
        return False

    @abstractmethod
    def apply(self, encoder: Any) -> EncoderChanges:
        """Change a frozen encoder in place, and unfreeze or add the weights that are trained.

        Args:
            encoder: a model of `transformers`, on the CPU, with loaded weights. Fresh weights are drawn from PyTorch's
                global generator, which is seeded.

        Raises:
            ModelError: when the method cannot serve the architecture.
        """


adapters: Registry[type[Adapter]] = Registry("adapter", "claf2.adapters")
"""The values of `model.peft.name`."""
register_adapter = adapters.register


@register_adapter(NO_ADAPTER)
class FullFineTuning(Adapter):
    """All weights are trained."""

    def apply(self, encoder: Any) -> EncoderChanges:
        from claf2.adapters.layers.adapted import EncoderChanges

        encoder.requires_grad_(True)
        return EncoderChanges()
