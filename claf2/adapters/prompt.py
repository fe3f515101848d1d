"""Learned input vectors: prompt tuning and P-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from claf2.adapters import Adapter, register_adapter
from claf2.registry import LARGEST

if TYPE_CHECKING:
    from claf2.adapters.layers.adapted import EncoderChanges

__all__ = ["PTuning", "PromptTuning"]


@register_adapter("prompt")
class PromptTuning(Adapter):
    """Learned vectors after the first token of the input, initialized from random tokens (Lester et al., 2021,
    https://arxiv.org/abs/2104.08691)."""

    can_merge: ClassVar[bool] = False
    serves_tokens: ClassVar[bool] = False

    num_tokens: int = Field(20, ge=1, le=LARGEST)
    """The number of vectors."""

    @property
    def extra_tokens(self) -> int:
        return self.num_tokens

    def apply(self, encoder: Any) -> EncoderChanges:
        from claf2.adapters.layers.adapted import EncoderChanges
        from claf2.adapters.layers.virtual import add_prompt

        add_prompt(encoder, self.num_tokens)
        return EncoderChanges()


@register_adapter("ptuning")
class PTuning(Adapter):
    """Vectors after the first token of the input, computed from learned vectors by a network with two hidden layers:
    P-tuning v1 (Liu et al., 2021, https://arxiv.org/abs/2103.10385). P-tuning v2 is `prefix`."""

    can_merge: ClassVar[bool] = False
    serves_tokens: ClassVar[bool] = False

    num_tokens: int = Field(20, ge=1, le=LARGEST)
    """The number of vectors."""
    hidden_size: int = Field(128, ge=1, le=LARGEST)
    """The width of the hidden layers."""

    @property
    def extra_tokens(self) -> int:
        return self.num_tokens

    def apply(self, encoder: Any) -> EncoderChanges:
        from claf2.adapters.layers.adapted import EncoderChanges
        from claf2.adapters.layers.virtual import add_prompt

        add_prompt(encoder, self.num_tokens, self.hidden_size)
        return EncoderChanges()
