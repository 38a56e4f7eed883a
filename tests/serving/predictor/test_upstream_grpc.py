"""What KServe's own tests of its gRPC server ask of a predictor, asked of ours.

After python/kserve/test/test_grpc_server.py and test_infer_type.py of KServe 0.20.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from kserve import InferResponse
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as service

from tests.serving.predictor.servers import MODEL, ROW, Served, grpc_request

COLUMNS = {name: [value, value] for name, value in ROW.items()}


@pytest.fixture(scope="module")
def stub(served: Served) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel:
        yield service.GRPCInferenceServiceStub(channel)


def request(*, raw: bool) -> Any:
    message = grpc_request(COLUMNS, raw=raw)
    message.id = "123"
    return message


def test_typed_contents_are_answered_typed(served: Served) -> None:
    message = served.grpc(request(raw=False)).body
    assert (message.id, message.model_name) == ("123", MODEL)
    assert not message.raw_output_contents
    score, decision = message.outputs
    assert (score.name, score.datatype, list(score.shape)) == ("score", "FP32", [2])
    assert len(score.contents.fp32_contents) == 2
    assert list(decision.contents.bytes_contents) == [b"review", b"review"]


def test_raw_contents_are_answered_raw_with_their_sizes(served: Served) -> None:
    message = served.grpc(request(raw=True)).body
    assert [len(data) for data in message.raw_output_contents] == [8, 20]
    for output, data in zip(message.outputs, message.raw_output_contents, strict=True):
        assert output.parameters["binary_data_size"].int64_param == len(data)
        assert not output.HasField("contents")
    read = InferResponse.from_grpc(message)
    assert read.outputs[0].as_numpy().dtype == np.float32
    assert read.outputs[1].as_numpy().tolist() == [b"review", b"review"]


@pytest.mark.parametrize("raw", [False, True], ids=["typed", "raw"])
def test_a_requests_parameters_come_back_with_its_answer(served: Served, raw: bool) -> None:
    message = request(raw=raw)
    message.parameters["test-str"].string_param = "dummy"
    message.parameters["test-bool"].bool_param = True
    message.parameters["test-int"].int64_param = 100
    message.parameters["binary_data_output"].bool_param = raw
    found = served.grpc(message).body.parameters
    assert set(found) == {"test-str", "test-bool", "test-int"}
    assert found["test-str"].string_param == "dummy"
    assert found["test-bool"].bool_param
    assert found["test-int"].int64_param == 100


def test_half_floats_are_taken_raw(served: Served) -> None:
    message = request(raw=True)
    message.inputs[0].datatype = "FP16"
    message.raw_input_contents[0] = np.array([6.8, 2.8], np.float16).tobytes()
    assert served.grpc(message).code == "OK"


def test_a_raw_input_too_few_is_an_invalid_argument(served: Served) -> None:
    message = request(raw=True)
    del message.raw_input_contents[-1]
    assert served.grpc(message).code == "INVALID_ARGUMENT"


def test_contents_beside_raw_ones_are_an_invalid_argument(served: Served) -> None:
    message = request(raw=True)
    message.inputs[2].contents.int64_contents.extend([2, 2])
    assert served.grpc(message).code == "INVALID_ARGUMENT"


def test_it_lives_and_is_ready_and_described(stub: Any) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    assert stub.ModelReady(pb.ModelReadyRequest(name=MODEL)).ready
    assert stub.ServerMetadata(pb.ServerMetadataRequest()).extensions
    found = stub.ModelMetadata(pb.ModelMetadataRequest(name=MODEL))
    assert {tensor.name for tensor in found.inputs} == set(ROW)


def test_the_model_can_be_loaded(stub: Any) -> None:
    answer = stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=MODEL))
    assert (answer.model_name, answer.isLoaded) == (MODEL, True)


@pytest.mark.parametrize(
    ("call", "message", "code"),
    [
        ("ModelReady", pb.ModelReadyRequest(name="no"), "NOT_FOUND"),
        ("ModelMetadata", pb.ModelMetadataRequest(name="no"), "NOT_FOUND"),
        ("ModelInfer", pb.ModelInferRequest(model_name="no"), "NOT_FOUND"),
        ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="no"), "UNAVAILABLE"),
        # Different from KServe's, see the README.
        (
            "RepositoryModelUnload",
            pb.RepositoryModelUnloadRequest(model_name=MODEL),
            "UNIMPLEMENTED",
        ),
    ],
)
def test_what_is_not_there_has_its_own_code(stub: Any, call: str, message: Any, code: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        getattr(stub, call)(message)
    assert refused.value.code().name == code
