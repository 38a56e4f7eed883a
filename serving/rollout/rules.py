"""What KServe refuses, or accepts and then ignores, said before anything reaches a cluster.

Each rule's docstring names what it mirrors: a function of KServe's admission webhook
(pkg/apis/serving/v1beta1/inference_service_validation.go unless said otherwise) or of its
controller, where the webhook lets the mistake through.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.errors import ManifestError
from serving.rollout.dialects import KIND
from serving.rollout.state import NAME, Dialect, service_of

MODE = "serving.kserve.io/deploymentMode"
AUTOSCALER = "serving.kserve.io/autoscalerClass"
SERVER = "kserve-container"
VISIBILITY = "networking.kserve.io/visibility"
RESERVED = (SERVER, "transformer-container")
_AUTOSCALERS = ("external", "hpa", "keda", "none")
_AUTOSCALED = ("maxReplicas", "scaleTarget", "scaleMetric", "autoScaling")
_SCHEMES = (
    *("gs", "s3", "pvc", "file", "http", "https", "hf", "oci", "oci+native", "oci+fetch"),
    *("hdfs", "webhdfs", "modelscope", "model-registry"),
)

QUEUE_PROXY = (8008, 8012, 8013, 8022, 8112, 9090, 9091)
"""Ports of the proxy that Knative puts into a pod (its pkg/networking/constants.go)."""
_PORT_FLAG = re.compile(r"--[\w-]*port[= ](\d+)")

Object = Mapping[str, Any]


@dataclass(frozen=True)
class View:
    """One InferenceService and the objects beside it, already valid against their schemas."""

    service: Object
    documents: Sequence[Object]

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.service["metadata"].get("annotations") or {}

    @property
    def mode(self) -> str | None:
        return self.annotations.get(MODE)

    @property
    def spec(self) -> Object:
        return self.service.get("spec") or {}

    @property
    def predictor(self) -> Object:
        return self.spec.get("predictor") or {}

    @property
    def model(self) -> Object:
        return self.predictor.get("model") or {}

    @property
    def canaries(self) -> Sequence[Object]:
        return self.spec.get("canary") or ()

    def named_canaries(self) -> Iterator[tuple[str, Object]]:
        """(how to speak of it, its predictor)"""
        for i, canary in enumerate(self.canaries):
            name = canary["predictor"].get("name")
            yield (f"canary '{name}'" if name else f"spec.canary[{i}]"), canary["predictor"]


def check_rules(documents: Sequence[Object], file: Path) -> None:
    """Applies every rule to each InferenceService. Raises ManifestError with the first finding."""
    finding = next(findings(documents), None)
    if finding:
        raise ManifestError(f"{file}: {finding}")


def findings(documents: Sequence[Object]) -> Iterator[str]:
    """What the rules have to say, in their order."""
    for document in documents:
        if document["kind"] == KIND:
            view = View(document, documents)
            for rule in RULES:
                for finding in rule(view):
                    yield f"InferenceService {document['metadata']['name']}: {finding}"


def check_change(before: Object, after: Object, file: Path) -> None:
    """What an update may not do. Raises ManifestError.

    Mirrors validatePredictorNameChange: a new predictor.name needs a new storageUri, so a canary
    that differs in image or environment only cannot be promoted. Mirrors validateDeploymentMode:
    the mode of a live InferenceService is fixed.
    """
    name = after["metadata"]["name"]
    old, new = View(before, ()), View(after, ())
    uri = new.model.get("storageUri")
    if (
        old.predictor.get("name") != new.predictor.get("name")
        and old.model.get("storageUri") == uri
    ):
        raise ManifestError(
            f"{file}: InferenceService {name}: predictor.name changes from"
            f" '{old.predictor.get('name')}' to '{new.predictor.get('name')}' while storageUri"
            f" stays {uri}, which KServe refuses; keep the name or change the model"
        )
    if old.mode != new.mode:
        raise ManifestError(
            f"{file}: InferenceService {name}: annotation {MODE} changes from {old.mode} to"
            f" {new.mode}, which KServe refuses; delete the InferenceService first"
        )


def _name(view: View) -> Iterator[str]:
    """validateInferenceServiceName, and the CRD's pattern of predictor.name."""
    name = view.service["metadata"]["name"]
    if not NAME.fullmatch(name):
        yield f"metadata.name '{name}' is not a lower-case DNS label; rename it"
    stable = view.predictor.get("name")
    if stable is not None and not NAME.fullmatch(stable):
        yield f"spec.predictor.name '{stable}' is not a lower-case DNS label; rename it"


