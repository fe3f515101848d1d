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
from transformers import PreTrainedConfig, PreTrainedModel

from claf2.errors import ConfigError, ModelError
from claf2.heads import Head
from claf2.models import FIRST_TOKEN_CLASSES, SCRATCH, ModelSpec
from claf2.models.configuration import make_configuration, set_head_dropout, takes_segments
from claf2.models.encoder_passes import EncoderPasses
from claf2.models.packing import Packing, is_packable
from claf2.models.pruning import prune
from claf2.models.stored_heads import find_label_order, fresh_module, read_label_names, reorder_head, reset_head
from claf2.models.stored_weights import align_weights, check_finite, check_loaded, has_weights, weight_files
from claf2.runtime import distributed
from claf2.runtime.model_files import reading_model
from claf2.runtime.seed import seeded

if TYPE_CHECKING:
    from claf2.adapters.layers.adapted import AppliedAdapter
    from claf2.models.target_tokens import TargetTokens

__all__ = ["EncoderWithHeads", "TaskHead", "build_model"]

logger = logging.getLogger("claf2")

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
    is_filled_later: bool = False
    """Whether the weights are those of an adapted model, which are loaded when the adapter is there."""


class EncoderWithHeads(nn.Module):
    """An encoder and ``{task: head}``; each head module holds the very same encoder.

    Args:
        heads: the module of each task; all of them share one encoder.
        takes_segments: whether the encoder distinguishes a first and a second text by ``token_type_ids``.
        extra_inputs: the further inputs of a task's module, where it is not a class of `transformers`.
        first_token_tasks: the tasks whose modules read only the first token, so that the last layer computes no other.
        target_token_tasks: the tasks whose modules predict tokens, and compute those with a target alone.
        fresh_weights: the parameters of the encoder that no checkpoint has brought.
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
        fresh_weights: Collection[str] = (),
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
        self._encoder_inputs = ("input_ids", "attention_mask", *(["token_type_ids"] if takes_segments else []))
        self.fresh_weights = frozenset(fresh_weights)
        self.adapted: AppliedAdapter | None = None
        """The adapter of the encoder, if there is one."""
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
        if self.packing is None and is_packable(first):
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
        names = list(self._encoder_inputs)
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
        with self._packed(inputs, first_tokens=False):
            hidden: torch.Tensor = self.encoder(
                **{name: inputs[name] for name in self._encoder_inputs}
            ).last_hidden_state
        return hidden

    def _packed(self, inputs: Mapping[str, torch.Tensor], *, first_tokens: bool) -> AbstractContextManager[None]:
        """Return the context of a pass: that of a packed encoder, if it is one."""
        if self.packing is None:
            return nullcontext()
        ids, extra = inputs["input_ids"], self.adapted.adapter.extra_tokens if self.adapted else 0
        lengths = inputs["lengths"] + extra if extra else inputs["lengths"]
        return self.packing.packed(lengths, ids.shape[-1] + extra, ids.device, first_tokens=first_tokens)

    def merged(self) -> AbstractContextManager[None]:
        """Compute with, and store, the weights that an adapter amounts to in the block, where it can be merged."""
        return self.adapted.merged() if self.adapted else nullcontext()

    def weights(self) -> dict[str, torch.Tensor]:
        """Return every parameter and buffer once, by name: what `last/` stores. With an adapter, frozen parameters are
        left out."""
        parameters = [named for named in self.named_parameters() if self.adapted is None or named[1].requires_grad]
        return {name: tensor.detach() for name, tensor in (*parameters, *self.named_buffers())}


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
        ConfigError: when a language model has several tasks, or the architecture lacks what the model block names.
        ModelError: when the weights are missing or damaged, do not fit the tokenizer, or cannot be pruned.
    """
    if len(tasks) > 1 and any(task.head.binds for task in tasks.values()):
        # Their decoders belong to the language model, of which several heads would have copies.
        raise ConfigError("model.name", "a language model answers one task per run", hint="train a run for each task")
    config = make_configuration(spec, source, vocab_size, pad_id, special_ids)
    _check_vocabulary(spec, config, vocab_size - added_tokens, has_token_section=has_token_section)
    load_encoder = partial(_load, transformers.AutoModel, source, copy.deepcopy(config), spec)  # `config` changes
    modules: dict[str, PreTrainedModel] = {}
    encoder: nn.Module | None = None
    fresh_weights: list[str] = []
    for task, task_head in tasks.items():
        own_config = copy.deepcopy(config)
        with seeded(seed, "init", task):
            if encoder is None:
                modules[task], fresh_weights = _first_module(spec, source, task_head, own_config)
            else:
                modules[task] = _next_module(task_head, own_config, encoder, load_encoder, fresh_weights)
            if encoder is None and spec.is_pruned:
                prune(modules[task], config, layers=spec.keep_layers, width=spec.ffn_width)
            if vocab_size > config.vocab_size:
                modules[task].resize_token_embeddings(vocab_size, mean_resizing=False)
                config.vocab_size = vocab_size
        encoder = encoder or _encoder_of(modules[task])
    return EncoderWithHeads(
        modules,
        takes_segments=takes_segments(config),
        extra_inputs={task: (*of.head.inputs, *of.head.teacher_forced) for task, of in tasks.items()},
        first_token_tasks=[task for task, of in tasks.items() if of.head.auto_class in FIRST_TOKEN_CLASSES],
        target_token_tasks=[task for task, of in tasks.items() if of.head.predicts_tokens],
        fresh_weights=fresh_weights,
        bound={task: bound for task, of in tasks.items() if (bound := of.head.bind(modules[task])) is not None},
    )


