"""Which checkpoints stay in a store, and how the others are deleted without taking one from its readers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from claf2.storage.checkpoints import MANIFEST, STEP_NAME
from claf2.storage.leases import live_leases
from claf2.storage.objects import NotStoredError, RemoteFolder

__all__ = ["Retention", "delete_checkpoint", "delete_superseded"]

logger = logging.getLogger("claf2")


@dataclass(frozen=True)
class Retention:
    """Which steps stay: the latest ``last``, those whose number is a multiple of ``every``, and the best one. All of
    them where ``last`` is ``None``."""

    last: int | None = None
    every: int | None = None

    def superseded(self, steps: Iterable[int], best: int | None = None) -> list[int]:
        """Return which of the steps need not be kept any longer.

        Args:
            steps: the steps that are stored.
            best: the step with the best score, which stays.
        """
        ordered = sorted(steps)
        if self.last is None:
            return []
        return [step for step in ordered[: -self.last] if step != best and (self.every is None or step % self.every)]


def delete_superseded(
    folder: RemoteFolder, retention: Retention, best: Callable[[Sequence[int]], int | None] = lambda _: None
) -> list[int]:
    """Delete the checkpoints of a run in a store that need not be kept, and return their steps. One with a live lease
    stays until a later call.

    Args:
        folder: the folder of the run in the store.
        retention: which ones are kept.
        best: returns the best one of some steps, if it is known.

    Raises:
        StorageError: if the store does not answer, or refuses.
    """
    if retention.last is None:
        return []
    names = {
        int(match.group(1)): name
        for name, _, file in (entry.path.partition("/") for entry in folder.list())
        if file == MANIFEST and (match := STEP_NAME.fullmatch(name))
    }
    return [step for step in retention.superseded(names, best(sorted(names))) if delete_checkpoint(folder, names[step])]


def delete_checkpoint(folder: RemoteFolder, name: str) -> bool:
    """Delete a checkpoint, unless it has a live lease, and say whether it was deleted.

    Args:
        folder: the folder of the run in the store.
        name: the name of the checkpoint.

    Raises:
        StorageError: if the store does not answer, or refuses.
    """
    if live_leases(folder, name):
        return False
    try:
        manifest = folder.read(f"{name}/{MANIFEST}")
    except NotStoredError:
        return False
    # The manifest goes first. A reader writes its lease first and looks for the manifest then, so that one of the two
    # sees the other.
    folder.delete([f"{name}/{MANIFEST}"])
    if live_leases(folder, name):
        folder.write(f"{name}/{MANIFEST}", manifest)
        return False
    entries = folder.list(name)
    # The manifest of the state for a resume goes before its files as well.
    folder.delete(sorted((entry.path for entry in entries), key=lambda path: not path.endswith(f"/{MANIFEST}")))
    logger.info("%s/%s: deleted, since later checkpoints are kept", folder.url, name)
    return True
