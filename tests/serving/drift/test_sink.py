from __future__ import annotations

import time

import pytest

from serving.drift import sink as sink_module
from serving.drift.events import CloudEvent
from serving.drift.sink import HttpSink
from tests.serving.drift.stream import Sink, free_port, wait_until


def event(number: int) -> CloudEvent:
    return CloudEvent(f"id-{number}", "io.seatrial.test", "/test", "2026-03-01T12:00:00Z", {"n": 1})


def test_sends_again_until_the_sink_takes_the_event_and_keeps_the_order() -> None:
    taker = Sink(answers=(500, 429, 503))
    sender = HttpSink(taker.url, first_pause=0.01)
    for number in range(3):
        sender.send(event(number))
    wait_until(lambda: len(taker.events) == 3, "delivery")
    assert [e["headers"]["ce-id"] for e in taker.events] == ["id-0", "id-1", "id-2"]
    assert taker.attempts == 6
    wait_until(lambda: sender.counts() == {"delivered": 3, "lost": 0, "pending": 0}, "counting")
    sender.close()
    taker.close()


def test_delivers_once_a_sink_that_was_down_is_up() -> None:
    port = free_port()
    sender = HttpSink(f"http://127.0.0.1:{port}/events", first_pause=0.05)
    sender.send(event(1))
    wait_until(lambda: sender.counts()["pending"] == 1, "waiting")
    taker = Sink(port)
    wait_until(lambda: sender.counts()["delivered"] == 1, "delivery")
    sender.close()
    taker.close()


def test_an_event_the_sink_will_never_take_is_lost_at_once() -> None:
    taker = Sink(answers=(400,))
    sender = HttpSink(taker.url, first_pause=60)
    sender.send(event(1))
    sender.send(event(2))
    wait_until(lambda: sender.counts() == {"delivered": 1, "lost": 1, "pending": 0}, "both fates")
    assert taker.attempts == 2
    sender.close()
    taker.close()


def test_a_sink_that_stays_down_costs_bounded_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_module, "ATTEMPTS", 3)
    sender = HttpSink(f"http://127.0.0.1:{free_port()}/", first_pause=0.001)
    sender.send(event(1))
    wait_until(lambda: sender.counts()["lost"] == 1, "giving up")
    sender.close()


def test_keeps_no_more_events_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_module, "CAPACITY", 2)
    sender = HttpSink(f"http://127.0.0.1:{free_port()}/", first_pause=60)
    for number in range(5):
        sender.send(event(number))
    assert sender.counts() == {"delivered": 0, "lost": 3, "pending": 2}
    began = time.monotonic()
    sender.close()
    assert time.monotonic() - began < 1.5
