"""What a manifest asks for and the player does not do: listed, never skipped in silence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from serving.local.overlay import Tree

MAX_REPLICAS = 1
SERVICE_PLAYED = {"predictor", "canary"}
PREDICTOR_PLAYED = {"name", "model", "containers", "labels", "annotations", "timeout"}
CONTAINER_PLAYED = {"name", "image", "command", "args", "env", "ports", "readinessProbe"}
MODEL_PLAYED = CONTAINER_PLAYED | {
    "modelFormat",
    "protocolVersion",
    "runtime",
    "storageUri",
}
# What a runtime says for KServe's choice of it; the player is told which runtime to use.
RUNTIME_PLAYED = {
    "containers",
    "labels",
    "annotations",
    "supportedModelFormats",
    "protocolVersions",
    "multiModel",
    "disabled",
}
PROBE_PLAYED = {
    "httpGet",
    "tcpSocket",
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "failureThreshold",
}


def not_played(documents: Sequence[Tree], runtime: Tree) -> Iterator[str]:
    """One line per object or field: "Kind/name field", with a reason where one helps."""
    for document in documents:
        kind, name = document.get("kind"), document.get("metadata", {}).get("name")
        if kind == "InferenceService":
            yield from _service(document, f"{kind}/{name}")
        elif document is runtime:
            yield from _runtime(document["spec"], f"{kind}/{name}")
        elif kind not in ("Namespace", "Kustomization"):
            yield f"{kind}/{name}"


def _service(document: Tree, where: str) -> Iterator[str]:
    annotations = document["metadata"].get("annotations", {})
    scaler = annotations.get("serving.kserve.io/autoscalerClass", "none")
    if scaler != "none":
        yield f"{where} autoscalerClass: {scaler}"
    spec = document["spec"]
    for field in spec:
        if field not in SERVICE_PLAYED:
            yield f"{where} spec.{field}"
    canaries = spec.get("canary") or []
    # KServe takes the pods of canaries from stable's own, down to one.
    taken = sum(int(canary["predictor"].get("minReplicas", 0)) for canary in canaries)
    yield from _predictor(spec["predictor"], f"{where} spec.predictor", taken)
    for index, canary in enumerate(canaries):
        at = f"{where} spec.canary[{index}]"
        for field in canary:
            if field not in ("trafficPercent", "predictor"):
                yield f"{at}.{field}"
        yield from _predictor(canary["predictor"], f"{at}.predictor")


def _predictor(predictor: Tree, where: str, taken: int = 0) -> Iterator[str]:
    for field, value in predictor.items():
        if field in ("minReplicas", "maxReplicas"):
            if int(value) - taken > MAX_REPLICAS:
                yield f"{where}.{field}: {value} (one pod plays each predictor)"
        elif field not in PREDICTOR_PLAYED:
            yield f"{where}.{field}"
    if "model" in predictor:
        yield from _container(predictor["model"], f"{where}.model", MODEL_PLAYED)
    for container in predictor.get("containers") or []:
        yield from _container(container, f"{where}.containers[{container.get('name')}]")


def _runtime(spec: Tree, where: str) -> Iterator[str]:
    for field in spec:
        if field not in RUNTIME_PLAYED:
            yield f"{where} spec.{field}"
    for container in spec.get("containers") or []:
        yield from _container(container, f"{where} spec.containers[{container.get('name')}]")


def _container(data: Tree, where: str, played: set[str] = CONTAINER_PLAYED) -> Iterator[str]:
    for field, value in data.items():
        # An empty mapping asks for nothing: KServe's webhook leaves one in a canary.
        if field not in played and value != {}:
            yield f"{where}.{field}"
    for field in data.get("readinessProbe") or {}:
        if field not in PROBE_PLAYED:
            yield f"{where}.readinessProbe.{field}"
    for entry in data.get("env") or []:
        source: dict[str, Any] = entry.get("valueFrom") or {"fieldRef": None}
        if "fieldRef" not in source:
            yield f"{where}.env[{entry['name']}].valueFrom.{next(iter(source))}"
