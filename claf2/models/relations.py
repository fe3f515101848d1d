"""The relations of tokens in the last layer of an encoder, which a student learns from a teacher (MiniLM)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel

from claf2.errors import ModelError
from claf2.models.configuration import takes_segments
from claf2.models.encoder import EncoderWithHeads
from claf2.models.packing import Packing, is_packable
from claf2.models.pruning import PRUNABLE
from claf2.models.stored_weights import check_encoder, check_finite
from claf2.runtime.model_files import reading_model

__all__ = ["RelationTeacher", "relation_distances"]

BERT_PROJECTIONS = ("attention.self.query", "attention.self.key", "attention.self.value")

PROJECTIONS = {
    **dict.fromkeys("bert camembert electra roberta xlm-roberta xlm-roberta-xl".split(), BERT_PROJECTIONS),
    "deberta-v2": ("attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"),
    "distilbert": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
}
"""Within a layer, the projections to queries, keys and values. ModernBERT has one for all of them, and rotates them
afterwards; ALBERT repeats one layer."""


class _Recorder:
    """Keeps the queries, keys and values of an encoder's last layer, each (N, L, H), in its latest pass.

    Args:
        encoder: the encoder.
        packing: what packs it, if anything does.
    """

    def __init__(self, encoder: nn.Module, packing: Packing | None) -> None:
        kind = str(getattr(encoder.config, "model_type", "unknown"))
        if kind not in PROJECTIONS:
            raise ModelError(
                f"the relations of {kind} cannot be distilled; supported: {', '.join(sorted(PROJECTIONS))}"
            )
        self._packing = packing
        self._recorded: dict[str, torch.Tensor] | None = None
        """What the current pass has computed; ``None`` between passes, where a layer may be computed again for its
        gradient."""
        self._latest: list[torch.Tensor] = []
        encoder.register_forward_pre_hook(self._begin)
        encoder.register_forward_hook(self._end)
        layers: Any = encoder.get_submodule(PRUNABLE[kind].layers)
        for name in PROJECTIONS[kind]:
            layers[-1].get_submodule(name).register_forward_hook(self._record(name))

    def _begin(self, module: nn.Module, args: Any) -> None:
        self._recorded = {}

    def _record(self, name: str) -> Any:
        def record(module: nn.Module, args: Any, output: torch.Tensor) -> None:
            # DeBERTa with `share_att_key` projects the relative positions afterwards, with the same weights.
            if self._recorded is not None:
                self._recorded.setdefault(name, output)

        return record

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        # Not within the layer: what is computed there must not depend on whether it is computed again.
        recorded, self._recorded = list((self._recorded or {}).values()), None
        self._latest = recorded if self._packing is None else [self._packing.unpack(tensor) for tensor in recorded]

    def take(self) -> list[torch.Tensor]:
        """Return what was recorded, and forget it."""
        latest, self._latest = self._latest, []
        return latest


class RelationTeacher:
    """A frozen encoder, and what its last layer and that of a student compute for the same tokens.

    Args:
        source: the folder or hub id of the teacher.
        student: the model that is trained, on its device.
        heads: how many heads are compared; ``None``: as many as the teacher's attention has.

    Raises:
        ModelError: when the teacher cannot be loaded or is damaged, or one of the two has no such relations.
    """

    def __init__(self, source: Path | str, student: EncoderWithHeads, heads: int | None) -> None:
        with reading_model(source, "its weights cannot be loaded", "config.json", hint="check its files"):
            encoder: Any
            encoder, info = AutoModel.from_pretrained(
                source, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
            )
        check_encoder(encoder, info, source)
        check_finite(encoder, source)
        self._encoder = encoder.eval().requires_grad_(False).to(student.device)
        self._packing = Packing(encoder) if is_packable(encoder) else None
        self._takes_segments = takes_segments(encoder.config)
        self._recorders = _Recorder(student.encoder, student.packing), _Recorder(encoder, self._packing)
        self._heads: int = heads or encoder.config.num_attention_heads
        sides: dict[str, Any] = {"student": student.encoder, "teacher": encoder}
        for name, side in sides.items():
            width: int = side.config.hidden_size
            if width % self._heads:
                raise ModelError(
                    f"the width {width} of the {name} cannot be divided into {self._heads} heads: set "
                    "objectives.relations.relation_heads to a divisor of both widths"
                )

    def distances(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the distance of student and teacher for each row of the batch that the student has just computed,
        (B,); the mean over its texts where a row has several."""
        names = ["input_ids", "attention_mask", *(["token_type_ids"] if self._takes_segments else [])]
        # A row of several texts, (B, C, L), is B * C texts for the encoder.
        inputs = {name: batch[name].flatten(0, -2) for name in names}
        ids, lengths = inputs["input_ids"], batch["lengths"]
        with torch.no_grad():
            if self._packing is None:
                self._encoder(**inputs)
            else:
                with self._packing.packed(lengths, ids.shape[-1], ids.device):
                    self._encoder(**inputs)
        student, teacher = (recorder.take() for recorder in self._recorders)
        distances = relation_distances(student, teacher, inputs["attention_mask"], self._heads)
        rows = len(batch["input_ids"])
        texts = (inputs["attention_mask"] != 0).any(-1).view(rows, -1).sum(-1)  # a triplet may lack its hard negative
        return distances.view(rows, -1).sum(-1) / texts


def relation_distances(
    student: list[torch.Tensor], teacher: list[torch.Tensor], mask: torch.Tensor, heads: int
) -> torch.Tensor:
    """Return the KL divergence from the teacher's relations to the student's: of queries and keys, and of values; each
    the mean over heads and tokens.

    Args:
        student: queries, keys and values, each (N, L, H).
        teacher: the same, of any width.
        mask: 1 for a token, 0 for padding, (N, L).
        heads: how many heads the widths are divided into.

    Returns:
        The distances, (N,); 0 for a text without tokens.
    """
    present = mask != 0
    distances = torch.zeros(len(mask), device=mask.device)
    for first, second in ((0, 1), (2, 2)):
        own, given = (
            _log_relations(side[first].float(), side[second].float(), present, heads) for side in (student, teacher)
        )
        divergence = (given.exp() * (given - own)).sum(-1)  # (N, heads, L)
        distances = distances + (divergence * present[:, None, :]).sum((1, 2)) / (heads * present.sum(1).clamp(min=1))
    return distances


def _log_relations(first: torch.Tensor, second: torch.Tensor, present: torch.Tensor, heads: int) -> torch.Tensor:
    """Return the logarithms of the relations of tokens, (N, heads, L, L), given vectors (N, L, H)."""
    rows, length, width = first.shape
    one, other = (tensor.view(rows, length, heads, -1).transpose(1, 2) for tensor in (first, second))
    scores = one @ other.transpose(2, 3) / math.sqrt(width // heads)
    # Not minus infinity, whose differences are undefined.
    return scores.masked_fill(~present[:, None, None, :], torch.finfo(scores.dtype).min).log_softmax(-1)
