"""Models: one encoder with ``{task name: head}``. A single task is the case of one head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from claf2.registry import LARGEST, Component, Registry, UserPath, not_in_recipe

if TYPE_CHECKING:
    from claf2.models.encoder import EncoderWithHeads

__all__ = [
    "FIRST_TOKEN_CLASSES",
    "PRUNING_FIELDS",
    "SCRATCH",
    "ModelKind",
    "ModelSpec",
    "Wrapper",
    "models",
    "register_wrapper",
    "wrappers",
]

SCRATCH = "scratch"
"""The `pretrained_model_name` of an encoder with fresh weights."""

FIRST_TOKEN_CLASSES = frozenset({"AutoModelForSequenceClassification", "AutoModelForMultipleChoice"})
"""The classes of heads in `transformers` that read the first token alone, for all packable architectures."""

PRUNING_FIELDS = ("keep_layers", "ffn_width")
"""The fields of ``ModelSpec`` that make a stored model smaller when a run begins. What the run stores is small already,
so they do not apply to it."""


class ModelSpec(Component):
    """The encoder of a run. In a BaseConfig the head's fields are part of the same block."""

    pretrained_model_name: Annotated[str, UserPath] = not_in_recipe("bert-base-cased")
    """A hub id, a folder, a `.tar.gz` or `.zip` archive, an http(s) URL of one, or `scratch` for fresh weights."""
    revision: str | None = not_in_recipe(None)
    """The hub's branch, tag or commit."""
    architecture: dict[str, Any] = not_in_recipe({}, validate_default=False)
    """With `scratch`: the configuration of the encoder as `transformers` names it, `model_type` included."""
    keep_layers: list[Annotated[int, Field(ge=0, le=LARGEST)]] | None = not_in_recipe(None, written=False)
    """The layers of the stored model that the encoder begins with, from 0, ascending; `null`: all of them."""
    ffn_width: int | None = not_in_recipe(None, ge=1, le=LARGEST, written=False)
    """How many neurons the feed-forward network of each layer keeps, those with the largest weights; `null`: all of
    them."""
    dropout: float | None = Field(None, ge=0, lt=1)
    """Dropout before the head's last layer; `null` keeps the encoder's own."""

    @property
    def is_pruned(self) -> bool:
        """Whether the run begins with a part of a stored model."""
        return any(getattr(self, name) is not None for name in PRUNING_FIELDS)


@dataclass(frozen=True)
class ModelKind:
    """What a model's name in a BaseConfig says. Every encoder architecture serves each."""

    head: str | None
    """The kind of head that the name promises; ``None``: the one that the task asks for."""


models: Registry[ModelKind] = Registry("model")
"""The values of `model.name`."""

for _head, _names in {
    None: ("encoder", "bert_for_multi", "roberta_for_multi"),
    "classify": ("bert_for_seq_cls", "roberta_for_seq_cls"),
    "san": ("bert_for_san",),
    "regress": ("bert_for_reg", "roberta_for_reg"),
    "tag": ("bert_for_tok_cls", "roberta_for_tok_cls"),
    "choice": ("bert_for_choice", "roberta_for_choice"),
    "parse": ("bert_for_parse", "roberta_for_parse"),
    "dialogue": ("bert_for_dst", "roberta_for_dst"),
    "span": ("bert_for_qa", "roberta_for_qa"),
    "clm": ("clm",),
    "tsdae": ("tsdae",),
    "embed": ("embed",),
    "embed_softmax": ("embed_softmax",),
    "embed_in_batch": ("embed_in_batch",),
    "instruct": ("instruct",),
    "rank": ("rank",),
    "rank_causal": ("rank_causal",),
    "rank_mask": ("rank_mask",),
}.items():
    for _name in _names:
        models.add(_name, ModelKind(_head), origin=__name__)


class Wrapper(Component, ABC):
    """A change of the model before training, such as freezing weights or adding adapters; its fields are the block of
    section `model.wrappers` with its name."""

    @abstractmethod
    def wrap(self, model: EncoderWithHeads) -> None:
        """Change the model in place. Weights are loaded; it is on the CPU, neither packed, compiled nor sharded yet.

        Parameters with ``requires_grad = False`` are not trained. A change of weights, such as a low-rank update, is a
        parametrization (``torch.nn.utils.parametrize``): `last/` keeps its parts, and `best/` the weights that result,
        which load without it. The model of an evaluation is wrapped, too; a fresh wrapper must not change what the
        model computes.
        """


wrappers: Registry[type[Wrapper]] = Registry("wrapper")
"""The registered wrappers."""
register_wrapper = wrappers.register
