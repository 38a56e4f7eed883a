"""Good and bad canaries under load, led by a gate that is killed on the way.

Real predictors, Envoy and clients, with alpha, beta and psi of production.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seatrial.demo.fault import shift_scores
from serving.bundle import Bundle
from serving.local.client import LocalPlayer
from serving.local.orphans import end_at_once
from serving.rollout import read_rollout
from serving.rollout.gate import Phase, read_plan
from serving.rollout.gate.audit import Entry, verify
from serving.rollout.gate.observation import Observation
from serving.rollout.gate.replay import replay
from serving.rollout.run import GateSettings, Run, build, lead
from tests.serving.local.deploy import Deploy
from tests.support.faults import faulty_bundle, slow_bundle
from tests.support.sender import Answer, Sender
from tests.support.tiny import model_bytes, tiny_bundle

pytestmark = [pytest.mark.alone, pytest.mark.timeout(240)]
FORK = multiprocessing.get_context("fork")
METRICS = (
    {"kind": "errors", "max_rate": 0.01},
    {"kind": "latency", "slo_seconds": 0.25, "max_rate": 0.05},
)
SCORES = {"kind": "scores", "tolerance": 3.0}


def gate(settings: GateSettings) -> None:
    """A gate's process."""
    plan = read_plan(settings.folder)
    parts = build(settings, plan)
    lead(
        settings.runs,
        plan,
        parts.source,
        parts.actuator,
        parts.lease,
        settings=settings.model_dump(mode="json"),
        digest=parts.digest,
    )


class Site:
    """Stable v1 under load. A canary comes, is led, and has gone before the next one comes."""

    def __init__(self, folder: Path, player: LocalPlayer) -> None:
        self.folder, self.player = folder, player
        self.deploy = Deploy(folder / "deploy")
        manifest = self.deploy.path / "manifest.yaml"
        # A slow answer is one all the same: the predictors must not give it up.
        patient = manifest.read_text().replace("_timeout_seconds=1", "_timeout_seconds=12")
        manifest.write_text(patient)
        self.deploy.bundle("v1")
        self.settings = GateSettings(folder=self.deploy.path, state_dir=player.state_dir)
        player.up(self.deploy.rollout("v1"))
        self.sender = Sender(self.deploy.gateway, folder / "answers.jsonl")
        self.began = 0.0

    @property
    def run(self) -> Run:
        return self.settings.runs.get()

    def enter(self, name: str, made: Bundle, *metrics: dict[str, Any], first: int = 10) -> None:
        """The canary, dark and ready, and the plan for it."""
        self.deploy.bundle(name, made)
        self.player.apply(self.deploy.rollout("v1", {name: 0}))
        plan = {
            "format": "seatrial.rollout/1",
            "canary": name,
            "steps": [first, 50, 100],
            "metrics": [*METRICS, *metrics],
            "min_seconds": 1.0,
            "min_requests": 30,
            "look_seconds": 0.5,
            "cleanup_seconds": 0.5,
            "time_cap_seconds": 60.0,
            "remove_after_rollback": True,
        }
        (self.deploy.path / "plan.yaml").write_text(json.dumps(plan))
        self.began = time.time()

    def killed_gate(self, step: int = 0) -> None:
        """A gate that is killed once its canary has been given a step's share."""
        process = self.gate()
        self.wait(lambda: self._is_at(step))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()

    def gate(self) -> Any:
        process = FORK.Process(target=gate, args=(self.settings,), daemon=True)
        process.start()
        return process

    def ended(self, process: Any) -> Phase:
        process.join(40)
        assert process.exitcode == 0
        entries = verify(self.run.audit_file)
        assert replay(entries).different == ()
        looks = self.observations()
        # No interval was counted twice or left out, the kill notwithstanding.
        counted = [one for one in looks if one.canary is not None]
        assert all(b.start >= a.end for a, b in itertools.pairwise(counted))
        return self.run.load().phase

    def answers(self) -> list[Answer]:
        """All since the canary came, a few after its end among them."""
        ended = time.time()
        self.wait(lambda: len(self.sender.answers(ended)) > 50)
        return self.sender.answers(self.began)

    def observations(self) -> list[Observation]:
        return [Observation.from_json(entry.body["observation"]) for entry in self.entries()]

    def entries(self) -> list[Entry]:
        return [entry for entry in verify(self.run.audit_file) if entry.kind == "look"]

    @property
    def reason(self) -> str:
        return str(Entry.from_line(self.run.load().tail).body["decision"]["reason"])

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 40
        while not condition():
            assert time.monotonic() < deadline, "it did not come true in time"
            time.sleep(0.02)

    def _is_at(self, step: int) -> bool:
        current = self.settings.runs.current()
        if current is None:
            return False
        state = current.load()
        name = read_plan(self.deploy.path).canary
        return (state.canary.name, state.phase, state.step) == (name, Phase.STEP, step)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("gate")
    player = LocalPlayer(folder / "state", notify=lambda _: None)
    try:
        made = Site(folder, player)
        with made.sender:
            yield made
    finally:
        player.down()
        end_at_once(player.state_dir)


