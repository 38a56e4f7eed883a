"""A folder that both `kubectl apply -k` and the local player deploy from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serving.errors import ManifestError
from serving.rollout.dialects import KIND, to_patch
from serving.rollout.documents import dump_document, read_text
from serving.rollout.manifest import MANIFEST_FILE, Manifest, merged_manifest, read_objects
from serving.rollout.merge import identity
from serving.rollout.overlay import ROLLOUT_FILE, render_rollout
from serving.rollout.state import RolloutState
from serving.whole import write_text

KUSTOMIZATION = {
    "apiVersion": "kustomize.config.k8s.io/v1beta1",
    "kind": "Kustomization",
    "resources": [MANIFEST_FILE],
    "patches": [{"path": ROLLOUT_FILE}],
}
HEADER = """\
# The state of the rollout, and all of it: the stable predictor and its canaries.
# stable's minReplicas counts the canaries' too, which KServe takes from it while they are ready.
"""


def create_deploy_folder(path: Path, base_manifest: Path, state: RolloutState) -> Manifest:
    """Writes manifest.yaml, kustomization.yaml and rollout.yaml into `path`.

    manifest.yaml is the base as it is, or, for a service of another name, the base renamed.
    Raises ManifestError when `path` already holds one of them, or when the result is not a
    manifest that can be deployed.
    """
    text = read_text(base_manifest)
    documents = read_objects(base_manifest)
    services = [document for document in documents if document.get("kind") == KIND]
    if len(services) == 1 and identity(services[0])[3] != state.service:
        documents = tuple(_renamed(d, identity(services[0])[3], state.service) for d in documents)
        text = "---\n".join(dump_document(document) for document in documents)
    manifest = merged_manifest(path, base_manifest, documents, to_patch(state))
    for name in (MANIFEST_FILE, ROLLOUT_FILE, "kustomization.yaml"):
        if (path / name).exists():
            raise ManifestError(f"{path / name} exists already; give a new folder for the rollout")
    path.mkdir(parents=True, exist_ok=True)
    write_text(path / MANIFEST_FILE, text)
    write_text(path / "kustomization.yaml", dump_document(KUSTOMIZATION))
    write_text(path / ROLLOUT_FILE, render_rollout(state, HEADER))
    return manifest


def _renamed(value: Any, old: str, new: str) -> Any:
    """The value with the service's name replaced where it stands alone or as a part of a path."""
    if isinstance(value, dict):
        return {key: _renamed(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, old, new) for item in value]
    if isinstance(value, str):
        return "/".join(new if part == old else part for part in value.split("/"))
    return value
