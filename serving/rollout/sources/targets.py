"""Which predictor processes there are to read: of the local player, and of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from serving.errors import GateError, PlayerError
from serving.local.client import LocalPlayer
from serving.local.pods import MODEL_CONTAINER
from serving.local.status import ArmStatus
from serving.rollout.sources.predictors import Target, Targets
from serving.rollout.sources.source import Arms

HTTP_PORT = 8080
SIDECAR_PORT = 9095
"""Of the drift sidecar's receiver and its /metrics."""


def local_targets(player: LocalPlayer) -> Targets:
    """The pods that the player runs, one per arm."""

    def targets(arms: Arms) -> Sequence[Target]:
        try:
            status = player.status()
        except PlayerError as error:
            raise GateError(f"the pods cannot be listed: {error}") from None
        if status.service != arms.service:
            raise GateError(
                f"the player in {player.state_dir} plays '{status.service}' and not"
                f" '{arms.service}'; name the other one's state directory"
            )
        roles = {arms.stable: "stable", arms.canary: "canary"}
        found = []
        for arm in status.arms:
            ports = arm.ports.get(MODEL_CONTAINER, {})
            if arm.name in roles and HTTP_PORT in ports:
                port = ports[HTTP_PORT]
                # The port is drawn anew for every pod and kept while its processes restart.
                name = f"{arm.name}:{port}"
                found.append(
                    Target(name, roles[arm.name], f"127.0.0.1:{port}", _local_sidecar(arm))
                )
        return found

    return targets


def cluster_targets(list_pods: Callable[[str], Sequence[dict[str, Any]]]) -> Targets:
    """The pods of both arms; `list_pods` answers a label selector with Kubernetes pods."""

    def targets(arms: Arms) -> Sequence[Target]:
        found = []
        for label, role in arms.labels.items():
            for pod in list_pods(f"app={label}"):
                address = pod.get("status", {}).get("podIP")
                if address and pod.get("status", {}).get("phase") == "Running":
                    host = f"[{address}]" if ":" in address else address
                    sidecar = f"{host}:{SIDECAR_PORT}" if _has_sidecar(pod) else None
                    name = pod["metadata"]["uid"]
                    found.append(Target(name, role, f"{host}:{HTTP_PORT}", sidecar))
        return found

    return targets


def _local_sidecar(arm: ArmStatus) -> str | None:
    for container, ports in arm.ports.items():
        if container != MODEL_CONTAINER and SIDECAR_PORT in ports:
            return f"127.0.0.1:{ports[SIDECAR_PORT]}"
    return None


def _has_sidecar(pod: dict[str, Any]) -> bool:
    return any(
        port.get("containerPort") == SIDECAR_PORT
        for container in pod.get("spec", {}).get("containers", ())
        if container.get("name") != MODEL_CONTAINER
        for port in container.get("ports") or ()
    )
