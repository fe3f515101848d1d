"""Checkpoints in object stores, and models on the hub: ``claf2 push``, ``claf2 pull`` and ``claf2 ls``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import click

from claf2.cli.options import PATH
from claf2.errors import RunError

if TYPE_CHECKING:
    from claf2.storage.checkpoints import StoredCheckpoint

__all__ = ["ls_command", "pull_command", "push_command"]

HUB = "hub:"
ARCHIVE = ".tar.gz"


@click.command("push", epilog="""\b
Examples:
  claf2 push logs/pretrain s3://bucket/run
  claf2 push logs/pretrain/steps/step-000100000 s3://bucket/run
  claf2 push logs/klue/korquad s3://bucket/models/korquad.tar.gz
  claf2 push logs/klue/korquad hub:my-name/korquad-bert --license cc-by-sa-4.0
  claf2 push logs/run hub:my-name/rte-bert --task rte --public
""")  # fmt: skip
@click.argument("folder", metavar="RUN|STEP", type=PATH)
@click.argument("target", metavar="URL|hub:ORG/NAME")
@click.option("--task", metavar="NAME", help="One of the run's tasks, if it has several.")
@click.option("--license", "licence", metavar="ID", help="The licence of the weights, as the hub names it.")
@click.option("--public", is_flag=True, help="Make a newly created repository public; by default it is private.")
@click.option("--revision", metavar="BRANCH", help="The branch to push to.  [default: the main branch]")
@click.option("--message", metavar="TEXT", help="The commit message.")
def push_command(
    folder: Path, target: str, task: str | None, licence: str | None, public: bool, revision: str | None,
    message: str | None,
) -> None:  # fmt: skip
    """Upload the kept checkpoints of a run to a store, or its best one to the Hugging Face hub.

    A store is named by a URL (s3://, gs://, az://, file://) or a folder. Checkpoints that are there already are not
    sent again. With a URL that ends in .tar.gz, the best checkpoint, or the one named, is stored as one archive. For
    the hub, log in with hf auth login first, or set HF_TOKEN.
    """
    if target.startswith(HUB):
        from claf2.runs.hub import push

        url = push(folder, target, task=task, licence=licence, private=not public, revision=revision, message=message)
        click.echo(url)
        return
    for option, value in (("license", licence), ("public", public), ("revision", revision), ("message", message)):
        if value:
            raise RunError(f"--{option}: can only be used with {HUB}ORG/NAME; leave it out")
    if target.endswith(ARCHIVE):
        _push_archive(folder, target, task)
    elif task is not None:
        raise RunError("--task: a kept checkpoint holds all tasks; leave it out, or give a URL that ends in .tar.gz")
    else:
        _push_steps(folder, target)


def _push_archive(folder: Path, target: str, task: str | None) -> None:
    from claf2.storage.archive import push_archive

    model = folder if task is None else folder / task
    if (folder / "run.json").is_file():
        from claf2.runs.hub import model_dir

        model = model_dir(folder, task)
    size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
    with _progress("uploading", size) as sent:
        url = push_archive(model, target, sent=sent)
    click.echo(url)


def _push_steps(folder: Path, target: str) -> None:
    from claf2.runtime.files import lock_dir
    from claf2.storage.checkpoints import push_checkpoint
    from claf2.storage.objects import open_folder
    from claf2.storage.uploader import UploadOutbox, send_held
    from claf2.training.kept_steps import list_steps, step_dir

    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; name a run, or one of its kept checkpoints")
    steps = [step_dir(folder, step) for step in list_steps(folder)]
    held = UploadOutbox(folder / "steps").waiting() if (folder / "steps").is_dir() else []
    if not steps and not held:
        steps = [folder]  # a kept step itself, or what is then said to be none
    size = sum(path.stat().st_size for step in (*steps, *held) for path in step.rglob("*") if path.is_file())
    with _progress("uploading", size) as sent:
        if held:  # what the run could not send before it ended; while it goes on, it does so itself
            with lock_dir(folder):
                for waiting in held:
                    send_held(waiting, open_folder(target), sent=sent)
                    shutil.rmtree(waiting, ignore_errors=True)
        for step in steps:
            click.echo(push_checkpoint(step, target, sent=sent))


@click.command("pull", epilog="""\b
Examples:
  claf2 pull s3://bucket/run/step-000100000
  claf2 pull s3://bucket/run/step-000100000 --to step-000100000
  claf2 pull s3://bucket/run/step-000100000 --run logs/again
""")  # fmt: skip
@click.argument("url", metavar="URL")
@click.option("--to", "target", metavar="FOLDER", type=PATH, help="Write the files there, instead of into the cache.")
@click.option("--run", "run_dir", metavar="FOLDER", type=PATH, help="Restore the folder of the run, to resume it.")
def pull_command(url: str, target: Path | None, run_dir: Path | None) -> None:
    """Download a checkpoint, compare it with its manifest, and print its folder.

    With --run, the folder of the run is restored as it was after that step, if its store block is resumable. It is
    continued with claf2 train --base_config FOLDER/config.json --log_dir FOLDER --resume, on any number of processes.
    """
    from claf2.storage.checkpoints import pull_checkpoint, stored_size
    from claf2.storage.resume import RESUME, restore_run

    if target is not None and run_dir is not None:
        raise RunError("--to and --run cannot be combined; give one of them")
    if run_dir is not None:
        with _progress("downloading", stored_size(url) + stored_size(f"{url.rstrip('/')}/{RESUME}")) as received:
            restore_run(url, run_dir, received=received)
        click.echo(run_dir)
        return
    from claf2.runtime.files import default_cache_dir

    if target is not None and target.exists():
        raise RunError(f"{target}: exists already; give another folder")
    with _progress("downloading", stored_size(url)) as received:
        folder = pull_checkpoint(url, default_cache_dir(), received=received)
    if target is not None:
        folder = Path(shutil.copytree(folder, target, ignore=shutil.ignore_patterns("sha256.json")))
    click.echo(folder)


@click.command("ls", epilog="""\b
Examples:
  claf2 ls s3://bucket/run
  claf2 ls logs/pretrain/steps --json
""")  # fmt: skip
@click.argument("url", metavar="URL")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls_command(url: str, as_json: bool) -> None:
    """List the complete checkpoints of a run in a store."""
    from claf2.storage.checkpoints import list_checkpoints
    from claf2.storage.leases import known_exclusive
    from claf2.storage.objects import open_folder
    from claf2.storage.resume import RESUME

    checkpoints, folder = list_checkpoints(url), open_folder(url)
    local = folder.local_path
    if local is not None and not local.is_dir():
        raise RunError(f"{url}: no such folder; correct the name")
    resumable = {entry.path.split("/")[0] for entry in folder.list() if entry.path.endswith(f"/{RESUME}/manifest.json")}
    rows = [_row(checkpoint, resumable) for checkpoint in checkpoints]
    exclusive = known_exclusive(folder)
    if as_json:
        click.echo(json.dumps({"checkpoints": rows, "creates_exclusively": exclusive}, ensure_ascii=False, indent=2))
        return
    for row in rows:
        size, resumes = f"{row['bytes'] / 1e6:,.1f} MB", "resumable" if row["resumable"] else ""
        click.echo(f"{row['step']:>12,}  {size:>13}  {resumes:9}  {row['url']}")
    if not rows:
        click.echo(f"no complete checkpoints in {url}", err=True)
    if exclusive is False:
        click.echo(
            "this server overwrites objects that must be created only once: do not let two runs write here", err=True
        )


def _row(checkpoint: StoredCheckpoint, resumable: set[str]) -> dict[str, Any]:
    name = checkpoint.url.rpartition("/")[2]
    return {
        "step": checkpoint.step,
        "bytes": checkpoint.size,
        "files": len(checkpoint.manifest["files"]),
        "resumable": name in resumable,
        "url": checkpoint.url,
    }


@contextmanager
def _progress(task: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many bytes are done, and the time left."""
    from claf2.runs.progress import show_progress

    done, lock = 0, Lock()
    with show_progress(task, total, "B") as progress:

        def add(count: int) -> None:
            nonlocal done
            with lock:  # several files are sent at once
                done += count
                progress.update(done)

        yield add
