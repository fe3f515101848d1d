"""One encoder shared by the heads of all tasks. Each head is the class of `transformers` for the architecture, where it
has one."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
import transformers
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from claf2.errors import ConfigError, ModelError, nearest
from claf2.heads import Head
from claf2.models import SCRATCH, ModelSpec
from claf2.models.encoder_passes import EncoderPasses
from claf2.models.packing import FIRST_TOKEN_CLASSES, Packing, is_packable
from claf2.models.pruning import prune
from claf2.models.stored_heads import find_label_order, fresh_module, read_label_names, reorder_head, reset_head
from claf2.models.stored_weights import align_weights, check_finite, check_loaded, has_weights, weight_files
from claf2.runtime import distributed
from claf2.runtime.model_files import reading_model
from claf2.runtime.seed import seeded

if TYPE_CHECKING:
    from claf2.models.target_tokens import TargetTokens

__all__ = ["EncoderWithHeads", "TaskHead", "build_model", "position_limit", "stored_label_order"]

logger = logging.getLogger("claf2")

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

WEIGHTS_HINT = "check its config.json, or save the model again with save_pretrained"


@dataclass(frozen=True)
class TaskHead:
    """The head of one task and its label names."""

    head: Head[Any, Any]
    labels: Sequence[str]
    dropout: float | None = None
    """Dropout before the head's last layer; ``None`` keeps the encoder's own."""
    may_be_new: bool = False
    """Whether a folder without weights is accepted, which then names an architecture to pre-train."""


class EncoderWithHeads(nn.Module):
    """An encoder and ``{task: head}``; each head module holds the very same encoder.

    Args:
        heads: the module of each task; all of them share one encoder.
        takes_segments: whether the encoder distinguishes a first and a second text by ``token_type_ids``.
        extra_inputs: the further inputs of a task's module, where it is not a class of `transformers`.
        first_token_tasks: the tasks whose modules read only the first token, so that the last layer computes no other.
        target_token_tasks: the tasks whose modules predict tokens, and compute those with a target alone.
        bound: what computes the outputs of a task instead of its module (``Head.bind``).
    """

    batching: ClassVar[Literal["close"]] = "close"
    is_thread_safe: ClassVar[bool] = False  # what is packed is noted in the packing for the time of a pass
    takes_targets: ClassVar[bool] = True

    def __init__(
        self,
        heads: Mapping[str, nn.Module],
        *,
        takes_segments: bool,
        extra_inputs: Mapping[str, Sequence[str]],
        first_token_tasks: Collection[str] = (),
        target_token_tasks: Collection[str] = (),
        bound: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        super().__init__()
        self.extra_inputs = dict(extra_inputs)
        self.first_token_tasks = frozenset(first_token_tasks)
        self.bound = dict(bound or {})
        self._target_tokens = _target_tokens(heads, target_token_tasks)
        self.names = list(heads)
        self.heads = nn.ModuleList(heads.values())
        self.takes_segments = takes_segments
        self.packing: Packing | None = None
        self._passes: EncoderPasses | None = None
        self.device = torch.device("cpu")
        """Where its inputs are computed."""
        self.learned = nn.ModuleDict()
        """What objectives learn besides the model, by their names."""

    @property
    def encoder(self) -> nn.Module:
        """The encoder that all heads share."""
        first: Any = self.heads[0]
        encoder: nn.Module = first.base_model
        return encoder

    def pack(self) -> bool:
        """Compute nothing for padding from now on, where the architecture allows it; return whether it does."""
        first: Any = self.heads[0]
        if is_packable(first):
            self.packing = Packing(first)
        return self.packing is not None

    def place(self, device: torch.device, engine: Literal["ddp", "fsdp"] = "ddp", *, offload: bool = False) -> None:
        """Move the model to a device; with ``fsdp`` and several processes, only this process's shard of it, which
        ``offload`` keeps in the host's memory."""
        self.device = device
        if engine == "fsdp" and distributed.world_size() > 1:
            distributed.shard_model(self, self._layers(), device, offload=offload)
        else:
            self.to(device)

    def _layers(self) -> list[nn.Module]:
        """Return the layers of the encoder's stack; none where it repeats a single layer."""
        stacks = [list(module) for module in self.encoder.modules() if isinstance(module, nn.ModuleList)]
        longest = max(stacks, key=len, default=[])
        return longest if len(longest) > 1 else []

    def head(self, task: str) -> nn.Module:
        """Return the module of a task, encoder included."""
        return self.heads[self.names.index(task)]

    @contextmanager
    def evaluation_mode(self) -> Iterator[None]:
        """Turn dropout off in the block."""
        was_training = self.training
        if was_training:  # both directions visit every module, which takes longer than a small model's answer
            self.eval()
        try:
            yield
        finally:
            if was_training:
                self.train()

    @contextmanager
    def shared_pass(self) -> Iterator[None]:
        """Compute the encoder once in the block for heads that are called with the same ids, masks and segments."""
        self._passes = EncoderPasses(self.encoder)
        try:
            with self._passes:
                yield
        finally:
            self._passes = None

    def arguments(self, task: str, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return what the module of a task takes of the tensors of a batch."""
        names = ["input_ids", "attention_mask"] + (["token_type_ids"] if self.takes_segments else [])
        names += [name for name in self.extra_inputs[task] if name in inputs and name not in names]
        return {name: inputs[name] for name in names}

    def forward(self, task: str, inputs: Mapping[str, torch.Tensor]) -> Any:
        """Return the outputs of a head for ``input_ids``, ``attention_mask`` (and ``token_type_ids``), (B, L); a packed
        encoder needs the rows' ``lengths`` as well, (B,), on the host."""
        head: Callable[..., Any] = self.bound.get(task) or self.head(task)
        if task in self._target_tokens:
            head = partial(self._target_tokens[task].forward, inputs["labels"], inputs.get("target_places"))
        # Other heads may read all tokens of a pass that is shared.
        first = task in self.first_token_tasks and self._passes is None
        with self._packed(inputs, first_tokens=first):
            return head(**self.arguments(task, inputs))

    def hidden_states(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the last layer's vectors of all tokens, (B, L, H), for the same inputs."""
        names = ["input_ids", "attention_mask"] + (["token_type_ids"] if self.takes_segments else [])
        with self._packed(inputs, first_tokens=False):
            hidden: torch.Tensor = self.encoder(**{name: inputs[name] for name in names}).last_hidden_state
        return hidden

    def _packed(self, inputs: Mapping[str, torch.Tensor], *, first_tokens: bool) -> AbstractContextManager[None]:
        """Return the context of a pass: that of a packed encoder, if it is one."""
        if self.packing is None:
            return nullcontext()
        ids = inputs["input_ids"]
        return self.packing.packed(inputs["lengths"], ids.shape[-1], ids.device, first_tokens=first_tokens)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return every parameter and buffer once, by name: what `last/` stores."""
        return {name: tensor.detach() for name, tensor in (*self.named_parameters(), *self.named_buffers())}


def build_model(
    spec: ModelSpec,
    source: Path | str,
    tasks: Mapping[str, TaskHead],
    *,
    vocab_size: int,
    pad_id: int,
    seed: int,
    added_tokens: int = 0,
    special_ids: Mapping[str, int] | None = None,
    has_token_section: bool = False,
) -> EncoderWithHeads:
    """Load or make the encoder and put the head of each task on it. Fresh weights depend on ``seed`` alone.

    Args:
        spec: the model block.
        source: the folder or hub id of the weights, or ``scratch``.
        tasks: the head and labels of each task.
        vocab_size: the number of the tokenizer's ids; embeddings with fewer rows are refused.
        pad_id: the tokenizer's padding id.
        seed: the run's seed.
        added_tokens: how many of the ids the tasks have added to the tokenizer; they get fresh embeddings.
        special_ids: the settings of a fresh model that generates text, such as ``eos_token_id``.
        has_token_section: whether the tokenizer is another one than the model's own.

    Raises:
        ModelError: when the weights are missing or damaged, do not fit the tokenizer, or cannot be pruned.
    """
    if len(tasks) > 1 and any(task.head.binds for task in tasks.values()):
        # Their decoders belong to the language model, of which several heads would have copies.
        problem = "a language model answers one task per run"
        raise ConfigError("model.name", problem, hint="train a run for each task")
    config = _configuration(spec, source, vocab_size, pad_id, special_ids)
    if vocab_size - added_tokens > config.vocab_size:
        remedy = (
            "leave out the token section to use the model's own tokenizer"
            if has_token_section
            else "save the model again after resize_token_embeddings, or add the tokenizer that it was trained with"
        )
        raise ModelError(
            f"the tokenizer has {vocab_size - added_tokens} ids, but the embeddings of {spec.pretrained_model_name} "
            f"have only {config.vocab_size} rows: {remedy}"
        )
    modules: dict[str, PreTrainedModel] = {}
    encoder: nn.Module | None = None
    for task, task_head in tasks.items():
        with seeded(seed, "init", task):
            modules[task] = _head_module(spec, source, task_head, copy.deepcopy(config), encoder)
            if encoder is None and spec.is_pruned:
                prune(modules[task], config, layers=spec.keep_layers, width=spec.ffn_width)
            if vocab_size > config.vocab_size:
                modules[task].resize_token_embeddings(vocab_size, mean_resizing=False)
                config.vocab_size = vocab_size
        encoder = encoder or _encoder_of(modules[task])
    return EncoderWithHeads(
        modules,
        takes_segments=getattr(config, "type_vocab_size", 0) > 1,
        extra_inputs={task: (*of.head.inputs, *of.head.teacher_forced) for task, of in tasks.items()},
        first_token_tasks=[task for task, of in tasks.items() if of.head.auto_class in FIRST_TOKEN_CLASSES],
        target_token_tasks=[task for task, of in tasks.items() if of.head.predicts_tokens],
        bound={task: bound for task, of in tasks.items() if (bound := of.head.bind(modules[task])) is not None},
    )


def stored_label_order(spec: ModelSpec, source: Path | str, labels: Sequence[str]) -> list[int] | None:
    """Return which output of the stored head stands for each label, where the head has these labels in another order;
    ``None`` where it has the same order or other labels."""
    return None if source == SCRATCH else find_label_order(read_label_names(_configuration(spec, source, 1, 0)), labels)


def position_limit(spec: ModelSpec, source: Path | str) -> int | None:
    """Return the longest input of the encoder in tokens; ``None`` where positions do not limit it.

    Only a table of position embeddings is a limit. Relative and rotary positions have none, even if their configuration
    names the length that the model was trained with.
    """
    config = _configuration(spec, source, 1, 0)
    limit: int | None = getattr(config, "max_position_embeddings", None)
    is_rotary = hasattr(config, "rope_parameters") or getattr(config, "position_embedding_type", None) == "rotary"
    is_relative = not getattr(config, "position_biased_input", True) or (limit or 0) < 0  # DeBERTa; XLNet
    if limit is None or is_rotary or is_relative:
        return None
    return limit - max(2, (config.pad_token_id or 0) + 1) if config.model_type in OFFSET_POSITIONS else limit


def _configuration(
    spec: ModelSpec, source: Path | str, vocab_size: int, pad_id: int, special_ids: Mapping[str, int] | None = None
) -> PreTrainedConfig:
    if source != SCRATCH:
        hint = "correct its config.json, or download it again"
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


def _head_module(
    spec: ModelSpec, source: Path | str, task: TaskHead, config: PreTrainedConfig, encoder: nn.Module | None
) -> PreTrainedModel:
    stored = read_label_names(config)
    task.head.configure(config, task.labels)
    if task.dropout is not None:
        _set_dropout(config, task.dropout)
    kind: Any = getattr(transformers, task.head.auto_class) if task.head.auto_class else task.head.network()
    if encoder is not None:
        module = fresh_module(kind, config)
        setattr(module, module.base_model_prefix, encoder)
        if task.head.predicts_tokens:
            module.tie_weights()  # the decoder is tied to the embeddings of the encoder that was replaced
        return module
    if task.may_be_new and isinstance(source, Path) and not has_weights(source):
        logger.warning("%s has no weights, so pre-training starts with new ones", source)
        return fresh_module(kind, config)
    module = _load(kind, source, config, spec, task.head)
    order = find_label_order(stored, task.labels)
    if order is not None:
        reorder_head(module, kind, task.head, task.labels, order)
    elif source != SCRATCH and stored != read_label_names(config):
        reset_head(module, fresh_module(kind, config))
    return module


def _target_tokens(heads: Mapping[str, nn.Module], tasks: Collection[str]) -> dict[str, TargetTokens]:
    if not tasks:
        return {}
    from claf2.models.target_tokens import TargetTokens  # of no use to other tasks

    return {task: TargetTokens(heads[task]) for task in tasks}


def _encoder_of(module: nn.Module) -> nn.Module:
    prefix = str(getattr(module, "base_model_prefix", "encoder"))
    encoder: nn.Module = getattr(module, prefix, module)  # an encoder-decoder has no part of that name
    return encoder


def _load(
    kind: Any, source: Path | str, config: PreTrainedConfig, spec: ModelSpec, head: Head[Any, Any]
) -> PreTrainedModel:
    if source == SCRATCH:
        return fresh_module(kind, config)
    with reading_model(source, "its weights cannot be loaded", *weight_files(source), hint=WEIGHTS_HINT):
        try:
            model, info = kind.from_pretrained(
                source,
                config=config,
                revision=spec.revision,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        except pickle.UnpicklingError as error:
            raise ValueError("the file does not hold weights alone, as torch.save(model.state_dict()) does") from error
    check_loaded(model, info, source, head)
    check_finite(model, source)
    align_weights(model)
    return model  # type: ignore[no-any-return]


def _set_dropout(config: PreTrainedConfig, dropout: float) -> None:
    names = [name for name in HEAD_DROPOUT if hasattr(config, name)]
    if not names:
        raise ConfigError(
            "model.dropout", f"heads of {config.model_type} have no dropout of their own", hint="use null"
        )
    for name in names:
        setattr(config, name, dropout)
