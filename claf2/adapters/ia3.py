"""IA3: learned factors of keys, values and neurons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claf2.adapters import Adapter, register_adapter
from claf2.errors import ModelError

if TYPE_CHECKING:
    from claf2.adapters.layers.adapted import EncoderChanges

__all__ = ["IA3"]


@register_adapter("ia3")
class IA3(Adapter):
    """Factors of the keys, the values, and the neurons of the feed-forward networks (Liu et al., 2022,
    https://arxiv.org/abs/2205.05638)."""

    def apply(self, encoder: Any) -> EncoderChanges:
        from claf2.adapters.layers.injected import inject
        from claf2.adapters.layers.parts import check_architecture, find_linear

        if check_architecture(encoder) == "modernbert":
            raise ModelError("IA3 cannot serve modernbert, which has one matrix for query, key and value: use 'lora'")
        neurons = find_linear(encoder, ["outer"])
        return inject(
            encoder, "IA3Config", [*find_linear(encoder, ["key", "value"]), *neurons], feedforward_modules=neurons
        )
