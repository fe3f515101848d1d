"""What a run is resumed from, beside a checkpoint in a store, and how it becomes the folder of a run again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from claf2.errors import RunError
from claf2.runtime.files import sha256, write_json
from claf2.storage.checkpoints import MANIFEST, download_files, parse_manifest
from claf2.storage.leases import lease
from claf2.storage.objects import NotStoredError, StorageError, join_url, open_folder

__all__ = ["RESUME", "restore_run", "write_resume_manifest"]

RESUME = "resume"
"""The folder of a checkpoint in a store with what a run is resumed from."""


def write_resume_manifest(folder: Path, checkpoint: Path) -> None:
    """Write the manifest of what a run is resumed from, unless it is there.

    Args:
        folder: the files.
        checkpoint: the folder of the checkpoint that they belong to.
    """
    if (folder / MANIFEST).exists():
        return
    files = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    step = json.loads((checkpoint / MANIFEST).read_bytes())["step"]
    write_json(folder / MANIFEST, {"step": step, "files": files})


def restore_run(url: str, run_dir: Path, *, received: Callable[[int], None] = lambda _: None) -> None:
    """Make the folder of a run from a checkpoint in a store, as the run left it after that step.

    Args:
        url: the URL of the checkpoint.
        run_dir: the folder, which must not exist yet, or be empty.
        received: called with the numbers of bytes that are received.

    Raises:
        RunError: if there is something in the folder.
        StorageError: if the store has no such checkpoint, nothing to resume it from, or damaged files.
    """
    if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise RunError(f"{run_dir}: is not empty; give a new folder")
    new = run_dir.with_name(f".{run_dir.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    with lease(url):
        kept = _manifest(url)
        files = _manifest(join_url(url, RESUME))["files"]
        try:
            new.mkdir(parents=True)
            download_files(open_folder(join_url(url, RESUME)), files, new, received)
            step = new / "steps" / url.rstrip("/").rpartition("/")[2]
            step.mkdir(parents=True)
            download_files(open_folder(url), kept["files"], step, received)
            write_json(step / MANIFEST, kept)
            if run_dir.exists():
                run_dir.rmdir()
            os.replace(new, run_dir)
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _manifest(url: str) -> dict[str, Any]:
    try:
        return parse_manifest(open_folder(url).read(MANIFEST), join_url(url, MANIFEST))
    except NotStoredError as error:
        checkpoint = url.removesuffix(f"/{RESUME}")
        if checkpoint == url:
            raise StorageError(f"{url}: no complete checkpoint there") from error
        raise StorageError(
            f"{checkpoint}: nothing to resume from is stored with it; train with runtime.callbacks.store.resumable"
        ) from error
