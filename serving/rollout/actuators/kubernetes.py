"""Direct mode: the gate is the single writer of the InferenceService.

It applies the whole object server-side and watches what the data plane does: weights of the
HTTPRoute, ready replicas of Deployments. KServe's conditions do not tell either.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from typing import Any

from serving.errors import GateError
from serving.rollout.actuators.actuator import Health
from serving.rollout.actuators.cluster import ApiError, Cluster
from serving.rollout.dialects import from_patch, to_patch
from serving.rollout.documents import Document
from serving.rollout.manifest import Manifest
from serving.rollout.merge import merge_patch
from serving.rollout.state import RolloutState, service_of

MANAGER = "seatrial-gate"
CONTAINER = "kserve-container"
POLL_S = 0.25
REPLICAS_WAIT_S = 10.0


class KubernetesPlane:
    """Watches the traffic of one InferenceService."""

    def __init__(self, cluster: Cluster, service: str, namespace: str) -> None:
        self._cluster, self._service, self._namespace = cluster, service, namespace

    def pods(self, selector: str) -> list[Document]:
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        return list(self._cluster.get(path, labelSelector=selector)["items"])

    def settled(self, state: RolloutState) -> bool:
        """True once the route has the state's weights and what gets traffic has a ready pod."""
        weights = self.weights()
        if weights is None:
            return False
        wanted = {name: weight for name, weight in state.weights.items() if weight}
        if {name: weight for name, weight in weights.items() if weight} != wanted:
            return False
        return all(self.ready_replicas(name) > 0 for name in wanted)

    def weights(self) -> dict[str, int] | None:
        """Percent by predictor, out of the HTTPRoute; None where there is no route."""
        path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{self._namespace}/httproutes"
        route = self._cluster.find(f"{path}/{self._service}")
        if route is None:
            return None
        for rule in route["spec"].get("rules", []):
            found = {
                self._predictor(backend["name"]): int(backend.get("weight", 1))
                for backend in rule.get("backendRefs", [])
            }
            total = sum(found.values())
            if found and total:
                return {name: round(100 * weight / total) for name, weight in found.items()}
        return None

    def ready_replicas(self, name: str) -> int:
        path = f"/apis/apps/v1/namespaces/{self._namespace}/deployments"
        found = self._cluster.find(f"{path}/{service_of(self._service, name)}")
        return 0 if found is None else int(found.get("status", {}).get("readyReplicas") or 0)

    def health(self, stable: str, canary: str) -> Health:
        weights = self.weights()
        restarts = {}
        for pod in self.pods(f"app=isvc.{service_of(self._service, canary)}"):
            for status in pod.get("status", {}).get("containerStatuses", []):
                if status["name"] == CONTAINER:
                    restarts[pod["metadata"]["uid"]] = int(status.get("restartCount", 0))
        return Health(
            stable_ready=self.ready_replicas(stable) > 0,
            canary_ready=self.ready_replicas(canary) > 0,
            restarts=restarts,
            weight=None if weights is None else weights.get(canary, 0),
        )

    def _predictor(self, backend: str) -> str:
        return backend.removeprefix(f"{self._service}-").removesuffix("-predictor")


class KubernetesActuator(KubernetesPlane):
    """An Actuator."""

    def __init__(
        self,
        cluster: Cluster,
        manifest: Manifest,
        *,
        replicas_wait_seconds: float = REPLICAS_WAIT_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`manifest` is the deploy folder's; its rollout is replaced by the one in the cluster."""
        metadata = manifest.service["metadata"]
        super().__init__(cluster, metadata["name"], metadata["namespace"])
        self._document = manifest.service
        self._wait, self._sleep = replicas_wait_seconds, sleep
        self._path = (
            f"/apis/serving.kserve.io/v1beta1/namespaces/{self._namespace}/inferenceservices"
            f"/{self._service}"
        )

    def read(self) -> RolloutState:
        """The state in the cluster."""
        found = self._cluster.get(self._path)
        return from_patch(_pared(found), f"InferenceService {self._service} in the cluster")

    def write(self, state: RolloutState, message: str, trailers: Mapping[str, str]) -> str:
        """Returns the resource version. Before an arm takes all traffic, all its pods are waited
        for."""
        before = self.read()
        self._wait_for_replicas(before, state)
        document = merge_patch(self._document, to_patch(state))
        try:
            applied = self._cluster.apply(self._path, document, MANAGER)
        except ApiError as error:
            if error.status == 409:
                raise self._conflict(error) from None
            raise
        if before != state:
            self._tell(applied, message, trailers)
        return str(applied["metadata"]["resourceVersion"])

    def _wait_for_replicas(self, before: RolloutState, state: RolloutState) -> None:
        for canary in before.canaries:
            name, wanted = canary.arm.name, canary.arm.min_replicas
            if state.weights.get(name) != 100 or canary.weight == 100:
                continue
            waited = 0.0
            while (ready := self.ready_replicas(name)) < wanted:
                if waited >= self._wait:
                    raise GateError(
                        f"'{name}' has {ready} of {wanted} pods ready and shall take all traffic;"
                        " it keeps its share until they are"
                    )
                self._sleep(POLL_S)
                waited += POLL_S

    def _conflict(self, error: ApiError) -> GateError:
        causes = error.details.get("causes", [])
        said = "; ".join(f"{c.get('field', '?')}: {c.get('message', '')}" for c in causes)
        return GateError(
            f"InferenceService {self._service} has another owner ({said or error}); let that one"
            " step back, or hand the object over once with: kubectl apply --server-side"
            f" --force-conflicts --field-manager={MANAGER} -k FOLDER"
        )

    def _tell(self, applied: Document, message: str, trailers: Mapping[str, str]) -> None:
        """An Event on the InferenceService: what `kubectl describe` shows."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata: dict[str, Any] = applied["metadata"]
        event: Document = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "generateName": f"{self._service}-gate-",
                "namespace": self._namespace,
                "annotations": {f"seatrial.io/{k.lower()}": v for k, v in trailers.items()},
            },
            "involvedObject": {
                "apiVersion": applied["apiVersion"],
                "kind": applied["kind"],
                "name": self._service,
                "namespace": self._namespace,
                "uid": metadata.get("uid", ""),
            },
            "reason": "RolloutGate",
            "message": message.splitlines()[0][:1024],
            "type": "Normal",
            "source": {"component": MANAGER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self._cluster.create(f"/api/v1/namespaces/{self._namespace}/events", event)


def _pared(found: Mapping[str, Any]) -> Document:
    """The live object as a rollout.yaml: only what changes in a rollout."""
    spec, metadata = found["spec"], found["metadata"]

    def predictor(entry: Mapping[str, Any], model: tuple[str, ...]) -> Document:
        pared = {k: entry[k] for k in ("name", "minReplicas") if k in entry}
        return {**pared, "model": {k: _named(entry["model"], k) for k in model}}

    return {
        "apiVersion": found["apiVersion"],
        "kind": found["kind"],
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        "spec": {
            "predictor": predictor(spec["predictor"], ("storageUri",)),
            "canary": [
                {
                    "trafficPercent": canary.get("trafficPercent", 0),
                    "predictor": predictor(canary["predictor"], ("modelFormat", "storageUri")),
                }
                for canary in spec.get("canary") or []
            ],
        },
    }


def _named(model: Mapping[str, Any], field: str) -> Any:
    return {"name": model[field]["name"]} if field == "modelFormat" else model.get(field)