def _check_vocabulary(spec: ModelSpec, config: PreTrainedConfig, ids: int, *, has_token_section: bool) -> None:
    """Refuse a tokenizer with more ids, apart from those that the tasks have added, than the embeddings have rows."""
    if ids <= config.vocab_size:
        return
    remedy = (
        "leave out the token section to use the model's own tokenizer"
        if has_token_section
        else "save the model again after resize_token_embeddings, or add the tokenizer that it was trained with"
    )
    raise ModelError(
        f"the tokenizer has {ids} ids, but the embeddings of {spec.pretrained_model_name} "
        f"have only {config.vocab_size} rows: {remedy}"
    )


def _configure(task: TaskHead, config: PreTrainedConfig) -> Any:
    """Write what a task wants of its module into a configuration, and return the class of the module."""
    task.head.configure(config, task.labels)
    if task.dropout is not None:
        set_head_dropout(config, task.dropout)
    return getattr(transformers, task.head.auto_class) if task.head.auto_class else task.head.network()


def _first_module(
    spec: ModelSpec, source: Path | str, task: TaskHead, config: PreTrainedConfig
) -> tuple[PreTrainedModel, list[str]]:
    """Return the module of the first task, whose encoder the others share, and the encoder's fresh weights."""
    stored = read_label_names(config)
    kind = _configure(task, config)
    if task.may_be_new and isinstance(source, Path) and not has_weights(source):
        logger.warning("%s has no weights, so pre-training starts with new ones", source)
        return fresh_module(kind, config), []
    if task.is_filled_later:
        return fresh_module(kind, config), []
    module, fresh = _load(kind, source, config, spec, task.head)
    order = find_label_order(stored, task.labels)
    if order is not None:
        reorder_head(module, kind, task.head, task.labels, order)
    elif source != SCRATCH and stored != read_label_names(config):
        reset_head(module, fresh_module(kind, config))
    return module, fresh


def _next_module(
    task: TaskHead,
    config: PreTrainedConfig,
    encoder: nn.Module,
    load_encoder: Callable[[Head[Any, Any]], tuple[PreTrainedModel, list[str]]],
    fresh_weights: list[str],
) -> PreTrainedModel:
    """Return the module of another task on a shared encoder. What its own encoder has and the shared one lacks, such as
    a pooler, becomes part of the shared one; which weights of it are fresh is added to ``fresh_weights``."""
    module: PreTrainedModel = fresh_module(_configure(task, config), config)
    parts: nn.Module = _encoder_of(module)
    # The classes of `transformers` have a pooler only if they read it. Our networks read hidden states alone.
    own = [name for name, _ in parts.named_children()] if task.head.auto_class else []
    lacking = [name for name in own if getattr(encoder, name, None) is None]
    if lacking and not task.is_filled_later:
        parts, fresh = load_encoder(task.head)
        fresh_weights += fresh
    for name in lacking:
        setattr(encoder, name, getattr(parts, name))
    setattr(module, module.base_model_prefix, encoder)
    if task.head.predicts_tokens:
        module.tie_weights()  # the decoder is tied to the embeddings of the encoder that was replaced
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
) -> tuple[PreTrainedModel, list[str]]:
    if source == SCRATCH:
        return fresh_module(kind, config), []
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
    fresh = check_loaded(model, info, source, head)
    check_finite(model, source)
    align_weights(model)
    return model, fresh
