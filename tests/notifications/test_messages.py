"""Texts, pace and redaction: what needs no receiver."""

from __future__ import annotations

import time
from typing import Any

import pytest

from claf2.notifications.events import Event
from claf2.notifications.messages import compose_message, format_seconds
from claf2.notifications.pacing import DeliveryResult, Pace
from claf2.notifications.redaction import Redactor
from claf2.runtime.retry import parse_retry_after


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(40, "40 s"), (1500, "25 min"), (12_600, "3.5 h"), (50_400, "14 h"), (273_600, "3 d 4 h"), (172_800, "2 d")],
)
def test_a_duration_has_the_units_that_matter(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_a_message_about_many_events_names_urgent_ones_and_counts_the_rest() -> None:
    events = [Event("result", f"score {number} of a task with a long name", time=number) for number in range(100)]
    events.insert(50, Event("failed", "cell nsmc failed", "Traceback\nKeyError: 3", time=49.5))
    message, taken = compose_message("logs/a", events, {"result": 900, "kept": 2}, limit=1000, now=100)
    lines = message.body.splitlines()
    assert taken == 1
    assert message.has_failure
    assert len(message.body) <= 1000
    assert "cell nsmc failed" in lines
    assert "KeyError: 3" in lines
    assert "score 99 of a task with a long name" in lines  # the latest ones
    named = sum("score" in line for line in lines)
    assert lines[-1] == f"… and {1002 - named:,} more: 2 kept, {1000 - named:,} result"


def test_urgent_events_that_do_not_fit_are_left_for_the_next_message() -> None:
    events = [Event("failed", f"cell {number} failed: {'x' * 200}", time=0) for number in range(30)]
    message, taken = compose_message("logs/a", events, {}, limit=2000, now=0)
    assert 5 <= taken < 30
    assert f"cell {taken - 1} failed" in message.body
    assert f"cell {taken} failed" not in message.body


def test_an_event_of_long_ago_says_when_it_happened() -> None:
    message, _ = compose_message("logs/a", [Event("failed", "no memory", time=0)], {}, limit=2000, now=100_000)
    assert message.body.startswith("[1970-01-01 ") or message.body.startswith("[1969-12-31 ")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("0.5", 0.5),
        ("-1", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        (None, None),
        ("inf", None),
        ("soon", None),
    ],
)
def test_a_server_asks_for_a_number_of_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text) == seconds


def test_a_date_is_so_many_seconds_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.0)
    assert parse_retry_after("Sun, 09 Sep 2001 01:47:10 GMT") == 30


def test_pace_follows_the_interval_and_what_receivers_ask_for() -> None:
    pace = Pace(10)
    assert pace.seconds_left(100, is_urgent=False, is_closing=False) <= 0
    pace.record(DeliveryResult(True, 200), 100)
    assert pace.seconds_left(101, is_urgent=False, is_closing=False) == 9
    assert pace.seconds_left(101, is_urgent=True, is_closing=False) == 1
    assert pace.record(DeliveryResult(False, 429, retry_after=30), 110) == 30
    for is_closing in (False, True):
        assert pace.seconds_left(110, is_urgent=True, is_closing=is_closing) == 30


def test_waits_double_and_the_end_of_a_process_does_not_wait_for_a_dead_receiver() -> None:
    pace = Pace(10)
    waits = [pace.record(DeliveryResult(False), 1000 * number) for number in range(12)]
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == 300
    assert pace.seconds_left(11_000, is_urgent=True, is_closing=False) == 300
    assert pace.seconds_left(11_000, is_urgent=True, is_closing=True) == 1


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"status": 404}, "refused"), ({"status": 401}, "refused"), ({"status": 429}, "busy"),
        ({"status": 503, "retry_after": 1}, "busy"), ({"status": 503}, "uncertain"), ({"status": 500}, "uncertain"),
        ({"is_lost": True}, "uncertain"), ({}, ""), ({"is_accepted": True, "status": 200}, ""),
    ],
    ids=str,
)  # fmt: skip
def test_an_answer_says_whether_the_message_may_have_arrived(fields: dict[str, Any], kind: str) -> None:
    answer = DeliveryResult(**{"is_accepted": False, **fields})
    kinds = {"refused": answer.is_refused, "busy": answer.is_busy, "uncertain": answer.is_uncertain}
    assert [name for name, holds in kinds.items() if holds] == ([kind] if kind else [])


def test_secrets_are_masked() -> None:
    urls = ["json://reader:pw12@127.0.0.1:80/token%2Babcdef?x=query_secret", "ntfy://mysecrettopic", "mmost://[bad"]
    redact = Redactor(
        urls, {"HF_TOKEN": "token-of-the-hub", "AWS_SECRET_ACCESS_KEY": "abcd/efgh+ijkl", "HOME": "/srv/x"}
    )
    text = (
        "pw12 token+abcdef token%2Babcdef query_secret mysecrettopic mmost://[bad token-of-the-hub abcd/efgh+ijkl "
        "s3://key:pass@host/b https://hooks.slack.com/services/T1/B2/c3 hf_abcdefghijkl AKIAABCDEFGHIJKLMNOP "
        "Authorization: Bearer abc.def-ghi https://b/x?X-Amz-Signature=0123abcd&y=1 /srv/x"
    )
    masked = redact(text)
    for secret in ("pw12", "abcdef", "query_secret", "secrettopic", "bad", "of-the-hub", "efgh", "key:pass", "B2",
                   "AKIA", "abc.def", "0123abcd"):  # fmt: skip
        assert secret not in masked, masked
    assert "/srv/x" in masked
    assert "@host/b" in masked
    assert "&y=1" in masked
    assert redact("step 300,000: average 71.3, a tokenizer of 32,000 entries") == (
        "step 300,000: average 71.3, a tokenizer of 32,000 entries"
    )
