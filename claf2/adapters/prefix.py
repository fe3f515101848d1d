"""Prefix tuning, which is P-tuning v2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from claf2.adapters import Adapter, register_adapter
from claf2.registry import LARGEST

if TYPE_CHECKING:
    from claf2.adapters.layers.adapted import EncoderChanges

__all__ = ["Prefix"]


@register_adapter("prefix")
class Prefix(Adapter):
    """Learned keys and values in the attention of every layer: P-tuning v2 (Liu et al., 2022,
    https://arxiv.org/abs/2110.07602), prefix tuning (Li and Liang, 2021). ALBERT shares them as it shares layers."""

    can_merge: ClassVar[bool] = False

    num_tokens: int = Field(20, ge=1, le=LARGEST)
    """The keys and values of a layer."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout of the keys and values."""

    def apply(self, encoder: Any) -> EncoderChanges:
        from claf2.adapters.layers.adapted import EncoderChanges
        from claf2.adapters.layers.virtual import add_prefixes

        add_prefixes(encoder, self.num_tokens, self.dropout)
        return EncoderChanges()
