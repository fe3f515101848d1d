"""Engines: what computes the outputs of heads. PyTorch does with the model itself, other runtimes do with an export."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypeAlias

import torch

__all__ = ["Batching", "Engine"]

Batching: TypeAlias = Literal["exact", "close", "single"]
"""What becomes of a row's outputs if it is computed together with others: ``exact``: they are the same to the bit;
``close``: their last digits change; ``single``: they would change, so each row is computed alone."""


class Engine(Protocol):
    """Computes the outputs of the heads of one or more tasks. ``EncoderWithHeads`` is one."""

    @property
    def device(self) -> torch.device:
        """Where its inputs are expected."""

    @property
    def batching(self) -> Batching:
        """What becomes of a row's outputs if it is computed together with others."""

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may call it at the same time."""

    @property
    def takes_targets(self) -> bool:
        """Whether it passes the targets of a batch to modules that continue from the right answer
        (``Head.teacher_forced``), without which such a head has no loss."""

    def __call__(self, task: str, inputs: Mapping[str, torch.Tensor]) -> Any:
        """Return the outputs of a task's head, as ``Head.collect`` reads them.

        Args:
            task: whose head answers.
            inputs: the tensors of a batch: ``input_ids``, ``attention_mask`` … (B, L), and the ``lengths`` of the rows.
        """

    def evaluation_mode(self) -> AbstractContextManager[None]:
        """Return the context in which dropout is off."""

    def shared_pass(self) -> AbstractContextManager[None]:
        """Return the context in which several heads with the same inputs may share one pass of the encoder."""
