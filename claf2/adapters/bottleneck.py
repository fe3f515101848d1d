"""Bottleneck adapters: small networks inside the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from claf2.adapters import Adapter, register_adapter
from claf2.registry import LARGEST

if TYPE_CHECKING:
    from claf2.adapters.layers.adapted import EncoderChanges

__all__ = ["BottleneckAdapters"]


@register_adapter("bottleneck")
class BottleneckAdapters(Adapter):
    """A network with a narrow hidden layer after attention and after the feed-forward network of each layer; the
    normalization is trained as well (Houlsby et al., 2019, https://arxiv.org/abs/1902.00751)."""

    can_merge: ClassVar[bool] = False

    size: int = Field(64, ge=1, le=LARGEST)
    """The width of the hidden layer."""

    def apply(self, encoder: Any) -> EncoderChanges:
        from claf2.adapters.layers.adapted import EncoderChanges
        from claf2.adapters.layers.bottlenecks import add_bottlenecks

        add_bottlenecks(encoder, self.size)
        return EncoderChanges()
