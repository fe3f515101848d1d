"""Adapters without new weights: BitFit, and heads on a frozen encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claf2.adapters import Adapter, register_adapter
from claf2.errors import ModelError

if TYPE_CHECKING:
    from claf2.adapters.layers.adapted import EncoderChanges

__all__ = ["BitFit", "HeadOnly"]


@register_adapter("bitfit")
class BitFit(Adapter):
    """All biases of the encoder are trained (Ben Zaken et al., 2022, https://arxiv.org/abs/2106.10199)."""

    def apply(self, encoder: Any) -> EncoderChanges:
        from claf2.adapters.layers.adapted import EncoderChanges
        from claf2.adapters.layers.parts import other_adapter

        biases = [parameter for name, parameter in encoder.named_parameters() if name.split(".")[-1] == "bias"]
        if not biases:
            kind = encoder.config.model_type
            raise ModelError(f"BitFit cannot serve this {kind}: it has no biases; {other_adapter(encoder)}")
        for bias in biases:
            bias.requires_grad_(True)
        return EncoderChanges()


@register_adapter("head_only")
class HeadOnly(Adapter):
    """The encoder is frozen, and only the head is trained."""

    def apply(self, encoder: Any) -> EncoderChanges:
        from claf2.adapters.layers.adapted import EncoderChanges

        return EncoderChanges()
