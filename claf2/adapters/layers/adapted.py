"""An encoder of which a part is trained: which modules were replaced, and how they are merged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from claf2.runtime import distributed

__all__ = ["Adapted", "Replacement", "gathered", "plain_linear"]


@dataclass(frozen=True)
class Replacement:
    """A module of an encoder that an adapter has replaced."""

    parent: nn.Module
    name: str
    merge: Callable[[], nn.Module]
    """Returns a plain module that computes the same. It has its own memory, and the replaced module does not
    change."""


@dataclass
class Adapted:
    """The result of applying an adapter to an encoder."""

    replaced: Sequence[Replacement] = ()
    """The modules that merging replaces by plain ones."""
    can_merge: bool = True
    """Whether merging makes the whole encoder a plain one; that of the adapter."""
    extra_tokens: int = 0
    """How many tokens the encoder reads in addition to those of its inputs; that of the adapter."""
    peft_config: Any = None
    """The configuration of `peft` that describes the adapter; ``None`` if `peft` has no such method."""
    description: dict[str, Any] = field(default_factory=dict)
    """The method's name and fields, and the name and revision of the base."""
    _is_merged: bool = False

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Inside the block, replace the trained parts by plain modules with the same result. Computing and storing
        then use the same weights. The frozen weights do not change by a bit."""
        if self._is_merged:
            yield
            return
        originals = [getattr(entry.parent, entry.name) for entry in self.replaced]
        with torch.no_grad():
            plain = [entry.merge() for entry in self.replaced]
        self._put(plain)
        self._is_merged = True
        try:
            yield
        finally:
            self._is_merged = False
            self._put(originals)

    def _put(self, modules: Sequence[nn.Module]) -> None:
        for entry, module in zip(self.replaced, modules, strict=True):
            setattr(entry.parent, entry.name, module)

    def add(self, replaced: Sequence[Replacement]) -> None:
        """Add modules that were replaced in addition to those of the adapter."""
        self.replaced = [*self.replaced, *replaced]


def plain_linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    """Return a frozen linear layer with these weights, (O, I) and (O,), which are not copied."""
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def gathered(tensor: torch.Tensor) -> torch.Tensor:
    """Return the whole of a weight that may be sharded, without its gradient."""
    return distributed.full_tensor(tensor.detach())
