"""The checkpoints of a run: `best/` for use, `last/` for an exact resume. Both are replaced whole, with digests."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from claf2.adapters.layers.stored import ADAPTER_DIR, frozen_digest, save_adapted, write_adapter
from claf2.errors import RunError
from claf2.evaluation.predictions import write_predictions
from claf2.evaluation.report import Report
from claf2.models.encoder import EncoderWithHeads
from claf2.runtime import distributed
from claf2.runtime.files import DIGESTS, check_digests, read_json, replace_dir_atomic, sha256, write_json
from claf2.runtime.seed import derive_seed, get_rng_state, set_rng_state
from claf2.tokenizers import Tokenizer
from claf2.training.kept_steps import KeptSteps, list_steps, remove_step, step_dir, write_manifest
from claf2.training.shards import load_shards, save_shards
from claf2.training.state import State

if TYPE_CHECKING:
    from claf2.models.sentence_modules import SentenceModules

__all__ = [
    "CheckpointManager", "best_dir", "check_best", "last_dir", "read_state", "read_step", "save_task_model",
    "task_best_dir",
]  # fmt: skip


BASE = "base.json"
"""The file of `last/` with the digest of the frozen weights."""


def best_dir(run_dir: Path, task: str | None) -> Path:
    """Return the folder of a run's best checkpoint; ``task`` names one of several tasks."""
    return run_dir / "best" if task is None else run_dir / "best" / task


def task_best_dir(run_dir: Path, task: str, tasks: Collection[str]) -> Path:
    """Return the folder of a task's best checkpoint: `best/`, or `best/<task>/` where the run has several tasks."""
    return best_dir(run_dir, task if len(tasks) > 1 else None)


def last_dir(run_dir: Path) -> Path:
    """Return the folder that holds what a resume needs."""
    return run_dir / "last"


def read_step(run_dir: Path) -> int:
    """Return the steps that are done when a run is resumed; 0 where it has no checkpoint."""
    return read_state(run_dir).step


def read_state(run_dir: Path) -> State:
    """Return where a run stands when it is resumed; at its start where it has no checkpoint."""
    last = last_dir(run_dir)
    last = last if last.exists() else last.with_name(f".{last.name}.old")  # a replacement was interrupted
    return State(**read_json(last / "state.json")) if last.exists() else State()


def check_best(run_dir: Path, tasks: Collection[str]) -> None:
    """Check that the best checkpoint of each task of a run is whole.

    Raises:
        RunError: naming the file that is missing or has changed.
    """
    for task in tasks:
        folder = task_best_dir(run_dir, task, tasks)
        try:
            check_digests(folder)
        except RunError as error:
            raise RunError(f"{error}; train again with --overwrite") from error


