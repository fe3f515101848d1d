"""Leases: who uses a checkpoint in a store for a while, and who alone may write it.

A lease is an object with the seconds that it holds. It counts from the time at which the store says it was written, so
that clocks of machines do not matter. What a killed process leaves ends by itself.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from claf2.storage.objects import NotStoredError, RemoteFolder, StorageError, StoredObject, open_folder

__all__ = ["claim", "claimed", "creates_exclusively", "known_exclusive", "lease", "live_leases", "release"]

logger = logging.getLogger("claf2")

LEASES = ".leases"
"""The folder of a checkpoint that holds the leases of those who read it."""

CLAIM = ".claim"
"""The object of a folder that names who alone writes there."""

PROBE = ".claf2-probe"
"""The object that shows whether a store keeps the promise to create an object only if it is absent."""

KEPT = b"kept"

CLOCK = ".claf2-clock"
"""The object by which the clock of a store is read."""

SETTLE_SECONDS = 2.0
"""How long a claim must stand before it counts, where a store overwrites silently, or an ended claim is replaced."""

_answers: dict[str, bool] = {}


def creates_exclusively(folder: RemoteFolder) -> bool:
    """Say whether a store creates an object only if it is absent when it is asked to. It is tried once for a folder,
    and the object that is left there holds the answer.

    Args:
        folder: the folder at the URL of a run.

    Raises:
        StorageError: if the store does not answer.
    """
    known = _answers.get(folder.url)
    if known is None:
        # Both writes succeed where the header is ignored; the object then says so to everyone who reads it.
        known = not folder.create(PROBE, KEPT) or not folder.create(PROBE, b"overwritten")
        _answers[folder.url] = known
    return known


def known_exclusive(folder: RemoteFolder) -> bool | None:
    """Return the answer of ``creates_exclusively`` that an earlier writer has left; ``None``: there is none.

    Raises:
        StorageError: if the store does not answer.
    """
    try:
        return folder.read(PROBE) == KEPT
    except NotStoredError:
        return None


def _now(folder: RemoteFolder) -> float:
    """Return the time by the clock of a store."""
    folder.write(CLOCK, b"now")
    return folder.head(CLOCK).modified.timestamp()


def _ends(folder: RemoteFolder, entry: StoredObject) -> float | None:
    """Return when a lease ends, by the clock of the store; ``None`` if it is gone."""
    try:
        seconds = float(json.loads(folder.read(entry.path))["seconds"])
    except NotStoredError:
        return None
    except (ValueError, KeyError, TypeError):
        seconds = 0.0
    return (entry.modified + timedelta(seconds=seconds)).timestamp()


@contextmanager
def lease(url: str, seconds: float = 300.0) -> Iterator[None]:
    """Keep a checkpoint in its store while the block reads it: retention does not delete it. Several processes may hold
    leases of one checkpoint.

    The lease is renewed until the block ends. If the process is killed, it ends by itself.

    Args:
        url: the URL of the checkpoint.
        seconds: how long the lease outlives a process that is killed.

    Raises:
        StorageError: if the checkpoint does not exist any longer, or the store refuses the lease.
    """
    if url.startswith(("http://", "https://")):  # read only: nobody deletes by way of it
        yield
        return
    folder, path = open_folder(url), f"{LEASES}/{uuid.uuid4().hex}.json"
    content, ended = json.dumps({"seconds": seconds}).encode(), threading.Event()
    folder.write(path, content)

    def renew() -> None:
        while not ended.wait(seconds / 3):
            try:
                folder.head("manifest.json")
                folder.write(path, content)
            except NotStoredError:
                return  # deleted without a look at leases, e.g. by the run itself
            except StorageError as error:
                logger.warning("the lease of a checkpoint could not be renewed: %s", error)

    renewal = threading.Thread(target=renew, name="claf2-lease", daemon=True)
    try:
        # After the lease is written: whoever deletes a checkpoint looks for leases after the manifest is gone.
        try:
            folder.head("manifest.json")
        except NotStoredError as error:
            raise StorageError(f"{url}: no such checkpoint; it may have been deleted") from error
        renewal.start()
        yield
    finally:
        ended.set()
        if renewal.ident is not None:
            renewal.join()
        try:
            folder.delete([path])
        except StorageError as error:
            logger.warning("a lease could not be removed and ends in %.0f s: %s", seconds, error)


def live_leases(folder: RemoteFolder, path: str) -> int:
    """Return how many leases a checkpoint has, and delete those that have ended.

    Args:
        folder: the folder of the checkpoint's run.
        path: the checkpoint in it.

    Raises:
        StorageError: if the store does not answer.
    """
    entries = folder.list(f"{path}/{LEASES}")
    if not entries:
        return 0
    now, live = _now(folder), 0
    for entry in entries:
        ends = _ends(folder, entry)
        if ends is not None and ends > now:
            live += 1
        elif ends is not None:
            folder.delete([entry.path])
    return live


def claim(folder: RemoteFolder, path: str, owner: str, seconds: float) -> bool:
    """Try to become the only one who writes below a path, and say whether that succeeded. A claim of the same owner is
    renewed.

    Where a store overwrites silently, the claim must stand for ``SETTLE_SECONDS``, which excludes all but writers whose
    requests take longer than that.

    Args:
        folder: the folder of a run.
        path: what is written in it.
        owner: who writes; equal owners write equal bytes, and need not exclude each other.
        seconds: how long the claim outlives its owner.

    Raises:
        StorageError: if the store does not answer.
    """
    place, content = f"{path}/{CLAIM}", json.dumps({"owner": owner, "seconds": seconds}).encode()
    if creates_exclusively(folder) and folder.create(place, content):
        return True
    holder = _holder(folder, place)
    if holder is not None and holder != owner:
        return False
    folder.write(place, content)
    if holder is None:
        time.sleep(SETTLE_SECONDS)  # another one may have found the same
        content = folder.read(place)
        return bool(json.loads(content)["owner"] == owner)
    return True


@contextmanager
def claimed(folder: RemoteFolder, path: str, owner: str, seconds: float) -> Iterator[bool]:
    """Say whether this process has become the only one who writes below a path, and keep it so until the block ends.

    Args:
        folder: as in ``claim``.
        path: as in ``claim``.
        owner: as in ``claim``.
        seconds: as in ``claim``. The claim is renewed several times in this time.

    Raises:
        StorageError: if the store does not answer when the claim is made.
    """
    if not claim(folder, path, owner, seconds):
        yield False
        return
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(seconds / 4):
            try:
                claim(folder, path, owner, seconds)
            except StorageError as error:
                logger.warning("%s: its claim could not be renewed: %s", path, error)

    renewal = threading.Thread(target=renew, name="claf2-claim", daemon=True)
    renewal.start()
    try:
        yield True
    finally:
        ended.set()
        renewal.join()
        try:
            release(folder, path, owner)
        except StorageError as error:
            logger.debug("%s: its claim ends by itself: %s", path, error)


def release(folder: RemoteFolder, path: str, owner: str) -> None:
    """Give up a claim.

    Raises:
        StorageError: if the store does not answer.
    """
    place = f"{path}/{CLAIM}"
    if _holder(folder, place) == owner:
        folder.delete([place])


def _holder(folder: RemoteFolder, place: str) -> str | None:
    """Return who holds a claim that has not ended."""
    try:
        content, entry = json.loads(folder.read(place)), folder.head(place)
        owner, seconds = str(content["owner"]), float(content["seconds"])
    except NotStoredError:
        return None
    except (ValueError, KeyError, TypeError):
        return None
    ends = (entry.modified + timedelta(seconds=seconds)).timestamp()
    return owner if ends > _now(folder) else None
