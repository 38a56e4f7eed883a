"""Pure: from merged documents to pods."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest
import yaml

from serving.errors import ManifestError
from serving.local.overlay import strategic_merge
from serving.local.pods import Play, Probe, plan
from serving.local.split import shares
from tests.serving.local.deploy import MANIFEST

Documents = list[dict[str, Any]]
CANARY = {
    "trafficPercent": 10,
    "predictor": {
        "name": "v2",
        "minReplicas": 1,
        "model": {"modelFormat": {"name": "onnx"}, "storageUri": "pvc://bundles/v2"},
    },
}


@pytest.fixture
def documents() -> Documents:
    return list(yaml.safe_load_all(MANIFEST.read_text()))


def spec(documents: Documents) -> dict[str, Any]:
    found: dict[str, Any] = documents[-1]["spec"]
    return found


def container(documents: Documents) -> dict[str, Any]:
    found: dict[str, Any] = documents[1]["spec"]["containers"][0]
    return found


def with_canary(documents: Documents, **extra: Any) -> Play:
    spec(documents)["canary"] = [deepcopy(CANARY)]
    spec(documents)["canary"][0]["predictor"].update(extra)
    return plan(documents)


def test_the_models_args_follow_the_runtimes_and_names_are_filled_in(documents: Documents) -> None:
    [main] = plan(documents).stable.containers
    assert main.args == (
        "--model_name=tiny",
        "--model_dir=/mnt/models",
        "--http_port=8080",
        "--grpc_port=8081",
        "--predict_timeout_seconds=1",
        "--tee_url=",
    )
    assert main.probe == Probe(port=8080, path="/v2/models/tiny/ready", period=1, failures=3)


def test_env_is_merged_by_name_and_a_command_is_replaced(documents: Documents) -> None:
    container(documents)["env"].append({"name": "LEVEL", "value": "info"})
    container(documents)["command"] = ["python", "-m", "serving.predictor"]
    model = spec(documents)["predictor"]["model"]
    model["env"] = [{"name": "LEVEL", "value": "debug"}, {"name": "EXTRA", "value": "1"}]
    model["command"] = ["python", "-m", "other"]
    [main] = plan(documents).stable.containers
    assert [(e.name, e.value, e.field) for e in main.env] == [
        ("SEATRIAL_ARM", "", "metadata.labels['app']"),
        ("LEVEL", "debug", None),
        ("EXTRA", "1", None),
    ]
    assert main.command == ("python", "-m", "other")


def test_a_canary_inherits_sidecars_and_args_and_overrides_its_own(documents: Documents) -> None:
    spec(documents)["predictor"]["containers"] = [
        {"name": "side", "image": "seatrial/drift:0.1.0", "args": ["--port=9095"]}
    ]
    play = with_canary(documents)
    stable, canary = play.arms
    assert [c.name for c in canary.containers] == ["kserve-container", "side"]
    assert canary.containers == stable.containers
    assert (stable.weight, canary.weight) == (90, 10)
    assert canary.storage_uri == "pvc://bundles/v2"
    assert canary.labels["app"] == "isvc.tiny-v2-predictor"


def test_promotion_keeps_the_template(documents: Documents) -> None:
    before = {arm.name: arm.template for arm in with_canary(documents).arms}
    predictor = spec(documents)["predictor"]
    predictor["name"], predictor["minReplicas"] = "v2", 2
    predictor["model"]["storageUri"] = "pvc://bundles/v2"
    spec(documents)["canary"] = [
        {
            "trafficPercent": 0,
            "predictor": {
                "name": "v1",
                "minReplicas": 1,
                "model": {"modelFormat": {"name": "onnx"}, "storageUri": "pvc://bundles/v1"},
            },
        }
    ]
    after = {arm.name: arm.template for arm in plan(documents).arms}
    assert after == before


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"storageUri": "pvc://bundles/other"}},
        {"model": {"args": ["--predict_timeout_seconds=2"]}},
        {"model": {"env": [{"name": "LEVEL", "value": "debug"}]}},
        {"labels": {"team": "risk"}},
    ],
)
def test_what_a_process_is_started_with_changes_the_template(
    documents: Documents, change: Mapping[str, Any]
) -> None:
    before = plan(documents).stable.template
    spec(documents)["predictor"] = strategic_merge(spec(documents)["predictor"], change)
    assert plan(documents).stable.template != before


@pytest.mark.parametrize("change", [{"minReplicas": 3}, {"timeout": 3}, {"name": "other"}])
def test_what_no_process_sees_keeps_the_template(
    documents: Documents, change: Mapping[str, Any]
) -> None:
    before = plan(documents).stable.template
    spec(documents)["predictor"].update(change)
    assert plan(documents).stable.template == before


def test_a_canary_without_replicas_gets_its_share_of_stables(documents: Documents) -> None:
    spec(documents)["canary"] = [deepcopy(CANARY)]
    del spec(documents)["canary"][0]["predictor"]["minReplicas"]
    assert plan(documents).arms[1].replicas == 1
    spec(documents)["canary"][0]["trafficPercent"] = 0
    assert plan(documents).arms[1].replicas == 0


def test_the_wires_are_told_apart_by_port_names(documents: Documents) -> None:
    arm = plan(documents).stable
    assert (arm.port("http"), arm.port("grpc")) == (8080, 8081)
    container(documents)["ports"][1]["name"] = "h2c"
    assert plan(documents).stable.port("grpc") == 8081
    del container(documents)["ports"][1]
    assert plan(documents).stable.port("grpc") is None


def test_without_a_probe_the_model_is_ready_when_its_first_port_answers(
    documents: Documents,
) -> None:
    del container(documents)["readinessProbe"]
    assert plan(documents).stable.containers[0].probe == Probe(port=8080)


def test_the_gateways_timeout_is_the_predictors(documents: Documents) -> None:
    assert plan(documents).timeout == 15
    spec(documents)["predictor"]["timeout"] = 4
    assert plan(documents).timeout == 4


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("nodeSelector", {"disk": "ssd"}, "InferenceService/tiny spec.predictor.nodeSelector"),
        ("logger", {"mode": "all"}, "InferenceService/tiny spec.predictor.logger"),
        (
            "minReplicas",
            3,
            "InferenceService/tiny spec.predictor.minReplicas: 3 (one pod plays each predictor)",
        ),
    ],
)
def test_a_field_that_is_not_played_is_listed(
    documents: Documents, field: str, value: Any, line: str
) -> None:
    spec(documents)["predictor"][field] = value
    assert line in plan(documents).not_played


def test_objects_and_values_that_are_not_played_are_listed(documents: Documents) -> None:
    documents.insert(2, {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "tiny"}})
    container(documents)["env"].append(
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    )
    spec(documents)["transformer"] = {}
    listed = plan(documents).not_played
    assert "HorizontalPodAutoscaler/tiny" in listed
    assert "InferenceService/tiny spec.transformer" in listed
    where = "ServingRuntime/seatrial-onnx spec.containers[kserve-container]"
    assert f"{where}.env[TOKEN].valueFrom.secretKeyRef" in listed


def test_replicas_that_stable_holds_for_its_canaries_are_no_news(documents: Documents) -> None:
    spec(documents)["predictor"]["minReplicas"] = 2
    assert not [line for line in with_canary(documents).not_played if "minReplicas" in line]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": None}, "predictor.name is missing"),
        ({"minReplicas": 0}, "minReplicas 0 leaves nothing"),
        ({"model": {"runtime": "absent"}}, "runtime is 'absent', and the manifest has no such"),
        ({"model": {"storageUri": None}}, "storageUri is missing"),
        (
            {"model": {"env": [{"name": "SEATRIAL_ARM", "value": "x"}]}},
            "env 'SEATRIAL_ARM' has both value and valueFrom",
        ),
    ],
)
def test_refuses_a_manifest_that_cannot_be_played(
    documents: Documents, change: Mapping[str, Any], message: str
) -> None:
    spec(documents)["predictor"] = strategic_merge(spec(documents)["predictor"], change)
    with pytest.raises(ManifestError, match=message):
        plan(documents)


def test_refuses_knative_mode(documents: Documents) -> None:
    documents[-1]["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] = "Knative"
    with pytest.raises(ManifestError, match=r"'Knative'.*the player plays 'Standard'"):
        plan(documents)


def test_refuses_two_containers_on_one_port(documents: Documents) -> None:
    spec(documents)["predictor"]["containers"] = [
        {"name": "side", "image": "x", "ports": [{"containerPort": 8080}]}
    ]
    with pytest.raises(ManifestError, match="two containers declare containerPort 8080"):
        plan(documents)


@pytest.mark.parametrize(
    ("ready", "expected"),
    [
        ({"v1": True, "v2": True}, {"v1": 90, "v2": 10}),
        ({"v1": True, "v2": False}, {"v1": 100, "v2": 0}),
        ({"v1": True}, {"v1": 100, "v2": 0}),
        ({"v1": False, "v2": True}, {"v1": 90, "v2": 10}),
        ({"v2": True}, None),
        ({}, None),
    ],
)
def test_an_unready_canary_is_left_out_and_an_unborn_stable_moves_nothing(
    documents: Documents, ready: Mapping[str, bool], expected: Mapping[str, int] | None
) -> None:
    assert shares(with_canary(documents).arms, ready) == expected
