"""The doctor against an API server that serves recorded documents.

discovery.json is what an API server of Kubernetes 1.36.2 answered, with the CRDs of KServe (the
branch that becomes 0.21), Knative Serving, Gateway API 1.5.1, Envoy Gateway 1.8.3, Knative Eventing
1.22.2, the Prometheus operator 0.93.0, cert-manager 1.17.4 and KFP 2.17.0. In objects.json its
version, its Gateway, and KServe's ConfigMap and CRD, cut to what is read, are recorded too; nodes,
claims, quotas and the two Deployments are by hand.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seatrial.doctor import Diagnosis, Level, diagnose
from serving.errors import UsageError
from serving.rollout.actuators.cluster import Cluster
from tests.support.api_documents import serving

RECORDED = Path(__file__).with_name("recorded")
CONFIG = "/api/v1/namespaces/kserve/configmaps/inferenceservice-config"
CONTROLLER = "/apis/apps/v1/namespaces/kserve/deployments/kserve-controller-manager"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/inferenceservices.serving.kserve.io"
GATEWAY = "/apis/gateway.networking.k8s.io/v1/namespaces/kserve/gateways/kserve-ingress-gateway"
KFP = "/apis/apps/v1/namespaces/kubeflow/deployments/ml-pipeline"
FEATURES = "/api/v1/namespaces/knative-serving/configmaps/config-features"
QUOTAS = "/api/v1/namespaces/seatrial/resourcequotas"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"

Change = Callable[[dict[str, Any]], object]
Ask = Callable[..., Diagnosis]


def recorded() -> dict[str, Any]:
    return {
        **json.loads((RECORDED / "discovery.json").read_text()),
        **json.loads((RECORDED / "objects.json").read_text()),
    }


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Diagnoses an overlay on the recorded cluster, changed."""

    def asked(
        change: Change = lambda _: None,
        overlay: str = "cpu",
        forbidden: frozenset[str] = frozenset(),
    ) -> Diagnosis:
        documents = copy.deepcopy(recorded())
        change(documents)
        with serving(documents, tmp_path, forbidden=forbidden) as kubeconfig:
            monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
            monkeypatch.setattr(
                "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig)
            )
            return diagnose(Cluster.connect("test"), overlay)

    return asked


def said(found: Diagnosis, level: Level) -> list[str]:
    return [f"{one.topic}: {one.says}" for one in found.findings if one.level is level]


@pytest.mark.parametrize("overlay", ["cpu", "local", "gpu", "production", "knative"])
def test_a_cluster_with_everything_would_take_the_overlay(ask: Ask, overlay: str) -> None:
    found = ask(overlay=overlay)
    assert said(found, Level.BROKEN) == []
    assert said(found, Level.UNKNOWN) == []
    assert found.would_apply


def _drop(*paths: str) -> Change:
    return lambda documents: [documents.pop(path) for path in paths]


def _ingress(**changed: object) -> Change:
    def change(documents: dict[str, Any]) -> None:
        data = documents[CONFIG]["data"]
        data["ingress"] = json.dumps({**json.loads(data["ingress"]), **changed})

    return change


def _image(tag: str) -> Change:
    def change(documents: dict[str, Any]) -> None:
        pod = documents[CONTROLLER]["spec"]["template"]["spec"]
        pod["containers"][0]["image"] = f"kserve/kserve-controller:{tag}"

    return change


def _no_canary_field(documents: dict[str, Any]) -> None:
    schema = documents[CRD]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    del schema["properties"]["spec"]["properties"]["canary"]


def _unprogrammed(documents: dict[str, Any]) -> None:
    documents[GATEWAY]["status"]["conditions"][1]["status"] = "False"


def _quota(documents: dict[str, Any]) -> None:
    documents[QUOTAS]["items"] = [
        {
            "metadata": {"name": "small"},
            "status": {"hard": {"requests.cpu": "2"}, "used": {"requests.cpu": "1900m"}},
        }
    ]


def _no_default_class(documents: dict[str, Any]) -> None:
    documents[CLASSES]["items"][0]["metadata"]["annotations"] = {}


SEATRIAL = "/api/v1/namespaces/seatrial"
SERVICE = "/apis/serving.kserve.io/v1beta1/namespaces/seatrial/inferenceservices/fraud"


