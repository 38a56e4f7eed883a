"""The drift sidecar gets every row with its id; its absence costs the caller nothing."""

from __future__ import annotations

import base64
import io
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from serving.bundle import Bundle
from tests.serving.predictor.servers import (
    ROW,
    Served,
    free_port,
    grpc_request,
    instances,
    serve,
    unseen_rows,
    v2_inputs,
    wait_for,
)

ARM = "isvc.tiny-v2-predictor"


class Receiver(ThreadingHTTPServer):
    """A sidecar that keeps what it gets; `forget` makes it one that has just started."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        self.lock = threading.Lock()
        self.bundles: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.refused = 0
        self.known: str | None = None
        super().__init__(("127.0.0.1", port), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def forget(self) -> None:
        with self.lock:
            self.known = None

    def ids(self) -> list[str]:
        with self.lock:
            return [row_id for event in self.events for row_id in event["data"]["ids"]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_PUT(self) -> None:
        bundle = self._body()
        with self.server.lock:
            self.server.bundles.append(bundle)
            self.server.known = bundle["digest"]
        self._answer(204 if self.path == "/bundle" else 404)

    def do_POST(self) -> None:
        event = self._body()
        with self.server.lock:
            known = self.server.known == event["data"]["digest"]
            if known:
                event["content-type"] = self.headers["content-type"]
                self.server.events.append(event)
            else:
                self.server.refused += 1
        self._answer(202 if known else 409)

    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
        return body

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def teeing(
    bundle: Bundle, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    log = tmp_path_factory.mktemp("teeing") / "log"
    url = f"--tee_url=http://127.0.0.1:{receiver.server_address[1]}"
    with serve(bundle.path, log, url, env={"SEATRIAL_ARM": ARM}) as server:
        wait_for(lambda: receiver.bundles, 5)
        yield server


def test_introduces_the_bundle_at_start(teeing: Served, receiver: Receiver, bundle: Bundle) -> None:
    introduction = receiver.bundles[0]
    assert (introduction["digest"], introduction["arm"]) == (bundle.digest, ARM)
    assert introduction["model"] == "tiny"
    assert introduction["contract"] == bundle.read_json("contract.json")
    assert introduction["config"] == bundle.read_json("drift/config.json")
    reference = np.load(io.BytesIO(base64.b64decode(introduction["reference"])))
    assert set(reference.files) == set(bundle.contract.feature_names)


def unpacked(column: dict[str, str]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(column["base64"]), column["dtype"])


def test_sends_every_row_with_its_id_score_and_decision(
    teeing: Served, receiver: Receiver, bundle: Bundle
) -> None:
    columns = unseen_rows(50)
    answer = teeing.v2(columns, id="batch")
    wait_for(lambda: "batch/49" in receiver.ids(), 5)
    event = next(e for e in receiver.events if "batch/0" in e["data"]["ids"])
    data = event["data"]
    assert event["specversion"] == "1.0"
    assert event["type"] == "io.seatrial.inference.rows"
    assert event["source"] == f"/seatrial/tiny/{ARM}"
    assert event["content-type"] == "application/cloudevents+json"
    assert (data["digest"], data["arm"]) == (bundle.digest, ARM)
    assert data["ids"] == [f"batch/{row}" for row in range(50)]
    sent = {tensor["name"]: tensor["data"] for tensor in v2_inputs(columns)}
    assert data["columns"]["channel"] == sent["channel"]
    for name in ("visits", "amount", "age"):
        np.testing.assert_array_equal(unpacked(data["columns"][name]), columns[name])
    assert unpacked(data["outputs"]["score"]) == pytest.approx(answer.body["outputs"][0]["data"])
    assert data["outputs"]["decision"] == answer.body["outputs"][1]["data"]


def test_rows_of_every_wire_arrive_exactly_once(teeing: Served, receiver: Receiver) -> None:
    before = len(receiver.ids())
    rows = instances(unseen_rows(30))
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(teeing.v1, rows):
            assert answer.code == 200
    for _ in range(5):
        teeing.grpc(grpc_request({name: [value] for name, value in ROW.items()}))
    wait_for(lambda: len(receiver.ids()) >= before + 35, 5)
    ids = receiver.ids()
    assert len(ids) == before + 35
    assert len(set(ids)) == len(ids)
    assert len({event["id"] for event in receiver.events}) == len(receiver.events)
    wait_for(lambda: teeing.metric("seatrial_tee_rows_total") == len(ids), 5)


def test_introduces_itself_again_to_a_sidecar_that_restarted(
    teeing: Served, receiver: Receiver
) -> None:
    introductions = len(receiver.bundles)
    receiver.forget()
    answer = teeing.v2({name: [value] for name, value in ROW.items()}, id="after-restart")
    assert answer.code == 200
    wait_for(lambda: "after-restart" in receiver.ids(), 5)
    assert receiver.refused == 1
    assert len(receiver.bundles) == introductions + 1


def test_refused_requests_are_not_copied(teeing: Served, receiver: Receiver) -> None:
    row = {name: [value] for name, value in ROW.items()}
    assert teeing.v2({**row, "amount": [-1.0]}, id="refused").code == 400
    assert teeing.v2(row, id="sound").code == 200
    wait_for(lambda: "sound" in receiver.ids(), 5)
    assert "refused" not in receiver.ids()


def test_a_sidecar_that_starts_late_gets_what_waited(bundle: Bundle, tmp_path: Path) -> None:
    port = free_port()
    with serve(bundle.path, tmp_path / "log", f"--tee_url=http://127.0.0.1:{port}") as server:
        answer = server.v2({name: [value] for name, value in ROW.items()}, id="early")
        assert answer.code == 200
        with Receiver(port) as late:
            wait_for(lambda: "early" in late.ids(), 10)
            assert len(late.bundles) == 1
            late.shutdown()


def test_sigterm_flushes_rows_that_wait(
    teeing: Served, receiver: Receiver, bundle: Bundle, tmp_path: Path
) -> None:
    url = f"--tee_url=http://127.0.0.1:{receiver.server_address[1]}"
    with serve(bundle.path, tmp_path / "log", url) as server:
        answer = server.v2({name: [value] for name, value in ROW.items()}, id="last-words")
        assert answer.code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
    assert "last-words" in receiver.ids()


def test_a_sidecar_that_never_answers_costs_neither_time_nor_memory(
    bundle: Bundle, tmp_path: Path
) -> None:
    """It accepts connections and says nothing, the worst a sidecar can do."""
    rows = 1000
    body = {name: [value] * rows for name, value in ROW.items()}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"--tee_url=http://127.0.0.1:{silent.getsockname()[1]}"
        with serve(bundle.path, tmp_path / "log", url) as server:
            memory = psutil.Process(server.process.pid)
            for _ in range(10):
                assert server.v2(body).code == 200
            before = memory.memory_info().rss
            slowest = 0.0
            for _ in range(100):
                start = time.monotonic()
                assert server.v2(body).code == 200
                slowest = max(slowest, time.monotonic() - start)
            assert slowest < 1
            assert memory.memory_info().rss - before < 20 * 2**20
            dropped = server.metric("seatrial_tee_dropped_rows_total", reason="full")
            assert 110 * rows - dropped <= 5 * rows
            start = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(10) == 0
            assert time.monotonic() - start < 5
