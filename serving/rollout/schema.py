"""Strict validation of Kubernetes objects against the typed models of `kserve` and `kubernetes`.

Each object is built into its typed model field by field, so a field the model does not know, a
value of another type and a missing required field are found at any depth and named by path.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from typing import Any

from serving.errors import ManifestError

# (apiVersion, kind) -> model class; kserve's own models come from `kserve`, the rest from
# `kubernetes.client`.
KINDS: Mapping[tuple[str, str], str] = {
    ("serving.kserve.io/v1beta1", "InferenceService"): "V1beta1InferenceService",
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): "V1alpha1ServingRuntime",
    ("serving.kserve.io/v1alpha1", "ClusterServingRuntime"): "V1alpha1ClusterServingRuntime",
    ("serving.kserve.io/v1alpha1", "ClusterStorageContainer"): "V1alpha1ClusterStorageContainer",
    ("v1", "ConfigMap"): "V1ConfigMap",
    ("v1", "Namespace"): "V1Namespace",
    ("v1", "LimitRange"): "V1LimitRange",
    ("v1", "PersistentVolumeClaim"): "V1PersistentVolumeClaim",
    ("v1", "ResourceQuota"): "V1ResourceQuota",
    ("v1", "Secret"): "V1Secret",
    ("v1", "Service"): "V1Service",
    ("v1", "ServiceAccount"): "V1ServiceAccount",
    ("apps/v1", "Deployment"): "V1Deployment",
    ("autoscaling/v2", "HorizontalPodAutoscaler"): "V2HorizontalPodAutoscaler",
    ("batch/v1", "CronJob"): "V1CronJob",
    ("batch/v1", "Job"): "V1Job",
    ("networking.k8s.io/v1", "NetworkPolicy"): "V1NetworkPolicy",
    ("policy/v1", "PodDisruptionBudget"): "V1PodDisruptionBudget",
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): "V1ClusterRole",
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): "V1ClusterRoleBinding",
    ("rbac.authorization.k8s.io/v1", "Role"): "V1Role",
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): "V1RoleBinding",
}

# Groups of other projects that a render may use; their own API servers validate them.
NEIGHBOURS = (
    *("cert-manager.io", "eventing.knative.dev", "gateway.envoyproxy.io"),
    "gateway.networking.k8s.io",
    *("machinelearning.seldon.io", "monitoring.coreos.com", "pipelines.kubeflow.org"),
)

# Names in kserve's models that the kubernetes client spells otherwise.
_ALIASES = {
    "K8sIoApiAppsV1DeploymentStrategy": "V1DeploymentStrategy",
    "K8sIoApiAutoscalingV2HorizontalPodAutoscalerBehavior": "V2HorizontalPodAutoscalerBehavior",
}
_INT_OR_TEXT = {
    ("V1HTTPGetAction", "port"),
    ("V1TCPSocketAction", "port"),
    ("V1ServicePort", "targetPort"),
    ("V1NetworkPolicyPort", "port"),
    ("V1RollingUpdateDeployment", "maxSurge"),
    ("V1RollingUpdateDeployment", "maxUnavailable"),
    ("V1PodDisruptionBudgetSpec", "maxUnavailable"),
    ("V1PodDisruptionBudgetSpec", "minAvailable"),
}
# Quantities the client's models call text; 1 is as good as "1" to the API server.
_QUANTITIES = {"requests", "limits", "capacity", "sizeLimit", "divisor"}
_SCALARS: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "datetime": (str, datetime.datetime),
    "ResourceQuantity": (str, int, float),
    "V1beta1MetricQuantity": (str, int, float),
}
_WORDS = {"str": "text", "int": "an integer", "bool": "true or false", "float": "a number"}


def check_object(document: Mapping[str, Any], file: object) -> Any:
    """The typed model holding `document`; None for a neighbour's kind, which has none here.

    Raises ManifestError for an unknown kind, an unknown field, a value of another type or a
    missing required field, naming file, object and path.
    """
    api, kind = document.get("apiVersion"), document.get("kind")
    if not isinstance(api, str) or not isinstance(kind, str):
        absent = "kind" if isinstance(api, str) else "apiVersion"
        raise ManifestError(f"{file}: an object has no {absent}; every object must name its own")
    if (api, kind) not in KINDS and not is_neighbour(document):
        accepted = ", ".join(sorted(f"{name} ({version})" for version, name in KINDS))
        raise ManifestError(f"{file}: kind {kind} ({api}) is not known; accepted are {accepted}")
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise ManifestError(f"{file}: {kind} has no metadata.name; give it one")
    if is_neighbour(document):
        return None
    return _Builder(f"{file}: {kind} {name}").build(KINDS[api, kind], document, "")


def is_neighbour(document: Mapping[str, Any]) -> bool:
    """Whether another project's API server validates this object."""
    return str(document["apiVersion"]).partition("/")[0] in NEIGHBOURS


