"""The whole loop: real predictors, gateway and load, with production alpha, beta and psi."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from serving.bundle import Bundle
from serving.local.client import LocalPlayer
from serving.local.orphans import end_at_once
from serving.rollout import read_rollout
from serving.rollout.gate import GateState, Phase, read_plan
from serving.rollout.gate.audit import verify
from serving.rollout.gate.observation import Observation
from serving.rollout.lead import lead
from serving.rollout.parts import GateSettings, build
from tests.serving.local.deploy import Deploy
from tests.serving.local.load import v2_json
from tests.support.faults import faulty_bundle
from tests.support.tiny import tiny_bundle

PLAN = {
    "format": "seatrial.rollout/1",
    "canary": "v2",
    "steps": [25, 50, 100],
    "metrics": [
        {"kind": "errors", "max_rate": 0.01},
        {"kind": "latency", "slo_seconds": 1.0, "max_rate": 0.05},
    ],
    "min_seconds": 1.0,
    "min_requests": 50,
    "look_seconds": 0.5,
    "cleanup_seconds": 1.0,
    "remove_after_rollback": True,
}


@dataclass(frozen=True)
class Answer:
    at: float
    arm: str
    status: int
    body: bytes


class Client:
    """Sends as fast as the gateway answers; every tenth row is one that a faulty model fails on."""

    def __init__(self, gateway: str, threads: int = 6) -> None:
        self.answers: list[Answer] = []
        self._gateway, self._stop = gateway, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> Client:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        bodies = [json.dumps(v2_json(visits=5000 if i == 0 else 2)) for i in range(10)]
        connection = http.client.HTTPConnection(self._gateway, timeout=20)
        for body in itertools.cycle(bodies):
            if self._stop.is_set():
                break
            connection.request("POST", "/v2/models/tiny/infer", body)
            answer = connection.getresponse()
            arm = answer.headers.get("x-seatrial-arm", "")
            self.answers.append(Answer(time.time(), arm, answer.status, answer.read()))
        connection.close()


@pytest.fixture
def player(tmp_path: Path) -> Iterator[LocalPlayer]:
    found = LocalPlayer(tmp_path / "state", notify=lambda _: None)
    yield found
    found.down()
    end_at_once(found.state_dir)


def led(tmp_path: Path, player: LocalPlayer, canary: Bundle) -> tuple[GateState, Client, Deploy]:
    """A run from a dark canary to its end, under load."""
    deploy = Deploy(tmp_path / "deploy")
    deploy.bundle("v1")
    deploy.bundle("v2", canary)
    player.up(deploy.rollout("v1", {"v2": 0}))
    (deploy.path / "plan.yaml").write_text(yaml.safe_dump(PLAN))
    plan = read_plan(deploy.path)
    settings = GateSettings(folder=deploy.path, state_dir=player.state_dir)
    parts = build(settings, plan)
    with Client(deploy.gateway) as client:
        state = lead(
            settings.runs,
            plan,
            parts.source,
            parts.actuator,
            parts.lease,
            settings=settings.model_dump(mode="json"),
            digest=parts.digest,
        )
        sent = len(client.answers)
        while len(client.answers) < sent + 200:
            time.sleep(0.05)
    verify(settings.runs.get().audit_file)
    return state, client, deploy


def observations(deploy: Deploy) -> list[Observation]:
    run = GateSettings(folder=deploy.path).runs.get()
    return [
        Observation.from_json(entry.body["observation"])
        for entry in verify(run.audit_file)
        if entry.kind == "look"
    ]


def test_a_healthy_canary_is_promoted_and_no_answer_fails(
    tmp_path: Path, player: LocalPlayer
) -> None:
    state, client, deploy = led(tmp_path, player, tiny_bundle(tmp_path / "made", 0.01))
    assert state.phase is Phase.DONE
    assert state.canary.bundle == player.status().arm("v2").digest
    rollout = read_rollout(deploy.path)
    assert (rollout.stable.name, rollout.canaries) == ("v2", ())
    assert {answer.status for answer in client.answers} == {200}
    assert {answer.arm for answer in client.answers[-100:]} == {"v2"}
    seen = observations(deploy)
    # What the gate counted of the canary is what clients got, up to those of the last moments.
    counted = sum(one.canary.requests for one in seen if one.canary is not None)
    got = sum(a.arm == "v2" and a.at <= seen[-1].end for a in client.answers)
    assert abs(counted - got) < 30


def test_a_failing_canary_is_rolled_back_to_nothing_and_then_removed(
    tmp_path: Path, player: LocalPlayer
) -> None:
    state, client, deploy = led(tmp_path, player, faulty_bundle(tmp_path / "made", "fail"))
    assert state.phase is Phase.ROLLED_BACK
    rollout = read_rollout(deploy.path)
    assert (rollout.stable.name, rollout.canaries) == ("v1", ())
    assert [arm.name for arm in player.status().arms] == ["v1"]
    failed = [answer for answer in client.answers if answer.status != 200]
    # Only the model failed, and said so itself: no answer was lost to a move.
    assert {(a.arm, a.status) for a in failed} == {("v2", 500)}
    assert all("error" in json.loads(a.body) for a in failed)
    # The look that decided is the last one that saw the canary with traffic.
    decided = max(one.end for one in observations(deploy) if one.weight)
    assert max(a.at for a in client.answers if a.arm == "v2") < decided + 3
