"""A hydrated manifest, read strictly: what the player plays and what a cluster would admit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.errors import ManifestError
from serving.rollout.dialects import KIND
from serving.rollout.documents import Document, read_documents, without_nulls
from serving.rollout.merge import identity, merge
from serving.rollout.overlay import ROLLOUT_FILE, read_patch
from serving.rollout.rules import check_rules, findings
from serving.rollout.schema import check_object

MANIFEST_FILE = "manifest.yaml"
RUNTIME_KINDS = ("ServingRuntime", "ClusterServingRuntime")


@dataclass(frozen=True)
class Manifest:
    """The objects of one InferenceService, validated."""

    path: Path
    """The file or folder it was read from."""
    documents: tuple[Document, ...]
    """Every object, the rollout merged in."""
    service: Document
    """The InferenceService among them."""
    runtime: Document
    """The ServingRuntime or ClusterServingRuntime that `model.runtime` names."""


def read_manifest(path: Path) -> Manifest:
    """Reads and validates a hydrated YAML file, or a folder of manifest.yaml and rollout.yaml.

    Raises ManifestError, in one sentence naming file, object and field, when a file is missing,
    empty or no YAML; for an unknown kind or field, or a value of the wrong type; when there is
    not exactly one InferenceService with its runtime; and for what KServe's webhooks refuse.
    """
    if not path.is_dir():
        documents = check_file(path)
        return _manifest(path, documents, path)
    file, rollout = path / MANIFEST_FILE, path / ROLLOUT_FILE
    for part in (file, rollout):
        if not part.is_file():
            raise ManifestError(
                f"{path}: no {part.name} in this folder; a folder is played from {MANIFEST_FILE}"
                f" and {ROLLOUT_FILE}"
            )
    return merged_manifest(path, file, read_objects(file), read_patch(rollout))


def check_file(path: Path) -> tuple[Document, ...]:
    """The objects of a hydrated YAML file with any number of InferenceServices, validated.

    Raises ManifestError as `read_manifest` does.
    """
    documents = read_objects(path)
    check_objects(documents, path)
    check_rules(documents, path)
    return documents


def merged_manifest(
    path: Path, file: Path, documents: Sequence[Document], patch: Mapping[str, Any]
) -> Manifest:
    """What the folder `path` plays when `documents`, out of `file`, are its manifest.

    Raises ManifestError as `read_manifest` does.
    """
    rollout = path / ROLLOUT_FILE
    check_objects(documents, file)
    _service(documents, file)
    try:
        played = merge(documents, patch)
    except ManifestError as error:
        raise ManifestError(_prefixed(rollout, error)) from None
    # The parts were valid before, so whatever fails now came with the rollout.
    check_object(_service(played, rollout), rollout)
    found = next(findings(played), None)
    if found:
        # A fault that the manifest has by itself is not the rollout's.
        raise ManifestError(f"{file if found in findings(documents) else rollout}: {found}")
    return _manifest(path, played, rollout)


def read_objects(file: Path) -> tuple[Document, ...]:
    """The objects of a YAML file, not validated yet. Raises ManifestError when it is no YAML."""
    return tuple(without_nulls(document) for document in read_documents(file))


def check_objects(documents: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Strict validation of each object alone, and that none is there twice."""
    seen: set[tuple[str, str, str, str]] = set()
    for document in documents:
        check_object(document, file)
        key = identity(document)
        if key in seen:
            raise ManifestError(f"{file}: {key[1]} '{key[3]}' is there twice; keep one of them")
        seen.add(key)


def _manifest(path: Path, documents: tuple[Document, ...], file: Path) -> Manifest:
    service = _service(documents, file)
    model = service["spec"]["predictor"]["model"]
    runtimes = [
        document
        for document in documents
        if document["kind"] in RUNTIME_KINDS and document["metadata"]["name"] == model["runtime"]
    ]
    # A ServingRuntime hides a ClusterServingRuntime of the same name.
    runtimes.sort(key=lambda document: RUNTIME_KINDS.index(document["kind"]))
    return Manifest(path=path, documents=documents, service=service, runtime=runtimes[0])


def _service(documents: Sequence[Document], file: Path) -> Document:
    found = [document for document in documents if document["kind"] == KIND]
    if len(found) != 1:
        names = ", ".join(f"'{document['metadata']['name']}'" for document in found) or "none"
        raise ManifestError(
            f"{file}: exactly one InferenceService is needed and {len(found)} are there ({names});"
            " keep one to a manifest"
        )
    return found[0]


def _prefixed(file: Path, error: ManifestError) -> str:
    return str(error) if str(error).startswith(f"{file}: ") else f"{file}: {error}"