def _mode(view: View) -> Iterator[str]:
    """No webhook: an InferenceService without the annotation gets the cluster's default mode."""
    modes = [dialect.value for dialect in Dialect]
    if view.mode not in modes:
        yield f"annotation {MODE} is {view.mode!r}; set it to one of {', '.join(modes)}"


def _model(view: View) -> Iterator[str]:
    """validateExactlyOneImplementation and validatePredictor; canaries merge onto `model` only."""
    if not view.model:
        yield "spec.predictor.model is missing; describe the predictor in the model form"
    for label, predictor in (("spec.predictor", view.predictor), *view.named_canaries()):
        model = predictor.get("model") or {}
        if not model:
            yield f"{label} has no model; give it modelFormat and storageUri"
        if model.get("name"):
            yield f"{label}: model.name '{model['name']}' is not allowed; use predictor.name"
        uri = model.get("storageUri", "")
        if uri and re.split("://", uri)[0] not in _SCHEMES:
            yield f"{label}: storageUri '{uri}' has none of the schemes {', '.join(_SCHEMES)}"
    if not view.model.get("storageUri") and not view.model.get("storage"):
        yield "spec.predictor.model.storageUri is missing; name the stable bundle"


def _runtime(view: View) -> Iterator[str]:
    """The controller's RuntimeNotRecognized, RuntimeDoesNotSupportFormat and -Protocol: all are
    admitted by the webhook and fail afterwards (components/predictor.go, reconcileModel)."""
    name = view.model.get("runtime")
    kinds = ("ServingRuntime", "ClusterServingRuntime")
    runtimes = {d["metadata"]["name"]: d for d in reversed(view.documents) if d["kind"] in kinds}
    if not name:
        yield "spec.predictor.model.runtime is missing; name the ServingRuntime"
        return
    if name not in runtimes:
        there = ", ".join(sorted(runtimes)) or "none"
        yield f"model.runtime '{name}' is not in the file (there: {there}); add it or correct it"
        return
    spec = runtimes[name].get("spec") or {}
    if not any(container["name"] == SERVER for container in spec.get("containers") or ()):
        yield f"runtime '{name}' has no container '{SERVER}'; name its model server so"
    formats = [item.get("name") for item in spec.get("supportedModelFormats") or ()]
    wanted = view.model["modelFormat"].get("name")
    if wanted not in formats:
        yield f"runtime '{name}' does not support model format '{wanted}' (it does {formats})"
    protocol = view.model.get("protocolVersion")
    if protocol and protocol not in (spec.get("protocolVersions") or ()):
        yield f"runtime '{name}' does not speak protocolVersion '{protocol}'; add or correct it"


def _replicas(view: View) -> Iterator[str]:
    """validateReplicas (component.go)."""
    low, high = view.predictor.get("minReplicas", 1), view.predictor.get("maxReplicas", 0)
    if low < 0:
        yield f"spec.predictor.minReplicas is {low}; set 0 or more"
    if high and low > high:
        yield f"spec.predictor.minReplicas {low} is above maxReplicas {high}; lower it"


def _containers(view: View) -> Iterator[str]:
    """buildPodSpec (components/predictor.go) gives these names to its own containers."""
    for label, predictor in (("spec.predictor", view.predictor), *view.named_canaries()):
        names = [container["name"] for container in predictor.get("containers") or ()]
        for name in names:
            if name in RESERVED:
                yield f"{label}.containers: the name '{name}' is KServe's own; rename the sidecar"
            if names.count(name) > 1:
                yield f"{label}.containers: the name '{name}' is used twice; rename one"


