"""The roles grant what the gate's calls need, and nothing else. The calls are made, on a fake API
server, and read off what it was asked."""

from __future__ import annotations

import re
from collections.abc import Mapping

from serving.rollout import Arm, read_manifest, with_canary, with_weight
from serving.rollout.actuators.cluster_lease import ClusterLease
from serving.rollout.actuators.kubernetes import KubernetesActuator, KubernetesPlane
from serving.rollout.dialects import to_patch
from serving.rollout.merge import merge_patch
from serving.rollout.overlay import read_rollout
from serving.rollout.sources import cluster_targets
from serving.rollout.sources.source import Arms
from tests.support.cluster_set import MANIFESTS, ClusterSet, committed
from tests.support.kube import Kube

PATH = re.compile(
    r"/apis?/(?:(?P<group>[^/]+\.[^/]+|apps)/)?[^/]+/namespaces/seatrial/"
    r"(?P<resource>[a-z]+)(?:/(?P<name>.+))?"
)
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
Grant = tuple[str, str, str]


def asked(kube: Kube) -> set[Grant]:
    """(API group, resource, verb) of every request."""
    found = set()
    for method, path in kube.requests:
        match = PATH.fullmatch(path)
        assert match is not None, path
        verb = VERBS.get(method) or ("get" if match["name"] else "list")
        found.add((match["group"] or "", match["resource"], verb))
    return found


def granted(role: Mapping[str, object]) -> set[Grant]:
    rules: list[dict[str, list[str]]] = role["rules"]  # type: ignore[assignment]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def watch(kube: Kube) -> None:
    """What the gate does in every mode: it holds its lease and looks at the traffic."""
    lease = ClusterLease(kube.cluster(), "fraud", "seatrial", sleep=lambda _: None)
    lease.take()
    lease.renew()
    lease.release()
    plane = KubernetesPlane(kube.cluster(), "fraud", "seatrial")
    plane.health("v1", "v2")
    cluster_targets(plane.pods)(Arms("fraud", "seatrial", "v1", "v2"))


def test_while_git_is_the_writer_the_gate_may_read_and_hold_its_lease() -> None:
    with Kube() as kube:
        watch(kube)
        assert granted(committed("cpu").get("Role", "seatrial-gate")) == asked(kube)


def test_as_the_writer_it_may_also_change_its_one_service(
    combinations: Mapping[str, ClusterSet],
) -> None:
    role = combinations["direct gate"].get("Role", "seatrial-gate")
    manifest = read_manifest(MANIFESTS / "rendered" / "cpu.yaml")
    state = read_rollout(MANIFESTS / "overlays" / "cpu")
    dark = with_canary(state, Arm("v2", "pvc://seatrial-bundles/fraud/v2"))
    api = "/apis/serving.kserve.io/v1beta1/namespaces/seatrial/inferenceservices/fraud"
    with Kube() as kube:
        kube.put(api, merge_patch(manifest.service, to_patch(dark)), "seatrial-gate")
        watch(kube)
        actuator = KubernetesActuator(kube.cluster(), manifest, sleep=lambda _: None)
        actuator.write(with_weight(dark, "v2", 10), "canary v2: 10 %", {})
        assert granted(role) == asked(kube)


def test_reads_and_writes_of_single_objects_are_granted_by_name() -> None:
    for rule in committed("cpu").get("Role", "seatrial-gate")["rules"]:
        if rule["resources"] == ["httproutes"]:
            assert rule["resourceNames"] == ["fraud"]
    for role in ("seatrial-gate", "seatrial-retrain"):
        for rule in committed("cpu").get("Role", role)["rules"]:
            assert "*" not in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert "secrets" not in rule["resources"]


def test_only_who_calls_the_api_server_gets_a_token_for_it() -> None:
    found = committed("production")
    with_token = {
        pod.spec["serviceAccountName"]
        for pod in found.pods
        if pod.spec["automountServiceAccountToken"]
    }
    assert with_token == {"seatrial-gate"}
    for account in found.of("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