class CheckpointManager:
    """Writes and reads the checkpoints of one run.

    Args:
        run_dir: the folder of the run.
        model: its weights are saved, and restored in place.
        tokenizer: stored beside the weights of `best/`.
        optimizer: its state is saved, and restored in place.
        scaler: its state is saved, and restored in place.
        digests: what the weights depend on; the manifests of kept steps record it.
        sentences: task → how its model makes the vector of a text, for sentence encoders.
        saves_finished: whether ``save_last`` saves the state of a finished run as well, from which nothing is resumed.
    """

    def __init__(
        self,
        run_dir: Path,
        model: EncoderWithHeads,
        tokenizer: Tokenizer,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        *,
        digests: Mapping[str, Any] | None = None,
        sentences: Mapping[str, SentenceModules] | None = None,
        saves_finished: bool = True,
    ) -> None:
        self._run_dir = run_dir
        self._model = model
        self._tokenizer = tokenizer
        self._optimizer = optimizer
        self._scaler = scaler
        self._digests = dict(digests or {})
        self._sentences = dict(sentences or {})
        self._saves_finished = saves_finished
        self._frozen: str | None = None

    def save_best(self, report: Report, tasks: Collection[str] | None = None) -> None:
        """Save each task's model as `transformers` does, in `best/`, or in `best/<task>/` where there are several, and
        its predictions."""
        for task in self._model.names if tasks is None else tasks:
            fill = partial(self._save_task, task)
            folder = task_best_dir(self._run_dir, task, self._model.names)
            with _translated_errors(folder):
                replace_dir_atomic(folder, fill)
        if distributed.is_main():
            write_predictions(self._run_dir, report, tasks)

    def save_last(self, state: State) -> None:
        """Save weights, optimizer, every process's generators, and the position in the data."""
        if state.finished and not self._saves_finished:
            return
        rng_states = distributed.all_gather(get_rng_state())

        frozen = self._frozen_digest()
        if distributed.is_main():
            state.best_files = self._best_files()

        def fill(target: Path) -> None:
            save_shards(target, self._model, self._optimizer)
            if distributed.is_main():
                if frozen is not None:
                    write_json(target / BASE, {"frozen": frozen})
                torch.save({"scaler": self._scaler.state_dict(), "generators": rng_states}, target / "training.pt")
                write_json(target / "state.json", dataclasses.asdict(state))

        with _translated_errors(last_dir(self._run_dir)):
            replace_dir_atomic(last_dir(self._run_dir), fill)

    def save_step(self, step: int, kept_steps: KeptSteps) -> Path:
        """Keep each task's model in `steps/step-…/`, or in `steps/step-…/<task>/` where there are several, and return
        the folder."""
        several = len(self._model.names) > 1

        def fill(target: Path) -> None:
            for task in self._model.names:
                self._save_task(task, target / task if several else target)
            if distributed.is_main():
                write_manifest(target, step, self._digests)

        folder = step_dir(self._run_dir, step)
        with _translated_errors(folder):
            replace_dir_atomic(folder, fill)
            if distributed.is_main():
                for superseded in kept_steps.superseded(list_steps(self._run_dir)):
                    remove_step(self._run_dir, superseded)
        return folder

    def _save_task(self, task: str, folder: Path) -> None:
        """Write one task's model into a folder."""
        save_task_model(self._model, self._tokenizer, task, folder, base=self._digests.get("weights"))
        if task in self._sentences and distributed.is_main():
            head: Any = self._model.head(task)
            self._sentences[task].write(folder, head.config.hidden_size)

    def resume(self) -> State:
        """Restore weights, optimizer and generators from `last/`, and return the state of the loop. Kept steps that
        come after it are deleted: the steps are repeated, perhaps with different results.

        Raises:
            RunError: when the checkpoint is damaged.
        """
        last = last_dir(self._run_dir)
        try:
            check_digests(last)
        except RunError as error:
            raise RunError(f"{error}; best/ can still be used, or start again with --overwrite") from error
        stored = read_json(last / BASE) if (last / BASE).is_file() else {}
        if stored.get("frozen") != self._frozen_digest():
            raise RunError(
                f"{last}: what it has trained belongs to other frozen weights than those of this model; restore the "
                "model, or start again with --overwrite"
            )
        try:
            load_shards(last, self._model, self._optimizer)
            training = torch.load(last / "training.pt", weights_only=True)
        except SafetensorError as error:
            raise RunError(f"{last}: damaged: {error}; start again with --overwrite") from error
        if training["scaler"]:
            self._scaler.load_state_dict(training["scaler"])
        state = State(**read_json(last / "state.json"))
        if distributed.is_main():
            for step in list_steps(self._run_dir):
                if step > state.step:
                    remove_step(self._run_dir, step)
        rng_states = training["generators"]
        if len(rng_states) == distributed.world_size():
            set_rng_state(rng_states[distributed.rank()])
        else:
            # There is no generator state for another number of processes, so dropout continues from a fresh seed.
            torch.manual_seed(derive_seed(state.step, "resumed", distributed.world_size(), distributed.rank()))
        return state

    def _best_files(self) -> dict[str, str]:
        """Return the digest of the files of each task's best checkpoint, where there is one."""
        names = self._model.names
        folders = {task: task_best_dir(self._run_dir, task, names) for task in names}
        return {task: sha256(folder / DIGESTS) for task, folder in folders.items() if (folder / DIGESTS).is_file()}

    def replaced_best(self, state: State) -> list[str]:
        """Return the tasks whose best checkpoint was replaced after ``state`` was saved, before the run was killed."""
        now = self._best_files()
        return [task for task, files in state.best_files.items() if now.get(task, files) != files]

    def _frozen_digest(self) -> str | None:
        """Return the digest of the frozen weights, which `last/` does not hold; ``None`` where there is no adapter."""
        if self._model.adapted is None:
            return None
        if self._frozen is None:
            self._frozen = frozen_digest(self._model)
        return self._frozen


@contextmanager
def _translated_errors(folder: Path) -> Iterator[None]:
    """Raise what the libraries raise when a checkpoint cannot be written, e.g. on a full disk, as a ``RunError``."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as error:
        reasons = [failure for failure, _ in error.failures.values()]
        if not all(isinstance(reason, OSError) for reason in reasons):
            raise
        reason: BaseException = reasons[0]
    except (OSError, SafetensorError) as error:
        reason = error
    except RuntimeError as error:
        if "PytorchStreamWriter" not in str(error) and "inline_container" not in str(error):
            raise
        reason = error
    else:
        return
    text = reason.strerror or str(reason) if isinstance(reason, OSError) else str(reason)
    hint = "the earlier checkpoints are kept; make room and add --resume"
    raise RunError(f"{folder}: cannot be saved: {text}; {hint}") from reason


def _effective_weights(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the names and values of a module's weights as `transformers` knows them: of a parametrized weight, such as
    one with a low-rank update, what the forward pass computes from its parts."""
    for name, tensor in module.state_dict().items():
        if ".parametrizations." not in name:
            yield name, tensor
    for prefix, parent in module.named_modules():
        for name in getattr(parent, "parametrizations", ()):
            yield f"{prefix}.{name}", getattr(parent, name).detach()


def save_task_model(
    model: EncoderWithHeads, tokenizer: Tokenizer, task: str, folder: Path, *, base: str | None = None
) -> None:
    """Write one task's model and the tokenizer into ``folder``, so that `transformers` loads them without claf2. With
    an adapter, what is trained is written beside; where it cannot be merged, only claf2 loads the model.

    All processes call this together; the main process writes the gathered weights.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        task: the task.
        folder: is made where it is missing.
        base: the digest of the weights that the training began with.
    """
    head: Any = model.head(task)
    with model.merged():
        weights = _gather(_effective_weights(head))
        if distributed.is_main():
            folder.mkdir(parents=True, exist_ok=True)
            if model.adapted is None or model.adapted.adapter.can_merge:
                head.save_pretrained(folder, state_dict=weights)
            else:
                save_adapted(head, weights, folder)
            tokenizer.save(folder)
    if model.adapted is not None:
        trained = _gather((name, tensor) for name, tensor in head.named_parameters() if tensor.requires_grad)
        if distributed.is_main():
            write_adapter(head, model.adapted, trained, folder / ADAPTER_DIR, base)


def _gather(named: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the whole of each tensor on the main process; on others, nothing."""
    weights = {}
    for name, tensor in named:
        gathered = distributed.full_tensor(tensor.detach())
        if distributed.is_main():
            weights[name] = gathered.cpu()
    return weights
