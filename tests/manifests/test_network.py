"""The NetworkPolicies open every flow that docs/security.md lists, and nothing else."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.support.cluster_set import ROOT, ClusterSet, Document, combined
from tests.support.network_policy import Party, allowed

PAGE = ROOT / "docs" / "security.md"
NAMESPACE = "seatrial"
# Our parties by what makes their pods, so that their labels are those of the manifests.
OWNERS = {
    "predictor": "InferenceService/fraud",
    "gate": "Deployment/seatrial-gate",
    "deadman": "CronJob/seatrial-deadman",
    "retrain": "Deployment/seatrial-retrain",
    "dead-letters": "Deployment/seatrial-dead-letters",
    "upload": "Job/seatrial-upload",
}
# As their own installations label them.
NEIGHBOURS = {
    "gateway": Party(
        "envoy-gateway-system",
        {"gateway.envoyproxy.io/owning-gateway-name": "kserve-ingress-gateway"},
    ),
    "prometheus": Party("monitoring", {"app.kubernetes.io/name": "prometheus"}),
    "broker-ingress": Party("knative-eventing", {"eventing.knative.dev/brokerRole": "ingress"}),
    "broker-filter": Party("knative-eventing", {"eventing.knative.dev/brokerRole": "filter"}),
    "channel-dispatcher": Party("knative-eventing", {"messaging.knative.dev/role": "dispatcher"}),
    "kfp": Party("kubeflow", {"app": "ml-pipeline"}),
    "metadata": Party("kubeflow", {"component": "metadata-grpc-server"}),
    "artifacts": Party("kubeflow", {"app": "seaweedfs"}),
    "pipeline-step": Party(NAMESPACE, {"workflows.argoproj.io/workflow": "train-x7k2p"}),
    "dns": Party("kube-system", {"k8s-app": "kube-dns"}),
    # Parties that no flow names.
    "stranger in the namespace": Party(NAMESPACE, {"app": "debug"}),
    "stranger in another namespace": Party("default", {"component": "predictor"}),
    "a look-alike of Prometheus": Party("default", {"app.kubernetes.io/name": "prometheus"}),
}
# Addresses without labels: what is open to one is open to all of them, as the page says.
OUTSIDE = {"api-server": "10.96.0.1", "git": "203.0.113.5", "internet": "198.51.100.7"}
PORTS = (
    22,
    53,
    80,
    443,
    5432,
    6443,
    8080,
    8081,
    8333,
    8443,
    8444,
    8887,
    8888,
    9000,
    9090,
    9095,
    15000,
)
Flow = tuple[str, str, str, int]
"""From, to, protocol, port."""


@pytest.fixture(scope="module")
def secured(kubectl: str, tmp_path_factory: pytest.TempPathFactory) -> ClusterSet:
    assert kubectl
    components = ["drift", "pipelines-upload", "monitoring"]
    components += ["security", "security-gateway", "security-tls"]
    return combined(tmp_path_factory.mktemp("secured"), "overlays/cpu", components)


def documented() -> set[Flow]:
    rows = re.findall(
        r"^\| ([\w-]+) \| ([\w-]+) \| ([\d, ]+) \| [^|]+ \|$", PAGE.read_text("utf-8"), re.M
    )
    assert len(rows) > 15
    return {
        (source, target, "TCP", int(port))
        for source, target, ports in rows
        for port in ports.split(",")
    }


def parties(found: ClusterSet) -> dict[str, Party]:
    pods = {pod.owner: pod for pod in found.pods}
    ours = {name: Party(NAMESPACE, pods[owner].labels) for name, owner in OWNERS.items()}
    outside = {name: Party(address=address) for name, address in OUTSIDE.items()}
    return {**ours, **NEIGHBOURS, **outside}


def wanted() -> set[Flow]:
    """The page's flows, what they mean for other addresses, and DNS for all who call somebody."""
    flows = documented()
    callers = {source for source, *_ in flows if source in (*OWNERS, "pipeline-step")}
    dns = {(name, "dns", protocol, 53) for name in callers for protocol in ("TCP", "UDP")}
    spread = {
        (source, other, protocol, port)
        for source, target, protocol, port in flows
        if target in OUTSIDE
        for other in OUTSIDE
    }
    return flows | dns | spread


