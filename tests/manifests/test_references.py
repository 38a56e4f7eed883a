"""Whatever names something names something that is in the same render, or is yours by contract."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from serving.drift.settings import read_settings as drift_settings
from serving.predictor.metrics import SECONDS
from serving.predictor.settings import read_settings as predictor_settings
from serving.retrain.rules import Rules
from serving.retrain.settings import read_settings as retrain_settings
from serving.rollout import Arm, merge, read_rollout, with_canary
from serving.rollout.dialects import to_patch
from serving.rollout.gate.plan import Plan
from serving.rollout.rules import findings
from serving.rollout.standing.settings import read_settings as gate_settings
from tests.support.cluster_set import ROOT, ClusterSet, Document, Pod, committed

# Yours to make, and described in docs/cluster.md; a pod starts without them.
OPTIONAL = {("Secret", "seatrial-gate-git"), ("ConfigMap", "seatrial-deploy")}
NAMESPACE = "seatrial"


def selects(selector: Mapping[str, str], pod: Pod) -> bool:
    return selector.items() <= pod.labels.items()


def missing_in_pod(pod: Pod, found: ClusterSet) -> Iterator[str]:
    spec = pod.spec
    if spec["serviceAccountName"] not in found.names("ServiceAccount"):
        yield f"ServiceAccount {spec['serviceAccountName']}"
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    for volume in spec.get("volumes", []):
        for kind, name, optional in _sources(volume):
            there = name in found.names(kind) or (kind == "Secret" and name in issued(found))
            if not there and not (optional and (kind, name) in OPTIONAL):
                yield f"{kind} {name}"
    for container in pod.containers:
        mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
        yield from (f"volume {name}" for name in mounts - volumes)
        for source in container.get("envFrom", []):
            if source["configMapRef"]["name"] not in found.names("ConfigMap"):
                yield f"ConfigMap {source['configMapRef']['name']}"
        ports = {port["name"] for port in container.get("ports", [])}
        numbers = {port["containerPort"] for port in container.get("ports", [])}
        for probe in ("readinessProbe", "livenessProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            # In Knative mode the sidecar declares none.
            if port is not None and port not in ports | numbers and not pod.knative:
                yield f"{container['name']} {probe}: port {port}"


def issued(found: ClusterSet) -> set[str]:
    """Secrets that cert-manager makes."""
    return {certificate["spec"]["secretName"] for certificate in found.of("Certificate")}


def _sources(volume: Document) -> Iterator[tuple[str, str, bool]]:
    if "persistentVolumeClaim" in volume:
        yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], False
    if "configMap" in volume:
        yield "ConfigMap", volume["configMap"]["name"], volume["configMap"].get("optional", False)
    if "secret" in volume:
        yield "Secret", volume["secret"]["secretName"], volume["secret"].get("optional", False)


def test_what_a_pod_names_is_there(cluster_set: ClusterSet) -> None:
    for pod in cluster_set.pods:
        assert list(missing_in_pod(pod, cluster_set)) == [], pod.owner


def without(kind: str, name: str) -> ClusterSet:
    found = committed("cpu")
    return ClusterSet(
        [d for d in found.documents if (d["kind"], d["metadata"]["name"]) != (kind, name)]
    )


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("ConfigMap", "seatrial-drift"),
        ("ConfigMap", "seatrial-gate-plan"),
        ("PersistentVolumeClaim", "seatrial-rollouts"),
        ("ServiceAccount", "seatrial-predictor"),
    ],
)
def test_a_name_without_its_object_is_found(kind: str, name: str) -> None:
    found = without(kind, name)
    missing = {line for pod in found.pods for line in missing_in_pod(pod, found)}
    assert missing == {f"{kind} {name}"}


def test_autoscaling_is_refused_once_a_canary_is_listed(
    combinations: Mapping[str, ClusterSet],
) -> None:
    documents = combinations["autoscaling"].documents
    assert list(findings(documents)) == []
    state = read_rollout(ROOT / "manifests" / "overlays" / "cpu")
    listed = with_canary(state, Arm("v2", "pvc://seatrial-bundles/fraud/v2"))
    (found,) = findings(merge(documents, to_patch(listed)))
    assert "autoscalerClass is 'hpa'; canaries need 'none'" in found


def test_what_an_inference_service_names_is_there(cluster_set: ClusterSet) -> None:
    for service in cluster_set.of("InferenceService"):
        predictor = service["spec"]["predictor"]
        runtime = cluster_set.get("ServingRuntime", predictor["model"]["runtime"])["spec"]
        formats = {found["name"] for found in runtime["supportedModelFormats"]}
        assert predictor["model"]["modelFormat"]["name"] in formats
        assert predictor["model"]["protocolVersion"] in runtime["protocolVersions"]
        uri = predictor["model"]["storageUri"]
        claim = re.fullmatch(r"pvc://([^/]+)/.+", uri)
        assert claim is not None
        assert claim[1] in cluster_set.names("PersistentVolumeClaim")
        container = cluster_set.get("ClusterStorageContainer", predictor["storageContainerName"])
        # KServe refuses pods of a scheme that the named container does not support, pvc:// too.
        formats = container["spec"]["supportedUriFormats"]
        assert any(uri.startswith(known.get("prefix", "\0")) for known in formats)


def test_selectors_find_the_pods_they_are_for(cluster_set: ClusterSet) -> None:
    for document in cluster_set.of("Deployment"):
        owner = f"Deployment/{document['metadata']['name']}"
        selector = document["spec"]["selector"]["matchLabels"]
        assert [pod.owner for pod in cluster_set.pods if selects(selector, pod)] == [owner]
    for budget in cluster_set.of("PodDisruptionBudget"):
        selector = budget["spec"]["selector"]["matchLabels"]
        owner = f"InferenceService/{budget['metadata']['name']}"
        assert [pod.owner for pod in cluster_set.pods if selects(selector, pod)] == [owner]
    for pod in cluster_set.pods:
        for constraint in pod.spec.get("topologySpreadConstraints", []):
            assert selects(constraint["labelSelector"]["matchLabels"], pod)
        affinity = pod.spec.get("affinity", {}).get("podAffinity", {})
        for term in affinity.get("preferredDuringSchedulingIgnoredDuringExecution", []):
            selector = term["podAffinityTerm"]["labelSelector"]["matchLabels"]
            assert any(selects(selector, other) for other in cluster_set.pods)


def test_every_service_leads_to_a_port_of_a_pod(cluster_set: ClusterSet) -> None:
    for service in cluster_set.of("Service"):
        found = [pod for pod in cluster_set.pods if selects(service["spec"]["selector"], pod)]
        assert len(found) == 1, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in found[0].ports()


def test_every_role_is_bound_to_an_account_of_a_pod(cluster_set: ClusterSet) -> None:
    used = {pod.spec["serviceAccountName"] for pod in cluster_set.pods}
    assert cluster_set.names("ServiceAccount") == used
    bound = set()
    for binding in cluster_set.of("RoleBinding"):
        assert binding["roleRef"]["kind"] == "Role"
        bound.add(binding["roleRef"]["name"])
        for subject in binding["subjects"]:
            assert subject["namespace"] == NAMESPACE
            assert subject["name"] in used
    assert cluster_set.names("Role") == bound


def test_everything_is_in_the_one_namespace(cluster_set: ClusterSet) -> None:
    assert cluster_set.names("Namespace") == {NAMESPACE}
    for document in cluster_set.documents:
        if document["kind"] not in ("Namespace", "ClusterStorageContainer"):
            assert document["metadata"]["namespace"] == NAMESPACE, document["metadata"]["name"]


def test_events_go_to_something_that_is_there(cluster_set: ClusterSet) -> None:
    sink = cluster_set.get("ConfigMap", "seatrial-drift")["data"]["K_SINK"]
    for trigger in cluster_set.of("Trigger"):
        assert trigger["spec"]["broker"] in cluster_set.names("Broker")
        assert trigger["spec"]["subscriber"]["ref"]["name"] in cluster_set.names("Service")
    for broker in cluster_set.of("Broker"):
        letters = broker["spec"]["delivery"]["deadLetterSink"]["ref"]
        assert letters["name"] in cluster_set.names("Service")
        assert urlsplit(sink).path == f"/{NAMESPACE}/{broker['metadata']['name']}"
    host = urlsplit(sink).hostname or ""
    if host.endswith(f".{NAMESPACE}.svc.cluster.local"):
        assert host.split(".")[0] in cluster_set.names("Service")


def test_the_trigger_passes_what_the_receiver_takes(
    combinations: Mapping[str, ClusterSet],
) -> None:
    trigger = combinations["drift by a broker"].get("Trigger", "seatrial-retrain")
    (found,) = trigger["spec"]["filters"]
    assert {one["exact"]["type"] for one in found["any"]} == Rules().types


def test_the_fallbacks_route_leads_to_both_services() -> None:
    found = committed("production")
    route = found.get("HTTPRoute", "fraud-fallback")
    (rule,) = route["spec"]["rules"]
    assert {ref["name"] for ref in rule["backendRefs"]} == found.names("Backend")
    (policy,) = found.of("BackendTrafficPolicy")
    assert [ref["name"] for ref in policy["spec"]["targetRefs"]] == [route["metadata"]["name"]]
    cpu = found.get("Backend", "fraud-cpu")["spec"]
    fallback = found.get("InferenceService", "fraud-cpu")
    name = fallback["spec"]["predictor"]["name"]
    assert cpu["fallback"] is True
    assert cpu["endpoints"][0]["fqdn"]["hostname"] == (
        f"fraud-cpu-{name}-predictor.{NAMESPACE}.svc.cluster.local"
    )
    # The second pass asks for the host of KServe's own route.
    inner = rule["filters"][0]["urlRewrite"]["hostname"]
    assert inner == f"fraud-{NAMESPACE}.example.com"
    (ready,) = found.get("HTTPRoute", "fraud-ready")["spec"]["rules"]
    (ref,) = ready["backendRefs"]
    (port,) = found.get("Service", ref["name"])["spec"]["ports"]
    assert ref["port"] == port["port"]
    model = fallback["spec"]["predictor"]["model"]
    assert model["readinessProbe"]["httpGet"]["path"] == "/v2/models/fraud/ready"
    runtime = found.get("ServingRuntime", model["runtime"])["spec"]["containers"][0]
    read, rest = predictor_settings([*runtime["args"], *model["args"]], {})
    assert (read.model_name, rest) == ("fraud", [])


@pytest.mark.parametrize("name", ["base", "cpu", "gpu", "production"])
def test_settings_are_ones_that_the_processes_have(name: str) -> None:
    found = committed(name)

    def data(config: str) -> dict[str, str]:
        kept: dict[str, str] = found.get("ConfigMap", config)["data"]
        return kept

    def args(owner: str) -> list[str]:
        pod = next(pod for pod in found.pods if pod.owner == owner)
        return [str(arg) for arg in pod.containers[0]["args"]]

    gate = gate_settings(args("Deployment/seatrial-gate"), data("seatrial-gate"))
    assert (ROOT / gate.folder / "rollout.yaml").is_file()
    assert gate.actuator == "git"
    known = {f"SEATRIAL_GATE_{field.upper()}" for field in vars(gate)}
    assert data("seatrial-gate").keys() <= known
    retrain = retrain_settings(args("Deployment/seatrial-retrain"), data("seatrial-retrain"))
    retrain.build_launcher()
    known = {f"SEATRIAL_RETRAIN_{field.upper()}" for field in vars(retrain)}
    assert data("seatrial-retrain").keys() <= known
    sidecar = found.get("InferenceService", "fraud")["spec"]["predictor"]["containers"][0]
    drift = drift_settings(sidecar["args"], data("seatrial-drift"))
    known = {f"SEATRIAL_DRIFT_{field.upper()}" for field in vars(drift)} | {"K_SINK"}
    assert data("seatrial-drift").keys() <= known
    mounts = {mount["mountPath"] for mount in sidecar["volumeMounts"]}
    assert drift.state_dir in mounts
    for runtime in found.of("ServingRuntime"):
        _, rest = predictor_settings(runtime["spec"]["containers"][0]["args"], {})
        assert rest == []


def test_probes_ask_ports_that_the_processes_listen_on() -> None:
    found = committed("cpu")
    for runtime in found.of("ServingRuntime"):
        server = runtime["spec"]["containers"][0]
        ports = {port["name"]: port["containerPort"] for port in server["ports"]}
        assert ports == {"http": 8080, "grpc": 8081}
        assert {f"--{name}_port={port}" for name, port in ports.items()} <= set(server["args"])
        asked = server["readinessProbe"]["httpGet"]
        assert asked == {"path": "/v2/models/{{.Name}}/ready", "port": ports["http"]}
        sidecar = found.get("InferenceService", "fraud")["spec"]["predictor"]["containers"][0]
        tee = sidecar["ports"][0]["containerPort"]
        assert f"--port={tee}" in sidecar["args"]
        assert f"--tee_url=http://localhost:{tee}" in server["args"]
    for pod in found.pods:
        if pod.owner.startswith("Deployment/"):
            (port,) = pod.ports().values()
            assert f"--port={port}" in pod.containers[0]["args"]


def test_the_plan_is_one_that_the_gate_reads_and_the_predictors_can_answer() -> None:
    text = committed("cpu").get("ConfigMap", "seatrial-gate-plan")["data"]["plan.yaml"]
    plan = Plan.model_validate(yaml.safe_load(text))
    assert plan.slo_seconds in SECONDS


def test_pipelines_resources_name_each_other(combinations: Mapping[str, ClusterSet]) -> None:
    found: Any = combinations["pipelines as resources"]
    versions = found.of("PipelineVersion")
    assert {version["spec"]["pipelineName"] for version in versions} == found.names("Pipeline")
    for version in versions:
        info = version["spec"]["pipelineSpec"]["pipelineInfo"]
        assert info["name"] == version["spec"]["pipelineName"]
