"""The wrapper as Seldon starts it: the real microservice in its own environment, over a socket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.bundle import Bundle
from tests.serving.predictor.servers import free_port, instances, serve, v2_inputs, wait_for
from tests.support import tiny

ROWS = 100


class Seldon:
    def __init__(self, port: int) -> None:
        self.port = port

    def post(self, message: Any) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1.0/predictions",
            json.dumps(message).encode(),
            {"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - loopback
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def healthy(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.port}/health/status"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny.tiny_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def seldon(
    seldon_python: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Seldon]:
    log = tmp_path_factory.mktemp("seldon") / "log"
    port = free_port()
    parameters = [{"name": "model_dir", "value": str(bundle.path), "type": "STRING"}]
    command = [str(seldon_python.with_name("seldon-core-microservice"))]
    command += ["serving.seldon.model.BundleModel", "--service-type=MODEL"]
    command += [f"--http-port={port}", f"--grpc-port={free_port()}"]
    command += [f"--metrics-port={free_port()}", f"--parameters={json.dumps(parameters)}"]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env={**os.environ, "SELDON_LOG_LEVEL": "WARNING"},
            start_new_session=True,
        )
    ours = Seldon(port)
    try:
        wait_for(lambda: ours.healthy() or process.poll() is not None, 90)
        assert process.poll() is None, log.read_text()
        yield ours
    finally:
        # Its servers are processes of their own, which outlive a SIGTERM to the first.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_its_scores_equal_the_predictors(seldon: Seldon, bundle: Bundle, tmp_path: Path) -> None:
    columns = tiny.rows(ROWS, seed=11)
    with serve(bundle.path, tmp_path / "log") as server:
        answer = server.http("/v2/models/tiny/infer", {"inputs": v2_inputs(columns)})
        theirs = {one["name"]: one["data"] for one in answer.body["outputs"]}
    rows = instances(columns)
    names = list(rows[0])
    message = {"data": {"names": names, "ndarray": [[row[n] for n in names] for row in rows]}}
    status, found = seldon.post(message)
    assert (status, found["data"]["names"]) == (200, ["score", "decision", "reason"])
    scores, decisions, _ = zip(*found["data"]["ndarray"], strict=True)
    assert len(scores) == ROWS
    np.testing.assert_allclose(scores, theirs["score"], rtol=0, atol=1e-6)
    assert list(decisions) == theirs["decision"]
    status, again = seldon.post({"jsonData": {"instances": rows}})
    assert (status, again["data"]["ndarray"]) == (200, found["data"]["ndarray"])


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ({}, "give data with names and ndarray, or jsonData with instances"),
        ({"data": {"ndarray": [[1]]}}, "names are the features' names"),
        ({"data": {"names": ["amount"], "ndarray": [[1, 2]]}}, "row 0 of ndarray"),
        ({"data": {"names": ["amount"], "ndarray": [[1.0]]}}, "column 'age' is missing"),
        ({"jsonData": {"instances": [{"amount": -1.0, "age": 3.0, "visits": 1, "channel": "web"}]}},
         "feature 'amount': -1 in row 0; the contract's minimum is 0"),
    ],
)  # fmt: skip
def test_a_bad_message_is_the_callers_fault(seldon: Seldon, message: Any, sentence: str) -> None:
    status, body = seldon.post(message)
    assert status == 400
    assert sentence in json.dumps(body)


def test_an_altered_bundle_is_not_served(
    seldon_python: Path, bundle: Bundle, tmp_path: Path
) -> None:
    copied = tmp_path / "bundle"
    copied.mkdir()
    for name in ("bundle.json", *bundle.files):
        (copied / name).parent.mkdir(exist_ok=True)
        (copied / name).write_bytes((bundle.path / name).read_bytes())
    (copied / "model.onnx").write_bytes(b"other")
    script = f"from serving.seldon.model import BundleModel; BundleModel({str(copied)!r}).load()"
    done = subprocess.run(
        [str(seldon_python), "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert "the file was altered, restore the bundle" in done.stderr
