from __future__ import annotations

from dataclasses import replace

from serving.retrain.journal import Record, State
from serving.retrain.rules import ESCALATED, RESOLVED, Rules, decide, unwanted
from tests.serving.retrain.receivers import event

RULES = Rules(cooldown=100.0, hold=1000.0, patience=500.0)


def states(records: list[Record], now: float) -> dict[str, State]:
    return {d.record.event.id: d.state for d in decide(records, RULES, now)}


def test_an_opened_event_starts_a_run() -> None:
    assert states([Record(event(), 0.0)], 1.0) == {"event-1": State.STARTING}


def test_types_and_severities_that_are_not_asked_for_start_nothing() -> None:
    assert "starts no run" in unwanted(event(kind="io.seatrial.drift.heartbeat"), Rules())
    assert "info is below warning" in unwanted(event(severity="info"), Rules())
    assert "below critical" in unwanted(event(), Rules(severity="critical"))
    assert unwanted(event(kind=ESCALATED), Rules(severity="critical")) == ""


def test_a_second_event_waits_while_a_run_is_active_and_in_the_cool_down_after_it() -> None:
    first = Record(event(), 0.0, State.RUNNING, run="r", started=1.0)
    second = Record(event(2, ESCALATED), 5.0)
    assert states([first, second], 10.0) == {"event-2": State.HELD}
    ended = replace(first, state=State.SUCCEEDED, finished=20.0)
    held = replace(second, state=State.HELD)
    assert states([ended, held], 119.0) == {"event-2": State.HELD}
    assert states([ended, held], 121.0) == {"event-2": State.STARTING}


def test_a_failed_run_has_its_cool_down_too() -> None:
    failed = Record(event(), 0.0, State.FAILED, started=1.0, finished=2.0)
    assert states([failed, Record(event(2), 3.0)], 4.0) == {"event-2": State.HELD}


def test_a_run_that_never_ends_blocks_no_longer_than_the_patience() -> None:
    stuck = Record(event(), 0.0, State.RUNNING, run="r", started=1.0)
    assert states([stuck, Record(event(2), 400.0)], 400.0) == {"event-2": State.HELD}
    assert states([stuck, Record(event(2), 400.0)], 502.0) == {"event-2": State.STARTING}


def test_only_the_newest_of_the_waiting_events_starts_a_run() -> None:
    found = states([Record(event(), 0.0), Record(event(2), 1.0)], 2.0)
    assert found == {"event-1": State.SKIPPED, "event-2": State.STARTING}


def test_a_resolved_event_takes_the_waiting_one_of_its_source_back() -> None:
    held = Record(event(), 0.0, State.HELD)
    resolved = Record(event(2, RESOLVED), 1.0)
    assert states([held, resolved], 2.0)["event-1"] == State.SKIPPED
    other = Record(replace(event(3, RESOLVED), source="/seatrial/fraud/v2/drift"), 1.0)
    assert states([held, other], 2.0)["event-1"] == State.STARTING
    reopened = Record(event(4), 3.0)
    assert states([resolved, reopened], 4.0)["event-4"] == State.STARTING


def test_an_event_that_waited_too_long_starts_nothing() -> None:
    assert states([Record(event(), 0.0, State.HELD)], 1001.0) == {"event-1": State.SKIPPED}


def test_a_clock_that_was_set_back_does_not_stretch_the_cool_down() -> None:
    ended = Record(event(), 0.0, State.SUCCEEDED, started=9_000.0, finished=9_999.0)
    (decision,) = decide([ended, Record(event(2), 10.0)], RULES, 20.0)
    assert decision.why == "cool-down after the last run, 100 s left"