def open_flows(policies: Sequence[Document], known: dict[str, Party]) -> Iterator[Flow]:
    for source, a in known.items():
        for target, b in known.items():
            if source != target and NAMESPACE in (a.namespace, b.namespace):
                for protocol in ("TCP", "UDP"):
                    for port in PORTS:
                        if allowed(policies, a, b, port, protocol):
                            yield source, target, protocol, port


def test_every_documented_flow_is_open_and_no_other(secured: ClusterSet) -> None:
    found = set(open_flows(secured.of("NetworkPolicy"), parties(secured)))
    assert found - wanted() == set()
    assert wanted() - found == set()


def test_every_pod_is_one_of_the_parties(secured: ClusterSet) -> None:
    assert {pod.owner for pod in secured.pods} == set(OWNERS.values())


def test_a_documented_port_is_one_that_our_pod_listens_on(secured: ClusterSet) -> None:
    pods = {pod.owner: pod for pod in secured.pods}
    for _, target, _, port in documented():
        if target in OWNERS:
            assert port in pods[OWNERS[target]].ports().values(), (target, port)


def edited(found: ClusterSet, name: str, edit: Callable[[Any], Any]) -> set[Flow]:
    policies = copy.deepcopy(found.of("NetworkPolicy"))
    (policy,) = [p for p in policies if p["metadata"]["name"] == f"seatrial-{name}"]
    edit(policy["spec"])
    return set(open_flows(policies, parties(found)))


TOO_WIDE: dict[str, tuple[str, Callable[[Any], Any], Flow]] = {
    "the predictor may call the internet": (
        "predictor",
        lambda s: s["egress"].append({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}),
        ("predictor", "internet", "TCP", 443),
    ),
    "a peer without a pod selector": (
        "predictor",
        lambda s: s["ingress"][0]["from"].append({"namespaceSelector": {}}),
        ("stranger in another namespace", "predictor", "TCP", 8443),
    ),
    "any namespace's Prometheus": (
        "gate",
        lambda s: s["ingress"][0]["from"][0].update(namespaceSelector={}),
        ("a look-alike of Prometheus", "gate", "TCP", 8080),
    ),
    "no ports": (
        "predictor",
        lambda s: s["ingress"][0].pop("ports"),
        ("gateway", "predictor", "TCP", 9095),
    ),
    "no peers": (
        "retrain",
        lambda s: s["ingress"][0].pop("from"),
        ("internet", "retrain", "TCP", 8080),
    ),
    "a range of ports": (
        "retrain",
        lambda s: s["egress"][1]["ports"][0].update(port=8000, endPort=9000),
        ("retrain", "kfp", "TCP", 8887),
    ),
    "a direction that is left out": (
        "default-deny",
        lambda s: s.update(policyTypes=["Ingress"]),
        ("stranger in the namespace", "internet", "TCP", 443),
    ),
}


@pytest.mark.parametrize("name", TOO_WIDE)
def test_a_policy_that_is_too_wide_is_found(secured: ClusterSet, name: str) -> None:
    policy, edit, flow = TOO_WIDE[name]
    assert flow in edited(secured, policy, edit) - wanted()


MISSING: dict[str, tuple[str, Callable[[Any], Any], Flow]] = {
    "callers": ("predictor", lambda s: s["ingress"].pop(0), ("gateway", "predictor", "TCP", 8444)),
    "names": ("retrain", lambda s: s["egress"].pop(0), ("retrain", "dns", "UDP", 53)),
    "one of two ends": (
        "retrain",
        lambda s: s["ingress"][0]["from"].pop(0),
        ("predictor", "retrain", "TCP", 8080),
    ),
    "the API server": (
        "deadman",
        lambda s: s["egress"][1]["to"][0]["ipBlock"].update({"except": ["10.96.0.0/12"]}),
        ("deadman", "api-server", "TCP", 443),
    ),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_flow_that_is_missing_is_found(secured: ClusterSet, name: str) -> None:
    policy, edit, flow = MISSING[name]
    assert flow in wanted() - edited(secured, policy, edit)
