"""One encoder shared by the heads of all tasks, each head being `transformers`' own class for the architecture."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from claf2 import ranks
from claf2.errors import ConfigError, ModelError, nearest
from claf2.heads import Head
from claf2.models import SCRATCH, ModelSpec
from claf2.models.packing import Packing, packable
from claf2.seed import seeded

__all__ = ["EncoderWithHeads", "Part", "build", "label_order", "position_limit"]

logger = logging.getLogger("claf2")

ARCHITECTURE = {
    "model_type": "bert",
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 512,
}
"""The encoder that `scratch` stands for where the model block names none."""

HEAD_DROPOUT = ("classifier_dropout", "classifier_dropout_prob", "seq_classif_dropout", "qa_dropout", "cls_dropout")
"""What the architectures call the dropout before the head's last layer."""

OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl")
"""Architectures whose position ids start behind the padding id, so that two embeddings are never used."""


@dataclass(frozen=True)
class Part:
    """One task's share of a model: its head and its label names."""

    head: Head
    labels: Sequence[str]
    dropout: float | None = None
    """Dropout before the head's last layer; ``None`` keeps the encoder's own."""


class EncoderWithHeads(nn.Module):
    """An encoder and ``{task: head}``; each head module holds the very same encoder.

    Args:
        heads: the module of each task; all of them share one encoder.
        takes_segments: whether the encoder distinguishes a first and a second text by ``token_type_ids``.
        reads: what the module of a task takes besides, where it is no class of `transformers`.
    """

    def __init__(
        self, heads: Mapping[str, nn.Module], *, takes_segments: bool, reads: Mapping[str, Sequence[str]]
    ) -> None:
        super().__init__()
        self.reads = dict(reads)
        self.names = list(heads)
        self.heads = nn.ModuleList(heads.values())
        self.takes_segments = takes_segments
        self.packing: Packing | None = None
        self.device = torch.device("cpu")
        """Where its inputs go."""
        self.learned = nn.ModuleDict()
        """What objectives learn beside the model, by their names."""

    def pack(self) -> bool:
        """Compute nothing for padding from now on, where the encoder's architecture allows; say whether it does."""
        first: Any = self.heads[0]
        if packable(first):
            self.packing = Packing(first)
        return self.packing is not None

    def place(self, device: torch.device, engine: Literal["ddp", "fsdp"] = "ddp", *, offload: bool = False) -> None:
        """Move the model to a device; with ``fsdp``, where several processes run, only this one's share of it, to
        ``offload`` to the host's memory."""
        self.device = device
        if engine == "fsdp" and ranks.count() > 1:
            ranks.shard(self, self._layers(), device, offload=offload)
        else:
            self.to(device)

    def _layers(self) -> list[nn.Module]:
        """Return the layers of the encoder's stack; nothing where it uses one layer again and again."""
        first: Any = self.heads[0]
        stacks = [list(each) for each in first.base_model.modules() if isinstance(each, nn.ModuleList)]
        longest = max(stacks, key=len, default=[])
        return longest if len(longest) > 1 else []

    def head(self, task: str) -> nn.Module:
        """Return the module of a task, encoder included."""
        return self.heads[self.names.index(task)]

    def forward(self, task: str, inputs: Mapping[str, torch.Tensor]) -> Any:
        """Return the outputs of a head for ``input_ids``, ``attention_mask`` (and ``token_type_ids``), (B, L); a packed
        encoder needs the rows' ``lengths`` as well, (B,), on the host."""
        names = ["input_ids", "attention_mask"] + (["token_type_ids"] if self.takes_segments else [])
        names += [name for name in self.reads[task] if name in inputs]
        given = {name: inputs[name] for name in names}
        if self.packing is None:
            return self.head(task)(**given)
        ids = inputs["input_ids"]
        with self.packing.of(inputs["lengths"], ids.shape[-1], ids.device):
            return self.head(task)(**given)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return every parameter and buffer once, by name: what a checkpoint stores."""
        return {name: each.detach() for name, each in (*self.named_parameters(), *self.named_buffers())}


def build(
    spec: ModelSpec,
    source: Path | str,
    parts: Mapping[str, Part],
    *,
    vocab_size: int,
    pad_id: int,
    seed: int,
    added: int = 0,
) -> EncoderWithHeads:
    """Load or make the encoder and put the head of each task on it; fresh weights depend on ``seed`` alone.

    Args:
        spec: the model block.
        source: the folder or hub id of the weights, or ``scratch``.
        parts: the head and labels of each task.
        vocab_size: the ids of the tokenizer, for fresh embeddings and to refuse ones that are too small.
        pad_id: the tokenizer's padding id.
        seed: the run's seed.
        added: how many of the ids the task has added to the tokenizer: they get fresh embeddings.

    Raises:
        ModelError: when the weights cannot be found or read, or do not fit the tokenizer.
    """
    config = _configuration(spec, source, vocab_size, pad_id)
    if vocab_size - added > config.vocab_size:
        raise ModelError(
            f"the tokenizer has {vocab_size} ids but the embeddings of {spec.pretrained_model_name} only "
            f"{config.vocab_size}: leave out the token section to use the model's own tokenizer"
        )
    modules: dict[str, PreTrainedModel] = {}
    encoder: nn.Module | None = None
    for task, part in parts.items():
        with seeded(seed, "init", task):
            modules[task] = _head(spec, source, part, copy.deepcopy(config), encoder)
            if vocab_size > config.vocab_size:
                modules[task].resize_token_embeddings(vocab_size, mean_resizing=False)
                config.vocab_size = vocab_size
        encoder = encoder or _encoder_of(modules[task])
    return EncoderWithHeads(
        modules,
        takes_segments=getattr(config, "type_vocab_size", 0) > 1,
        reads={task: (*part.head.inputs, *part.head.follows) for task, part in parts.items()},
    )


def label_order(spec: ModelSpec, source: Path | str, labels: Sequence[str]) -> list[str]:
    """Return the task's labels in the order of the weights' own where both name the same ones, so that a model that
    was fine-tuned elsewhere keeps its meaning; else in the task's order."""
    stored = [] if source == SCRATCH else _stored_labels(_configuration(spec, source, 1, 0))
    return stored if sorted(stored) == sorted(labels) else list(labels)


