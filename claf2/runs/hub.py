"""The Hugging Face hub: a run's best checkpoint becomes a model repository."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from claf2.errors import RunError
from claf2.runs.folder import check_readable, is_finished
from claf2.runs.provenance import read_provenance
from claf2.training.checkpoint import best_dir

__all__ = ["model_dir", "push"]

logger = logging.getLogger("claf2")

SCHEME = "hub:"


def push(
    run_dir: str | os.PathLike[str],
    target: str,
    *,
    task: str | None = None,
    licence: str | None = None,
    private: bool = True,
    revision: str | None = None,
    message: str | None = None,
) -> str:
    """Upload the best checkpoint of a finished run, with its model card, and return the URL of the commit.

    Args:
        run_dir: the folder of the run.
        target: ``hub:ORG/NAME``; the repository is created if it does not exist.
        task: one of several tasks, each of which has weights of its own.
        licence: the licence of the weights, by the hub's name for it, e.g. ``cc-by-sa-4.0``; by default that of the
            model card.
        private: whether a repository that is made can be seen by its owners only.
        revision: a branch of the repository; by default its main one.
        message: the message of the commit.

    Raises:
        RunError: when the run is not finished, a file of the checkpoint has changed, or the hub rejects the upload.
    """
    run_dir = Path(run_dir)
    from huggingface_hub import CommitOperationAdd, HfApi, ModelCard

    repository = target.removeprefix(SCHEME)
    if not target.startswith(SCHEME) or repository.count("/") != 1:
        raise RunError(f"{target}: not a repository of the hub; write hub:ORG/NAME")
    folder = model_dir(run_dir, task)
    card = ModelCard.load(folder / "README.md")
    if licence is not None:
        card.data.license = licence
    elif card.data.license is None:
        logger.warning("the model card states no licence; add one with --license, e.g. --license cc-by-sa-4.0")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "README.md"]
    operations = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in files]
    operations.append(CommitOperationAdd("README.md", str(card).encode()))
    api, message = HfApi(), message or f"{run_dir.name}, trained by claf2"
    with _translated_errors(target, folder / "README.md"):
        api.create_repo(repository, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        commit = api.create_commit(repository, operations, commit_message=message, revision=revision)
    return str(commit.commit_url)


@contextmanager
def _translated_errors(target: str, card: Path) -> Iterator[None]:
    """Raise what the hub and its library refuse as a ``RunError`` that names the way out."""
    # HTTPError is not exported, but its own home (httpx, httpx2) depends on the version of the library.
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError  # type: ignore[attr-defined]

    try:
        yield
    except HFValidationError as error:
        raise RunError(f"{target}: not a valid repository name: {error}") from error
    except ValueError as error:
        raise RunError(f"{card}: the hub rejects its metadata: {error}; correct it and push again") from error
    except HfHubHTTPError as error:
        hint = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"
        raise RunError(f"{target}: cannot be pushed: {error}; {hint}") from error
    except (OSError, HTTPError, RuntimeError) as error:  # the last: an upload that broke off
        raise RunError(f"{target}: the hub cannot be reached: {error}; push again later") from error


def model_dir(run_dir: Path, task: str | None) -> Path:
    """Return the folder of a finished run's best checkpoint.

    Args:
        run_dir: the folder of the run.
        task: one of several tasks.

    Raises:
        RunError: if the run is not finished or has no such task, or a file of the checkpoint has changed.
    """
    if not is_finished(run_dir):
        raise RunError(f"{run_dir} holds no finished run: finish it with --resume first")
    tasks = list(read_provenance(run_dir)["config"].get("tasks", ()))
    several = tasks if len(tasks) > 1 else []
    if task is not None and task not in several:
        known = f"give one of {', '.join(several)}" if several else "leave --task out, since the run has one task"
        raise RunError(f"{run_dir} has no weights of task {task!r}: {known}")
    if several and task is None:
        raise RunError(f"{run_dir} has several tasks: give one of {', '.join(several)} with --task")
    folder = best_dir(run_dir, task)
    check_readable(run_dir, folder)
    return folder
