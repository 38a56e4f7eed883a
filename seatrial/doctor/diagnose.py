"""All checks over one overlay, and the overlay to use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from seatrial.doctor.finding import Finding, Level
from seatrial.doctor.images import check_images
from seatrial.doctor.kserve import check_kserve, config
from seatrial.doctor.listeners import check_listeners
from seatrial.doctor.nodes import check_gpus, gpu_nodes
from seatrial.doctor.objects import check_kinds, check_quota, check_volumes
from seatrial.doctor.overlay import Overlay, read_overlay
from seatrial.doctor.platform import (
    check_eventing,
    check_kubernetes,
    check_pipelines,
    check_prometheus,
)
from seatrial.doctor.reader import Reader
from serving.rollout.actuators.cluster import Cluster


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor says of one overlay on one cluster."""

    overlay: str
    findings: tuple[Finding, ...]
    advised: str
    """The overlay that fits the cluster."""

    @property
    def would_apply(self) -> bool:
        """Whether nothing found would make apply, or what it makes, fail."""
        return all(finding.level is not Level.BROKEN for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        return {
            "overlay": self.overlay,
            "would_apply": self.would_apply,
            "advised": self.advised,
            "findings": [asdict(finding) for finding in self.findings],
        }


def diagnose(cluster: Cluster, overlay: str) -> Diagnosis:
    """Reads the cluster, writes nothing. Raises GateError when it does not answer, UsageError
    when there is no such overlay."""
    reader, chosen = Reader(cluster), read_overlay(overlay)
    findings = tuple(_findings(reader, chosen))
    return Diagnosis(overlay, findings, _advised(reader))


def _findings(reader: Reader, overlay: Overlay) -> Iterator[Finding]:
    yield from check_kubernetes(reader)
    yield from check_kserve(reader, overlay.services[0])
    yield from check_kinds(reader, overlay)
    yield from check_listeners(reader, overlay)
    yield from check_gpus(reader, [(pods.name, pods.spec) for pods in overlay.pods()])
    yield from check_images(reader, overlay)
    yield from check_volumes(reader, overlay)
    yield from check_quota(reader, overlay)
    yield from check_eventing(reader)
    yield from check_prometheus(reader)
    yield from check_pipelines(reader)
    for path in reader.forbidden:
        yield Finding(
            Level.UNKNOWN,
            "permissions",
            f"this account may not read {path}, so what it would tell is not known",
            "run the doctor as a cluster administrator",
        )


def _advised(reader: Reader) -> str:
    if config(reader, "ingress").get("enableGatewayApi") is not True and "Service" in reader.kinds(
        "serving.knative.dev/v1"
    ):
        return "knative"
    if not gpu_nodes(reader):
        return "cpu"
    monitored = "PodMonitor" in reader.kinds("monitoring.coreos.com/v1")
    return "production" if monitored else "gpu"
