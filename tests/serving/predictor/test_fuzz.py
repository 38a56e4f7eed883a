"""No body of any kind makes a healthy predictor fail: it is answered or refused."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator
from typing import Any

import grpc
import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from serving.bundle import Bundle
from serving.errors import DataError
from serving.predictor import session as session_module
from serving.predictor.graph import Graph
from serving.predictor.grpc_wire import GrpcWire
from serving.predictor.http import InferenceApp, Reply, Wire
from serving.predictor.metrics import Metrics
from serving.predictor.model import BundleModel
from serving.predictor.rehearsal import rehearse
from serving.predictor.session import ModelSession
from tests.serving.predictor.servers import DATATYPES, MODEL, ROW, Served, grpc_request, v2_inputs

SOUND = {"inputs": v2_inputs({name: [value] for name, value in ROW.items()})}
NAMES = [*DATATYPES, "x", "", "amount,age"]
KINDS = [*DATATYPES.values(), "FP16", "BOOL", "UINT64", "INT8", "?", ""]

numbers = st.one_of(
    st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False)
)
leaves = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8), st.sampled_from(NAMES))
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)
sizes = st.one_of(anything, st.lists(st.integers(-2, 2**40), max_size=3))
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.one_of(st.sampled_from(NAMES), anything),
        "datatype": st.one_of(st.sampled_from(KINDS), anything),
        "shape": sizes,
        "data": st.one_of(st.lists(leaves, max_size=4), anything),
        "parameters": st.one_of(
            st.fixed_dictionaries(
                {},
                optional={
                    "binary_data_size": st.one_of(st.integers(-8, 2**40), anything),
                    "columns": st.one_of(st.sampled_from(NAMES), anything),
                },
            ),
            anything,
        ),
    },
)


@st.composite
def v2_bodies(draw: Any) -> Any:
    """Sound requests with some of their fields replaced, and plain inventions."""
    if draw(st.booleans()):
        return {"inputs": draw(st.lists(st.one_of(tensors, anything), max_size=4))}
    inputs = [dict(tensor) for tensor in SOUND["inputs"]]
    inputs[draw(st.integers(0, 3))].update(draw(tensors))
    return {
        "inputs": inputs,
        **draw(
            st.fixed_dictionaries(
                {}, optional={"id": anything, "outputs": anything, "parameters": anything}
            )
        ),
    }


rows = st.one_of(
    st.dictionaries(st.sampled_from([*DATATYPES, "x"]), leaves, max_size=5),
    st.tuples(*(st.one_of(st.just(value), leaves) for value in ROW.values())).map(list),
    anything,
)


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> Iterator[BundleModel]:
    # However busy the machine is: every run at once, in this thread.
    patch = pytest.MonkeyPatch()
    patch.setattr(session_module, "ISOLATE_SECONDS", 5.0)
    patch.setattr(session_module, "DIRECT_SECONDS", 5.0)
    metrics = Metrics(MODEL, bundle.digest, "fuzz")
    session = ModelSession(Graph(bundle, ["CPUExecutionProvider"], 1), 5.0, metrics)
    rehearse(session)
    yield BundleModel(MODEL, session, metrics)
    patch.undo()


def check(reply: Reply | None) -> None:
    assert reply is not None
    assert reply.status in (200, 400), reply.body
    if reply.status == 400:
        assert orjson.loads(reply.body)["error"]


def ask(model: BundleModel, wire: Wire, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    check(InferenceApp(rest, model).reply_at_once(wire, headers, body))


async def rest(*_: Any) -> None:
    raise AssertionError("an inference request went to KServe's app")


QUICKLY = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


SLOWLY = settings(QUICKLY, max_examples=80)
"""Each over a socket."""
EVENT = {"specversion": "1.0", "id": "1", "source": "/test", "type": "test"}


@QUICKLY
@given(body=v2_bodies())
def test_any_v2_json_is_answered_or_refused(model: BundleModel, body: Any) -> None:
    ask(model, "v2", orjson.dumps(body))


@QUICKLY
@given(instances=st.one_of(st.lists(rows, max_size=3), anything))
def test_any_v1_json_is_answered_or_refused(model: BundleModel, instances: Any) -> None:
    ask(model, "v1", orjson.dumps({"instances": instances}))


@QUICKLY
@given(body=st.binary(max_size=200))
@example(body=b'{"inputs": ' + b"[" * 100_000)
@example(body=b'{"instances": [{"amount": 1' + b"0" * 100_000 + b"}]}")
@example(body=b'{"id": "\\ud800", "inputs": []}')
def test_any_bytes_are_refused(model: BundleModel, body: bytes) -> None:
    ask(model, "v1", body)
    ask(model, "v2", body)


@QUICKLY
@given(
    shape=st.lists(st.integers(0, 2**31), min_size=1, max_size=2),
    kind=st.sampled_from(KINDS),
    size=st.integers(0, 64),
    said=st.integers(-1, 400),
    tail=st.binary(max_size=64),
    name=st.sampled_from(NAMES),
)
def test_any_packed_body_is_answered_or_refused(
    model: BundleModel, *, shape: Any, kind: str, size: int, said: int, tail: bytes, name: str
) -> None:
    tensor = {
        "name": name,
        "shape": shape,
        "datatype": kind,
        "parameters": {"binary_data_size": size},
    }
    others = [other for other in SOUND["inputs"] if other["name"] != name]
    head = orjson.dumps({"inputs": [tensor, *others]})
    length = len(head) if said < 0 else said
    header = (b"inference-header-content-length", str(length).encode())
    ask(model, "v2", head + tail, header)


@QUICKLY
@given(body=st.binary(max_size=120), at=st.integers(0, 200))
def test_any_grpc_message_is_read_or_refused(model: BundleModel, body: bytes, at: int) -> None:
    wire = GrpcWire(model.contract)
    sound = grpc_request({name: [value] for name, value in ROW.items()}, raw=bool(at % 2))
    data = sound.SerializeToString()
    cut = at % len(data)
    for changed in (body, data[:cut] + body, data[:cut] + body + data[cut + len(body) :]):
        try:
            message = pb.ModelInferRequest.FromString(changed)
        except Exception:  # noqa: S112 - grpc itself refuses what is no message
            continue
        with contextlib.suppress(DataError):
            wire.decode(message)


@pytest.fixture(scope="module")
def call(served: Served) -> Iterator[Any]:
    """ModelInfer over a socket with bytes for messages."""
    with grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel:
        yield channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")


REFUSED = {"INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL"}


@SLOWLY
@given(body=st.binary(max_size=120), at=st.integers(0, 200), keep=st.booleans())
def test_any_grpc_call_is_answered_or_refused(
    served: Served, call: Any, *, body: bytes, at: int, keep: bool
) -> None:
    sound = grpc_request({name: [value] for name, value in ROW.items()}, raw=bool(at % 2))
    data = sound.SerializeToString()
    cut = at % len(data)
    sent = data[:cut] + body + (data[cut + len(body) :] if keep else b"")
    try:
        pb.ModelInferRequest.FromString(sent)
        allowed = REFUSED - {"INTERNAL"}
    except Exception:
        allowed = REFUSED  # grpc's own code for what is no message
    code = "OK"
    try:
        call(sent, timeout=10)
    except grpc.RpcError as error:
        code = error.code().name
    assert code in {"OK", *allowed}


@SLOWLY
@given(
    body=st.one_of(
        st.binary(max_size=40),
        st.builds(orjson.dumps, anything),
        st.builds(
            lambda more: orjson.dumps({**EVENT, **more}),
            st.dictionaries(st.sampled_from([*EVENT, "data", "data_base64", "x"]), anything),
        ),
    ),
    binary=st.booleans(),
    path=st.sampled_from([f"/v1/models/{MODEL}:predict", f"/v2/models/{MODEL}/infer"]),
)
def test_any_event_is_answered_or_refused(
    served: Served, body: bytes, binary: bool, path: str
) -> None:
    headers = {"content-type": "application/cloudevents+json"}
    if binary:
        headers = {f"ce-{name}": value for name, value in EVENT.items()}
    status, _, answer = served.exchange("POST", path, body, headers)
    assert status in (200, 400), answer


RAW = [
    b"\x00" * 100,
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /v2/models/tiny/infer HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n{}",
    b"POST /v2/models/tiny/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{}",
    b"POST /v2/models/tiny/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v2/models/tiny/infer HTTP/1.0\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
    b"POST /v2/models/tiny/infer HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
    b"POST /v2/models/tiny/infer HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n{}",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


@pytest.mark.parametrize("sent", RAW)
@pytest.mark.parametrize("port", ["http_port", "grpc_port"])
def test_no_bytes_on_a_socket_harm_the_process(served: Served, sent: bytes, port: str) -> None:
    with socket.create_connection(("127.0.0.1", getattr(served, port)), timeout=5) as client:
        client.sendall(sent)
        client.settimeout(0.2)
        with contextlib.suppress(OSError):  # closed, or still waiting for the rest
            assert b" 500 " not in client.recv(4096)
    assert served.v1(ROW).code == 200


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    def request(path: str, body: bytes) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        return head.encode() + body

    asked = [orjson.dumps({**SOUND, "id": f"r{at}"}) for at in range(3)]
    infer = f"/v2/models/{MODEL}/infer"
    sent = [request(infer, asked[0]), request("/v2/models/other/infer", b"{}")]
    sent += [request(infer, asked[1]), request(infer, asked[2])]
    with socket.create_connection(("127.0.0.1", served.http_port), timeout=5) as client:
        client.sendall(b"".join(sent))
        seen = []
        for _ in sent:
            response = http.client.HTTPResponse(client)
            # The next response must not vanish into this one's buffer.
            response.fp = client.makefile("rb", buffering=0)  # type: ignore[assignment]
            response.begin()
            body = orjson.loads(response.read())
            seen.append(body.get("id", response.status))
    assert seen == ["r0", 404, "r1", "r2"]


def test_a_body_in_many_pieces_is_one_request(served: Served) -> None:
    body = orjson.dumps(SOUND)
    connection = http.client.HTTPConnection("127.0.0.1", served.http_port, timeout=5)
    pieces = (body[at : at + 7] for at in range(0, len(body), 7))
    connection.request(
        "POST",
        f"/v2/models/{MODEL}/infer",
        pieces,
        encode_chunked=True,
        headers={"transfer-encoding": "chunked"},
    )
    assert connection.getresponse().status == 200
    connection.close()
