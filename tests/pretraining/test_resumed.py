"""Pre-trainings that are resumed with other phases, or after a kill between a kept step and the next evaluation."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pretraining_runs import outcome, train_until

from claf2 import config
from claf2.errors import ChangedError, Claf2Error, Interrupted, RunError
from claf2.runs.changes import check_resumable
from claf2.runs.explain import explain
from claf2.runs.explanation_text import format_explanation
from claf2.runs.prepare import prepare
from claf2.runs.resolve import resolve
from claf2.runs.train import train
from claf2.training import loop
from claf2.training.callbacks import Callback
from claf2.training.checkpoint import CheckpointManager
from claf2.training.kept_steps import KeptSteps, list_steps, remove_step, step_dir
from claf2.training.state import State

Words = Callable[..., list[str]]
NAME = "scratch/pretrain"
KEPT = ("--keep_step_count", "3")


def phase(until: int) -> dict[str, int]:
    return {"until": until, "batch_size": 8, "max_seq_length": 24}


def test_phases_must_end_after_the_steps_that_are_done(
    words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        train_until(config.load(NAME, words(phases=[phase(12)])), 6, monkeypatch)
    for end in (4, 6):
        with pytest.raises(ChangedError, match=f"phases now end at step {end}, but 6 steps are done"):
            train(config.load(NAME, words(phases=[phase(end)])), resume=True)
    with pytest.raises(ChangedError, match="experiment has changed"):
        train(config.load(NAME, words("--learning_rate", "0.1", phases=[phase(8)])), resume=True)
    # Which steps are kept may change with the phases, since it changes no weight.
    train(config.load(NAME, words("--keep_step_count", "4", "--keep_last", "1", phases=[phase(8)])), resume=True)
    assert list_steps(tmp_path / "run") == [8]


def test_an_equal_config_with_another_digest_is_refused() -> None:
    before: dict[str, Any] = {"experiment": "a", "config": {"trainer": {"num_steps": 4}}}
    for config_now in ({"trainer": {"num_steps": 4}}, {"trainer": {"num_steps": 8}}):
        with pytest.raises(ChangedError, match="experiment has changed"):
            check_resumable(before, {"experiment": "b", "config": config_now}, lambda: 2)


def test_another_trainer_is_refused() -> None:
    before: dict[str, Any] = {"experiment": "a", "config": {"trainer": {"pretrain": {"phases": [phase(8)]}}}}
    with pytest.raises(ChangedError, match="experiment has changed"):
        check_resumable(before, {"experiment": "b", "config": {"trainer": {}}}, lambda: 2)


class Stop(Exception):
    """Ends a run as a crash would."""


@pytest.mark.parametrize("killed_after", [6, 9])
def test_kept_steps_after_a_kill_are_those_of_a_whole_run(
    killed_after: int, words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation comes after more steps than a kept step does, so several are taken again."""
    more = (*KEPT, "--keep_last", "2", "--eval_and_save_step_count", "5")
    train(config.load(NAME, words(*more, "--log_dir", str(tmp_path / "whole"))))
    experiment = config.load(NAME, words(*more, "--log_dir", str(tmp_path / "cut")))
    save_step = CheckpointManager.save_step

    def dying(self: CheckpointManager, step: int, kept_steps: KeptSteps) -> None:
        save_step(self, step, kept_steps)
        if step == killed_after:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointManager, "save_step", dying)
        with pytest.raises(Stop):
            train(experiment)
    assert killed_after in list_steps(tmp_path / "cut")
    # Steps of other phases, which would stay in the way of those that come.
    later = step_dir(tmp_path / "cut", killed_after)
    for step in (98, 99):
        shutil.copytree(later, step_dir(tmp_path / "cut", step))
    train(experiment, resume=True)
    assert list_steps(tmp_path / "cut") == list_steps(tmp_path / "whole") == [9, 12]
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


