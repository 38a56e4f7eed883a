"""A graph that fails or loops costs its own requests an error and nobody else anything."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from seatrial.demo.fault import Kind, plant_fault
from serving.errors import UsageError
from tests.serving.predictor.servers import ROW, Answer, Served, grpc_request, serve, wait_for
from tests.support import tiny
from tests.support.faults import ABOVE, faulty_bundle

RARE = {**ROW, "visits": ABOVE + 1}
BUDGET = 0.6


def columns(row: dict[str, Any]) -> dict[str, list[Any]]:
    return {name: [value] for name, value in row.items()}


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("failing")
    with serve(faulty_bundle(folder, "fail").path, folder / "log") as server:
        yield server


@pytest.fixture(scope="module")
def looping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("looping")
    flag = f"--predict_timeout_seconds={BUDGET}"
    with serve(faulty_bundle(folder, "loop").path, folder / "log", flag) as server:
        yield server


def test_a_failing_graph_answers_500_on_every_wire(failing: Served) -> None:
    for answer in (failing.v1(RARE), failing.v2(columns(RARE))):
        assert answer.code == 500
        assert "the model failed" in answer.error
    for raw in (False, True):
        assert failing.grpc(grpc_request(columns(RARE), raw=raw)).code == "INTERNAL"


def test_other_rows_keep_working_beside_a_failing_one(failing: Served) -> None:
    rows = [ROW, RARE] * 20
    with ThreadPoolExecutor(8) as pool:
        codes = [answer.code for answer in pool.map(failing.v1, rows)]
    assert codes == [200, 500] * 20
    assert failing.ready()


def test_a_looping_graph_answers_504_within_its_budget(looping: Served) -> None:
    asks: list[Callable[[], Answer]] = [
        lambda: looping.v1(RARE),
        lambda: looping.v2(columns(RARE)),
    ]
    for ask in asks:
        start = time.monotonic()
        answer = ask()
        assert answer.code == 504
        assert "budget" in answer.error
        assert BUDGET <= time.monotonic() - start < BUDGET + 1
    assert looping.grpc(grpc_request(columns(RARE))).code == "DEADLINE_EXCEEDED"


def test_other_rows_are_answered_while_a_graph_loops(looping: Served) -> None:
    with ThreadPoolExecutor(3) as pool:
        stuck = [pool.submit(looping.v1, RARE) for _ in range(3)]
        answered = 0
        while not any(future.done() for future in stuck):
            assert looping.v1(ROW).code == 200
            answered += 1
        assert [future.result().code for future in stuck] == [504] * 3
    assert answered > 3


def test_a_stopped_loop_gives_its_core_back(looping: Served) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(looping.v1, [RARE] * 16))
    assert [answer.code for answer in answers] == [504] * 16
    start = time.monotonic()
    assert looping.v1(ROW).code == 200
    assert time.monotonic() - start < BUDGET


def test_sigterm_ends_the_process_within_5_seconds_while_graphs_loop(tmp_path: Path) -> None:
    flags = "--predict_timeout_seconds=60"
    with serve(faulty_bundle(tmp_path, "loop").path, tmp_path / "log", flags) as server:
        with ThreadPoolExecutor(4) as pool:
            stuck = [pool.submit(server.v1, RARE) for _ in range(2)]
            stuck += [pool.submit(server.grpc, grpc_request(columns(RARE)))]
            assert server.v1(ROW).code == 200
            start = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            codes = [future.result().code for future in stuck]
        assert server.process.wait(10) == 0
        assert time.monotonic() - start < 5
        assert codes == [504, 504, "DEADLINE_EXCEEDED"]


def test_sigterm_answers_what_is_in_flight_and_turns_readiness_off_first(
    served: Served, tmp_path: Path
) -> None:
    flags = "--predict_timeout_seconds=1.5"
    with serve(faulty_bundle(tmp_path, "loop").path, tmp_path / "log", flags) as server:
        with ThreadPoolExecutor(1) as pool:
            stuck = pool.submit(server.v1, RARE)
            assert server.v1(ROW).code == 200
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: server.http("/v2/models/tiny/ready").code == 503, 2)
            assert server.v1(ROW).code == 200
            assert stuck.result().code == 504
        assert server.process.wait(10) == 0
    assert served.ready()


@pytest.mark.parametrize("kind", ["fail", "loop"])
def test_a_planted_fault_leaves_every_other_score_as_it_was(kind: Kind) -> None:
    faulty = plant_fault(tiny.model_bytes(), "amount", 9999.5, kind)
    onnx.checker.check_model(onnx.load_from_string(faulty), full_check=True)
    rows = tiny.rows(500)
    scores = [
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(["score"], rows)
        for model in (tiny.model_bytes(), faulty)
    ]
    np.testing.assert_array_equal(scores[0][0], scores[1][0])


def test_a_missing_value_does_not_set_a_planted_fault_off() -> None:
    faulty = plant_fault(tiny.model_bytes(), "age", 200.0, "fail")
    session = onnxruntime.InferenceSession(faulty, providers=["CPUExecutionProvider"])
    rows = tiny.rows(3)
    rows["age"][:] = np.nan
    assert len(session.run(["score"], rows)[0]) == 3
    rows["age"][1] = 201
    with pytest.raises(Exception, match="Reshape"):
        session.run(["score"], rows)


@pytest.mark.parametrize("feature", ["channel", "colour"])
def test_refuses_to_plant_a_fault_on_a_feature_without_an_order(feature: str) -> None:
    with pytest.raises(UsageError, match=feature):
        plant_fault(tiny.model_bytes(), feature, 1.0, "fail")
