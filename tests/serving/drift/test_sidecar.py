"""The sidecar as it runs in a pod: a process of the drift environment with the real Alibi."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.serving.drift.stream import (
    ARM,
    CONFIG,
    REFERENCE,
    WINDOW,
    Columns,
    Sidecar,
    Sink,
    columns,
    introduction,
    rows_event,
    sha256,
    wait_until,
)


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    taker = Sink()
    yield taker
    taker.close()


@pytest.fixture(scope="module")
def shared(
    drift_python: Path, sink: Sink, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sidecar]:
    log = tmp_path_factory.mktemp("drift") / "log"
    sidecar = Sidecar(drift_python, log, "--sink", sink.url, "--ring_rows", "20000")
    yield sidecar
    assert sidecar.stop() == 0


def shifted(count: int) -> Columns:
    rows = columns(count, seed=3)
    rows["amount"] = 0.5 * rows["amount"]
    rows["age"] = rows["age"] + 15
    return rows


@pytest.fixture
def digest(request: pytest.FixtureRequest) -> str:
    """A bundle of its own for each test, so that each starts from nothing."""
    return sha256(request.node.name.encode())


@pytest.fixture
def sidecar(shared: Sidecar, digest: str) -> Sidecar:
    shared.introduce(digest=digest, config=ONLY_WINDOWS)
    wait_until(lambda: shared.status()["detector"]["ready"], "the detector", 90)
    return shared


ONLY_WINDOWS = {"windows": CONFIG["windows"]}


def events_of(sink: Sink, digest: str, kind: str = "drift.opened") -> list[dict[str, Any]]:
    return [
        event
        for event in sink.events
        if event["data"]["bundle"] == digest and event["headers"]["ce-type"].endswith(kind)
    ]


def test_with_the_watch_off_window_tests_open_one_event_that_names_the_shifted_features(
    sidecar: Sidecar, sink: Sink, digest: str
) -> None:
    sidecar.send(columns(5 * WINDOW, seed=2), "clean", digest=digest)
    sidecar.send(shifted(5 * WINDOW), "shifted", digest=digest)
    sidecar.wait_tested(10)
    wait_until(lambda: bool(events_of(sink, digest)), "the event")
    (event,) = events_of(sink, digest)
    data, headers = event["data"], event["headers"]
    assert [f["name"] for f in data["features"]] == ["amount", "age"]
    assert data["features"][0]["effect"] == pytest.approx(0.5, abs=0.1)
    assert data["window"]["number"] == 6
    assert data["window"]["rows"] == WINDOW
    assert (data["arm"], data["reference"]) == (ARM, sha256(REFERENCE))
    assert set(data["p_values"]) == {"amount", "age", "visits", "channel", "score"}
    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-type"] == "io.seatrial.drift.opened"
    assert headers["ce-source"] == f"/seatrial/tiny/{ARM}/drift"
    assert headers["content-type"] == "application/json"
    assert sidecar.status()["open"] is True
    assert sidecar.metric("seatrial_drift_open") == 1


def test_watch_and_windows_together_open_one_event_escalate_it_and_resolve_it(
    shared: Sidecar, sink: Sink, digest: str
) -> None:
    shared.introduce(digest=digest)
    wait_until(lambda: shared.status()["detector"]["ready"], "the detector", 90)
    shared.send(columns(5 * WINDOW, seed=2), "clean", digest=digest)
    shared.send(shifted(5 * WINDOW), "shifted", digest=digest)
    shared.send(columns(20 * WINDOW, seed=4), "clean again", digest=digest)
    wait_until(lambda: bool(events_of(sink, digest, "resolved")), "the end")
    told = [event for event in sink.events if event["data"]["bundle"] == digest]
    kinds = [event["headers"]["ce-type"].rsplit(".", 1)[1] for event in told]
    opened, *_, resolved = (event["data"] for event in told)
    # How far it had moved when it was seen is a matter of how the rows came in.
    between = ["escalated"] if opened["severity"] == "warning" else []
    assert kinds == ["opened", *between, "resolved"]
    assert resolved["severity"] == "critical"
    assert (opened["opened_by"], resolved["confirmed"]) == ("watch", True)
    assert {f["name"] for f in opened["features"][:2]} == {"amount", "age"}
    assert opened["p_values"]["amount"] < 1e-6


def test_a_clean_stream_opens_none(sidecar: Sidecar, sink: Sink, digest: str) -> None:
    sidecar.send(columns(40 * WINDOW, seed=11), "clean", size=WINDOW, digest=digest)
    sidecar.wait_tested(40)
    status = sidecar.status()
    assert (status["open"], status["events"]["pending"]) == (False, 0)
    assert events_of(sink, digest) == []


def test_values_that_go_missing_and_unseen_categories_are_drift(
    sidecar: Sidecar, sink: Sink, digest: str
) -> None:
    rows = columns(WINDOW, seed=5)
    rows["age"] = np.where(np.arange(WINDOW) % 2 == 0, np.nan, rows["age"])
    rows["channel"] = rows["channel"].copy()
    rows["channel"][:20] = "fax"
    sidecar.send(rows, "holes", digest=digest)
    wait_until(lambda: bool(events_of(sink, digest)), "the event")
    found = {f["name"]: f["aspect"] for f in events_of(sink, digest)[0]["data"]["features"]}
    assert found == {"age": "missing", "channel": "rare"}


def test_a_column_without_any_value_is_drift_and_no_crash(
    sidecar: Sidecar, sink: Sink, digest: str
) -> None:
    rows = columns(WINDOW, seed=6)
    rows["age"] = np.full(WINDOW, np.nan)
    rows["channel"] = np.full(WINDOW, "", dtype=object)
    sidecar.send(rows, "empty", digest=digest)
    wait_until(lambda: bool(events_of(sink, digest)), "the event")
    named = [f["name"] for f in events_of(sink, digest)[0]["data"]["features"]]
    assert sorted(named) == ["age", "channel"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'{"specversion":"1.0"}',
        b"[" * 100_000,
    ],
)
def test_answers_400_to_a_body_that_is_no_event(shared: Sidecar, body: bytes) -> None:
    for method, path in (("POST", "/events"), ("PUT", "/bundle")):
        status, answer = shared.request(method, path, body)
        assert status == 400
        assert json.loads(answer)["error"]


def test_answers_413_to_a_huge_event_and_goes_on(shared: Sidecar) -> None:
    status, answer = shared.request("POST", "/events", b" " * (17 * 2**20))
    assert status == 413
    assert "fewer rows" in json.loads(answer)["error"]
    assert shared.request("GET", "/healthz")[0] == 200


def test_acknowledges_at_once_while_detection_is_behind(shared: Sidecar, digest: str) -> None:
    config = {"windows": {**CONFIG["windows"], "size": 20}}
    shared.introduce(digest=digest, config=config)
    event_count = 20
    slowest = 0.0
    for number in range(event_count):
        event = rows_event(columns(200, seed=number), f"busy-{number}", digest)
        began = time.monotonic()
        assert shared.request("POST", "/events", event) == (202, b"")
        slowest = max(slowest, time.monotonic() - began)
    tested = shared.status()["window"]["tested"]
    assert tested < event_count * 10
    assert slowest < 1
    shared.wait_tested(event_count * 10)


def test_rows_beyond_the_ring_are_dropped_and_counted(shared: Sidecar, digest: str) -> None:
    shared.introduce(digest=digest)
    event = rows_event(columns(30_000, seed=1), "large", digest)
    assert shared.request("POST", "/events", event)[0] == 202
    assert shared.metric('seatrial_drift_rows_dropped_total{reason="ring_full"}') == 10_000
    assert "10000 rows were dropped: ring_full" in shared.status()["problems"]


def test_answers_before_alibi_is_imported_and_keeps_the_rows(
    drift_python: Path, tmp_path: Path
) -> None:
    sidecar = Sidecar(drift_python, tmp_path / "log", "--window_rows", "100")
    assert sidecar.request("POST", "/events", rows_event(columns(1, seed=1), "x"))[0] == 409
    sidecar.introduce(config=ONLY_WINDOWS)
    sidecar.send(columns(WINDOW, seed=2), "early")
    assert sidecar.status()["detector"]["ready"] is False
    sidecar.wait_tested(2)
    assert sidecar.stop() == 0


def test_listens_on_the_loopback_address_it_is_told(shared: Sidecar) -> None:
    listening = {
        tuple(connection.laddr)
        for connection in psutil.net_connections("inet")
        if connection.pid == shared.process.pid and connection.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", shared.port)}


def test_bad_settings_end_it_with_exit_code_2(drift_python: Path) -> None:
    ended = subprocess.run(
        [str(drift_python), "-m", "serving.drift", "--sink", "nowhere"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == (
        "error: sink 'nowhere' is not an http or https URL; give http://HOST[:PORT]/PATH\n"
    )


def test_a_taken_port_ends_it_with_exit_code_1(drift_python: Path, shared: Sidecar) -> None:
    ended = subprocess.run(
        [str(drift_python), "-m", "serving.drift", "--port", str(shared.port)],
        capture_output=True,
        text=True,
        check=False,
        env={"SEATRIAL_HOST": "127.0.0.1"},
    )
    assert ended.returncode == 1
    assert f"port {shared.port}: Address already in use; give another --port\n" in ended.stderr


def test_the_sidecars_own_modules_import_nothing_heavy(drift_python: Path) -> None:
    script = (
        "import sys, serving.drift.__main__;"
        "print(sorted({'kserve','torch','kfp','pandas','alibi_detect','scipy','requests','aiohttp'}"
        " & set(sys.modules)))"
    )
    ended = subprocess.run(
        [str(drift_python), "-c", script], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "[]"


def test_introducing_itself_twice_leaves_the_predictor_alone(shared: Sidecar, digest: str) -> None:
    body = introduction(digest=digest)
    assert [shared.request("PUT", "/bundle", body)[0] for _ in range(2)] == [204, 204]
