"""Every wire gives the model's own scores, and KServe's and Triton's clients work unchanged."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, RESTConfig
from kserve.protocol.infer_type import InferInput, InferRequest
from numpy.typing import NDArray

from tests.serving.predictor.servers import (
    DATATYPES,
    MODEL,
    ROW,
    Served,
    grpc_request,
    instances,
    unseen_rows,
    v2_inputs,
)
from tests.support.tiny import expected_scores

COUNT = 200


@pytest.fixture(scope="module")
def columns() -> dict[str, NDArray[Any]]:
    return unseen_rows(COUNT)


def banded(scores: NDArray[Any]) -> list[str]:
    return ["approve" if s < 0.3 else "review" if s < 0.8 else "decline" for s in scores]


def same(scores: Any, decisions: Any, columns: dict[str, NDArray[Any]]) -> None:
    expected = expected_scores(columns)
    np.testing.assert_allclose(np.asarray(scores), expected, atol=1e-5)
    assert list(decisions) == banded(expected)
    assert set(decisions) == {"approve", "review", "decline"}


def test_v1_scores_every_instance(served: Served, columns: dict[str, NDArray[Any]]) -> None:
    answer = served.v1(*instances(columns))
    assert answer.code == 200
    found = answer.body["predictions"]
    assert set(found[0]) == {"score", "decision", "reason"}
    same([p["score"] for p in found], [p["decision"] for p in found], columns)


def test_v2_json_scores_one_tensor_per_column(
    served: Served, columns: dict[str, NDArray[Any]]
) -> None:
    answer = served.v2(columns, id="r-1")
    assert answer.code == 200
    assert (answer.body["model_name"], answer.body["id"]) == (MODEL, "r-1")
    score, decision = answer.body["outputs"]
    assert (score["name"], score["datatype"], score["shape"]) == ("score", "FP32", [COUNT])
    assert (decision["name"], decision["datatype"]) == ("decision", "BYTES")
    same(score["data"], decision["data"], columns)


def test_v2_json_takes_columns_of_shape_n_by_1_in_any_order(served: Served) -> None:
    inputs = v2_inputs({name: [value, value] for name, value in reversed(ROW.items())})
    for tensor in inputs:
        tensor["shape"] = [2, 1]
        tensor["data"] = [[value] for value in tensor["data"]]
    answer = served.http(f"/v2/models/{MODEL}/infer", {"inputs": inputs})
    assert answer.code == 200, answer.body
    alone = served.v1(ROW).body["predictions"][0]["score"]
    assert answer.body["outputs"][0]["data"] == pytest.approx([alone, alone], abs=1e-6)


def test_v2_json_answers_without_an_id_and_with_only_the_output_asked_for(served: Served) -> None:
    row = {name: [value] for name, value in ROW.items()}
    answer = served.v2(row, outputs=[{"name": "decision"}])
    assert answer.code == 200
    assert answer.body["id"]
    assert [output["name"] for output in answer.body["outputs"]] == ["decision"]


def test_an_unseen_category_is_refused_and_a_missing_one_is_not(served: Served) -> None:
    assert served.v1({**ROW, "channel": None}).code == 200
    assert served.v1({**ROW, "channel": "fax"}).code == 400


@pytest.mark.parametrize("raw", [False, True], ids=["typed", "raw"])
def test_grpc_answers_in_the_form_it_was_asked(
    served: Served, columns: dict[str, NDArray[Any]], raw: bool
) -> None:
    answer = served.grpc(grpc_request(columns, raw=raw))
    assert answer.code == "OK", answer.body
    message = answer.body
    assert message.id
    if raw:
        scores = np.frombuffer(message.raw_output_contents[0], "<f4")
        packed = message.raw_output_contents[1]
        texts, at = [], 0
        while at < len(packed):
            size = int.from_bytes(packed[at : at + 4], "little")
            texts.append(packed[at + 4 : at + 4 + size].decode())
            at += 4 + size
        same(scores, texts, columns)
    else:
        score, decision = (output.contents for output in message.outputs)
        same(score.fp32_contents, [t.decode() for t in decision.bytes_contents], columns)


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_tritonclient_http(
    served: Served, columns: dict[str, NDArray[Any]], triton_http: Any, binary: bool
) -> None:
    client = triton_http.InferenceServerClient(f"127.0.0.1:{served.http_port}")
    assert client.is_model_ready(MODEL)
    inputs = []
    for name, column in columns.items():
        tensor = triton_http.InferInput(name, [COUNT], DATATYPES[name])
        # JSON has no NaN; 50 is what the model takes a missing age for.
        sent = column if binary or name != "age" else np.nan_to_num(column, nan=50.0)
        inputs.append(tensor.set_data_from_numpy(sent, binary_data=binary))
    outputs = [
        triton_http.InferRequestedOutput(name, binary_data=binary) for name in ("score", "decision")
    ]
    for asked in (outputs, None):
        result = client.infer(MODEL, inputs, outputs=asked)
        decisions = [d.decode() if isinstance(d, bytes) else d for d in result.as_numpy("decision")]
        same(result.as_numpy("score"), decisions, columns)
    client.close()


def test_tritonclient_grpc(
    served: Served, columns: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps({n: [DATATYPES[n], c.tolist()] for n, c in columns.items()}))
    script = Path(__file__).with_name("triton_grpc_client.py")
    shown = subprocess.run(
        [sys.executable, script, str(served.grpc_port), MODEL, rows],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answer = json.loads(shown.stdout)
    assert answer["ready"] is True
    assert answer["inputs"] == DATATYPES
    same(answer["score"], answer["decision"], columns)


def sdk_request(columns: dict[str, NDArray[Any]], *, binary: bool) -> InferRequest:
    inputs = []
    for name, column in columns.items():
        tensor = InferInput(name, [len(column)], DATATYPES[name])
        tensor.set_data_from_numpy(column, binary_data=binary)
        inputs.append(tensor)
    return InferRequest(MODEL, inputs)


def test_kserve_rest_client(served: Served, columns: dict[str, NDArray[Any]]) -> None:
    async def ask() -> tuple[Any, Any, bool]:
        v2 = InferenceRESTClient(RESTConfig(protocol="v2", timeout=20))
        v1 = InferenceRESTClient(RESTConfig(protocol="v1", timeout=20))
        tensors = await v2.infer(served.url, sdk_request(columns, binary=True), model_name=MODEL)
        rows = await v1.infer(served.url, {"instances": [ROW]}, model_name=MODEL)
        return tensors, rows, await v2.is_model_ready(served.url, MODEL)

    tensors, rows, ready = asyncio.run(ask())
    assert ready
    score, decision = tensors.outputs
    same(score.as_numpy(), [str(d) for d in decision.data], columns)
    assert rows["predictions"][0]["decision"] == "review"


@pytest.mark.parametrize("binary", [False, True], ids=["typed", "raw"])
def test_kserve_grpc_client(served: Served, columns: dict[str, NDArray[Any]], binary: bool) -> None:
    async def ask() -> tuple[Any, bool]:
        client = InferenceGRPCClient(f"127.0.0.1:{served.grpc_port}", timeout=20)
        answer = await client.infer(sdk_request(columns, binary=binary))
        ready = await client.is_model_ready(MODEL)
        await client.close()
        return answer, ready

    answer, ready = asyncio.run(ask())
    assert ready
    np.testing.assert_allclose(answer.outputs[0].as_numpy(), expected_scores(columns), atol=1e-5)


def test_a_cloud_event_goes_through_kserves_own_path(served: Served) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "test",
        "ce-type": "test",
        "content-type": "application/json",
    }
    path = f"/v1/models/{MODEL}:predict"
    answer = served.http(path, {"instances": [ROW]}, headers)
    assert answer.code == 200
    assert answer.body["predictions"] == served.v1(ROW).body["predictions"]
    bad = served.http(path, {"instances": [{**ROW, "amount": -1}]}, headers)
    assert (bad.code, "amount" in bad.error) == (400, True)


def test_metadata_names_the_contracts_columns(served: Served) -> None:
    metadata = served.http(f"/v2/models/{MODEL}").body
    assert {i["name"]: i["datatype"] for i in metadata["inputs"]} == DATATYPES
    assert [o["name"] for o in metadata["outputs"]] == ["score", "decision", "reason"]
