"""An encoder of which a part is trained: which modules were replaced, and how they are merged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from claf2.runtime import distributed

if TYPE_CHECKING:
    from claf2.adapters import Adapter

__all__ = ["AppliedAdapter", "EncoderChanges", "Replacement", "gathered", "plain_linear"]


@dataclass(frozen=True)
class Replacement:
    """A module of an encoder that an adapter has replaced."""

    parent: nn.Module
    name: str
    merge: Callable[[], nn.Module]
    """Returns a plain module that computes the same. It has its own memory, and the replaced module does not
    change."""


@dataclass(frozen=True)
class EncoderChanges:
    """What an adapter has changed about an encoder, in addition to what is trained."""

    replaced: Sequence[Replacement] = ()
    """The modules that merging replaces by plain ones."""
    peft_config: Any = None
    """The configuration of `peft` that describes the adapter; ``None`` if `peft` has no such method."""


@dataclass
class AppliedAdapter:
    """An adapter and what it has made of an encoder."""

    adapter: Adapter
    """The method."""
    base: Mapping[str, str | None]
    """The name and the revision of the base, as in the files of `peft`."""
    replaced: Sequence[Replacement]
    """The modules that merging replaces by plain ones."""
    peft_config: Any
    """The configuration of `peft` that describes the adapter; ``None`` if `peft` has no such method."""
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
