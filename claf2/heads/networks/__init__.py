"""Networks: the torch modules of heads that `transformers` has no class for. They take plain tensors and know nothing
of tasks; the head that uses one says where it comes from."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

__all__ = ["EncoderNetwork"]


class EncoderNetwork(PreTrainedModel):  # type: ignore[no-untyped-call]
    """An encoder with custom layers on top, which ``save_pretrained`` and ``from_pretrained`` store and load
    whole.

    The encoder is stored under the name that its architecture uses (``bert``, ``roberta`` …), so a stored encoder
    loads into it, and what is stored loads as a bare encoder with ``AutoModel``. A subclass adds its layers in
    ``__init__`` and calls ``post_init`` last.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        # Of a copy, so that the encoder settles on its own kind of attention; there is none outside of it.
        encoder: PreTrainedModel = AutoModel.from_config(copy.deepcopy(config))  # type: ignore[no-untyped-call]
        super().__init__(config)
        self.base_model_prefix = encoder.base_model_prefix
        setattr(self, self.base_model_prefix, encoder)

    def _init_weights(self, module: nn.Module) -> None:
        # `transformers` leaves recurrent cells as they are made, which may be without values.
        if isinstance(module, nn.GRUCell):
            module.reset_parameters()
        else:
            super()._init_weights(module)  # type: ignore[no-untyped-call]

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, source: Any, *args: Any, **settings: Any
    ) -> Any:
        """Load what ``save_pretrained`` stored, or an encoder to put fresh layers on; see `transformers`."""
        settings["config"] = settings.get("config") or AutoConfig.from_pretrained(source)
        return super().from_pretrained(source, *args, **settings)

    @property
    def encoder(self) -> PreTrainedModel:
        """The encoder, whatever its attribute is called."""
        encoder: PreTrainedModel = getattr(self, self.base_model_prefix)
        return encoder

    def hidden(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **segments: Any) -> torch.Tensor:
        """Return the encoder's last hidden states, (B, L, H)."""
        states: torch.Tensor = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, **{k: v for k, v in segments.items() if v is not None}
        ).last_hidden_state
        return states

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings: the encoder's."""
        return self.encoder.get_input_embeddings()

    def word_embeddings(self) -> torch.Tensor:
        """Return the table of word embeddings, (V, E)."""
        table: Any = self.get_input_embeddings().weight
        embeddings: torch.Tensor = table
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings: the encoder's."""
        self.encoder.set_input_embeddings(value)
