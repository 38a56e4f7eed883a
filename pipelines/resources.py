"""python -m pipelines.resources: the compiled pipelines as Kubernetes resources.

For a KFP whose API server runs with --pipelinesStoreKubernetes=true. A PipelineVersion cannot be
changed, so its name ends in the hash of what it holds.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any

import yaml

from serving.rollout.documents import dump_document
from serving.whole import write_text

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "manifests" / "components" / "pipelines"
API = "pipelines.kubeflow.org/v2beta1"
NAMESPACE = "seatrial"
HEADER = "# Written by `python -m pipelines.resources`; compile the pipelines and run it again.\n"


def compiled() -> dict[str, Path]:
    """The committed IR of each pipeline, by its name."""
    return {file.stem: file for file in sorted((ROOT / "pipelines").glob("*/*.yaml"))}


def version_of(file: Path) -> str:
    """Name of the version that holds the IR."""
    return f"{file.stem}-{hashlib.sha256(file.read_bytes()).hexdigest()[:10]}"


def resources(file: Path) -> dict[str, dict[str, Any]]:
    """File name -> resource, for one compiled pipeline."""
    name = file.stem
    spec, *platform = yaml.safe_load_all(file.read_text("utf-8"))
    version: dict[str, Any] = {"pipelineName": name, "pipelineSpec": spec}
    if platform:
        version["platformSpec"] = platform[0]
    return {
        f"pipeline-{name}.yaml": _resource("Pipeline", name, {"displayName": name}),
        f"pipelineversion-{name}.yaml": _resource("PipelineVersion", version_of(file), version),
    }


def files() -> dict[str, str]:
    """All that the component holds: file name -> text."""
    made = {
        name: HEADER + dump_document(resource)
        for file in compiled().values()
        for name, resource in resources(file).items()
    }
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "resources": sorted(made),
    }
    return {**made, "kustomization.yaml": HEADER + dump_document(kustomization)}


def write(target: Path, *, check: bool) -> list[Path]:
    """Returns the files that were stale; without `check` they are now as they should be."""
    wanted = files()
    there = {file.name for file in target.glob("*.yaml")}
    stale = [
        target / name
        for name in sorted({*wanted, *there})
        if name not in there or (target / name).read_text("utf-8") != wanted.get(name)
    ]
    if not check:
        target.mkdir(parents=True, exist_ok=True)
        for file in stale:
            if file.name in wanted:
                write_text(file, wanted[file.name])
            else:
                file.unlink()
    return stale


def _resource(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.resources", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    asked = parser.parse_args(arguments)
    stale = write(TARGET, check=asked.check)
    for file in stale:
        sys.stdout.write(f"{file.relative_to(ROOT)}: {'stale' if asked.check else 'written'}\n")
    return 1 if asked.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