class _Builder:
    def __init__(self, label: str) -> None:
        self.label = label
        self.find = _finder()

    def build(self, name: str, value: Any, path: str) -> Any:
        model = self.find(name)
        if model is None:
            raise ManifestError(
                f"{self.label}: field '{path}' is of type {name}, which the installed typed models"
                " lack; remove it"
            )
        if not isinstance(value, dict):
            raise self.wrong(path, value, "a mapping")
        wires = {wire: attribute for attribute, wire in model.attribute_map.items()}
        for field in value:
            if field not in wires:
                raise ManifestError(
                    f"{self.label}: unknown field '{_join(path, field)}'; remove it or correct its"
                    f" name (known here: {', '.join(sorted(wires))})"
                )
        built = {}
        for field, item in value.items():
            # A null in YAML is an absent field to the API server.
            if item is not None:
                kind = model.openapi_types[wires[field]]
                if (name, field) in _INT_OR_TEXT and isinstance(item, int):
                    kind = "int"
                if field in _QUANTITIES:
                    kind = re.sub(r"\bstr(?=\)?$)", "ResourceQuantity", kind)
                built[wires[field]] = self.value(kind, item, _join(path, field))
        try:
            return model(**built)
        except ValueError as error:
            attribute = re.search(r"`(\w+)`", str(error))
            if attribute and attribute[1] not in built:
                field = model.attribute_map.get(attribute[1], attribute[1])
                raise ManifestError(
                    f"{self.label}: required field '{_join(path, field)}' is missing; add it"
                ) from None
            raise ManifestError(f"{self.label}: {path or 'object'}: {error}; correct it") from None

    def value(self, kind: str, item: Any, path: str) -> Any:
        if kind == "object":
            return item
        if kind in _SCALARS:
            allowed = _SCALARS[kind]
            # bool is an int to Python and never one to Kubernetes.
            if not isinstance(item, allowed) or (isinstance(item, bool) and kind != "bool"):
                raise self.wrong(path, item, _WORDS.get(kind, "a quantity such as 500m or 1Gi"))
            return item
        if match := re.fullmatch(r"list\[(.*)\]", kind):
            if not isinstance(item, list):
                raise self.wrong(path, item, "a list")
            return [self.value(match[1], entry, f"{path}[{i}]") for i, entry in enumerate(item)]
        if match := re.fullmatch(r"dict\(str, (.*)\)", kind):
            if not isinstance(item, dict):
                raise self.wrong(path, item, "a mapping")
            return {
                key: self.value(match[1], entry, f"{path}.{key}") for key, entry in item.items()
            }
        return self.build(kind, item, path)

    def wrong(self, path: str, item: Any, expected: str) -> ManifestError:
        return ManifestError(
            f"{self.label}: field '{path}' must be {expected} and not {item!r}; correct it"
        )


def _finder() -> Callable[[str], Any]:
    # Imported late: the two packages take more than a second.
    import kserve.models  # noqa: PLC0415
    import kubernetes.client  # noqa: PLC0415

    def find(name: str) -> Any:
        name = _ALIASES.get(name, name)
        model = getattr(kserve.models, name, None) or getattr(kubernetes.client, name, None)
        return model if hasattr(model, "openapi_types") else None

    return find


def _join(path: str, field: object) -> str:
    return f"{path}.{field}" if path else str(field)
