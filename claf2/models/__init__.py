"""Models: one encoder with ``{task name: head}``. Single-task is the case of one head."""

from __future__ import annotations

from abc import ABC
from typing import Any, ClassVar

from pydantic import Field

from claf2.registry import Component, Registry, varies

__all__ = ["ModelSpec", "models", "register_model"]

SCRATCH = "scratch"
"""The `pretrained_model_name` that stands for an encoder with fresh weights."""


class ModelSpec(Component, ABC):
    """Which encoder, and what is put on it. In a BaseConfig the head's own fields stand in the same block."""

    head: ClassVar[str | None] = None
    """The kind of head that the name promises; ``None``: whatever the task asks for."""

    pretrained_model_name: str = varies("bert-base-cased")
    """A hub id, a folder, a `.tar.gz` or `.zip` archive, an http(s) URL of one, or `scratch` for fresh weights."""
    revision: str | None = varies(None)
    """The hub's branch, tag or commit."""
    architecture: dict[str, Any] = varies({}, validate_default=False)
    """With `scratch`: the configuration of the encoder as `transformers` names it, `model_type` included."""
    dropout: float | None = Field(None, ge=0, lt=1)
    """Dropout before the head's last layer; `null` keeps the encoder's own."""


models: Registry[type[ModelSpec]] = Registry("model", home="claf2.models.names")
register_model = models.register
