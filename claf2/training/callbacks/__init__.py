"""Callbacks: what observes a run without steering it, such as progress output and trackers of experiments."""

from __future__ import annotations

import importlib.util
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claf2.errors import ConfigError
from claf2.registry import Component, Registry

if TYPE_CHECKING:
    import torch

    from claf2.evaluation.report import Report
    from claf2.notifications.events import Event
    from claf2.training.state import State

__all__ = ["Callback", "CallbackList", "CallbackSpec", "RunInfo", "callbacks", "flatten", "register_callback"]

logger = logging.getLogger("claf2")


class Callback:
    """Observes a run without steering it. Every method does nothing by default. Only the main process calls them."""

    def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
        """Called after every optimizer step with the mean loss of its batch, a scalar. Reading the loss waits for the
        device, so a callback reads it only where it reports it."""

    def on_report(self, state: State, report: Report, logs: Mapping[str, float | None]) -> None:
        """Called after every evaluation, before anything is saved."""

    def on_kept(self, state: State, folder: Path) -> None:
        """Called when a checkpoint has been kept: its folder is complete, and the evaluation after the same step, if
        there is one, is done and saved. Retention may delete the folder at a later step."""

    def on_event(self, event: Event) -> None:
        """Called when another callback announces something through ``RunInfo.announce``, from any thread."""

    def on_failure(self, error: BaseException) -> None:
        """Called when an error or a signal ends the run, before ``close``."""

    def close(self) -> None:
        """Called when the run ends, for whatever reason."""


class CallbackList(Callback):
    """Several callbacks as one. A callback that raises is logged and removed, since it must not end a run."""

    def __init__(self, members: Sequence[Callback]) -> None:
        self._members = list(members)

    def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
        self._call(lambda member: member.on_step(state, loss, learning_rate))

    def on_report(self, state: State, report: Report, logs: Mapping[str, float | None]) -> None:
        self._call(lambda member: member.on_report(state, report, logs))

    def on_kept(self, state: State, folder: Path) -> None:
        self._call(lambda member: member.on_kept(state, folder))

    def on_event(self, event: Event) -> None:
        self._call(lambda member: member.on_event(event))

    def on_failure(self, error: BaseException) -> None:
        self._call(lambda member: member.on_failure(error))

    def close(self) -> None:
        # The last one first, so that what it announces at its end still reaches those before it.
        self._members.reverse()
        self._call(lambda member: member.close())

    def __enter__(self) -> CallbackList:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Close the callbacks, after they have heard of the error that ends the block."""
        if error is not None:
            self.on_failure(error)
        self.close()

    def _call(self, method: Callable[[Callback], None]) -> None:
        for member in list(self._members):
            try:
                method(member)
            except OSError as error:  # a full disk, a network that is down
                logger.error("%s failed and is disabled; the run continues: %s", type(member).__name__, error)
                self._members.remove(member)
            except Exception:
                logger.exception("%s failed and is disabled; the run continues", type(member).__name__)
                self._members.remove(member)


@dataclass(frozen=True)
class RunInfo:
    """What a callback may know about the run that it observes."""

    id: str
    """32 hexadecimal digits, which a resumed run keeps and a new run in the same folder does not."""
    folder: Path
    config: Mapping[str, Any]
    """The complete BaseConfig."""
    provenance: Mapping[str, Any]
    """What the scores depend on: the content of `run.json`."""
    state: State
    """Where the run stands; the loop changes it in place."""
    metric_key: str
    """The score that selects the best checkpoint, e.g. ``valid/f1``."""
    lower_is_better: bool
    total_steps: int
    log_every: int
    """The number of steps between two reports of the training loss."""
    announce: Callable[[Event], None] = lambda event: None
    """Tells all callbacks of the run about an event, such as a checkpoint that was uploaded; from any thread."""


class CallbackSpec(Component, ABC):
    """A kind of callback; its fields are the block of section `runtime.callbacks` with its name."""

    def check(self) -> None:
        """Check what can be known before any work is done, such as an installed library.

        Raises:
            ConfigError: with a path within the block.
        """
        return None

    @abstractmethod
    def build(self, run: RunInfo) -> Callback:
        """Return the callback of one run. An exception ends the run before its first step."""


callbacks: Registry[type[CallbackSpec]] = Registry("callback", home="claf2.training.callbacks")
"""The registered callbacks."""
register_callback = callbacks.register


def check_installed(module: str, extra: str) -> None:
    """Check that an optional library is installed.

    Raises:
        ConfigError: with the command that installs it.
    """
    if importlib.util.find_spec(module) is None:
        raise ConfigError("", f"{module} is not installed", hint=f"pip install 'claf2[{extra}]'")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one: dotted path → value. Empty mappings are left out."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
