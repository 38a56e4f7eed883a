"""Rows and features in one tensor, with the names in a parameter or in the contract's order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from serving.bundle import Contract
from serving.errors import DataError
from serving.predictor.http_wire import HttpWire
from serving.predictor.wire import Request
from tests.serving.predictor.servers import MODEL, ROW, Served, grpc_request, v2_inputs

NAMES = ("a", "b", "c")
CONTRACT = Contract.model_validate(
    {
        "name": "square",
        "features": [
            {"name": "a", "dtype": "float32", "min": -5, "max": 5},
            {"name": "b", "dtype": "float32", "nullable": True},
            {"name": "c", "dtype": "float32"},
        ],
        "label": {"column": "y"},
        "decision": {"review": 0.5, "decline": 0.5},
    }
)
WIRE = HttpWire("square", CONTRACT)
DATA = [[1.0, 2.0, 3.0], [-5.0, 0.5, 1e30]]


def tensor(data: Any = None, **fields: Any) -> dict[str, Any]:
    made = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": data or [*DATA[0], *DATA[1]]}
    return {**made, **fields}


def read(*inputs: dict[str, Any]) -> Request:
    return WIRE.decode_v2(orjson.dumps({"inputs": inputs}), None)


def same(request: Request) -> None:
    found = np.array([request.rows.columns[name] for name in NAMES]).T
    np.testing.assert_array_equal(found, np.array(DATA, dtype=np.float32))


def forms() -> Iterator[dict[str, Any]]:
    yield tensor()
    yield tensor(DATA)
    yield tensor(datatype="FP64")
    yield tensor(parameters={"columns": "a,b,c"})
    yield tensor([row[::-1] for row in DATA], parameters={"columns": "c, b, a"})


@pytest.mark.parametrize("form", list(forms()))
def test_every_form_of_a_matrix_gives_the_same_rows(form: dict[str, Any]) -> None:
    same(read(form))


def test_a_packed_matrix_gives_the_same_rows() -> None:
    data = np.array(DATA, dtype=np.float32).tobytes()
    fields = tensor(parameters={"binary_data_size": len(data)})
    fields.pop("data")
    head = orjson.dumps({"inputs": [fields]})
    same(WIRE.decode_v2(head + data, len(head)))


def test_v1_takes_lists_in_the_contracts_order_as_well_as_objects() -> None:
    named = [dict(zip(NAMES, row, strict=True)) for row in DATA]
    for instances in (DATA, named, [named[0], DATA[1]]):
        same(WIRE.decode_v1(orjson.dumps({"instances": instances})))


def test_matrices_and_columns_may_share_the_features() -> None:
    part = tensor([1.0, 2.0, -5.0, 0.5], shape=[2, 2], parameters={"columns": "a,b"})
    rest = {"name": "c", "shape": [2], "datatype": "FP32", "data": [3.0, 1e30]}
    same(read(part, rest))


def test_a_missing_value_is_null_where_the_contract_allows_it() -> None:
    rows = read(tensor([1, None, 3, 1, 2, 3])).rows
    assert np.isnan(rows.columns["b"]).tolist() == [True, False]


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (tensor([6, 2, 3, 1, 2, 3]), "'a'"),
        (tensor([1, 2, None, 1, 2, 3]), "'c'"),
        (tensor([1, 2, 1e39, 1, 2, 3]), "'c'"),
        (tensor([1, 2, True, 1, 2, 3]), "'c'"),
        (tensor([1, "2", 3, 1, 2, 3]), "'b'"),
        (tensor([1, 2, 3]), "3 values"),
        (tensor(shape=[3, 2]), "shape"),
        (tensor(shape=[2, 3, 1]), "'x'"),
        (tensor(shape=[-2, 3]), "shape"),
        (tensor(datatype="BYTES"), "datatype"),
        (tensor(parameters={"columns": "a,b,colour"}), "colour"),
        (tensor(parameters={"columns": "a,b,b"}), "twice"),
        (tensor(parameters={"columns": 3}), "columns"),
        (tensor([[1, 2, 3], [1, 2]]), "unevenly"),
    ],
)
def test_refuses_a_bad_matrix_and_says_what_is_wrong(form: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(form)


def test_a_matrix_of_some_features_beside_the_others_columns_over_the_wire(served: Served) -> None:
    """The tiny contract mixes types: its numbers may share a matrix, its text cannot."""
    columns = {name: [value, value] for name, value in ROW.items()}
    expected = served.v2(columns).body["outputs"][0]["data"]
    text = [t for t in v2_inputs(columns) if t["name"] == "channel"]
    matrix: dict[str, Any] = {
        "name": "numbers",
        "shape": [2, 3],
        "datatype": "FP64",
        "parameters": {"columns": "visits,amount,age"},
        "data": [2, 12.5, 40.0] * 2,
    }
    answer = served.http(f"/v2/models/{MODEL}/infer", {"inputs": [matrix, *text]})
    assert answer.body["outputs"][0]["data"] == expected
    message = grpc_request({"channel": ["web", "web"]})
    added = message.inputs.add(name="numbers", datatype="FP64", shape=[2, 3])
    added.contents.fp64_contents.extend(matrix["data"])
    added.parameters["columns"].CopyFrom(pb.InferParameter(string_param="visits,amount,age"))
    found = served.grpc(message).body.outputs[0].contents.fp32_contents
    assert list(found) == pytest.approx(expected)
    matrix["data"][0] = 2.5
    refused = served.http(f"/v2/models/{MODEL}/infer", {"inputs": [matrix, *text]})
    assert (refused.code, "visits" in refused.error) == (400, True)
