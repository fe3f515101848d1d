"""Decoders of tokens see the tokens with a target alone: the logits of a vocabulary are most of what they compute."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from claf2.heads.predicted_tokens import NO_TARGET

__all__ = ["TargetTokens"]


class TargetTokens:
    """Passes the hidden states of the tokens with a target from an encoder to the decoder on it.

    Decoders compute one token at a time, whatever the architecture. So it is enough to reduce what the encoder returns,
    (B, L, H), to (1, M, H), M being the number of tokens with a target. What is computed besides, such as a pooler,
    does not change.

    Args:
        module: the decoder with the encoder inside, as `transformers` makes it.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._places: torch.Tensor | None = None
        encoder: Any = module.base_model
        encoder.register_forward_hook(self._select)

    def forward(
        self, targets: torch.Tensor, places: torch.Tensor | None = None, **inputs: torch.Tensor
    ) -> dict[str, Any]:
        """Return the outputs of the decoder for the tokens with a target, with ``target_ids`` and ``target_rows``, both
        (M,), and ``rows``, the number B of rows.

        Args:
            targets: the id of each token that is predicted, (B, L); ``NO_TARGET`` for the others.
            places: where these are among B * L, (M,); computed if not given.
            inputs: the arguments of the module, (B, L).
        """
        flat = targets.flatten()
        self._places = places = (flat != NO_TARGET).nonzero().squeeze(1) if places is None else places
        try:
            outputs = self._module(**inputs)
        finally:
            self._places = None
        rows, length = targets.shape
        return {
            **outputs,
            "target_ids": flat.index_select(0, places),
            "target_rows": torch.div(places, length, rounding_mode="floor"),
            "rows": rows,
        }

    def _select(self, module: nn.Module, args: tuple[Any, ...], outputs: Any) -> Any:
        if self._places is None:
            return None
        hidden = outputs.last_hidden_state
        outputs.last_hidden_state = hidden.flatten(0, 1).index_select(0, self._places)[None]
        return outputs