def test_a_kill_while_a_step_is_deleted_leaves_a_run_that_is_resumed(
    words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the step is taken again, because it comes after the last evaluation."""
    more = ("--keep_step_count", "2", "--keep_last", "1", "--eval_and_save_step_count", "8")
    experiment = config.load(NAME, words(*more))
    delete = shutil.rmtree

    def dying(path: Any, *args: Any, **kwargs: Any) -> None:
        # Half of a folder is deleted when the kill comes.
        if "step-000000010" in str(path) and Path(path).is_dir() and not kwargs.get("ignore_errors"):
            (Path(path) / "manifest.json").unlink()
            raise Stop
        delete(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("claf2.training.kept_steps.shutil.rmtree", dying)
        with pytest.raises(Stop):
            train(experiment)
    train(experiment, resume=True)
    assert [path.name for path in (tmp_path / "run/steps").iterdir()] == ["step-000000012"]


def test_leftovers_do_not_stand_in_the_way_of_a_removal(tmp_path: Path) -> None:
    for folder in ("step-000000003", ".step-000000003.new"):
        (tmp_path / "steps" / folder).mkdir(parents=True)
        (tmp_path / "steps" / folder / "manifest.json").write_text("{}")
    remove_step(tmp_path, 3)
    assert not list((tmp_path / "steps").iterdir())


def test_a_step_that_cannot_be_deleted_is_an_error_of_the_run(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run_dir: Path, step: int) -> None:
        raise PermissionError(13, "Permission denied", str(step_dir(run_dir, step)))

    monkeypatch.setattr("claf2.training.checkpoint.remove_step", refuse)
    with pytest.raises(RunError, match=r"cannot be saved: Permission denied.*--resume"):
        train(config.load(NAME, words(*KEPT, "--keep_last", "1")))


def test_copies_beside_kept_steps_are_left_alone(words: Words, tmp_path: Path) -> None:
    train(config.load(NAME, words(*KEPT)))
    steps = tmp_path / "run/steps"
    for name in ("step-000000003-copy", "step-copy", "step-3"):
        shutil.copytree(steps / "step-000000003", steps / name)
    assert list_steps(tmp_path / "run") == [3, 6, 9, 12]
    train(config.load(NAME, words()), overwrite=True)
    assert sorted(path.name for path in steps.iterdir()) == ["step-000000003-copy", "step-3", "step-copy"]


def test_no_step_is_kept_after_a_loss_that_is_not_finite(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the loop does not read the loss after every step, but does so before it keeps one."""
    given = words(*KEPT, "--eval_and_save_step_count", "12", "--verbose_step_count", "100")
    prepared = prepare(*resolve(config.load(NAME, given)))
    kept: list[int] = []
    losses = iter([1.0] * 4 + [math.nan] * 8)
    monkeypatch.setattr(loop, "_accumulate_gradients", lambda *_: (torch.tensor(next(losses)), 1, False))
    monkeypatch.setattr(prepared.model, "device", SimpleNamespace(type="cuda"))
    zeros = torch.zeros
    monkeypatch.setattr(loop.torch, "zeros", lambda *size, **_: zeros(*size))
    optimizer = torch.optim.SGD(prepared.model.parameters(), 0.1)
    checkpointer: Any = SimpleNamespace(save_step=lambda step, _: kept.append(step))
    context = prepared.training_context(
        optimizer=optimizer, state=State(), evaluate=lambda: pytest.fail("evaluated"), checkpointer=checkpointer,
        callback=Callback(), interrupted=lambda: False,
    )  # fmt: skip
    with pytest.raises(Claf2Error, match="became nan at step 6"):
        loop.fit(context)
    assert kept == [3]


def test_a_finished_pretraining_is_explained(words: Words) -> None:
    train(config.load(NAME, words()))
    explanation = explain(config.load(NAME, words()), steps=1, resume=True)
    assert explanation["pretraining"]["flops"] == 0
    assert "0 %" in format_explanation(explanation)


def test_evaluations_that_are_left_are_counted(words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three in all, of which two are left after six steps."""
    counts: list[int] = []
    monkeypatch.setattr("claf2.runs.explain.pretraining_costs", lambda *given: counts.append(given[2]) or Stop)
    for resumed in (False, True):
        if resumed:
            with pytest.raises(Interrupted):
                train_until(config.load(NAME, words()), 6, monkeypatch)
        with pytest.raises(TypeError):
            explain(config.load(NAME, words()), steps=0, resume=resumed)
    assert counts == [3, 2]
