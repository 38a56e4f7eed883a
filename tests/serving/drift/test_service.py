"""The sidecar as a process without Alibi Detect: what must hold when its world does not."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.serving.drift.stream import (
    Columns,
    Sidecar,
    Sink,
    columns,
    free_port,
    rows_event,
    sha256,
    wait_until,
)
from tests.serving.drift.test_kserve_logger import V2_PACKED
from tests.support.tiny import tiny_bundle

PYTHON = Path(sys.executable)
WATCH: dict[str, Any] = {"watch": {}}

Start = Callable[..., Sidecar]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Sidecar] = []

    def begin(*flags: str, port: int | None = None) -> Sidecar:
        started.append(Sidecar(PYTHON, tmp_path / "log", *flags, port=port))
        return started[-1]

    yield begin
    for sidecar in started:
        if sidecar.process.poll() is None:
            sidecar.kill()


@pytest.fixture
def sink() -> Iterator[Sink]:
    taker = Sink()
    yield taker
    taker.close()


@pytest.fixture(scope="module")
def shared_sink() -> Iterator[Sink]:
    taker = Sink()
    yield taker
    taker.close()


@pytest.fixture(scope="module")
def shared(shared_sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    log = tmp_path_factory.mktemp("service") / "log"
    flags = ("--sink", shared_sink.url, "--heartbeat_seconds", "0.2")
    sidecar = Sidecar(PYTHON, log, *flags)
    yield sidecar
    assert sidecar.stop() == 0


@pytest.fixture
def digest(request: pytest.FixtureRequest, shared: Sidecar) -> str:
    """A bundle of its own for each test, introduced."""
    made = sha256(request.node.name.encode())
    shared.introduce(digest=made, config=WATCH)
    return made


def gained(sidecar: Sidecar, before: dict[str, int], group: str) -> dict[str, int]:
    """What a count of /status's input has more than before."""
    now = sidecar.status()["input"][group]
    return {k: n - before.get(k, 0) for k, n in now.items() if n != before.get(k, 0)}


def shifted(count: int, seed: int = 3) -> Columns:
    rows = columns(count, seed)
    rows["age"] = rows["age"] + np.float32(20)
    return rows


def state(tmp_path: Path) -> tuple[str, ...]:
    return "--state_dir", str(tmp_path / "state"), "--snapshot_seconds", "0.2"


def test_without_alibi_installed_the_watch_opens_the_event(start: Start, sink: Sink) -> None:
    sidecar = start("--sink", sink.url)
    sidecar.introduce()
    sidecar.send(columns(1000, seed=2), "clean")
    sidecar.send(shifted(600), "shifted")
    wait_until(lambda: bool(sink.of("drift.opened")), "the event")
    (opened,) = sink.of("drift.opened")
    assert opened["features"][0]["name"] == "age"
    assert opened["detectors"] == {"watch": "watch/1", "windows": None}
    assert "not installed" in sidecar.status()["problems"][0]
    assert psutil.Process(sidecar.process.pid).memory_info().rss < 150 * 2**20
    assert sidecar.stop() == 0


def test_a_sink_that_is_down_while_the_sidecar_is_killed_gets_each_event_once(
    start: Start, tmp_path: Path
) -> None:
    port = free_port()
    flags = (*state(tmp_path), "--sink", f"http://127.0.0.1:{port}/events", "--sink_rate", "100")
    sidecar = start(*flags)
    sidecar.introduce(config=WATCH)
    sidecar.send(columns(1000, seed=2), "clean")
    sidecar.send(shifted(600), "shifted")
    wait_until(lambda: sidecar.status()["events"]["pending"] >= 1, "an undelivered event")
    sidecar.kill()
    taker = Sink(port)
    again = start(*flags)
    wait_until(lambda: len(taker.of("drift.opened")) == 1, "the event")
    again.introduce(config=WATCH)
    assert again.status()["open"] is True
    again.send(shifted(600, seed=5), "shifted again")
    again.send(columns(6000, seed=6), "clean again")
    wait_until(lambda: bool(taker.of("drift.resolved")), "the end")
    assert len(taker.of("drift.opened")) == 1
    assert len(set(taker.ids)) == len(taker.ids)
    assert [e["data"]["sequence"] for e in taker.events] == list(range(1, len(taker.events) + 1))
    assert again.stop() == 0
    taker.close()