def gone(site: Site) -> bool:
    """Stable has everything, and nothing is left of the canary."""
    rollout, status = read_rollout(site.deploy.path), site.player.status()
    return (rollout.stable.name, rollout.canaries, status.weights) == ("v1", (), {"v1": 100})


def failures(answers: list[Answer]) -> Counter[tuple[str, int]]:
    return Counter((answer.arm, answer.status) for answer in answers if answer.status != 200)


def test_a_failing_canary_is_rolled_back_within_three_seconds(site: Site) -> None:
    site.enter("failing", faulty_bundle(site.folder / "made", "fail"))
    site.killed_gate()
    assert site.ended(site.gate()) is Phase.ROLLED_BACK
    assert gone(site)
    answers = site.answers()
    # Only the model failed, and said so itself: no answer was lost to a move.
    assert set(failures(answers)) == {("failing", 500)}
    assert all("error" in json.loads(a.text) for a in answers if a.status != 200)
    # The evidence crossed within the interval of the look that rolled back.
    decided = next(
        Observation.from_json(entry.body["observation"])
        for entry in site.entries()
        if entry.body["decision"]["action"]["kind"] == "roll-back"
    )
    assert max(a.sent for a in answers if a.arm == "failing") < decided.start + 3


def test_a_slow_canary_is_rolled_back(site: Site) -> None:
    site.enter("slow", slow_bundle(site.folder / "made", seconds=1.0))
    site.killed_gate()
    assert site.ended(site.gate()) is Phase.ROLLED_BACK
    assert "latency" in next(
        entry.body["decision"]["reason"]
        for entry in site.entries()
        if entry.body["decision"]["action"]["kind"] == "roll-back"
    )
    assert gone(site)
    answers = site.answers()
    # It gets more than it can do: what it gives up on in its queue it says itself.
    assert set(failures(answers)) <= {("slow", 504)}
    assert all("error" in json.loads(a.text) for a in answers if a.status != 200)


def test_a_canary_with_shifted_scores_is_held_until_a_person_aborts(site: Site) -> None:
    shifted = tiny_bundle(site.folder / "made", model=shift_scores(model_bytes(), 2.5))
    site.enter("shifted", shifted, SCORES)
    site.killed_gate()
    process = site.gate()
    site.wait(lambda: "past the tolerance" in site.reason)
    site.run.ask("abort", by="a person")
    assert site.ended(process) is Phase.ROLLED_BACK
    assert gone(site)
    assert {one.weight for one in site.observations()} <= {0, 10}
    assert failures(site.answers()) == Counter()


def test_a_crash_looping_canary_is_rolled_back(site: Site) -> None:
    site.enter("crashing", tiny_bundle(site.folder / "made", 0.02))
    site.killed_gate()
    process = site.gate()
    while process.is_alive():
        for pid in pids_of(site, "crashing"):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    assert site.ended(process) is Phase.ROLLED_BACK
    assert gone(site)
    # What it dropped as it died is its own; stable failed nobody.
    assert {arm for arm, _ in failures(site.answers())} <= {"crashing"}


def pids_of(site: Site, name: str) -> list[int]:
    arms = {arm.name: arm for arm in site.player.status().arms}
    return list(arms[name].pids.values()) if name in arms and arms[name].ready else []


def test_a_healthy_canary_is_promoted_and_no_answer_fails(site: Site) -> None:
    site.enter("healthy", tiny_bundle(site.folder / "made", 0.01), SCORES, first=25)
    site.killed_gate(step=1)
    assert site.ended(site.gate()) is Phase.DONE
    rollout = read_rollout(site.deploy.path)
    assert (rollout.stable.name, rollout.canaries) == ("healthy", ())
    answers = site.answers()
    assert failures(answers) == Counter()
    assert {answer.arm for answer in answers[-30:]} == {"healthy"}
    # What the gate counted of the canary is what clients got, up to those of the last moments.
    seen = site.observations()
    counted = sum(one.canary.requests for one in seen if one.canary is not None)
    got = sum(a.arm == "healthy" and a.sent <= seen[-1].end for a in answers)
    assert abs(counted - got) < 30
