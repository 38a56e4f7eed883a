"""Rules decide without the model; with a fallback so does the default while the model fails."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from serving.bundle import Contract
from tests.serving.predictor.servers import ROW, Served, grpc_request, serve
from tests.support.faults import ABOVE, faulty_bundle
from tests.support.tiny import CONTRACT

FAILS = {**ROW, "visits": ABOVE + 1}
RULED = {**FAILS, "amount": 9999.0}
RULE = {"feature": "amount", "op": ">=", "value": 9999, "decision": "decline", "reason": "limit"}


def columns(row: dict[str, Any]) -> dict[str, list[Any]]:
    return {name: [value] for name, value in row.items()}


@pytest.fixture(scope="module")
def falling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("falling")
    made = Contract.model_validate({**CONTRACT, "rules": [RULE]})
    extra: dict[str, bytes] = {"contract.json": made.canonical_json().encode()}
    bundle = faulty_bundle(folder, "fail", **extra)
    with serve(bundle.path, folder / "log", "--fallback_decision=review") as server:
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


def test_the_breaker_spares_the_model_and_closes_when_it_answers(falling: Served) -> None:
    falling.v1(ROW)
    for _ in range(6):
        assert falling.v1(FAILS).code == 200
    assert falling.metric("seatrial_breaker_open") == 1
    spared = falling.v1(ROW).body["predictions"][0]
    assert spared["reason"] == "the model is left alone after failures in a row"
    for _ in range(400):
        answered = falling.v1(ROW).body["predictions"][0]
        if "fallback" not in answered:
            break
        time.sleep(0.01)
    assert answered["score"] is not None
    assert falling.metric("seatrial_breaker_open") == 0


def test_answers_are_json_without_nan(falling: Served) -> None:
    json.dumps(falling.v1(RULED).body, allow_nan=False)