def test_killed_under_load_again_and_again_it_opens_one_event(
    start: Start, sink: Sink, tmp_path: Path
) -> None:
    flags = (*state(tmp_path), "--sink", sink.url, "--sink_rate", "100")
    port = free_port()
    ended = threading.Event()

    def load(sidecar: Sidecar) -> None:
        for number in range(10_000):
            event = rows_event(shifted(50, seed=number), f"{sidecar.process.pid}-{number}")
            try:
                sidecar.request("POST", "/events", event)
            except OSError:
                if ended.is_set():
                    return

    for _ in range(3):
        ended.clear()
        sidecar = start(*flags, port=port)
        sidecar.introduce(config=WATCH)
        loading = threading.Thread(target=load, args=(sidecar,))
        loading.start()
        wait_until(lambda: bool(sink.of("drift.opened")), "the event")
        time.sleep(0.5)
        ended.set()
        sidecar.kill()
        loading.join(20)
    last = start(*flags, port=port)
    last.introduce(config=WATCH)
    status = last.status()
    assert status["open"] is True
    assert status["state"]["restored"] is True
    assert len(sink.of("drift.opened")) == 1
    assert len(set(sink.ids)) == len(sink.ids)
    assert last.stop() == 0


def test_a_kill_loses_only_the_rows_since_the_last_snapshot(start: Start, tmp_path: Path) -> None:
    sidecar = start(*state(tmp_path))
    sidecar.introduce(config=WATCH)
    sidecar.send(columns(1000, seed=2), "first")
    wait_until(lambda: sidecar.status()["watch"]["rows"] == 1000, "rows")
    time.sleep(0.2)
    wait_until(
        lambda: (sidecar.status()["state"]["snapshot_age_seconds"] or 9) < 0.15, "a snapshot"
    )
    sidecar.kill()
    again = start(*state(tmp_path))
    assert again.status()["bundle"] is None
    assert again.request("POST", "/events", rows_event(columns(1, 1), "x"))[0] == 409
    again.introduce(config=WATCH)
    assert again.status()["watch"]["rows"] == 1000
    assert again.request("POST", "/events", rows_event(columns(100, 2), "first-0"))[0] == 202
    assert again.status()["input"]["duplicates"] == 1
    assert again.stop() == 0


def test_a_predictor_that_is_restarted_goes_on(shared: Sidecar, digest: str) -> None:
    dropped = shared.status()["input"]["dropped"]
    shared.send(columns(300, seed=2), "before", digest=digest)
    shared.introduce(digest=digest, config=WATCH)
    shared.send(columns(300, seed=3), "after", digest=digest)
    wait_until(lambda: shared.status()["watch"]["rows"] == 600, "rows")
    # A rollout in the same pod: rows of both bundles for a moment.
    shared.introduce(digest="e" * 64, config=WATCH)
    assert shared.request("POST", "/events", rows_event(columns(1, 1), "late", digest))[0] == 409
    assert gained(shared, dropped, "dropped") == {"other_bundle": 1}


def test_what_senders_do_wrong_stops_nothing(shared: Sidecar, digest: str) -> None:
    good = rows_event(columns(10, seed=1), "good", digest)
    headers = {"content-type": "application/cloudevents-batch+json"}
    odd: list[tuple[Any, dict[str, str], int]] = [
        (b"\x00" * 1000, {}, 400),
        (b"[" * 100_000, {}, 400),
        (b" " * (17 * 2**20), {}, 413),
        (json.dumps([good, {"specversion": "1.0"}]).encode(), headers, 400),
        (b"{}", headers, 400),
        (b"", {"ce-specversion": "1.0", "ce-type": "x", "ce-source": "s", "ce-id": "1"}, 400),
        (b"", {"ce-type": "\xff"}, 400),
        ({**good, "time": "yesterday"}, {}, 400),
    ]
    for body, given, status in odd:
        answered, answer = shared.request("POST", "/events", body, given)
        assert (answered, bool(json.loads(answer)["error"])) == (status, True)
    for method in ("GET", "DELETE"):
        assert shared.request(method, "/events")[0] == 405
    # Late, early and repeated events of the same rows.
    before = shared.status()["input"]["duplicates"]
    for number in (3, 1, 2, 1, 3):
        when = f"2026-03-01T12:00:0{number}Z"
        event = rows_event(columns(10, seed=number), f"e{number}", digest, when)
        assert shared.request("POST", "/events", event) == (202, b"")
    wait_until(lambda: shared.status()["watch"]["rows"] == 30, "rows")
    assert shared.status()["input"]["duplicates"] == before + 2
    assert shared.metric("seatrial_drift_worker_failures_total") == 0


