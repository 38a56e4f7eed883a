"""Events on disk: nothing that was put is lost, whatever ends the process."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.drift import outbox as outbox_module
from serving.drift.events import CloudEvent
from serving.drift.outbox import Outbox

PUT = """
import sys
from pathlib import Path
from serving.drift.events import CloudEvent
from serving.drift.outbox import Outbox
box = Outbox(Path(sys.argv[1]), 100_000)
for number in range(1, 100_000):
    box.put(CloudEvent(f"id-{number}", "t", "/s", "now", {"n": number}, number))
    print(number, flush=True)
"""


def event(number: int) -> CloudEvent:
    return CloudEvent(f"id-{number}", "t", "/s", "2026-03-01T12:00:00Z", {"n": number}, number)


def sequences(box: Outbox) -> list[int]:
    found = []
    while (first := box.first()) is not None:
        found.append(first.sequence)
        box.done(first)
    return found


def test_keeps_order_and_what_is_not_done_over_a_restart(tmp_path: Path) -> None:
    box = Outbox(tmp_path, 100)
    assert all(box.put(event(number)) for number in range(1, 6))
    box.done(event(1))
    box.done(event(3))
    again = Outbox(tmp_path, 100)
    assert again.last == 5
    assert again.first() == event(2)
    assert sequences(again) == [2, 4, 5]
    assert Outbox(tmp_path, 100).last == 5


def test_a_kill_loses_no_event_that_was_put(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", PUT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 50:
            break
    child.kill()
    told = [int(line) for line in child.stdout.read().split()]
    child.wait()
    child.stdout.close()
    found = sequences(Outbox(tmp_path, 100_000))
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= (told[-1] if told else 50)


def test_a_line_that_a_crash_cut_off_is_left_out(tmp_path: Path) -> None:
    box = Outbox(tmp_path, 100)
    box.put(event(1))
    box.put(event(2))
    file = tmp_path / "outbox.jsonl"
    file.write_bytes(file.read_bytes()[:-7])
    again = Outbox(tmp_path, 100)
    assert (len(again), again.last) == (1, 1)
    again.put(event(3))
    assert sequences(Outbox(tmp_path, 100)) == [1, 3]


def test_a_full_outbox_takes_no_more_and_keeps_what_it_has(tmp_path: Path) -> None:
    box = Outbox(tmp_path, 2)
    assert [box.put(event(number)) for number in (1, 2, 3)] == [True, True, False]
    assert sequences(box) == [1, 2]


def test_the_journal_does_not_grow_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "SMALL", 2000)
    box = Outbox(tmp_path, 100)
    for number in range(1, 101):
        box.put(event(number))
        box.done(event(number))
    assert (tmp_path / "outbox.jsonl").stat().st_size < 2500
    assert Outbox(tmp_path, 100).last == 100


def test_a_full_disk_keeps_events_in_memory_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Outbox(tmp_path, 100)
    box.put(event(1))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert box.put(event(2))
        assert "No space left" in box.problem
    assert box.put(event(3))
    assert box.problem == ""
    assert sequences(Outbox(tmp_path, 100)) == [1, 2, 3]


def test_an_event_that_is_refused_for_good_is_kept_apart(tmp_path: Path) -> None:
    box = Outbox(tmp_path, 100)
    box.put(event(1))
    box.set_aside(event(1), "answered 400")
    assert len(box) == 0
    assert '"id-1"' in (tmp_path / "refused.jsonl").read_text()
