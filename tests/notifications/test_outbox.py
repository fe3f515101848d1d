"""The file of the outbox: what it says after a process that did not close it."""

from __future__ import annotations

from pathlib import Path

import pytest

from claf2.notifications.events import Event
from claf2.notifications.outbox import Outbox


def texts(outbox: Outbox, receiver: int) -> list[str]:
    return [event.text for event in outbox.waiting(receiver)[0].values()]


def test_each_receiver_gets_what_it_did_not_get_before(tmp_path: Path) -> None:
    path = tmp_path / "outbox.jsonl"
    outbox = Outbox(path, 2)
    for text in ("one", "two"):
        outbox.add(Event("failed", text, "details"))
    outbox.remove(0, {0: Event("failed", "one")}, {})
    for _ in range(2):  # the file is read twice, and written anew in between
        outbox = Outbox(path, 2)
        assert outbox.was_killed
        assert texts(outbox, 0) == ["two"]
        assert texts(outbox, 1) == ["one", "two"]
        assert outbox.waiting(0)[0][1].details == "details"
    outbox.close()
    assert not Outbox(path, 2).was_killed


def test_new_events_do_not_take_the_numbers_of_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "outbox.jsonl"
    Outbox(path, 1).add(Event("failed", "old"))
    outbox = Outbox(path, 1)
    outbox.add(Event("failed", "new"))
    assert texts(Outbox(path, 1), 0) == ["old", "new"]


def test_events_that_give_way_while_they_are_sent_are_counted_once() -> None:
    outbox = Outbox(None, 1)
    for number in range(100):
        outbox.add(Event("result", f"{number}"))
    events, skipped = outbox.waiting(0)
    for number in range(100, 130):
        outbox.add(Event("result", f"{number}"))
    outbox.remove(0, events, skipped)
    events, skipped = outbox.waiting(0)
    assert len(events) + skipped.total() == 30


def test_a_folder_that_cannot_be_written_costs_the_file_alone(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "missing/outbox.jsonl", 1)
    outbox.add(Event("failed", "one"))
    assert texts(outbox, 0) == ["one"]
    outbox.close()


def test_damaged_lines_are_counted_except_one_that_a_kill_has_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "notifications.jsonl"
    path.write_text('{"open": fal')
    Outbox(path, 1)
    assert caplog.text == ""
    path.write_text('\x00\n{"event": 1}\n{"open": false}\n')
    Outbox(path, 1)
    assert "notifications.jsonl: 2 lines are damaged and left out" in caplog.text