def _another_claim(documents: dict[str, Any]) -> None:
    documents[f"{SEATRIAL}/persistentvolumeclaims/seatrial-bundles"] = {
        "metadata": {"name": "seatrial-bundles"},
        "spec": {"accessModes": ["ReadWriteMany"]},
    }


def _another_mode(documents: dict[str, Any]) -> None:
    documents[SERVICE] = {"status": {"deploymentMode": "Knative"}}


def _old(documents: dict[str, Any]) -> None:
    documents["/version"]["gitVersion"] = "v1.26.3"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_drop("/apis/serving.kserve.io/v1beta1"), "KServe: it is not installed"),
        (_image("v0.20.0"), "KServe: version 0.20.0 does not split traffic"),
        (_no_canary_field, "canary field: the CRD"),
        (_ingress(enableGatewayApi=False), "Gateway API switch: enableGatewayApi is off"),
        (_ingress(kserveIngressGateway="kserve/gone"), "gateway: kserveIngressGateway is"),
        (_ingress(disableIngressCreation=True), "Gateway API switch: KServe makes no routes"),
        (_ingress(ingressDomain="svc.cluster.local"), "Gateway API switch: KServe makes no routes"),
        (_unprogrammed, "gateway: Gateway kserve/kserve-ingress-gateway is not programmed"),
        (_drop("/apis/gateway.networking.k8s.io/v1"), "Gateway API: gateway.networking"),
        (_drop("/apis/policy/v1"), "kinds: 1 PodDisruptionBudget (policy/v1)"),
        (_quota, "quota: ResourceQuota small: requests.cpu allows 2"),
        (_no_default_class, "volumes: claim seatrial-bundles names no storage class"),
        (_another_claim, "volumes: claim seatrial-bundles is there as ReadWriteMany"),
        (_another_mode, "deployment mode: InferenceService fraud is there in Knative mode"),
        (_old, "Kubernetes: v1.26.3 is older than 1.30"),
    ],
)
def test_names_what_would_stop_the_overlay_and_the_command_that_mends_it(
    ask: Ask, change: Change, expected: str
) -> None:
    found = ask(change)
    assert any(line.startswith(expected) for line in said(found, Level.BROKEN)), found
    assert not found.would_apply
    assert all(one.mend for one in found.findings if one.level is Level.BROKEN)


def _listeners(*listeners: tuple[str, str]) -> Change:
    def change(documents: dict[str, Any]) -> None:
        documents[GATEWAY]["spec"]["listeners"] = [
            {"name": name, "protocol": protocol, "port": 1} for name, protocol in listeners
        ]

    return change


def test_production_needs_a_listener_with_a_certificate(ask: Ask) -> None:
    assert said(ask(overlay="production"), Level.BROKEN) == []
    found = ask(_listeners(("http", "HTTP")), overlay="production")
    (line,) = said(found, Level.BROKEN)
    assert line.startswith(
        "listeners: Gateway kserve/kserve-ingress-gateway has no listener named https, which"
    )
    # The other overlays have no route of their own.
    assert ask(_listeners(("http", "HTTP"))).would_apply


def test_a_listener_in_the_clear_beside_it_is_said(ask: Ask) -> None:
    found = ask(_listeners(("http", "HTTP"), ("https", "HTTPS")), overlay="production")
    assert any("listens in the clear too (http)" in line for line in said(found, Level.LIMITED))
    assert found.would_apply


def _nodes(**changed: object) -> Change:
    def change(documents: dict[str, Any]) -> None:
        node = documents["/api/v1/nodes"]["items"][1]
        for where, value in changed.items():
            part, _, field = where.partition("_")
            node[part][field] = value

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_nodes(status_allocatable={"cpu": "16"}), "GPU nodes: none of 2 nodes"),
        (_nodes(metadata_labels={}), "no GPU node has the labels"),
        (
            _nodes(spec_taints=[{"key": "team", "value": "other", "effect": "NoSchedule"}]),
            "every GPU node is tainted, as gpu-1 by team=other:NoSchedule",
        ),
    ],
)
def test_says_why_no_node_would_take_a_gpu_pod(ask: Ask, change: Change, expected: str) -> None:
    found = ask(change, overlay="gpu")
    assert any(expected in line for line in said(found, Level.BROKEN)), found


