"""Requests that are read together share a run, and each gets the answer it would get alone."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
import orjson
import pytest

from benchmarks.serving import models
from tests.serving.predictor.servers import MODEL, Served, serve

PATH = f"/v2/models/{MODEL}/infer"


def body(data: Any, request_id: str) -> bytes:
    tensor = {"name": "x", "shape": list(data.shape), "datatype": "FP32"}
    return orjson.dumps({"id": request_id, "inputs": [{**tensor, "data": data.ravel().tolist()}]})


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A model whose rows are several times cheaper together."""
    folder = tmp_path_factory.mktemp("large")
    bundle = models.bundle(folder, models.LARGE)
    with serve(bundle.path, folder / "log") as server:
        yield server


def expected(data: Any) -> Any:
    session = onnxruntime.InferenceSession(
        models.plain_model(models.LARGE), providers=["CPUExecutionProvider"]
    )
    return session.run(["score"], {"x": data})[0]


def test_everyone_gets_their_own_scores_and_runs_are_shared(large: Served) -> None:
    data = models.sample(400, seed=5)
    want = expected(data)

    def ask(at: int) -> list[float]:
        rows = data[at : at + 1 + at % 3]
        answer = large.http(PATH, body(rows, str(at)))
        assert (answer.code, answer.body["id"]) == (200, str(at))
        scores: list[float] = answer.body["outputs"][0]["data"]
        np.testing.assert_allclose(scores, want[at : at + len(rows)], atol=1e-5)
        return scores

    with ThreadPoolExecutor(32) as pool:
        asked = sum(len(scores) for scores in pool.map(ask, range(390)))
    assert large.metric("seatrial_rows_total") == asked
    assert large.metric("seatrial_batch_rows_sum") == asked
    assert large.metric("seatrial_requests_total", code="200") == 390


def test_pipelined_requests_keep_their_order_with_bad_ones_among_them(large: Served) -> None:
    good = models.sample(4)
    asked = [body(good[at : at + 1], f"r{at}") for at in range(4)]
    asked[1:1] = [b"{}"]
    asked[3:3] = [b"nonsense"]
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: "
    sent = b"".join(f"{head}{len(each)}\r\n\r\n".encode() + each for each in asked)
    seen: list[Any] = []
    with socket.create_connection(("127.0.0.1", large.http_port), timeout=5) as client:
        client.sendall(sent)
        for _ in asked:
            response = http.client.HTTPResponse(client)
            # The next response must not vanish into this one's buffer.
            response.fp = client.makefile("rb", buffering=0)  # type: ignore[assignment]
            response.begin()
            seen.append(orjson.loads(response.read()).get("id", response.status))
    assert seen == ["r0", 400, "r1", 400, "r2", "r3"]


def test_a_queue_of_one_refuses_or_answers_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("narrow")
    bundle = models.bundle(folder, models.LARGE)
    data = body(models.sample(1), "r")
    with serve(bundle.path, folder / "log", "--max_queue=1") as server:
        with ThreadPoolExecutor(32) as pool:
            codes = list(pool.map(lambda _: server.http(PATH, data).code, range(300)))
        assert set(codes) <= {200, 503}
        assert codes.count(200) > 0
        assert server.metric("seatrial_requests_total", code="503") == codes.count(503)
