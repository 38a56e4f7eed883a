"""Sticky users at the real gateway: nobody goes back to stable while the canary's weight rises."""

from __future__ import annotations

import http.client
import math
from collections import Counter
from collections.abc import Callable

import grpc
import pytest
import yaml
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as services

from serving.local.client import LocalPlayer
from tests.serving.local.conftest import Start
from tests.serving.local.deploy import Deploy

HEADER = "x-user"
USERS = [f"user-{i}" for i in range(300)]
READY = "/v2/models/tiny/ready"

Ask = Callable[[str | None], str]
"""The arm that answers a user, or a request without the header."""


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Deploy:
    made = Deploy(tmp_path_factory.mktemp("sticky") / "deploy")
    for name in ("v1", "v2"):
        made.bundle(name)
    made.rollout("v1", {"v2": 10})
    plan(made, {"header": HEADER})
    return made


@pytest.fixture(scope="module")
def player(deploy: Deploy, start_player: Start) -> LocalPlayer:
    found = start_player(deploy.path.parent / "state")
    found.up(deploy.path)
    return found


def plan(deploy: Deploy, sticky: dict[str, str] | None) -> None:
    content = {
        "format": "seatrial.rollout/1",
        "canary": "v2",
        "metrics": [{"kind": "errors", "max_rate": 0.01}],
        **({} if sticky is None else {"sticky": sticky}),
    }
    (deploy.path / "plan.yaml").write_text(yaml.safe_dump(content))


def arms(deploy: Deploy, users: list[str | None]) -> dict[str, list[str]]:
    """By wire: the arm that answered each of the users."""
    connection = http.client.HTTPConnection(deploy.gateway, timeout=20)
    found: dict[str, list[str]] = {"http": [], "grpc": []}
    with grpc.insecure_channel(deploy.gateway) as channel:
        stub = services.GRPCInferenceServiceStub(channel)
        for user in users:
            headers = {} if user is None else {HEADER: user}
            connection.request("GET", READY, headers=headers)
            answer = connection.getresponse()
            assert (answer.status, answer.read() != b"") == (200, True)
            found["http"].append(answer.headers["x-seatrial-arm"])
            _, call = stub.ServerLive.with_call(
                pb.ServerLiveRequest(), timeout=10, metadata=list(headers.items())
            )
            found["grpc"].append(str(dict(call.initial_metadata())["x-seatrial-arm"]))
    connection.close()
    return found


def about(found: list[str], share: float) -> bool:
    """Within 4.5 standard deviations of a binomial: one false alarm in 150,000."""
    bound = 4.5 * math.sqrt(share * (1 - share) / len(found))
    return abs(Counter(found)["v2"] / len(found) - share) <= bound


def test_no_user_goes_back_while_the_canarys_weight_rises(
    deploy: Deploy, player: LocalPlayer
) -> None:
    before: set[str] = set()
    for weight in (10, 25, 50, 100):
        status = player.apply(deploy.rollout("v1", {"v2": weight}))
        assert status.sticky == HEADER
        found = arms(deploy, [*USERS])
        assert found["http"] == found["grpc"]  # one user, one arm, whatever the wire
        assert about(found["http"], weight / 100)
        moved = {user for user, arm in zip(USERS, found["http"], strict=True) if arm == "v2"}
        assert before <= moved
        before = moved
    assert before == set(USERS)


def test_a_user_keeps_its_arm_and_requests_without_the_header_are_split(
    deploy: Deploy, player: LocalPlayer
) -> None:
    player.apply(deploy.rollout("v1", {"v2": 50}))
    for user in USERS[:10]:
        found = arms(deploy, [user] * 5)
        assert len({*found["http"], *found["grpc"]}) == 1
    found = arms(deploy, [None] * 200)
    assert about(found["http"], 0.5)
    assert about(found["grpc"], 0.5)


def test_a_plan_with_a_mistake_moves_no_user_and_holds_nothing_up(
    deploy: Deploy, player: LocalPlayer
) -> None:
    (deploy.path / "plan.yaml").write_text("format: seatrial.rollout/1\nsong: 1\n")
    status = player.apply(deploy.rollout("v1", {"v2": 25}))
    assert (status.sticky, status.weights) == (HEADER, {"v1": 75, "v2": 25})


def test_without_sticky_in_the_plan_every_request_is_drawn(
    deploy: Deploy, player: LocalPlayer
) -> None:
    plan(deploy, None)
    assert player.apply(deploy.rollout("v1", {"v2": 50})).sticky is None
    assert len(set(arms(deploy, [USERS[0]] * 40)["http"])) == 2
