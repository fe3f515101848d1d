"""The callback ``notify`` in real runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

import claf2
from claf2.cli.main import main
from claf2.errors import Claf2Error, ConfigError, Interrupted
from claf2.notifications.events import Event
from claf2.notifications.notifier import open_notifier
from claf2.task import shipped_dir
from claf2.training.callbacks import callbacks

from .conftest import SECRET, HttpReceiver

STEPS = 6


class Announcer(claf2.CallbackSpec):
    """Announces an upload at each kept step, and interrupts the run at a step."""

    interrupt_at: int | None = Field(None, ge=1, le=100)

    def build(self, run: claf2.RunInfo) -> claf2.Callback:
        spec = self

        class Announcing(claf2.Callback):
            def on_step(self, state: Any, loss: Any, learning_rate: float) -> None:
                if state.step == spec.interrupt_at:
                    signal.raise_signal(signal.SIGTERM)

            def on_report(self, state: Any, report: Any, logs: Any) -> None:
                run.announce(Event("uploaded", f"step {state.step} uploaded"))

        return Announcing()


callbacks.add("announcer", Announcer, origin=__name__)


@pytest.fixture
def words(tmp_path: Path, model_folder: Callable[..., Path]) -> list[str]:
    """The words of a short run in ``tmp_path / "run"`` with all notifications."""
    return [
        "--log_dir", str(tmp_path / "run"), "--pretrained_model_name", str(model_folder()),
        "--num_steps", str(STEPS), "--eval_and_save_step_count", "3", "--verbose_step_count", "2",
        "--notify.on", '["kept", "uploaded", "result", "failed", "finished"]',
    ]  # fmt: skip


def load(words: list[str], *more: str) -> claf2.Experiment:
    return claf2.load("scratch/nsmc", sample=True, argv=[*words, *more])


def assert_no_secret(folder: Path) -> None:
    for path in folder.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_a_run_tells_what_happens(receiver: HttpReceiver, words: list[str], tmp_path: Path) -> None:
    claf2.train(load(words, "--runtime.callbacks.announcer", "{}"))
    text = "\n".join(receiver.texts)
    scores = [json.loads(line)["valid/accuracy"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert f"step 3: valid/accuracy {scores[0]:.4g}, the best so far; ETA" in text
    assert f"step 6: valid/accuracy {scores[1]:.4g}, {scores[1] - scores[0]:+.2g} since step 3" in text
    assert text.count("step 6 uploaded") == 1
    assert text.count(f"finished after step {STEPS} in ") == 1
    assert f"; best valid/accuracy {max(scores):.4g} at step" in text
    assert "failed" not in text
    assert {content["title"] for _, content in receiver.requests} == {str(tmp_path / "run")}
    assert not (tmp_path / "run/notifications.jsonl").exists()
    assert_no_secret(tmp_path / "run")


def test_kept_steps_are_told(receiver: HttpReceiver, tmp_path: Path) -> None:
    experiment = claf2.load(
        "scratch/pretrain",
        sample=True,
        argv=[
            "--log_dir", str(tmp_path / "run"), "--notify.on", '["kept"]', "--eval_and_save_step_count", "4",
            "--keep_step_count", "4", "--phases", '[{"until": 4, "batch_size": 4, "max_seq_length": 32}]',
        ],
    )  # fmt: skip
    claf2.train(experiment)
    (text,) = receiver.texts
    assert text.startswith(f"step 4 kept in {tmp_path}/run/steps/step-000000004")


def test_a_failure_is_told_with_its_reason_and_the_end_of_the_log(
    receiver: HttpReceiver, words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(Claf2Error, match="became nan"):
        claf2.train(load(words, "--learning_rate", "1e9", "--num_steps", "30", "--eval_and_save_step_count", "30"))
    (text,) = receiver.texts
    first, *log = text.splitlines()
    assert first.startswith("failed after step ")
    assert "the loss of task 'nsmc' became nan at step" in first
    assert 0 < len(log) <= 5
    assert all(line in (tmp_path / "run/train.log").read_text() for line in log)


def test_a_run_that_is_stopped_says_so_and_goes_on(receiver: HttpReceiver, words: list[str]) -> None:
    with pytest.raises(Interrupted):
        claf2.train(load(words, "--announcer.interrupt_at", "4"))
    assert "was stopped after step 5; --resume continues it" in receiver.texts[-1]
    claf2.train(load(words), resume=True)
    assert "finished after step 6" in receiver.texts[-1]


KILL = """
import os, signal
import claf2
from claf2.training.callbacks import callbacks

class Killer(claf2.CallbackSpec):
    def build(self, run):
        class Killing(claf2.Callback):
            def on_step(self, state, loss, learning_rate):
                if state.step == 5:
                    os.kill(os.getpid(), signal.SIGKILL)
        return Killing()

