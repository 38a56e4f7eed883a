"""Direct mode against an API server that checks what it is sent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from serving.errors import GateError
from serving.rollout import (
    Arm,
    RolloutState,
    create_deploy_folder,
    promoted,
    read_manifest,
    rolled_back,
    with_canary,
    with_weight,
    without_canary,
)
from serving.rollout.actuators.cluster_lease import ClusterLease
from serving.rollout.actuators.kubernetes import MANAGER, KubernetesActuator
from serving.rollout.run.lead import lead
from serving.rollout.run.store import Runs
from serving.rollout.sources import Arms, cluster_targets
from tests.support.gates import Traffic, plan
from tests.support.kube import Kube

BASE = Path(__file__).parents[4] / "manifests" / "rendered" / "base.yaml"
SERVICE = "/apis/serving.kserve.io/v1beta1/namespaces/seatrial/inferenceservices/fraud"
STABLE = RolloutState("fraud", "seatrial", Arm("v1", "pvc://b/v1"))
DARK = with_canary(STABLE, Arm("v2", "pvc://b/v2"))
TEN = with_weight(DARK, "v2", 10)


@pytest.fixture
def kube() -> Iterator[Kube]:
    with Kube() as server:
        yield server


@pytest.fixture
def actuator(kube: Kube, tmp_path: Path) -> KubernetesActuator:
    folder = tmp_path / "deploy"
    create_deploy_folder(folder, BASE, STABLE)
    manifest = read_manifest(folder)
    kube.put(SERVICE, manifest.service, MANAGER)
    return KubernetesActuator(kube.cluster(), manifest, replicas_wait_seconds=0.5)


def test_the_cluster_holds_the_state(actuator: KubernetesActuator) -> None:
    assert actuator.read() == STABLE
    actuator.write(TEN, "canary v2: 10 %", {})
    assert actuator.read() == TEN


def test_what_it_applies_is_the_whole_object_as_the_folder_has_it(
    kube: Kube, actuator: KubernetesActuator
) -> None:
    actuator.write(TEN, "canary v2: 10 %", {})
    predictor = kube.objects[SERVICE]["spec"]["predictor"]
    assert [c["name"] for c in predictor["containers"]] == ["drift-detector"]
    assert predictor["model"]["runtime"] == "seatrial-onnx"


def test_a_whole_rollout_settles_step_by_step(actuator: KubernetesActuator) -> None:
    half = with_weight(TEN, "v2", 50)
    swapped = promoted(half, "v2")
    for state in (DARK, TEN, half, swapped, without_canary(swapped, "v1")):
        actuator.write(state, "step", {})
        assert actuator.settled(state)
        assert actuator.read() == state


def test_settled_waits_for_the_route_and_not_for_the_object(
    kube: Kube, actuator: KubernetesActuator
) -> None:
    actuator.write(DARK, "dark", {})
    kube.frozen = True
    actuator.write(TEN, "canary v2: 10 %", {})
    assert not actuator.settled(TEN)
    assert actuator.health("v1", "v2").weight == 0
    kube.frozen = False
    kube.reconcile()
    assert actuator.settled(TEN)
    assert actuator.health("v1", "v2").weight == 10


def test_a_canary_that_is_not_ready_is_left_out_of_the_route(
    kube: Kube, actuator: KubernetesActuator
) -> None:
    kube.ready["v2"] = 0
    actuator.write(TEN, "canary v2: 10 %", {})
    found = actuator.health("v1", "v2")
    assert (found.stable_ready, found.canary_ready, found.weight) == (True, False, 0)
    assert not actuator.settled(TEN)


def test_all_pods_are_ready_before_an_arm_takes_all_traffic(
    kube: Kube, actuator: KubernetesActuator
) -> None:
    arm = Arm("v2", "pvc://b/v2", 3)
    base = replace(STABLE, stable=replace(STABLE.stable, min_replicas=3))
    half = with_canary(base, arm, 50)
    kube.ready["v2"] = 2
    actuator.write(half, "half", {})
    with pytest.raises(GateError, match="2 of 3 pods ready"):
        actuator.write(with_weight(half, "v2", 100), "all", {})
    assert actuator.read() == half
    kube.ready["v2"] = 3
    kube.reconcile()
    actuator.write(promoted(half, "v2"), "promote", {})
    assert actuator.read().stable.name == "v2"


def test_the_dark_state_waits_for_nothing(kube: Kube, actuator: KubernetesActuator) -> None:
    actuator.write(TEN, "canary v2: 10 %", {})
    kube.ready.update(v1=0, v2=0)
    kube.reconcile()
    actuator.write(rolled_back(TEN), "roll back", {})
    assert actuator.read() == rolled_back(TEN)


def test_another_field_manager_stops_it_by_name(kube: Kube, actuator: KubernetesActuator) -> None:
    kube.put(SERVICE, kube.objects[SERVICE], "argocd-controller")
    with pytest.raises(GateError, match=r"argocd-controller.*--force-conflicts"):
        actuator.write(TEN, "canary v2: 10 %", {})
    assert actuator.read() == STABLE


def test_a_move_leaves_an_event_with_the_evidence(kube: Kube, actuator: KubernetesActuator) -> None:
    actuator.write(TEN, "canary v2: 10 %\n\nwhy", {"Evidence-SHA256": "ab" * 32})
    actuator.write(TEN, "canary v2: 10 %\n\nwhy", {"Evidence-SHA256": "ab" * 32})
    events = [found for path, found in kube.objects.items() if "/events/" in path]
    assert [event["message"] for event in events] == ["canary v2: 10 %"]
    assert events[0]["involvedObject"]["name"] == "fraud"
    assert events[0]["metadata"]["annotations"]["seatrial.io/evidence-sha256"] == "ab" * 32


def test_counts_restarts_of_the_predictor_and_not_of_its_sidecar(
    kube: Kube, actuator: KubernetesActuator
) -> None:
    actuator.write(TEN, "canary v2: 10 %", {})
    statuses = [
        {"name": "kserve-container", "restartCount": 4},
        {"name": "drift-detector", "restartCount": 9},
    ]
    kube.put("/api/v1/namespaces/seatrial/pods/p", pod("v2", "p", statuses))
    assert dict(actuator.health("v1", "v2").restarts) == {"p": 4}


def test_lists_the_running_pods_of_both_arms(kube: Kube, actuator: KubernetesActuator) -> None:
    for arm, name in (("v1", "a"), ("v1", "b"), ("v2", "c"), ("v3", "d")):
        kube.put(f"/api/v1/namespaces/seatrial/pods/{name}", pod(arm, name, []))
    targets = cluster_targets(actuator.pods)(Arms("fraud", "seatrial", "v1", "v2"))
    assert [(t.name, t.role, t.address) for t in targets] == [
        ("a", "stable", "10.0.0.1:8080"),
        ("b", "stable", "10.0.0.1:8080"),
        ("c", "canary", "10.0.0.1:8080"),
    ]


def test_a_gate_leads_a_canary_to_its_promotion(
    kube: Kube, actuator: KubernetesActuator, tmp_path: Path
) -> None:
    actuator.write(DARK, "dark", {})
    lease = ClusterLease(kube.cluster(), "fraud", "seatrial")
    lead(Runs(tmp_path / "runs"), plan(), Traffic(time.time() - 5), actuator, lease)
    assert actuator.read() == RolloutState("fraud", "seatrial", Arm("v2", "pvc://b/v2"))
    events = [found["message"] for path, found in kube.objects.items() if "/events/" in path]
    assert [message for message in events if message != "dark"] == [
        "canary v2: 10 %",
        "canary v2: 50 %",
        "canary v2: 100 %",
        "promote v2",
        "clean up after v2",
    ]
    writes = [w for w in kube.writes if w["kind"] == "InferenceService"]
    assert {w["metadata"]["name"] for w in writes} == {"fraud"}


def pod(arm: str, uid: str, statuses: list[dict[str, object]]) -> dict[str, object]:
    return {
        "metadata": {"name": uid, "uid": uid, "labels": {"app": f"isvc.fraud-{arm}-predictor"}},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": statuses},
    }


class TestLease:
    def lease(self, kube: Kube, me: str, renewer: ClusterLease | None = None) -> ClusterLease:
        """A lease whose waiting is no waiting; while it waits, `renewer` renews."""

        def sleep(_: float) -> None:
            if renewer is not None:
                renewer.renew()

        return ClusterLease(kube.cluster(), "fraud", "seatrial", me=me, sleep=sleep)

    def test_a_second_gate_is_refused_and_told_who_holds_it(self, kube: Kube) -> None:
        first = self.lease(kube, "one")
        first.take()
        with pytest.raises(GateError, match="held by one"):
            self.lease(kube, "two", renewer=first).take()

    def test_a_dead_gates_lease_is_taken_after_its_duration(self, kube: Kube) -> None:
        first = self.lease(kube, "one")
        first.take()
        self.lease(kube, "two").take()
        with pytest.raises(GateError, match="lost to another gate"):
            first.renew()

    def test_a_released_lease_is_free_at_once(self, kube: Kube) -> None:
        first = self.lease(kube, "one")
        first.take()
        first.release()
        second = self.lease(kube, "two")
        second.take()
        second.renew()
