"""An overlay, as rendered: its InferenceServices, and the pods its objects ask for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from seatrial.doctor.reader import Object
from serving.errors import UsageError
from serving.rollout.documents import read_documents

RENDERED = Path(__file__).resolve().parents[2] / "manifests" / "rendered"
SERVICE = "InferenceService"


@dataclass(frozen=True)
class Pods:
    """Pods of one object: how many, and what one looks like."""

    name: str
    count: int
    spec: Object


@dataclass(frozen=True)
class Overlay:
    name: str
    objects: Sequence[Object]

    @property
    def services(self) -> list[Object]:
        return [item for item in self.objects if item["kind"] == SERVICE]

    @property
    def namespace(self) -> str:
        return str(self.services[0]["metadata"].get("namespace", "default"))

    def pods(self) -> Iterator[Pods]:
        """The pods that run at once, canaries aside; a CronJob's come and go."""
        for item in self.objects:
            spec, name = item.get("spec") or {}, f"{item['kind']} {item['metadata']['name']}"
            if item["kind"] == SERVICE:
                predictor = spec["predictor"]
                yield Pods(name, int(predictor.get("minReplicas", 1)), self._predictor(predictor))
            elif item["kind"] == "Deployment":
                yield Pods(name, int(spec.get("replicas", 1)), spec["template"]["spec"])

    def _predictor(self, predictor: Object) -> Object:
        model = predictor.get("model") or {}
        runtimes = [
            item["spec"]
            for item in self.objects
            if item["kind"] in ("ServingRuntime", "ClusterServingRuntime")
            and item["metadata"]["name"] == model.get("runtime")
        ]
        served = [dict(c) for runtime in runtimes for c in runtime.get("containers") or ()]
        for container in served:
            if container["name"] == "kserve-container" and model.get("resources"):
                container["resources"] = model["resources"]
        merged = {**(runtimes[0] if runtimes else {}), **predictor}
        return {**merged, "containers": [*served, *(predictor.get("containers") or ())]}


def rendered() -> list[str]:
    """Names of the overlays that can be applied; the base is only their common part."""
    return sorted(file.stem for file in RENDERED.glob("*.yaml") if file.stem != "base")


def read_overlay(name: str) -> Overlay:
    """The overlay `name` as it is committed. Raises UsageError when there is none."""
    file = RENDERED / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(rendered()) or "none; run this from a checkout, installed with pip -e"
        raise UsageError(f"overlay '{name}' is not in {RENDERED}; known are {known}")
    return Overlay(name, tuple(read_documents(file)))