def test_one_gpu_leaves_none_for_a_canary(ask: Ask) -> None:
    found = ask(_nodes(status_allocatable={"nvidia.com/gpu": "1"}), overlay="gpu")
    assert any("a canary needs 2" in line for line in said(found, Level.LIMITED))
    assert found.would_apply


def _images(*names: str) -> Change:
    return _nodes(status_images=[{"names": [name], "sizeBytes": 1} for name in names])


OURS = ("predictor", "drift", "gate")


def test_an_image_that_nobody_can_pull_is_said(ask: Ask) -> None:
    held = [f"docker.io/seatrial/{name}:0.1.0" for name in OURS]
    assert not any(line.startswith("images") for line in said(ask(_images(*held)), Level.LIMITED))
    found = ask(_images(*held[1:]))
    assert "images: seatrial/predictor:0.1.0: no registry is named, and no node has them" in (
        line.partition(";")[0] for line in said(found, Level.LIMITED)
    )
    assert found.would_apply


def test_knative_mode_needs_its_feature_flags(ask: Ask) -> None:
    def off(documents: dict[str, Any]) -> None:
        documents[FEATURES]["data"]["kubernetes.podspec-fieldref"] = "disabled"

    found = ask(off, overlay="knative")
    assert said(found, Level.BROKEN) == [
        "Knative Serving: feature flags are off: kubernetes.podspec-fieldref"
    ]


def test_a_minimal_crd_is_said_to_check_nothing(ask: Ask) -> None:
    def minimal(documents: dict[str, Any]) -> None:
        documents[CRD]["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
        }

    found = ask(minimal)
    assert any("a misspelt one is not refused" in line for line in said(found, Level.LIMITED))
    assert found.would_apply


def test_what_may_not_be_read_is_unknown_and_not_absent(ask: Ask) -> None:
    found = ask(overlay="gpu", forbidden=frozenset({"/api/v1/nodes", CONFIG}))
    unknown = said(found, Level.UNKNOWN)
    assert any(line.startswith("GPU nodes: nodes may not be listed") for line in unknown)
    assert any(CONFIG in line for line in unknown)
    assert said(found, Level.BROKEN) == []


def test_tells_how_pipelines_get_there_by_where_kfp_keeps_them(ask: Ask) -> None:
    def database(documents: dict[str, Any]) -> None:
        pod = documents[KFP]["spec"]["template"]["spec"]
        pod["containers"][0]["args"] = []

    assert any("use the component pipelines" in line for line in said(ask(), Level.FINE))
    assert any("component pipelines-upload" in line for line in said(ask(database), Level.FINE))
    gone = said(ask(_drop(KFP)), Level.LIMITED)
    assert any(line.startswith("Kubeflow Pipelines: no deployment") for line in gone)


@pytest.mark.parametrize(
    ("change", "advised"),
    [
        (_drop("/api/v1/nodes"), "cpu"),
        (lambda _: None, "production"),
        (_drop("/apis/monitoring.coreos.com/v1"), "gpu"),
        (_ingress(enableGatewayApi=False), "knative"),
    ],
)
def test_advises_the_overlay_that_fits(ask: Ask, change: Change, advised: str) -> None:
    assert ask(change).advised == advised


def test_an_overlay_that_is_not_there_is_a_usage_error(ask: Ask) -> None:
    with pytest.raises(UsageError, match="known are cpu"):
        ask(overlay="huge")


def test_the_command_exits_0_only_if_apply_would_succeed(tmp_path: Path) -> None:
    def run(documents: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        with serving(documents, tmp_path) as kubeconfig:
            return subprocess.run(
                [sys.executable, "-m", "seatrial", "doctor", "--json"],
                env={**os.environ, "KUBECONFIG": str(kubeconfig)},
                capture_output=True,
                text=True,
                check=False,
            )

    good = run(recorded())
    assert (good.returncode, json.loads(good.stdout)["would_apply"]) == (0, True), good.stderr
    _image("v0.19.0")(documents := recorded())
    bad = run(documents)
    assert (bad.returncode, json.loads(bad.stdout)["would_apply"]) == (1, False)