def _knative(view: View) -> Iterator[str]:
    """validateCanarySpecs (canary outside Standard mode), validateScalingKPACompExtension
    (deploymentStrategy), and Knative Serving's own: one declared port per pod, none of its proxy's,
    where a sidecar that declares none is not looked at and then never starts."""
    if view.mode != Dialect.KNATIVE.value:
        return
    if view.canaries:
        yield "spec.canary is refused in Knative mode; use spec.predictor.canaryTrafficPercent"
    if view.predictor.get("deploymentStrategy"):
        yield "spec.predictor.deploymentStrategy is refused in Knative mode; remove it"
    share = view.predictor.get("canaryTrafficPercent", 0)
    if not 0 <= share <= 100:
        yield f"spec.predictor.canaryTrafficPercent is {share}; set 0 to 100"
    runtime = view.model.get("runtime")
    served = [
        container
        for document in view.documents
        if document["kind"].endswith("ServingRuntime") and document["metadata"]["name"] == runtime
        for container in (document.get("spec") or {}).get("containers") or ()
    ]
    pod = [*served, *(view.predictor.get("containers") or ())]
    ports = [port["containerPort"] for container in pod for port in container.get("ports") or ()]
    if len(ports) > 1:
        yield f"the pod declares ports {ports}; Knative mode allows one, so keep the model's"
    for container in pod:
        flags = _PORT_FLAG.findall(" ".join(container.get("args") or ()))
        declared = [port["containerPort"] for port in container.get("ports") or ()]
        for port in {*map(int, flags), *declared}.intersection(QUEUE_PROXY):
            yield f"container {container['name']} has port {port}, Knative's proxy's; use another"


def _ignored_share(view: View) -> Iterator[str]:
    """kserve#5335: accepted in Standard mode and ignored, so a new URI takes all the traffic."""
    labelled = (("spec.predictor", view.predictor), *view.named_canaries())
    for label, predictor in labelled:
        if view.mode == Dialect.STANDARD.value and "canaryTrafficPercent" in predictor:
            yield (
                f"{label}.canaryTrafficPercent is ignored in Standard mode, where the new model"
                " would take all traffic; use spec.canary"
            )


def _canary_names(view: View) -> Iterator[str]:
    """validateCanarySpecs; an unnamed stable is accepted there, but could never be listed @0."""
    if not view.canaries:
        return
    stable = view.predictor.get("name")
    if not stable:
        yield "spec.predictor.name is missing; name stable, so that it can be rolled back to"
    seen = {stable}
    for label, predictor in view.named_canaries():
        name = predictor.get("name")
        if not name:
            yield f"{label}.predictor.name is missing; name the canary"
        elif not NAME.fullmatch(name):
            yield f"{label}: predictor.name is not a lower-case DNS label; rename it"
        if name in seen:
            yield f"predictor name '{name}' is used twice; rename one"
        seen.add(name)


def _canary_shares(view: View) -> Iterator[str]:
    """validateCanarySpecs."""
    total = 0
    for (label, _), canary in zip(view.named_canaries(), view.canaries, strict=True):
        share = canary.get("trafficPercent")
        if share is None:
            yield f"{label}: trafficPercent is missing; write it"
            return
        total += share
        if not 0 <= share <= 100:
            yield f"{label}: trafficPercent is {share}; set 0 to 100"
    if total > 100:
        yield f"the canaries' trafficPercent sums to {total}; 100 is the most"


def _canary_replicas(view: View) -> Iterator[str]:
    """validateCanarySpecs (not above stable's) and canaryReplicaCount (components/predictor.go):
    without minReplicas a canary at 0 % is 0 pods, so the dark step would stop it."""
    stable = view.predictor.get("minReplicas", 1)
    for label, predictor in view.named_canaries():
        replicas = predictor.get("minReplicas")
        if replicas is None or replicas < 1:
            written = "missing" if replicas is None else replicas
            yield f"{label}: minReplicas is {written}; set 1 or more, to keep its pods at 0 % too"
        elif replicas > stable:
            yield f"{label}: minReplicas {replicas} is above stable's {stable}; raise stable's"


def _canary_autoscaling(view: View) -> Iterator[str]:
    """validateCanarySpecs (a canary's replicas are fixed), validateInferenceServiceAutoscaler;
    with class hpa the controller leaves autoscalers of removed canaries behind."""
    scaler = view.annotations.get(AUTOSCALER)
    if scaler is not None and scaler not in _AUTOSCALERS:
        yield f"annotation {AUTOSCALER} is '{scaler}'; set one of {', '.join(_AUTOSCALERS)}"
    for label, predictor in view.named_canaries():
        for field in _AUTOSCALED:
            if predictor.get(field) is not None:
                yield f"{label}: {field} is not allowed in a canary; remove it"
        if "workerSpec" in predictor:
            yield f"{label}: workerSpec is not allowed in a canary; remove it"
    if view.canaries and scaler != "none":
        yield f"annotation {AUTOSCALER} is {scaler!r}; canaries need 'none'"


