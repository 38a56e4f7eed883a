"""Each rule with manifests that break it; the rule's docstring names the upstream one."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.errors import ManifestError
from serving.rollout import check_change, check_rules, merge
from serving.rollout.dialects import to_patch
from serving.rollout.documents import read_documents
from tests.serving.rollout.states import BASE, ROOT, knative_story, story

FILE = Path("manifest.yaml")
Edit = Callable[[dict[str, Any], dict[str, Any]], object]
"""Changes the InferenceService and the ServingRuntime in place."""


def played(name: str) -> list[dict[str, Any]]:
    return list(merge(read_documents(BASE), to_patch(story()[name])))


def by_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(document for document in documents if document["kind"] == kind)


def refused(documents: list[dict[str, Any]], edit: Edit) -> str:
    edit(by_kind(documents, "InferenceService"), by_kind(documents, "ServingRuntime"))
    with pytest.raises(ManifestError) as error:
        check_rules(documents, FILE)
    assert str(error.value).startswith("manifest.yaml: InferenceService ")
    return str(error.value)


@pytest.mark.parametrize("name", story())
def test_admits_every_state_of_a_rollout(name: str) -> None:
    check_rules(played(name), FILE)


@pytest.mark.parametrize("name", knative_story())
def test_admits_every_knative_state(name: str) -> None:
    base = read_documents(ROOT / "manifests" / "rendered" / "knative.yaml")
    check_rules(merge(base, to_patch(knative_story()[name])), FILE)


def predictor(service: dict[str, Any], **fields: object) -> None:
    service["spec"]["predictor"].update(fields)


def canary(service: dict[str, Any], **fields: object) -> None:
    service["spec"]["canary"][0]["predictor"].update(fields)


def annotate(service: dict[str, Any], name: str, value: str | None) -> None:
    service["metadata"]["annotations"].pop(f"serving.kserve.io/{name}", None)
    if value is not None:
        service["metadata"]["annotations"][f"serving.kserve.io/{name}"] = value


BAD: dict[str, tuple[Edit, str]] = {
    "service name": (lambda s, _: s["metadata"].update(name="Fraud"), "metadata.name 'Fraud'"),
    "predictor name": (lambda s, _: predictor(s, name="V1"), "spec.predictor.name 'V1' is not"),
    "no mode": (lambda s, _: annotate(s, "deploymentMode", None), "deploymentMode is None; set"),
    "old mode": (lambda s, _: annotate(s, "deploymentMode", "RawDeployment"), "'RawDeployment'"),
    "no model": (lambda s, _: s["spec"]["predictor"].pop("model"), "predictor.model is missing"),
    "model name": (
        lambda s, _: s["spec"]["predictor"]["model"].update(name="x"),
        "model.name 'x' is not allowed",
    ),
    "canary without model": (
        lambda s, _: s["spec"]["canary"][0]["predictor"].pop("model"),
        "canary 'v2' has no model",
    ),
    "scheme": (
        lambda s, _: s["spec"]["predictor"]["model"].update(storageUri="ftp://x/y"),
        "storageUri 'ftp://x/y' has none of the schemes",
    ),
    "no uri": (
        lambda s, _: s["spec"]["predictor"]["model"].pop("storageUri"),
        "storageUri is missing",
    ),
    "no runtime": (
        lambda s, _: s["spec"]["predictor"]["model"].pop("runtime"),
        "model.runtime is missing",
    ),
    "runtime elsewhere": (
        lambda _, r: r["metadata"].update(name="other"),
        r"'seatrial-onnx' is not in the file (there: other, seatrial-onnx-gpu)",
    ),
    "runtime container": (
        lambda _, r: r["spec"]["containers"][0].update(name="server"),
        "has no container 'kserve-container'",
    ),
    "format": (
        lambda _, r: r["spec"]["supportedModelFormats"][0].update(name="sklearn"),
        "does not support model format 'onnx'",
    ),
    "protocol": (
        lambda _, r: r["spec"].update(protocolVersions=["grpc-v2"]),
        "does not speak protocolVersion 'v2'",
    ),
    "negative replicas": (lambda s, _: predictor(s, minReplicas=-1), "minReplicas is -1"),
    "replicas above max": (lambda s, _: predictor(s, maxReplicas=1), "2 is above maxReplicas 1"),
    "reserved name": (
        lambda s, _: s["spec"]["predictor"]["containers"][0].update(name="kserve-container"),
        "the name 'kserve-container' is KServe's own",
    ),
    "reserved name in a canary": (
        lambda s, _: canary(s, containers=[{"name": "transformer-container", "image": "x:1"}]),
        "canary 'v2'.containers: the name 'transformer-container' is KServe's own",
    ),
    "container twice": (
        lambda s, _: s["spec"]["predictor"]["containers"].append(
            s["spec"]["predictor"]["containers"][0]
        ),
        "the name 'drift-detector' is used twice",
    ),
    "knative with a canary list": (
        lambda s, _: annotate(s, "deploymentMode", "Knative"),
        "spec.canary is refused in Knative mode",
    ),
    "share in Standard mode": (
        lambda s, _: predictor(s, canaryTrafficPercent=10),
        "canaryTrafficPercent is ignored in Standard mode",
    ),
    "share in a canary": (
        lambda s, _: canary(s, canaryTrafficPercent=10),
        "canary 'v2'.canaryTrafficPercent is ignored",
    ),
    "unnamed stable": (
        lambda s, _: s["spec"]["predictor"].pop("name"),
        "spec.predictor.name is missing; name stable",
    ),
    "unnamed canary": (
        lambda s, _: s["spec"]["canary"][0]["predictor"].pop("name"),
        "spec.canary[0].predictor.name is missing",
    ),
    "canary named as stable": (lambda s, _: canary(s, name="v1"), "name 'v1' is used twice"),
    "canary named badly": (lambda s, _: canary(s, name="v_2"), "canary 'v_2': predictor.name"),
    "percent above": (
        lambda s, _: s["spec"]["canary"][0].update(trafficPercent=101),
        "trafficPercent is 101; set 0 to 100",
    ),
    "percent below": (
        lambda s, _: s["spec"]["canary"][0].update(trafficPercent=-1),
        "trafficPercent is -1; set 0 to 100",
    ),
    "canary without replicas": (
        lambda s, _: s["spec"]["canary"][0]["predictor"].pop("minReplicas"),
        "canary 'v2': minReplicas is missing",
    ),
    "canary with no replicas": (lambda s, _: canary(s, minReplicas=0), "minReplicas is 0; set 1"),
    "canary above stable": (
        lambda s, _: canary(s, minReplicas=3),
        "minReplicas 3 is above stable's 2",
    ),
    "canary maxReplicas": (lambda s, _: canary(s, maxReplicas=3), "maxReplicas is not allowed"),
    "canary scaleTarget": (lambda s, _: canary(s, scaleTarget=3), "scaleTarget is not allowed"),
    "canary scaleMetric": (lambda s, _: canary(s, scaleMetric="cpu"), "scaleMetric is not allow"),
    "canary autoScaling": (lambda s, _: canary(s, autoScaling={}), "autoScaling is not allowed"),
    "canary workerSpec": (lambda s, _: canary(s, workerSpec={}), "workerSpec is not allowed"),
    "hpa": (lambda s, _: annotate(s, "autoscalerClass", "hpa"), "is 'hpa'; canaries need 'none'"),
    "no class": (lambda s, _: annotate(s, "autoscalerClass", None), "canaries need 'none'"),
    "priority": (
        lambda _, r: r["spec"]["supportedModelFormats"][0].update(priority=1),
        "priority 1 for format 'onnx' is taken by 'kserve-tritonserver'",
    ),
    "no route": (
        lambda s, _: s["metadata"].update(
            labels={"networking.kserve.io/visibility": "cluster-local"}
        ),
        "visibility is cluster-local, where canaries get nothing",
    ),
    "ready without pods": (
        lambda s, _: predictor(
            s,
            deploymentStrategy={
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
            },
        ),
        "of 1 pods of stable all may be missing",
    ),
    "ready without pods, by rounding": (
        lambda s, _: predictor(
            s,
            deploymentStrategy={
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "50%"},
            },
        ),
        "of 1 pods of stable all may be missing",
    ),
    "class": (lambda s, _: annotate(s, "autoscalerClass", "vpa"), "is 'vpa'; set one of"),
}


@pytest.mark.parametrize("name", BAD)
def test_refuses_a_known_bad_manifest(name: str) -> None:
    edit, message = BAD[name]
    assert message in refused(played("10 %"), edit)


def test_refuses_canaries_twice_by_one_name() -> None:
    documents = played("two canaries")

    def edit(service: dict[str, Any], _: dict[str, Any]) -> None:
        service["spec"]["canary"][1]["predictor"]["name"] = "v2"

    assert "name 'v2' is used twice" in refused(documents, edit)


def test_refuses_shares_that_sum_above_a_hundred() -> None:
    documents = played("two canaries")

    def edit(service: dict[str, Any], _: dict[str, Any]) -> None:
        service["spec"]["canary"][1]["trafficPercent"] = 91

    assert "trafficPercent sums to 101" in refused(documents, edit)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s, _: predictor(s, deploymentStrategy={"type": "Recreate"}), "deploymentStrategy"),
        (lambda s, _: predictor(s, canaryTrafficPercent=101), "is 101; set 0 to 100"),
        (
            lambda s, _: s["spec"]["predictor"]["containers"][0].update(
                ports=[{"containerPort": 9095}]
            ),
            "the pod declares ports [8080, 9095]; Knative mode allows one",
        ),
        (
            lambda s, _: s["spec"]["predictor"]["containers"][0].update(args=["--port=9090"]),
            "container drift-detector has port 9090, Knative's proxy's",
        ),
        (
            lambda s, _: s["spec"]["predictor"]["containers"][0].update(
                args=["--grpc-port", "9091"]
            ),
            "container drift-detector has port 9091, Knative's proxy's",
        ),
    ],
)
def test_refuses_what_knative_mode_lacks(edit: Edit, message: str) -> None:
    documents = list(read_documents(ROOT / "manifests" / "rendered" / "knative.yaml"))
    assert message in refused(documents, edit)


@pytest.mark.parametrize("role", ["stable", "canary"])
def test_refuses_a_version_that_the_gateway_would_speak_to_in_the_clear(role: str) -> None:
    documents = list(
        merge(
            read_documents(ROOT / "manifests" / "rendered" / "production.yaml"),
            to_patch(story()["10 %"]),
        )
    )

    def edit(service: dict[str, Any], _: dict[str, Any]) -> None:
        spec = service["spec"]
        (spec if role == "stable" else spec["canary"][0])["predictor"]["name"] = "v16"

    assert "no BackendTLSPolicy lists the Service fraud-v16-predictor" in refused(documents, edit)


def test_a_policy_for_another_service_says_nothing_of_this_one() -> None:
    documents = list(read_documents(ROOT / "manifests" / "rendered" / "production.yaml"))
    policy = by_kind(documents, "BackendTLSPolicy")
    policy["spec"]["targetRefs"] = [
        {"group": "", "kind": "Service", "name": "fraud-cpu-v1-predictor"}
    ]
    check_rules(documents, FILE)


def test_refuses_a_new_name_on_an_unchanged_model() -> None:
    before = by_kind(played("stable"), "InferenceService")
    after = copy.deepcopy(before)
    predictor(after, name="v2")
    with pytest.raises(ManifestError, match="from 'v1' to 'v2' while storageUri stays pvc://"):
        check_change(before, after, FILE)


def test_refuses_a_change_of_the_deployment_mode() -> None:
    before = by_kind(played("stable"), "InferenceService")
    after = copy.deepcopy(before)
    annotate(after, "deploymentMode", "Knative")
    with pytest.raises(ManifestError, match="changes from Standard to Knative"):
        check_change(before, after, FILE)


def test_admits_every_step_of_the_story() -> None:
    steps = ["stable", "10 %", "50 %", "promoted", "cleaned up", "bad canary", "bad canary dark"]
    services = [by_kind(played(step), "InferenceService") for step in steps]
    for before, after in itertools.pairwise(services):
        check_change(before, after, FILE)