def test_takes_batches_and_what_is_good_of_them(shared: Sidecar, digest: str) -> None:
    dropped = shared.status()["input"]["dropped"]
    events = [rows_event(columns(1, seed=n), f"b{n}", digest) for n in range(50)]
    events.insert(7, rows_event(columns(1, seed=1), "other", digest="0" * 64))
    headers = {"content-type": "application/cloudevents-batch+json"}
    body = json.dumps(events).encode()
    assert shared.request("POST", "/events", body, headers) == (202, b"")
    wait_until(lambda: shared.status()["watch"]["rows"] == 50, "rows")
    assert gained(shared, dropped, "dropped") == {"other_bundle": 1}


def test_labels_are_taken_over_http_and_as_events(shared: Sidecar, digest: str) -> None:
    shared.send(columns(10, seed=1), "x", digest=digest)
    assert shared.request("POST", "/labels", b'[{"id": "x-0-1", "outcome": true}]') == (202, b"")
    event = {
        "specversion": "1.0",
        "type": "io.seatrial.labels",
        "source": "/bank",
        "id": "1",
        "data": {"labels": [{"id": "x-0-2", "outcome": 0}]},
    }
    assert shared.request("POST", "/events", event) == (202, b"")
    wait_until(lambda: shared.status()["labels"]["labelled"] == 2, "labels")
    assert shared.request("POST", "/labels", b'[{"id": 3}]')[0] == 400


def test_heartbeats_tell_that_it_lives(shared: Sidecar, shared_sink: Sink, digest: str) -> None:
    shared.send(columns(10, seed=1), "x", digest=digest)
    wait_until(
        lambda: any((d["rows"], d["bundle"]) == (10, digest) for d in shared_sink.of("heartbeat")),
        "a heartbeat",
    )


def test_takes_kserves_payloads_for_a_bundle_from_its_settings(
    start: Start, tmp_path: Path
) -> None:
    config = json.dumps(WATCH).encode()
    bundle = tiny_bundle(tmp_path / "bundles", 0.0, None, **{"drift/config.json": config})
    sidecar = start("--bundle", str(bundle.path), "--arm", "canary", "--logger_mode", "request")
    status = sidecar.status()
    assert status["bundle"] == {"digest": bundle.digest, "arm": "canary", "model": "tiny"}
    headers = {
        "content-type": "application/octet-stream",
        "ce-specversion": "1.0",
        "ce-type": "org.kubeflow.serving.inference.request",
        "ce-source": "http://localhost:9081/",
        "ce-inferenceservicename": "tiny",
    }
    for event_id in ("a", "b", "b"):
        given = {**headers, "ce-id": event_id}
        assert sidecar.request("POST", "/", V2_PACKED, given) == (202, b"")
    wait_until(lambda: sidecar.status()["watch"]["rows"] == 2, "rows")
    assert sidecar.status()["input"]["duplicates"] == 1
    assert sidecar.request("POST", "/events", rows_event(columns(1, 1), "x"))[0] == 422
    assert sidecar.request("PUT", "/bundle", b"{}")[0] == 422
    assert sidecar.stop() == 0


@pytest.mark.parametrize(
    ("flags", "code", "named"),
    [
        (("--bundle", "/nowhere"), 1, "no bundle here"),
        (("--bundle", "s3://bucket/key"), 2, "mount the volume"),
        (("--state_dir", "/proc/nowhere"), 2, "folder that can be written"),
    ],
)
def test_says_what_it_cannot_start_with(
    start: Start, flags: tuple[str, ...], code: int, named: str
) -> None:
    with pytest.raises(AssertionError, match=named):
        start(*flags)
