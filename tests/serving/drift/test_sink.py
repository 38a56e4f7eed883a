"""Delivery over real sockets: order, patience, and nothing lost."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from serving.drift import sink as sink_module
from serving.drift.events import CloudEvent
from serving.drift.outbox import Outbox
from serving.drift.sink import HttpSink, retry_after
from tests.serving.drift.stream import Sink, free_port, wait_until


def event(number: int) -> CloudEvent:
    return CloudEvent(f"id-{number}", "t", "/test", "2026-03-01T12:00:00Z", {"n": 1}, number)


def sender(url: str, first_pause: float = 0.01, rate: float = 1000.0) -> HttpSink:
    return HttpSink(url, Outbox(None, 1000), rate=rate, first_pause=first_pause)


@pytest.fixture
def sinks() -> Iterator[list[Sink]]:
    made: list[Sink] = []
    yield made
    for sink in made:
        sink.close()


def test_sends_again_until_the_sink_takes_the_event_and_keeps_the_order(sinks: list[Sink]) -> None:
    taker = Sink(answers=(500, 429, 503))
    sinks.append(taker)
    sending = sender(taker.url)
    for number in (1, 2, 3):
        sending.send(event(number))
    wait_until(lambda: sending.counts()["delivered"] == 3, "delivery")
    assert taker.ids == ["id-1", "id-2", "id-3"]
    assert taker.attempts == 6
    assert sending.counts()["pending"] == 0
    sending.close()


def test_delivers_once_a_sink_that_was_down_is_up_and_does_not_flood_it(sinks: list[Sink]) -> None:
    port = free_port()
    sending = sender(f"http://127.0.0.1:{port}/events", first_pause=0.05, rate=50)
    for number in range(1, 21):
        sending.send(event(number))
    sending.beat(event(0))
    wait_until(lambda: sending.counts()["pending"] == 20, "waiting")
    taker = Sink(port)
    sinks.append(taker)
    wait_until(lambda: sending.counts()["delivered"] == 20, "delivery")
    assert taker.ids[:20] == [f"id-{number}" for number in range(1, 21)]
    assert taker.times[19] - taker.times[0] > 19 / 50 * 0.8
    sending.close()


def test_waits_as_long_as_the_sink_asks(sinks: list[Sink]) -> None:
    taker = Sink(answers=(429,), headers={"retry-after": "1"})
    sinks.append(taker)
    sending = sender(taker.url)
    sending.send(event(1))
    wait_until(lambda: sending.counts()["delivered"] == 1, "delivery")
    assert taker.times[1] - taker.times[0] >= 1
    sending.close()


def test_reads_retry_after_as_seconds_or_a_date() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=60)
    assert retry_after("2.5") == 2.5
    assert 55 < retry_after(format_datetime(soon, usegmt=True)) <= 60
    assert [retry_after(text) for text in (None, "", "soon", "-3")] == [0, 0, 0, 0]


def test_an_event_the_sink_will_never_take_is_set_aside_and_the_next_goes_on(
    sinks: list[Sink],
) -> None:
    taker = Sink(answers=(400,) * sink_module.STUBBORN)
    sinks.append(taker)
    sending = sender(taker.url, first_pause=0.001)
    sending.send(event(1))
    sending.send(event(2))
    wait_until(lambda: sending.counts()["delivered"] == 1, "the next one")
    assert (sending.counts()["set_aside"], taker.ids) == (1, ["id-2"])
    sending.close()


def test_garbage_and_silence_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_module, "TIMEOUT", 0.2)
    answers = [b"this is no HTTP\r\n\r\n", b"", None, b"HTTP/1.1 202 Accepted\r\n\r\n"]
    heard: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        kept = []  # the silent one stays open
        for answer in answers:
            connection, _ = server.accept()
            heard.append(connection.recv(65_536))
            if answer is not None:
                connection.sendall(answer)
                connection.close()
            kept.append(connection)

    threading.Thread(target=serve, daemon=True).start()
    sending = sender(f"http://127.0.0.1:{server.getsockname()[1]}/")
    sending.send(event(1))
    wait_until(lambda: sending.counts()["delivered"] == 1, "delivery")
    assert len(heard) == 4
    sending.close()
    server.close()


def test_a_heartbeat_is_sent_now_or_never(sinks: list[Sink]) -> None:
    port = free_port()
    sending = sender(f"http://127.0.0.1:{port}/events")
    sending.beat(event(0))
    time.sleep(0.2)
    taker = Sink(port)
    sinks.append(taker)
    time.sleep(0.2)
    assert taker.ids == []
    sending.beat(event(0))
    wait_until(lambda: sending.counts()["heartbeats"] == 1, "a heartbeat")
    sending.close()


def test_ends_at_once_while_the_sink_is_down() -> None:
    sending = sender(f"http://127.0.0.1:{free_port()}/", first_pause=60)
    for number in range(1, 6):
        sending.send(event(number))
    began = time.monotonic()
    sending.close()
    assert time.monotonic() - began < 1.5
    assert sending.counts() == {
        "delivered": 0,
        "pending": 5,
        "lost": 0,
        "set_aside": 0,
        "heartbeats": 0,
    }
