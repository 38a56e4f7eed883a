"""Work that nobody waits for any more is dropped before it is computed, on every wire."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import orjson
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as service

from serving.bundle import Bundle
from serving.predictor.gather import Gatherer
from serving.predictor.graph import Graph
from serving.predictor.grpc_server import GrpcServer
from serving.predictor.http import InferenceApp, Reply
from serving.predictor.metrics import SLOT_OF, Metrics
from serving.predictor.model import BundleModel
from serving.predictor.session import ModelSession
from tests.serving.predictor.servers import (
    MODEL,
    ROW,
    Served,
    grpc_request,
    serve,
    v2_inputs,
    wait_for,
)
from tests.serving.predictor.slow import slow_bundle
from tests.support.faults import ABOVE

STUCK = {**ROW, "visits": ABOVE + 1}
BUDGET = 3.0
PATIENCE_MS = 60
BODY = orjson.dumps({"inputs": v2_inputs({name: [value] for name, value in ROW.items()})})
INFER = f"/v2/models/{MODEL}/infer"


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("slow")
    bundle = slow_bundle(folder)
    with serve(bundle.path, folder / "log", f"--predict_timeout_seconds={BUDGET}") as server:
        yield server


def test_clients_that_left_or_ran_out_of_time_cost_no_run(slow: Served) -> None:
    message = grpc_request({name: [value] for name, value in ROW.items()})
    with (
        ThreadPoolExecutor(1) as pool,
        grpc.insecure_channel(f"127.0.0.1:{slow.grpc_port}") as channel,
    ):
        stub = service.GRPCInferenceServiceStub(channel)
        assert slow.v1(ROW).code == 200
        # From here on the model's only thread is taken; a second one starts 10 runs' time later.
        stuck = pool.submit(slow.v1, STUCK)
        wait_for(lambda: slow.metric("seatrial_in_flight") == 1, 5)
        leaving = http.client.HTTPConnection("127.0.0.1", slow.http_port, timeout=5)
        leaving.request("POST", INFER, BODY)
        cancelled = stub.ModelInfer.future(message)
        wait_for(lambda: slow.metric("seatrial_in_flight") == 3, 5)
        leaving.close()
        cancelled.cancel()
        start = time.monotonic()
        late = slow.exchange(
            "POST", INFER, BODY, {"x-envoy-expected-rq-timeout-ms": str(PATIENCE_MS)}
        )
        assert late[0] == 504
        assert b"caller" in late[2]
        with pytest.raises(grpc.RpcError) as refused:
            stub.ModelInfer(message, timeout=PATIENCE_MS / 1000)
        assert refused.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - start < BUDGET
        assert slow.v1(ROW, ROW, ROW).code == 200
        assert stuck.result().code == 504
    # On a busy machine the budget of those who left may pass too before a thread sees them.
    assert slow.metric("seatrial_dropped_requests_total") == 4
    assert slow.metric("seatrial_dropped_requests_total", reason="late") >= 2
    # Rows that were run: one, the stuck one, and the last three.
    assert slow.metric("seatrial_batch_rows_sum") == 5
    wait_for(lambda: slow.metric("seatrial_in_flight") == 0, 5)


class Context:
    """Of a gRPC call whose client went away while it waited for its thread."""

    def __init__(self) -> None:
        self.code: Any = None

    def is_active(self) -> bool:
        return False

    def set_code(self, code: Any) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        pass


class Asker:
    def __init__(self, *, left: bool) -> None:
        self.left = left
        self.answers: list[Reply | None] = []

    def has_left(self) -> bool:
        return self.left

    def answer(self, reply: Reply | None) -> None:
        self.answers.append(reply)


@pytest.fixture
def model(bundle: Bundle) -> BundleModel:
    metrics = Metrics(MODEL, bundle.digest, "test")
    session = ModelSession(Graph(bundle, ["CPUExecutionProvider"], 1), 5.0, metrics)
    session.expect(0.0, 0.0)
    return BundleModel(MODEL, session, metrics)


def gone(model: BundleModel) -> float:
    return model.metrics.board.mine[SLOT_OF["seatrial_dropped_requests", "gone"]]


def test_a_grpc_call_that_was_cancelled_in_the_queue_is_not_even_read(model: BundleModel) -> None:
    server = GrpcServer("127.0.0.1:0", model, None, max_message_bytes=2**20)
    context = Context()
    message = grpc_request({name: [value] for name, value in ROW.items()})
    server._infer(message, context)
    assert context.code == grpc.StatusCode.CANCELLED
    assert gone(model) == 1
    assert model.metrics.board.mine[SLOT_OF["seatrial_in_flight",]] == 0


async def rest(*_: Any) -> None:
    raise AssertionError("an inference request went to KServe's app")


def test_who_leaves_before_a_shared_run_is_not_in_it(model: BundleModel) -> None:
    app = InferenceApp(rest, model)
    gatherer = Gatherer(app, 10)
    askers = [Asker(left=left) for left in (False, True, False)]
    gatherer._asked = [(asker, "v2", [], BODY) for asker in askers]
    gatherer.answer_all()
    assert [len(asker.answers) for asker in askers] == [1, 0, 1]
    assert gone(model) == 1
    model.metrics.flush()
    assert model.metrics.board.mine[SLOT_OF["seatrial_rows",]] == 2
