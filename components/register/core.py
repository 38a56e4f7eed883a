"""From a bundle to a version in the model registry."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from components.register.mlflow_registry import MlflowRegistry
from components.register.registry import CHALLENGER, Entry, ModelRegistry
from components.storage import fetch, is_remote
from serving.bundle import Bundle
from serving.errors import UsageError

DEFAULT_REGISTRY = "sqlite:///registry.db"
DEFAULT_STORAGE = "pvc://seatrial-bundles"
QUALITY = ("roc_auc", "average_precision", "calibration_error", "cost_per_row")


def run(
    *,
    bundle: str,
    registry: str = DEFAULT_REGISTRY,
    storage: str = DEFAULT_STORAGE,
    alias: str = CHALLENGER,
) -> dict[str, Any]:
    """Registers a bundle and points an alias to it.

    bundle: the bundle's folder, or s3://BUCKET/PREFIX/NAME.
    registry: sqlite:///FILE, or the URL of an MLflow server.
    storage: storageUri under which a path's folder is CONTRACT/FOLDER; s3:// has its own.
    alias: champion, challenger or another name; empty for none.

    Returns its version, digest and storageUri. Registering a digest again changes nothing but the
    alias. Raises BundleError, FileError, UsageError or StageError.
    """
    return register(MlflowRegistry(registry), bundle, storage=storage, alias=alias)


def register(
    registry: ModelRegistry, bundle: str, *, storage: str = DEFAULT_STORAGE, alias: str = CHALLENGER
) -> dict[str, Any]:
    """As `run`, into any registry."""
    with tempfile.TemporaryDirectory() as scratch:
        found = fetch(bundle, Path(scratch))
        uri = bundle.rstrip("/") if is_remote(bundle) else _storage_uri(storage, found)
        entry = entry_of(found, uri)
    version = registry.register(entry)
    if alias and alias not in version.aliases:
        registry.set_alias(entry.model, alias, version.number)
    return {
        "model": entry.model,
        "version": version.number,
        "digest": entry.digest,
        "uri": version.entry.uri,
    }


def entry_of(bundle: Bundle, uri: str) -> Entry:
    """What the bundle says of itself; its run is in the attestation beside it."""
    lineage = bundle.read_json("lineage.json")
    measured = bundle.read_json("metrics.json").get("metrics", {})
    beside = bundle.path.with_name(f"{bundle.path.name}.attestation.json")
    attestation = json.loads(beside.read_text("utf-8")) if beside.is_file() else {}
    return Entry(
        model=bundle.contract.name,
        digest=bundle.digest,
        uri=uri,
        run=str(attestation.get("run") or ""),
        data=str(lineage.get("data") or ""),
        code=str(lineage.get("code") or ""),
        parent=str(lineage.get("parent") or ""),
        quality={name: measured[name] for name in QUALITY if measured.get(name) is not None},
    )


def _storage_uri(storage: str, bundle: Bundle) -> str:
    if "://" not in storage:
        raise UsageError(f"storage '{storage}' is no storageUri; give pvc://CLAIM or the like")
    return f"{storage.rstrip('/')}/{bundle.contract.name}/{bundle.path.name}"
