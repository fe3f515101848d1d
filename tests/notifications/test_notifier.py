"""The notifier with real receivers: what arrives, how often, and what a killed process leaves."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from claf2.errors import ConfigError
from claf2.notifications.events import Event
from claf2.notifications.notifier import Notifier, open_notifier
from claf2.notifications.receivers import read_urls

from .conftest import MATTERMOST_TOKEN, SECRET, SLACK_TOKENS, HttpReceiver


def opened(folder: Path | None = None, **settings: object) -> Notifier:
    notifier = open_notifier(folder, "logs/a", **settings)  # type: ignore[arg-type]
    assert notifier is not None
    return notifier


def test_nothing_is_opened_without_urls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CLAF2_NOTIFY_URLS", raising=False)
    assert open_notifier(tmp_path, "logs/a") is None
    assert list(tmp_path.iterdir()) == []


def test_urls_are_separated_by_white_space_or_commas() -> None:
    urls = "json://a/b, mailto://u:p@c.com?to=x@d.com,y@e.com\nslack://f/g/h,ntfy://i"
    assert read_urls({"CLAF2_NOTIFY_URLS": urls}) == [
        "json://a/b", "mailto://u:p@c.com?to=x@d.com,y@e.com", "slack://f/g/h", "ntfy://i",
    ]  # fmt: skip


def test_a_wrong_url_is_named_by_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("apprise", reason="apprise is not installed: pip install 'claf2[notify]'")
    monkeypatch.setenv("CLAF2_NOTIFY_URLS", f"json://127.0.0.1/x nonsense://{SECRET}")
    with pytest.raises(ConfigError) as caught:
        open_notifier(None, "logs/a")
    assert "entry 2, which begins with nonsense://, is not a URL that apprise can use" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_slack_and_mattermost_get_messages_in_their_formats(
    start_receiver: Callable[..., HttpReceiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("apprise", reason="apprise is not installed: pip install 'claf2[notify]'")
    from apprise.plugins.slack import NotifySlack

    slack, mattermost = start_receiver(), start_receiver()
    monkeypatch.setattr(NotifySlack, "webhook_url", f"http://127.0.0.1:{slack.port}/services")
    monkeypatch.setenv(
        "CLAF2_NOTIFY_URLS", f"slack://{SLACK_TOKENS}/,mmost://127.0.0.1:{mattermost.port}/{MATTERMOST_TOKEN}"
    )
    notifier = opened()
    notifier.send(Event("verdict", "step 300,000: average 71.3 ± 0.6 <b>&</b>"))
    assert notifier.close(30)
    ((path, content),) = slack.requests
    assert path == f"/services/{SLACK_TOKENS}"
    assert "average 71.3 ± 0.6" in json.dumps(content, ensure_ascii=False)
    assert "logs/a" in json.dumps(content)
    ((path, content),) = mattermost.requests
    assert path == f"/hooks/{MATTERMOST_TOKEN}"
    assert content["text"].split() == ["logs/a", *"step 300,000: average 71.3 ± 0.6 <b>&</b>".split()]


@pytest.mark.slow
def test_ten_thousand_events_in_ten_seconds_become_few_messages(receiver: HttpReceiver, tmp_path: Path) -> None:
    notifier = opened(tmp_path, interval=1)
    begin = time.monotonic()
    for number in range(10_000):
        kind = "failed" if number % 2000 == 1999 else "result" if number % 3 else "kept"
        notifier.send(Event(kind, f"event {number:05d}"))
        if number % 100 == 99:
            threading.Event().wait(max(0.0, begin + number / 1000 - time.monotonic()))
    notifier.send(Event("finished", "event finished"))
    assert notifier.close(30)
    texts = receiver.texts
    assert len(texts) <= 12
    together = "\n".join(texts)
    for number in range(1999, 10_000, 2000):
        assert together.count(f"event {number:05d}") == 1
    assert together.count("event finished") == 1
    counted = [int(line.split()[2].replace(",", "")) for line in together.splitlines() if line.startswith("… and ")]
    assert sum(counted) + together.count("event ") == 10_001
    assert list(tmp_path.iterdir()) == []


def test_a_burst_is_a_message_and_a_digest(receiver: HttpReceiver) -> None:
    notifier = opened()
    notifier.send(Event("result", "event 0"))
    receiver.wait_for(1)
    for number in range(1, 1000):
        notifier.send(Event("result", f"event {number}"))
    notifier.send(Event("failed", "the end"))
    assert notifier.close(30)
    first, *others = receiver.texts
    assert first == "event 0"
    assert len(others) <= 2
    assert sum(text.count("the end") for text in others) == 1
    assert any("more: " in text for text in others)


def test_unwanted_kinds_are_ignored(receiver: HttpReceiver) -> None:
    notifier = opened(on=["failed"])
    notifier.send(Event("result", "unwanted"))
    assert notifier.close(30)
    assert receiver.requests == []


def test_429_is_obeyed(receiver: HttpReceiver) -> None:
    receiver.answers = [(429, {"Retry-After": "1"})]
    notifier = opened()
    notifier.send(Event("failed", "no memory"))
    receiver.wait_for(1)
    begin = time.monotonic()
    texts = receiver.wait_for(2)
    assert time.monotonic() - begin > 0.8
    assert texts == ["no memory", "no memory"]
    assert notifier.close(30)
    assert len(receiver.requests) == 2


def test_an_error_of_the_server_repeats_only_what_matters(
    receiver: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("claf2").propagate = True
    receiver.answers = [(500, {})]
    notifier = opened()
    notifier.send(Event("result", "a score"))
    receiver.wait_for(1)
    notifier.send(Event("failed", "no memory"))
    assert notifier.close(30)
    assert receiver.texts == ["a score", "no memory"]
    assert "JSON (entry 1) did not accept a notification (HTTP 500)" in caplog.text
    assert SECRET not in caplog.text


def test_an_urgent_event_is_not_sent_forever(receiver: HttpReceiver) -> None:
    receiver.always = 500
    notifier = opened()
    notifier.send(Event("failed", "no memory"))
    assert notifier.close(30)
    assert receiver.texts == ["no memory"] * 3


def test_a_refused_url_gets_no_more(receiver: HttpReceiver, tmp_path: Path) -> None:
    receiver.always = 404
    notifier = opened(tmp_path)
    notifier.send(Event("failed", "one"))
    receiver.wait_for(1)
    notifier.send(Event("failed", "two"))
    assert not notifier.close(30)
    assert receiver.texts == ["one"]
    receiver.always = None
    assert opened(tmp_path).close(30)  # another URL may be right
    assert receiver.texts[1:] == ["one\ntwo"]


def test_a_slow_receiver_delays_neither_the_run_nor_another_receiver(
    start_receiver: Callable[..., HttpReceiver], receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = start_receiver(held=threading.Event())
    monkeypatch.setenv("CLAF2_NOTIFY_URLS", f"{slow.url} {receiver.url}")
    notifier = opened(tmp_path)
    notifier.send(Event("failed", "no memory"))
    slow.wait_for(1)
    assert receiver.wait_for(1) == ["no memory"]
    assert not notifier.close(0.2)  # bounded, although the receiver does not answer
    assert (tmp_path / "notifications.jsonl").exists()


def test_what_a_dead_receiver_missed_is_sent_by_the_next_process(
    receiver: HttpReceiver, dead_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CLAF2_NOTIFY_URLS", dead_url)
    notifier = opened(tmp_path)
    notifier.send(Event("finished", "done"))
    assert not notifier.close(0.5)
    monkeypatch.setenv("CLAF2_NOTIFY_URLS", receiver.url)
    assert opened(tmp_path).close(30)
    assert receiver.texts == ["done"]
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from claf2.notifications.events import Event
from claf2.notifications.notifier import open_notifier
notifier = open_notifier(Path(sys.argv[1]), "logs/a")
notifier.send(Event("failed", "no memory on device 3"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_could_not_send_is_sent_once(
    receiver: HttpReceiver, dead_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CLAF2_NOTIFY_URLS", dead_url)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    with (tmp_path / "notifications.jsonl").open("a") as file:
        file.write('{"event": 7, "kind": "fai')  # a kill may cut a line
    monkeypatch.setenv("CLAF2_NOTIFY_URLS", receiver.url)
    for follows_kill in (True, False):
        notifier = opened(tmp_path)
        assert notifier.follows_kill is follows_kill
        assert notifier.close(30)
    assert receiver.texts == ["no memory on device 3"]


def test_the_file_stays_small_while_a_receiver_is_dead(
    dead_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("apprise", reason="apprise is not installed: pip install 'claf2[notify]'")
    monkeypatch.setenv("CLAF2_NOTIFY_URLS", dead_url)
    notifier = opened(tmp_path)
    for number in range(5000):
        notifier.send(Event("failed" if number % 1000 == 0 else "result", f"event {number}"))
    assert (tmp_path / "notifications.jsonl").stat().st_size < 200_000
    notifier.close(0.1)
    texts = (tmp_path / "notifications.jsonl").read_text()
    assert all(f'"event {number}"' in texts for number in range(0, 5000, 1000))
    assert texts.count('"event"') <= 106


def test_secrets_are_in_no_file(receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-token-of-the-hub")
    receiver.always = 404
    notifier = opened(tmp_path)
    notifier.send(Event("failed", f"cannot reach {receiver.url}", "with a-token-of-the-hub"))
    assert not notifier.close(30)
    content = (tmp_path / "notifications.jsonl").read_text()
    assert "cannot reach ***" in content
    for text in (content, *receiver.texts):
        assert SECRET not in text
        assert "a-token-of-the-hub" not in text
