"""LoRA, with rsLoRA, DoRA and QLoRA."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from claf2.adapters import Adapter, register_adapter
from claf2.registry import LARGEST

if TYPE_CHECKING:
    from claf2.adapters.layers.adapted import EncoderChanges

__all__ = ["LoRA"]


@register_adapter("lora")
class LoRA(Adapter):
    """Low-rank updates of frozen matrices (Hu et al., 2021, https://arxiv.org/abs/2106.09685)."""

    r: int = Field(8, ge=1, le=LARGEST)
    """The rank of an update."""
    alpha: float = Field(8.0, gt=0, le=LARGEST)
    """An update is multiplied by `alpha / r`."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of the input of an update."""
    targets: list[str] = Field(["query", "value"], min_length=1)
    """The linear layers: `query`, `key`, `value`, `attention_output`, `inner`, `outer`, or the ends of their names.
    ModernBERT has one matrix for the first three."""
    use_rslora: bool = False
    """Multiply by `alpha / sqrt(r)` instead (Kalajdzievski, 2023, https://arxiv.org/abs/2312.03732)."""
    use_dora: bool = False
    """Also learn the norms of the rows of a matrix (Liu et al., 2024, https://arxiv.org/abs/2402.09353)."""
    quantize: Literal["nf4", "int8"] | None = None
    """Keep the frozen matrices in 4 or 8 bits (QLoRA; Dettmers et al., 2023, https://arxiv.org/abs/2305.14314)."""

    @model_validator(mode="after")
    def _check_formats(self) -> LoRA:
        if self.use_dora and self.quantize:
            raise ValueError("use_dora needs the norms of unquantized rows: leave out one of use_dora and quantize")
        return self

    @property
    def is_quantized(self) -> bool:
        return self.quantize is not None

    def apply(self, encoder: Any) -> EncoderChanges:
        from claf2.adapters.layers.injected import inject
        from claf2.adapters.layers.parts import find_linear
        from claf2.adapters.layers.quantized import quantize_linear

        targets = find_linear(encoder, self.targets)
        quantized = quantize_linear(encoder, self.quantize) if self.quantize else []
        changes = inject(
            encoder, "LoraConfig", targets, r=self.r, lora_alpha=self.alpha, lora_dropout=self.dropout,
            use_rslora=self.use_rslora, use_dora=self.use_dora,
        )  # fmt: skip
        # An adapted layer is merged from the quantized one inside it.
        places = {(id(entry.parent), entry.name) for entry in changes.replaced}
        others = [entry for entry in quantized if (id(entry.parent), entry.name) not in places]
        return replace(changes, replaced=[*changes.replaced, *others])
