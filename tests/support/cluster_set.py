"""A rendered set of manifests as a test asks about it: its objects, and the pods they make."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from serving.rollout.documents import parse_documents
from serving.rollout.hydrate import render

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
RENDERED = sorted((MANIFESTS / "rendered").glob("*.yaml"))
Document = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    owner: str
    """Kind/name of what makes it."""
    labels: Mapping[str, str]
    spec: Document
    """Of the pod; of an InferenceService KServe's merge with its runtime, as far as we use it."""
    knative: bool = False

    @property
    def containers(self) -> list[Document]:
        return list(self.spec["containers"])

    def ports(self) -> dict[str, int]:
        ports = [port for one in self.containers for port in one.get("ports") or ()]
        return {port["name"]: port["containerPort"] for port in ports}


class ClusterSet:
    def __init__(self, documents: Sequence[Document]) -> None:
        self.documents = list(documents)

    def of(self, kind: str) -> list[Document]:
        return [document for document in self.documents if document["kind"] == kind]

    def names(self, kind: str) -> set[str]:
        return {document["metadata"]["name"] for document in self.of(kind)}

    def get(self, kind: str, name: str) -> Document:
        found = [d for d in self.of(kind) if d["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} of {kind} {name}"
        return found[0]

    @cached_property
    def pods(self) -> list[Pod]:
        return list(self._pods())

    def _pods(self) -> Iterator[Pod]:
        for document in self.documents:
            kind, name = document["kind"], document["metadata"]["name"]
            spec = document.get("spec", {})
            if kind == "CronJob":
                spec = spec["jobTemplate"]["spec"]
            if kind in ("Deployment", "Job", "CronJob"):
                template = spec["template"]
                labels = template["metadata"]["labels"]
                yield Pod(f"{kind}/{name}", labels, template["spec"])
            elif kind == "InferenceService":
                yield from self._predictors(document)

    def _predictors(self, service: Document) -> Iterator[Pod]:
        name, predictor = service["metadata"]["name"], service["spec"]["predictor"]
        runtime = self.get("ServingRuntime", predictor["model"]["runtime"])["spec"]
        model = {k: v for k, v in predictor["model"].items() if k in ("resources", "env")}
        server = {**runtime["containers"][0], **model}
        labels = {
            "app": f"isvc.{name}-{predictor.get('name', '')}-predictor",
            "component": "predictor",
            "serving.kserve.io/inferenceservice": name,
        }
        spec = {
            **predictor,
            "containers": [server, *predictor.get("containers", [])],
            "volumes": [*runtime.get("volumes", []), *predictor.get("volumes", [])],
        }
        mode = service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"]
        yield Pod(f"InferenceService/{name}", labels, spec, knative=mode == "Knative")


@cache
def committed(name: str) -> ClusterSet:
    """An overlay as manifests/rendered has it. Read once: copy what you change."""
    file = MANIFESTS / "rendered" / f"{name}.yaml"
    return ClusterSet(parse_documents(file.read_text("utf-8"), file))


def combined(folder: Path, base: str, components: Sequence[str]) -> ClusterSet:
    """What an overlay of one's own renders to: an overlay's base and rollout, these components."""
    folder.mkdir(parents=True, exist_ok=True)

    def at(path: Path) -> str:
        return os.path.relpath(path.resolve(), folder.resolve())

    settings: Document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [at(MANIFESTS / base)],
        "components": [at(MANIFESTS / "components" / name) for name in (*components, "images")],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(settings))
    return ClusterSet(parse_documents(render(folder), folder))
