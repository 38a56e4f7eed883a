"""Workers share the ports, count together, and come and go as one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from serving.bundle import Bundle
from tests.serving.predictor.servers import ROW, Served, grpc_request, launch, serve, wait_for


@pytest.fixture(scope="module")
def group(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log = tmp_path_factory.mktemp("workers") / "log"
    with serve(bundle.path, log, "--workers=2") as server:
        wait_for(lambda: log.read_text().count("golden rows reproduced") == 2, 90)
        yield server


def workers(group: Served) -> list[int]:
    return sorted(child.pid for child in psutil.Process(group.process.pid).children())


def listeners(port: int) -> list[int]:
    return sorted(
        c.pid
        for c in psutil.net_connections("inet")
        if c.pid and c.laddr and c.laddr.port == port and c.status == psutil.CONN_LISTEN
    )


def test_all_workers_serve_both_ports(group: Served) -> None:
    for port in (group.http_port, group.grpc_port):
        wait_for(lambda at=port: listeners(at) == workers(group), 10)


def test_whoever_is_asked_shows_the_sum(group: Served) -> None:
    message = grpc_request({name: [value] for name, value in ROW.items()})
    with ThreadPoolExecutor(4) as pool:
        assert [a.code for a in pool.map(group.v1, [ROW] * 40)] == [200] * 40
        assert [a.code for a in pool.map(group.grpc, [message] * 20)] == ["OK"] * 20
    wait_for(lambda: group.metric("seatrial_rows_total") == 60, 5)
    seen = {
        (group.metric("seatrial_requests_total"), group.metric("seatrial_scores_count"))
        for _ in range(10)
    }
    assert seen == {(60, 60)}
    assert group.metric("seatrial_ready") == 1


def test_a_worker_that_crashed_is_started_again_and_no_count_is_lost(group: Served) -> None:
    before = group.metric("seatrial_requests_total")
    first, second = workers(group)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: len(workers(group)) == 2 and first not in workers(group), 30)
    wait_for(lambda: group.log.read_text().count("golden rows reproduced") == 3, 90)
    assert second in workers(group)
    assert group.metric("seatrial_requests_total") == before


def test_sigterm_ends_them_all_with_0(group: Served) -> None:
    members = workers(group)
    group.process.send_signal(signal.SIGTERM)
    assert group.process.wait(10) == 0
    assert not any(psutil.pid_exists(pid) for pid in members)


def test_a_refused_bundle_ends_the_group_with_its_code(tmp_path: Path) -> None:
    server = launch(tmp_path / "nothing", tmp_path / "log", "--workers=2")
    assert server.process.wait(90) == 1
    assert "no bundle" in server.log.read_text()
