"""An object store: kept checkpoints are uploaded while the run goes on. Needs the extra ``store``."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from claf2.errors import ConfigError
from claf2.registry import LARGEST
from claf2.training.callbacks import Callback, CallbackSpec, RunInfo, check_installed, register_callback

if TYPE_CHECKING:
    import torch

    from claf2.storage.uploader import Uploader
    from claf2.training.state import State

__all__ = ["Upload"]

logger = logging.getLogger("claf2")


@register_callback("store")
class Upload(CallbackSpec):
    """Uploads each kept checkpoint in the background. Keys come from the environment or the usual files only."""

    url: str
    """Where the checkpoints are stored: `s3://bucket/run`, `gs://`, `az://`, or a folder; one for each run."""
    resumable: bool = False
    """Whether what a run is resumed from is uploaded as well, which takes about three times the room."""
    retain_last: int | None = Field(None, ge=1, le=LARGEST)
    """How many checkpoints stay in the store, the latest ones; `null`: all. The best one always stays."""
    retain_every: int | None = Field(None, ge=1, le=LARGEST)
    """Those after a multiple of so many steps stay for good."""
    flush_seconds: float = Field(300.0, ge=0, le=LARGEST)
    """How long the end of the run waits for uploads."""

    def check(self) -> None:
        check_installed("obstore", "store")
        from claf2.storage.objects import StorageError, open_folder

        try:
            open_folder(self.url)
        except StorageError as error:
            raise ConfigError("url", str(error)) from error
        if self.url.startswith(("http://", "https://")):
            raise ConfigError("url", "an http server can only be read", hint="use s3://, gs://, az:// or a folder")

    def build(self, run: RunInfo) -> Callback:
        return StoreUploader(run, self)


class StoreUploader(Callback):
    """Uploads the kept checkpoints of one run."""

    def __init__(self, run: RunInfo, spec: Upload) -> None:
        from claf2.notifications.events import Event
        from claf2.storage.retention import Retention
        from claf2.storage.uploader import Uploader, UploadOutbox

        self._run, self._spec = run, spec
        self._outbox = UploadOutbox(run.folder / "steps")
        retention = Retention(spec.retain_last, spec.retain_every)
        self._uploader: Uploader = Uploader(
            spec.url, retention, self._best_step,
            on_uploaded=lambda text: run.announce(Event("uploaded", text)),
            on_failure=lambda text: run.announce(Event("failed", text)),
        )  # fmt: skip
        self._has_begun = False

    def on_step(self, state: State, loss: torch.Tensor, learning_rate: float) -> None:
        if not self._has_begun:
            self._begin(state.step)

    def on_kept(self, state: State, folder: Path) -> None:
        try:
            waiting = self._outbox.add(folder, self._resume_files(state.step))
        except OSError as error:
            logger.warning("%s cannot be held until it is uploaded: %s", folder, error)
            waiting = folder
        self._uploader.add(waiting)

    def close(self) -> None:
        unsent = self._uploader.close(self._spec.flush_seconds)
        if unsent:
            logger.warning(
                "%d checkpoints are not uploaded; send them with claf2 push %s %s, or resume the run",
                len(unsent), self._run.folder, self._spec.url,
            )  # fmt: skip

    def _begin(self, step: int) -> None:
        """Queue what an earlier process of this run has kept, and may not have sent. Not before the first step: only
        then the checkpoints of a run that this one replaces are gone."""
        from claf2.storage.retention import Retention
        from claf2.training.kept_steps import list_steps, step_dir

        self._has_begun = True
        waiting = self._outbox.waiting()
        steps = [kept for kept in list_steps(self._run.folder) if kept < step]
        # What retention has deleted in the store is not sent again.
        superseded = Retention(self._spec.retain_last, self._spec.retain_every).superseded(
            steps, self._best_step(steps)
        )
        kept = [step_dir(self._run.folder, step) for step in steps if step not in superseded]
        held = {path.name for path in waiting}
        for path in (*waiting, *(folder for folder in kept if f".{folder.name}.upload" not in held)):
            self._uploader.add(path)

    def _resume_files(self, step: int) -> dict[str, Path]:
        """Return what a run is resumed from, if it is that of a step."""
        if not self._spec.resumable:
            return {}
        from claf2.training.checkpoint import last_dir, read_step

        folder = self._run.folder
        if not last_dir(folder).is_dir() or read_step(folder) != step:
            logger.warning(
                "step %d cannot be resumed from the store, because it is not evaluated; make keep_step_count a "
                "multiple of eval_and_save_step_count", step,
            )  # fmt: skip
            return {}
        names = ("last", "best", "predictions", "run.json", "config.json", "metrics.jsonl")
        return {name: folder / name for name in names if (folder / name).exists()}

    def _best_step(self, steps: Sequence[int]) -> int | None:
        """Return the one of some steps with the best score in the evaluations of the run so far."""
        path, best = self._run.folder / "metrics.jsonl", None
        scores = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            entry = json.loads(line)
            if entry["step"] in steps and entry.get(self._run.metric_key) is not None:
                scores[entry["step"]] = entry[self._run.metric_key]
        if scores:
            best = (min if self._run.lower_is_better else max)(scores, key=lambda step: scores[step])
        return best