callbacks.add("killer", Killer, origin=__name__)
"""


@pytest.mark.slow
def test_a_killed_run_is_told_when_it_goes_on(
    receiver: HttpReceiver, dead_url: str, words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "killer.py").write_text(KILL)
    command = [sys.executable, "-m", "claf2", "train", "--base_config", "scratch/nsmc", "--sample", *words]
    killing = [*command, "--plugin", str(tmp_path / "killer.py"), "--runtime.callbacks.killer", "{}"]
    done = subprocess.run(killing, env={**os.environ, "CLAF2_NOTIFY_URLS": dead_url}, check=False)
    assert done.returncode == -signal.SIGKILL
    subprocess.run([*command, "--resume"], check=True)
    text = "\n".join(receiver.texts)
    assert text.count("was killed, or its machine stopped, without a message; resumes after step 3") == 1
    assert text.count("step 3: valid/accuracy") == 1  # from the first process
    assert text.count("finished after step 6") == 1
    assert_no_secret(tmp_path / "run")


@pytest.mark.parametrize("status", [404, 500])
def test_a_receiver_that_fails_does_not_end_a_run(receiver: HttpReceiver, words: list[str], status: int) -> None:
    receiver.always = status
    assert claf2.train(load(words)).tasks["nsmc"].scores


def test_a_missing_receiver_or_library_is_named_before_any_work(
    words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CLAF2_NOTIFY_URLS", raising=False)
    with pytest.raises(
        ConfigError, match=r"callbacks.notify.CLAF2_NOTIFY_URLS: is not set, so there is no one to notify"
    ):
        claf2.train(load(words))
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ConfigError, match=r"callbacks.notify: apprise is not installed; pip install 'claf2\[notify\]'"):
        claf2.train(load(words))
    assert not (tmp_path / "run").exists()


def test_the_block_is_no_part_of_the_recipe(words: list[str]) -> None:
    plain, notified = load(words[:-2]), load(words)
    assert plain.recipe_digest() == notified.recipe_digest()
    assert plain.digest() == notified.digest()
    assert "notify" not in json.dumps(plain.values)


@pytest.mark.slow
def test_apprise_is_not_imported_unless_it_is_used(words: list[str]) -> None:
    code = (
        "import sys, claf2\n"
        "claf2.train(claf2.load('scratch/nsmc', sample=True, argv=sys.argv[1:]))\n"
        "print(sorted(name for name in sys.modules if name.startswith(('apprise', 'claf2.notifications'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words[:-2]],
        env={**os.environ, "CLAF2_NOTIFY_URLS": f"json://127.0.0.1/{SECRET}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "apprise" not in done.stdout
    assert "notifier" not in done.stdout


def test_the_command_sends_a_message(receiver: HttpReceiver, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["notify", "the disk is full"])
    assert end.value.code == 0
    assert receiver.texts == ["the disk is full"]
    assert capsys.readouterr().out == "sent\n"


def test_the_command_sends_what_a_run_could_not(
    receiver: HttpReceiver, dead_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("CLAF2_NOTIFY_URLS", dead_url)
    notifier = open_notifier(tmp_path, "logs/a")
    assert notifier is not None
    notifier.send(Event("finished", "done"))
    assert not notifier.close(0.1)
    for expected in ("error: not every receiver has accepted the message", "sent", "nothing is waiting to be sent"):
        with pytest.raises(SystemExit):
            main(["notify", "--run", str(tmp_path), "--seconds", "10" if expected == "sent" else "0.1"])
        output = capsys.readouterr()
        assert expected in output.out + output.err
        monkeypatch.setenv("CLAF2_NOTIFY_URLS", receiver.url)
    assert receiver.texts == ["done"]


@pytest.mark.parametrize("words", [[], ["text", "--run", "logs/a"]], ids=["neither", "both"])
def test_the_command_needs_a_text_or_a_run(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["notify", *words])
    assert end.value.code == 2
    assert "give one of them" in capsys.readouterr().err


@pytest.mark.slow
def test_the_commands_of_the_page_run(receiver: HttpReceiver, tmp_path: Path) -> None:
    """The page sets URLs of chats that do not exist, so this test sets its own."""
    page = (shipped_dir("tasks").parent / "docs/notifications.md").read_text(encoding="utf-8")
    commands = [found[0] for found in re.finditer(r"^claf2 .*$|(?<=`)claf2 notify [^`]*", page, re.MULTILINE)]
    assert len(commands) == 3
    for command in commands:
        words = [sys.executable, "-m", "claf2", *shlex.split(command)[1:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    subprocess.run([sys.executable, "-c", block], cwd=tmp_path, check=True)
    assert receiver.texts[0] == "claf2 can reach me"
    assert receiver.texts[-1] == "rte is better than last night: 71.3 instead of 68.9"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([" "], "TEXT is empty"),
        (["--run", "nowhere"], "nowhere: no such folder"),
        (["hi"], "error: CLAF2_NOTIFY_URLS: "),
    ],
    ids=["text", "run", "urls"],
)
def test_mistakes_are_named(
    words: list[str], problem: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CLAF2_NOTIFY_URLS", raising=False)
    with pytest.raises(SystemExit) as caught:
        main(["notify", *words])
    assert caught.value.code == 2
    assert problem in capsys.readouterr().err
