"""The configuration of an encoder: the stored one, or that of an architecture with fresh weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import transformers
from transformers import AutoConfig, PreTrainedConfig

from claf2.errors import ConfigError, nearest
from claf2.models import SCRATCH, ModelSpec
from claf2.models.stored_heads import find_label_order, read_label_names
from claf2.runtime.model_files import reading_model

__all__ = ["make_configuration", "position_limit", "set_head_dropout", "stored_label_order", "takes_segments"]

ARCHITECTURE = {
    "model_type": "bert",
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 512,
}
"""The encoder of `scratch` where the model block names no architecture."""

HEAD_DROPOUT = ("classifier_dropout", "classifier_dropout_prob", "seq_classif_dropout", "qa_dropout", "cls_dropout")
"""The names of the dropout before the head's last layer in the architectures' configurations."""

OFFSET_POSITIONS = frozenset(
    "roberta xlm-roberta camembert xlm-roberta-xl roberta-prelayernorm xmod data2vec-text ibert "
    "longformer luke mpnet esm lilt layoutlmv3 markuplm".split()
)
"""Architectures whose position ids start after the padding id, which is 1, so that two embeddings are never used."""


def stored_label_order(spec: ModelSpec, source: Path | str, labels: Sequence[str]) -> list[int] | None:
    """Return which output of the stored head stands for each label, where the head has these labels in another order;
    ``None`` where it has the same order or other labels."""
    return (
        None
        if source == SCRATCH
        else find_label_order(read_label_names(make_configuration(spec, source, 1, 0)), labels)
    )


def position_limit(spec: ModelSpec, source: Path | str) -> int | None:
    """Return the longest input of the encoder in tokens; ``None`` where positions do not limit it.

    Only a table of position embeddings is a limit. Relative and rotary positions have none, even if their configuration
    names the length that the model was trained with.
    """
    config = make_configuration(spec, source, 1, 0)
    limit: int | None = getattr(config, "max_position_embeddings", None)
    is_rotary = hasattr(config, "rope_parameters") or getattr(config, "position_embedding_type", None) == "rotary"
    is_relative = not getattr(config, "position_biased_input", True) or (limit or 0) < 0  # DeBERTa; XLNet
    if limit is None or is_rotary or is_relative:
        return None
    return limit - max(2, (config.pad_token_id or 0) + 1) if config.model_type in OFFSET_POSITIONS else limit


def make_configuration(
    spec: ModelSpec, source: Path | str, vocab_size: int, pad_id: int, special_ids: Mapping[str, int] | None = None
) -> PreTrainedConfig:
    """Return the configuration of an encoder: the stored one, or a new one for a tokenizer with ``vocab_size`` ids.

    Args:
        spec: the model block.
        source: the folder or hub id of the weights, or ``scratch``.
        vocab_size: the number of the tokenizer's ids.
        pad_id: the tokenizer's padding id.
        special_ids: the settings of a fresh model that generates text, such as ``eos_token_id``.

    Raises:
        ConfigError: when `model.architecture` names something that does not exist.
        ModelError: when the stored configuration cannot be used.
    """
    if source != SCRATCH:
        hint = "correct its config.json, or download it again"
        if not isinstance(source, Path):  # a model of the hub
            hint = "check its name and the network, or download it elsewhere and give its folder"
        with reading_model(source, "not a usable model", "config.json", hint=hint):
            return _stored_configuration(source, spec.revision)
    architecture = dict(spec.architecture or ARCHITECTURE)
    kind = str(architecture.pop("model_type", ARCHITECTURE["model_type"]))
    known = transformers.CONFIG_MAPPING
    if kind not in known:
        raise ConfigError(
            "model.architecture.model_type", f"{kind!r} is not an architecture", hint=nearest(kind, known)
        )
    config = AutoConfig.for_model(
        kind, **{"vocab_size": vocab_size, "pad_token_id": pad_id, **(special_ids or {})} | architecture
    )
    settings = type(config)().to_dict()
    for name in settings:
        # ModernBERT's ids are those of its own tokenizer.
        if name.endswith("_token_id") and (getattr(config, name, None) or 0) >= vocab_size and name not in architecture:
            setattr(config, name, None)
    unknown = set(architecture) - set(settings)
    if unknown:
        name = min(unknown)
        raise ConfigError(f"model.architecture.{name}", f"{kind} has no such setting", hint=nearest(name, settings))
    return config


def _stored_configuration(source: Path | str, revision: str | None) -> PreTrainedConfig:
    try:
        # False: code from the folder of a model is refused without a question on the terminal.
        config: PreTrainedConfig = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    except (AttributeError, ValueError) as error:
        values, _ = PreTrainedConfig.get_config_dict(source, revision=revision)
        names = values.get("id2label") or {}
        if not isinstance(names, dict) or not all(str(key).isdecimal() for key in names):
            raise ValueError("id2label does not map numbers to names") from error
        raise
    return config


def set_head_dropout(config: PreTrainedConfig, dropout: float) -> None:
    """Set the dropout before the last layer of a head.

    Raises:
        ConfigError: when the architecture has none of its own.
    """
    names = [name for name in HEAD_DROPOUT if hasattr(config, name)]
    if not names:
        raise ConfigError(
            "model.dropout", f"heads of {config.model_type} have no dropout of their own", hint="use null"
        )
    for name in names:
        setattr(config, name, dropout)


def takes_segments(config: PreTrainedConfig) -> bool:
    """Return whether an encoder distinguishes a first and a second text by ``token_type_ids``."""
    return bool(getattr(config, "type_vocab_size", 0) > 1)
