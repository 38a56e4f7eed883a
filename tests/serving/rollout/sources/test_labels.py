"""Labels that come later, out of the counters of the sidecar beside each predictor."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from prometheus_client import Counter

from serving.errors import GateError
from serving.local.status import ArmStatus, Status
from serving.rollout.gate.observation import ArmCounts, LabelCohort
from serving.rollout.sources import Arms, Look, PredictorSource, Snapshot, Target
from serving.rollout.sources.targets import cluster_targets, local_targets
from tests.serving.drift.stream import Sidecar as LiveSidecar
from tests.serving.drift.stream import columns, wait_until
from tests.support.counted import CountedPod

ARMS = Arms("tiny", "seatrial", "v1", "v2")


class Sidecar(CountedPod):
    """Only the labels of it: seatrial_labels_total on a real /metrics."""

    def restart(self, started: float) -> None:
        super().restart(started)
        names = ("arm", "age_days", "outcome")
        self._labels = Counter("seatrial_labels_total", "n", names, registry=self.registry)

    def label(self, age: int, right: int = 0, wrong: int = 0) -> None:
        for outcome, n in (("right", right), ("wrong", wrong)):
            self._labels.labels(self.app, str(age), outcome).inc(n)


class Site:
    """One predictor with its sidecar per arm, looked at once a minute."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.pods = {arm: stack.enter_context(CountedPod(arm)) for arm in ("v1", "v2")}
        self.sidecars = {arm: stack.enter_context(Sidecar(arm)) for arm in ("v1", "v2")}
        self.now = 2000.0
        self.since: Snapshot | None = None
        self.source = PredictorSource(self.targets, labels=True, clock=lambda: self.now)

    def targets(self, arms: Arms) -> Sequence[Target]:
        return [
            Target(arm, role, self.pods[arm].address, self.sidecars[arm].address)
            for arm, role in ((arms.stable, "stable"), (arms.canary, "canary"))
        ]

    def look(self) -> Look:
        self.now += 60.0
        kept = self.since and Snapshot.from_json(self.since.to_json())
        found = self.source.look(ARMS, kept, self.now)
        self.since = found.snapshot
        return found


@pytest.fixture
def site() -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        yield Site(stack)


def cohorts(arm: ArmCounts | None) -> list[tuple[int, int, int]]:
    assert arm is not None
    return [(c.age_days, c.n, c.wrong) for c in arm.labels]


def test_labels_of_an_interval_are_counted_by_age_for_each_arm(site: Site) -> None:
    site.sidecars["v1"].label(7, right=500, wrong=500)  # before the run
    site.look()
    site.sidecars["v1"].label(7, right=90, wrong=10)
    site.sidecars["v1"].label(14, right=5)
    site.sidecars["v2"].label(7, right=8, wrong=2)
    site.pods["v2"].answer(3)
    found = site.look().counts
    assert cohorts(found.stable) == [(7, 100, 10), (14, 5, 0)]
    assert cohorts(found.canary) == [(7, 10, 2)]
    assert found.canary is not None
    assert found.canary.labels[0] == LabelCohort(7, 10, 2)
    assert found.canary.requests == 3
    assert cohorts(site.look().counts.stable) == []


def test_a_silent_sidecar_holds_up_labels_of_both_arms_and_nothing_else(site: Site) -> None:
    site.look()
    site.sidecars["v1"].label(7, right=9, wrong=1)
    site.sidecars["v2"].answers = False
    for pod in site.pods.values():
        pod.answer(5)
    found = site.look().counts
    assert found.stable is not None
    assert (found.stable.requests, cohorts(found.stable)) == (5, [])
    site.sidecars["v2"].answers = True
    site.sidecars["v2"].label(7, right=4)
    found = site.look().counts
    assert (cohorts(found.stable), cohorts(found.canary)) == ([(7, 10, 1)], [(7, 4, 0)])


def test_a_sidecar_that_was_silent_from_the_start_brings_no_history(site: Site) -> None:
    site.sidecars["v2"].label(7, right=900)
    site.sidecars["v2"].answers = False
    site.look()
    site.sidecars["v2"].answers = True
    assert cohorts(site.look().counts.canary) == []
    site.sidecars["v2"].label(7, wrong=1)
    assert cohorts(site.look().counts.canary) == [(7, 1, 1)]