def _canary_route(view: View) -> Iterator[str]:
    """RawHTTPRouteReconciler.Reconcile makes no route for a cluster-local service, so nothing is
    split, while the status says ready and the share."""
    labels = view.service["metadata"].get("labels") or {}
    if view.canaries and labels.get(VISIBILITY) == "cluster-local":
        yield f"label {VISIBILITY} is cluster-local, where canaries get nothing; remove it"


def _spoken_to_in_the_clear(view: View) -> Iterator[str]:
    """No webhook: a BackendTLSPolicy targets Services by name, and KServe names one after every
    version. One that is missing while others are listed gets plain bytes where it awaits TLS."""
    service = view.service["metadata"]["name"]
    others = [
        f"{d['metadata']['name']}-"
        for d in view.documents
        if d["kind"] == KIND and d["metadata"]["name"].startswith(f"{service}-")
    ]
    listed = {
        target.get("name", "")
        for document in view.documents
        if document["kind"] == "BackendTLSPolicy"
        for target in (document.get("spec") or {}).get("targetRefs") or ()
    }
    if not any(n.startswith(f"{service}-") and not n.startswith(tuple(others)) for n in listed):
        return
    for predictor in (view.predictor, *(found for _, found in view.named_canaries())):
        name = predictor.get("name")
        if name and service_of(service, name) not in listed:
            yield (
                f"no BackendTLSPolicy lists the Service {service_of(service, name)}, so the"
                f" gateway would speak to '{name}' in the clear; list it"
            )


def _ready_without_pods(view: View) -> Iterator[str]:
    """Kubernetes calls a Deployment available from replicas - maxUnavailable ready pods on
    (ResolveFenceposts), and KServe then moves the route to it: with none, to nobody."""
    update = (view.predictor.get("deploymentStrategy") or {}).get("rollingUpdate")
    if not update or view.mode != Dialect.STANDARD.value:
        return
    taken = sum(predictor.get("minReplicas") or 0 for _, predictor in view.named_canaries())
    pods = max(1, view.predictor.get("minReplicas", 1) - taken)
    surge = math.ceil(_share(update.get("maxSurge", "25%"), pods))
    missing = math.floor(_share(update.get("maxUnavailable", "25%"), pods))
    if pods <= (missing if surge or missing else 1):
        yield (
            f"spec.predictor.deploymentStrategy: of {pods} pods of stable all may be missing, and"
            " the route would move to a stable without any; set maxSurge 1 and maxUnavailable 50%"
        )


def _share(value: int | str, pods: int) -> float:
    text = str(value)
    return pods * int(text[:-1]) / 100 if text.endswith("%") else int(text)


def _runtime_priorities(view: View) -> Iterator[str]:
    """validateServingRuntimePriority (pkg/webhook/admission/servingruntime): among runtimes of one
    format that are selected by themselves, equal priorities are denied. KServe ships Triton with
    1 and OpenVINO with 2 for onnx."""
    taken: dict[tuple[Any, ...], str] = {
        ("onnx", "1", 1): "kserve-tritonserver",
        ("onnx", "1", 2): "kserve-openvino",
    }
    for document in view.documents:
        if document["kind"] not in ("ServingRuntime", "ClusterServingRuntime"):
            continue
        name, spec = document["metadata"]["name"], document.get("spec") or {}
        for item in spec.get("supportedModelFormats") or ():
            priority = item.get("priority")
            if priority is None or not item.get("autoSelect") or spec.get("disabled"):
                continue
            key = (item.get("name"), str(item.get("version", "")), priority)
            if key in taken:
                yield (
                    f"runtime '{name}': priority {priority} for format '{key[0]}' is taken by"
                    f" '{taken[key]}'; give another"
                )
            taken[key] = name


RULES: tuple[Callable[[View], Iterator[str]], ...] = (
    _name,
    _mode,
    _model,
    _runtime,
    _runtime_priorities,
    _replicas,
    _containers,
    _knative,
    _ignored_share,
    _canary_names,
    _canary_shares,
    _canary_replicas,
    _canary_autoscaling,
    _canary_route,
    _spoken_to_in_the_clear,
    _ready_without_pods,
)
