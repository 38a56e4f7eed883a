"""From manifests to the pods they ask for. Pure: no file, process or port is touched here."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from serving.errors import ManifestError
from serving.local.overlay import Tree, canary_predictor, pod_containers
from serving.local.unplayed import not_played
from serving.rollout.state import service_of

Role = Literal["stable", "canary", "leaving"]
MODEL_CONTAINER = "kserve-container"
DEFAULT_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Port:
    name: str
    number: int


@dataclass(frozen=True)
class Probe:
    """When a container is ready; without a path, an accepted TCP connection is enough."""

    port: int
    path: str | None = None
    period: float = 10.0
    timeout: float = 1.0
    failures: int = 3


@dataclass(frozen=True)
class Env:
    """A value, or the path of a field that the downward API gives ("metadata.name")."""

    name: str
    value: str = ""
    field: str | None = None


@dataclass(frozen=True)
class Container:
    name: str
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: tuple[Env, ...]
    ports: tuple[Port, ...]
    probe: Probe | None


@dataclass(frozen=True)
class Arm:
    """One side of the traffic split: a predictor under a name, with its sidecars."""

    name: str
    role: Role
    weight: int
    """Percent of traffic the manifest wants here."""
    replicas: int
    """As the manifest says; the player runs at most one."""
    storage_uri: str
    containers: tuple[Container, ...]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    service: str
    """Name that KServe gives Deployment and Service: {isvc}-{name}-predictor."""

    @property
    def template(self) -> str:
        """Fingerprint of all that a process is started with, but for names and replicas.

        Equal fingerprints keep a running pod, whatever role and weight it gets.
        """
        own = {"app", "component", "serving.kserve.io/inferenceservice"}
        data = {
            "storage": self.storage_uri,
            "containers": [asdict(container) for container in self.containers],
            "labels": {k: v for k, v in self.labels.items() if k not in own},
            "annotations": dict(self.annotations),
        }
        text = json.dumps(data, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def port(self, wire: Literal["http", "grpc"]) -> int | None:
        """The model container's declared port for a wire; by its name, gRPC's is grpc* or h2c."""
        container = next(c for c in self.containers if c.name == MODEL_CONTAINER)
        for port in container.ports:
            is_grpc = port.name.startswith(("grpc", "h2c"))
            if is_grpc == (wire == "grpc"):
                return port.number
        return None


@dataclass(frozen=True)
class Play:
    """All that one manifest asks of the player."""

    service: str
    namespace: str
    timeout: float
    """Seconds the gateway waits for an answer."""
    arms: tuple[Arm, ...]
    not_played: tuple[str, ...]
    document: Tree
    """The InferenceService itself."""
    sticky: str | None = None
    """Header whose hash keeps a user on one arm."""

    @property
    def stable(self) -> Arm:
        return self.arms[0]


def plan(documents: Sequence[Tree]) -> Play:
    """The pods of the one InferenceService in `documents`. Raises ManifestError."""
    services = [d for d in documents if d.get("kind") == "InferenceService"]
    if len(services) != 1:
        names = ", ".join(str(d["metadata"]["name"]) for d in services) or "none"
        raise ManifestError(f"the manifest has InferenceServices: {names}; give exactly one")
    service = services[0]
    metadata, stable = service["metadata"], service["spec"]["predictor"]
    where = f"InferenceService/{metadata['name']}"
    mode = metadata.get("annotations", {}).get("serving.kserve.io/deploymentMode")
    if mode not in ("Standard", "RawDeployment"):
        raise ManifestError(
            f"{where}: deploymentMode '{mode or 'Knative'}' keeps its canary's history in a"
            " cluster; the player plays 'Standard' (overlays/local)"
        )
    if not stable.get("name"):
        raise ManifestError(
            f"{where}: spec.predictor.name is missing; name the stable predictor, for example 'v1'"
        )
    runtime = _runtime(documents, where, stable)
    canaries = service["spec"].get("canary") or []
    percents = [int(c.get("trafficPercent", 0)) for c in canaries]
    if sum(percents) > 100:
        raise ManifestError(f"{where}: trafficPercent of all canaries is {sum(percents)}, not 100")
    least = int(stable.get("minReplicas", 1))
    if least < 1:
        raise ManifestError(f"{where}: spec.predictor.minReplicas 0 leaves nothing that answers")
    rest = 100 - sum(percents)
    arms = [_arm(metadata, stable, runtime, role="stable", weight=rest, replicas=least)]
    for canary, percent in zip(canaries, percents, strict=True):
        predictor = canary_predictor(stable, canary["predictor"])
        replicas = int(predictor.get("minReplicas", math.ceil(least * percent / 100)))
        arms.append(
            _arm(metadata, predictor, runtime, role="canary", weight=percent, replicas=replicas)
        )
    if len({arm.name for arm in arms}) < len(arms):
        raise ManifestError(f"{where}: two predictors are named alike; names must be unique")
    return Play(
        service=metadata["name"],
        namespace=metadata.get("namespace", "default"),
        timeout=float(stable.get("timeout") or DEFAULT_TIMEOUT_S),
        arms=tuple(arms),
        not_played=tuple(not_played(documents, runtime)),
        document=service,
    )


def _runtime(documents: Sequence[Tree], where: str, predictor: Tree) -> Tree:
    name = predictor.get("model", {}).get("runtime")
    for kind in ("ServingRuntime", "ClusterServingRuntime"):
        for document in documents:
            if document.get("kind") == kind and document["metadata"]["name"] == name:
                return document
    raise ManifestError(
        f"{where}: spec.predictor.model.runtime is '{name}', and the manifest has no such"
        " ServingRuntime; add it"
    )


def _arm(
    metadata: Tree, predictor: Tree, runtime: Tree, *, role: Role, weight: int, replicas: int
) -> Arm:
    name = str(predictor["name"])
    where = f"InferenceService/{metadata['name']} predictor '{name}'"
    containers = pod_containers(predictor, runtime["spec"], metadata)
    if not any(c["name"] == MODEL_CONTAINER for c in containers):
        raise ManifestError(f"{where}: its runtime has no container '{MODEL_CONTAINER}'")
    uri = predictor.get("model", {}).get("storageUri")
    if not uri:
        raise ManifestError(f"{where}: model.storageUri is missing; name a bundle")
    service = service_of(metadata["name"], name)
    labels = {
        **metadata.get("labels", {}),
        **runtime["spec"].get("labels", {}),
        **predictor.get("labels", {}),
        "app": f"isvc.{service}",
        "component": "predictor",
        "serving.kserve.io/inferenceservice": metadata["name"],
    }
    annotations = {**runtime["spec"].get("annotations", {}), **predictor.get("annotations", {})}
    played = tuple(_container(container, where) for container in containers)
    numbers = [port.number for container in played for port in container.ports]
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    if twice is not None:
        raise ManifestError(f"{where}: two containers declare containerPort {twice}")
    return Arm(name, role, weight, replicas, uri, played, labels, annotations, service)


def _container(data: Tree, where: str) -> Container:
    ports = tuple(
        Port(str(port.get("name", "")), int(port["containerPort"]))
        for port in data.get("ports") or []
    )
    name = str(data["name"])
    at = f"{where}, container '{name}'"
    probe = _probe(data.get("readinessProbe") or {}, ports, at)
    if probe is None and name == MODEL_CONTAINER:
        if not ports:
            raise ManifestError(f"{where}: container '{name}' declares no containerPort")
        probe = Probe(port=ports[0].number)
    return Container(
        name=name,
        image=str(data["image"]),
        command=tuple(str(part) for part in data.get("command") or ()),
        args=tuple(str(part) for part in data.get("args") or ()),
        env=tuple(_env(data.get("env") or (), at)),
        ports=ports,
        probe=probe,
    )


def _env(entries: Sequence[Tree], where: str) -> Iterator[Env]:
    for entry in entries:
        source = entry.get("valueFrom")
        if source and entry.get("value"):
            raise ManifestError(
                f"{where}: env '{entry['name']}' has both value and valueFrom, maybe one of them"
                " from the runtime; Kubernetes refuses that, keep one"
            )
        if source is None:
            yield Env(str(entry["name"]), value=str(entry.get("value", "")))
        elif "fieldRef" in source:
            yield Env(str(entry["name"]), field=str(source["fieldRef"]["fieldPath"]))


def _probe(data: Tree, ports: tuple[Port, ...], where: str) -> Probe | None:
    check: Any = data.get("httpGet") or data.get("tcpSocket")
    if check is None:
        return None
    named = {port.name: port.number for port in ports if port.name}
    target = check.get("port")
    number = named.get(str(target), target)
    if not str(number).isdigit():
        raise ManifestError(f"{where}: readinessProbe names port '{target}', which it lacks")
    return Probe(
        port=int(number),
        path=str(check.get("path", "/")) if "httpGet" in data else None,
        period=float(data.get("periodSeconds", 10)),
        timeout=float(data.get("timeoutSeconds", 1)),
        failures=int(data.get("failureThreshold", 3)),
    )