def test_a_restarted_sidecar_counts_from_zero_beside_a_predictor_that_lives(site: Site) -> None:
    site.sidecars["v2"].label(7, right=30)
    site.look()
    site.sidecars["v2"].restart(2050.0)
    site.sidecars["v2"].label(7, right=3, wrong=1)
    site.pods["v2"].answer(2)
    found = site.look().counts
    assert cohorts(found.canary) == [(7, 4, 1)]
    assert found.canary is not None
    assert found.canary.requests == 2


@pytest.mark.parametrize("since", [(20, 0), (0, 40), (90, 40)])
def test_a_restart_shows_in_whichever_outcome_became_fewer(
    site: Site, since: tuple[int, int]
) -> None:
    site.sidecars["v2"].label(7, right=30, wrong=30)
    site.look()
    site.sidecars["v2"].restart(2050.0)
    site.sidecars["v2"].label(7, right=since[0], wrong=since[1])
    fell = since[0] < 30 or since[1] < 30
    assert cohorts(site.look().counts.canary) == [
        (7, sum(since), since[1]) if fell else (7, sum(since) - 60, since[1] - 30)
    ]


def test_a_restarted_predictor_does_not_bring_its_labels_again(site: Site) -> None:
    site.sidecars["v2"].label(7, right=300)
    site.look()
    site.pods["v2"].restart(2050.0)
    site.pods["v2"].answer(2)
    site.sidecars["v2"].label(7, wrong=1)
    assert cohorts(site.look().counts.canary) == [(7, 1, 1)]


def test_a_real_sidecars_labels_reach_the_gate_with_their_age(site: Site, tmp_path: Path) -> None:
    """Rows of 1 March, labelled on 8 March by their ids; the tiny model's scores decide who was
    right."""
    sidecar = LiveSidecar(Path(sys.executable), tmp_path / "log")
    try:
        sidecar.introduce(config={"watch": {}})
        rows = columns(100, seed=1)
        sidecar.send(rows, "x")
        beside = [Target("v1", "stable", site.pods["v1"].address, f"127.0.0.1:{sidecar.port}")]
        source = PredictorSource(lambda _: beside, labels=True)
        before = source.look(ARMS, None, 2000.0)
        when = "2026-03-08T12:00:01Z"
        labels = [{"id": f"x-0-{n}", "outcome": n < 4, "time": when} for n in range(100)]
        assert sidecar.request("POST", "/labels", json.dumps(labels).encode())[0] == 202
        wait_until(lambda: sidecar.status()["labels"]["labelled"] == 100, "labels")
        found = source.look(ARMS, before.snapshot, 2060.0).counts
    finally:
        sidecar.kill()
    # Every row was approved: the four that turned out positive were wrong.
    assert cohorts(found.stable) == [(7, 100, 4)]


def test_a_run_that_asks_for_labels_does_not_begin_without_a_sidecar(site: Site) -> None:
    bare = [Target("v1", "stable", site.pods["v1"].address)]
    source = PredictorSource(lambda _: bare, labels=True)
    with pytest.raises(GateError, match="metric 'labels': pod 'v1' has no drift sidecar"):
        source.look(ARMS, None, 2000.0)


def test_the_players_sidecar_is_found_beside_the_predictor() -> None:
    def arm(name: str, ports: dict[str, dict[int, int]]) -> ArmStatus:
        return ArmStatus(name, "stable", 0, 0, True, "", "", None, "", {}, {}, ports)

    arms = (
        arm("v1", {"kserve-container": {8080: 21000}, "drift-detector": {9095: 21001}}),
        arm("v2", {"kserve-container": {8080: 21002}}),
    )

    class Player:
        def status(self) -> Status:
            return Status("", "tiny", "seatrial", "", 1, 2, arms, 0, ())

    found = local_targets(Player())(ARMS)  # type: ignore[arg-type]
    assert [target.sidecar for target in found] == ["127.0.0.1:21001", None]


def test_a_clusters_sidecar_is_found_by_its_port() -> None:
    def pod(uid: str, *ports: int) -> dict[str, object]:
        containers = [
            {"name": name, "ports": [{"containerPort": port}]}
            for name, port in zip(("kserve-container", "drift-detector"), ports, strict=False)
        ]
        return {
            "metadata": {"uid": uid},
            "spec": {"containers": containers},
            "status": {"phase": "Running", "podIP": "10.0.0.7"},
        }

    pods = {"v1": [pod("a", 8080, 9095)], "v2": [pod("b", 8080)]}
    found = cluster_targets(lambda selector: pods[selector.split("-")[1]])(ARMS)
    assert [target.sidecar for target in found] == ["10.0.0.7:9095", None]
