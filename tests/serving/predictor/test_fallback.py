"""Rules decide without the model; with a fallback so does the default while the model fails."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from serving.bundle import Contract
from tests.serving.predictor.servers import ROW, Served, grpc_request, serve
from tests.serving.predictor.slow import slow_bundle
from tests.support.faults import ABOVE, faulty_bundle
from tests.support.tiny import CONTRACT

FAILS = {**ROW, "visits": ABOVE + 1}
RULED = {**FAILS, "amount": 9999.0}
RULE = {"feature": "amount", "op": ">=", "value": 9999, "decision": "decline", "reason": "limit"}


def columns(row: dict[str, Any]) -> dict[str, list[Any]]:
    return {name: [value] for name, value in row.items()}


def contract(**decision: str) -> dict[str, bytes]:
    given = {**CONTRACT, "rules": [RULE], "decision": {**CONTRACT["decision"], **decision}}
    return {"contract.json": Contract.model_validate(given).canonical_json().encode()}


@pytest.fixture(scope="module")
def falling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Its contract says what decides while the model fails."""
    folder = tmp_path_factory.mktemp("falling")
    bundle = faulty_bundle(folder, "fail", **contract(fallback="review"))
    with serve(bundle.path, folder / "log") as server:
        yield server


@pytest.fixture(scope="module")
def queued(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Its runs take so long that they go through the queue; the flag outweighs its contract."""
    folder = tmp_path_factory.mktemp("queued")
    bundle = slow_bundle(folder, 12_000, "fail", **contract(fallback="review"))
    flags = ["--fallback_decision=decline", "--cache_entries=16"]
    with serve(bundle.path, folder / "log", *flags) as server:
        yield server


def test_a_final_rule_answers_without_the_failing_model(falling: Served) -> None:
    (found,) = falling.v1(RULED).body["predictions"]
    assert found == {"score": None, "decision": "decline", "reason": "limit"}
    answer = falling.v2(columns(RULED), outputs=[{"name": "reason"}, {"name": "score"}])
    assert [output["data"] for output in answer.body["outputs"]] == [["limit"], [None]]
    assert "parameters" not in answer.body


def test_a_failing_model_falls_back_and_says_so_on_every_wire(falling: Served) -> None:
    (found,) = falling.v1(FAILS).body["predictions"]
    assert (found["decision"], found["fallback"], found["score"]) == ("review", True, None)
    body = falling.v2(columns(FAILS)).body
    assert body["parameters"] == {"fallback": True, "fallback_reason": "the model failed"}
    message = falling.grpc(grpc_request(columns(FAILS))).body
    assert message.parameters["fallback"].bool_param
    assert falling.metric("seatrial_fallbacks_total", reason="failed") >= 3


def test_only_the_rows_that_no_rule_decides_fall_back(falling: Served) -> None:
    found = falling.v1(RULED, FAILS).body["predictions"]
    assert [row["decision"] for row in found] == ["decline", "review"]


@pytest.mark.parametrize("name", ["falling", "queued"])
def test_the_breaker_spares_the_model_and_closes_when_it_answers(
    name: str, request: pytest.FixtureRequest
) -> None:
    server: Served = request.getfixturevalue(name)
    assert "fallback" not in server.v1(ROW).body["predictions"][0]
    for _ in range(6):
        assert server.v1(FAILS).code == 200
    assert server.metric("seatrial_breaker_open") == 1
    other = {**ROW, "amount": 99.0}
    spared = server.v1(other).body["predictions"][0]
    assert spared["reason"] == "the model is left alone after failures in a row"
    for _ in range(400):
        answered = server.v1(other).body["predictions"][0]
        if "fallback" not in answered:
            break
        time.sleep(0.01)
    assert answered["score"] is not None
    assert server.metric("seatrial_breaker_open") == 0


def test_a_callers_impatience_is_no_failure_of_the_model(queued: Served) -> None:
    opened = queued.metric("seatrial_fallbacks_total", reason="breaker")
    body = orjson.dumps({"instances": [{**ROW, "amount": 7.0}]})
    for _ in range(6):
        headers = {"x-envoy-expected-rq-timeout-ms": "1"}
        status, _, answer = queued.exchange("POST", "/v1/models/tiny:predict", body, headers)
        (found,) = orjson.loads(answer)["predictions"]
        assert (status, found["decision"], found["fallback"]) == (200, "decline", True)
    assert queued.metric("seatrial_breaker_open") == 0
    assert queued.metric("seatrial_fallbacks_total", reason="breaker") == opened


def test_a_repeated_request_is_answered_from_the_cache_on_every_wire(queued: Served) -> None:
    def count(result: str) -> float:
        return queued.metric("seatrial_cache_total", result=result)

    row = {**ROW, "amount": 321.0}
    hits, misses = count("hit"), count("miss")
    runs = queued.metric("seatrial_batch_rows_count")
    first = queued.v1(row).body["predictions"][0]["score"]
    for _ in range(3):
        assert queued.v1(row).body["predictions"][0]["score"] == first
    again = queued.v2(columns(row), id="mine").body
    assert (again["id"], again["outputs"][0]["data"]) == ("mine", [pytest.approx(first)])
    message = queued.grpc(grpc_request(columns(row))).body
    assert list(message.outputs[0].contents.fp32_contents) == [pytest.approx(first)]
    assert (count("hit") - hits, count("miss") - misses) == (5, 1)
    assert queued.metric("seatrial_batch_rows_count") == runs + 1
    for at in range(16):
        queued.v1({**ROW, "amount": float(at)})
    queued.v1(row)
    assert count("hit") == hits + 5


def test_answers_are_json_without_nan(falling: Served) -> None:
    json.dumps(falling.v1(RULED).body, allow_nan=False)