def position_limit(spec: ModelSpec, source: Path | str) -> int | None:
    """Return the longest input that the encoder has positions for; ``None`` where it has no such limit."""
    config = _configuration(spec, source, 1, 0)
    limit: int | None = getattr(config, "max_position_embeddings", None)
    return limit - 2 if limit is not None and config.model_type in OFFSET_POSITIONS else limit


def _configuration(spec: ModelSpec, source: Path | str, vocab_size: int, pad_id: int) -> PreTrainedConfig:
    if source != SCRATCH:
        try:
            stored: PreTrainedConfig = AutoConfig.from_pretrained(source, revision=spec.revision)
            return stored
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{source}: no usable model there: {_first_line(error)}") from error
    wanted = dict(spec.architecture or ARCHITECTURE)
    kind = str(wanted.pop("model_type", ARCHITECTURE["model_type"]))
    known = transformers.CONFIG_MAPPING
    if kind not in known:
        raise ConfigError("model.architecture.model_type", f"{kind!r} is no architecture", hint=nearest(kind, known))
    config = AutoConfig.for_model(kind, **{"vocab_size": vocab_size, "pad_token_id": pad_id} | wanted)
    settings = type(config)().to_dict()
    unknown = set(wanted) - set(settings)
    if unknown:
        name = min(unknown)
        raise ConfigError(f"model.architecture.{name}", f"{kind} has no such setting", hint=nearest(name, settings))
    return config


def _head(
    spec: ModelSpec, source: Path | str, part: Part, config: PreTrainedConfig, encoder: nn.Module | None
) -> PreTrainedModel:
    stored = _stored_labels(config)
    part.head.configure(config, part.labels)
    if part.dropout is not None:
        _set_dropout(config, part.dropout)
    kind: Any = getattr(transformers, part.head.auto_class) if part.head.auto_class else part.head.network()
    if encoder is not None:
        module = _fresh(kind, config)
        setattr(module, module.base_model_prefix, encoder)
        return module
    module = _load(kind, source, config, spec)
    if source != SCRATCH and stored != _stored_labels(config):
        _refresh(module, _fresh(kind, config))
    return module


def _fresh(kind: Any, config: PreTrainedConfig) -> PreTrainedModel:
    """Make a module from its configuration alone; ``kind`` is one of the ``Auto`` classes, or a class of models."""
    return kind(config) if isinstance(kind, type) and issubclass(kind, PreTrainedModel) else kind.from_config(config)


def _encoder_of(module: nn.Module) -> nn.Module:
    prefix = str(getattr(module, "base_model_prefix", "encoder"))
    encoder: nn.Module = getattr(module, prefix)
    return encoder


def _load(kind: Any, source: Path | str, config: PreTrainedConfig, spec: ModelSpec) -> PreTrainedModel:
    if source == SCRATCH:
        return _fresh(kind, config)
    try:
        model, info = kind.from_pretrained(
            source,
            config=config,
            revision=spec.revision,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{source}: its weights cannot be loaded: {_first_line(error)}") from error
    _check_loaded(model, info, source)
    return model  # type: ignore[no-any-return]


def _check_loaded(model: PreTrainedModel, info: Mapping[str, Any], source: Path | str) -> None:
    """Refuse an encoder of which a part would silently stay random; a missing pooler is only said."""
    prefix = f"{model.base_model_prefix}."
    headless = type(model) is type(model.base_model)
    missing = {str(key) for key in info["missing_keys"]} | {str(key[0]) for key in info["mismatched_keys"]}
    inside = sorted(key for key in missing if headless or key.startswith(prefix))
    pooler = [key for key in inside if "pooler" in key]
    if len(inside) > len(pooler):
        lost = [key for key in inside if key not in pooler]
        raise ModelError(f"{source}: {len(lost)} weights of the encoder are not there, {lost[0]} among them")
    if pooler:
        logger.warning("%s has no pooler: the head starts from a fresh one", source)


def _stored_labels(config: PreTrainedConfig) -> list[str]:
    names: dict[Any, str] = {**(config.id2label or {})}
    return [str(names[index]) for index in sorted(names)]


def _refresh(module: nn.Module, fresh: nn.Module) -> None:
    """Give everything but the encoder fresh weights: a stored head for other labels must not be taken over."""
    prefix = f"{module.base_model_prefix}."
    weights = fresh.state_dict()
    with torch.no_grad():
        for name, each in module.state_dict().items():
            if not name.startswith(prefix):
                each.copy_(weights[name])


def _set_dropout(config: PreTrainedConfig, dropout: float) -> None:
    names = [name for name in HEAD_DROPOUT if hasattr(config, name)]
    if not names:
        raise ConfigError("model.dropout", f"{config.model_type} heads have no dropout of their own", hint="use null")
    for name in names:
        setattr(config, name, dropout)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
