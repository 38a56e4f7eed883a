"""From the steps' folders to one immutable bundle."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.bundle.card import model_card
from components.checked import read_checked
from components.code import code_fingerprint
from components.files import read_bytes, read_json
from serving.bundle import write_bundle
from serving.errors import UsageError


def run(
    *,
    checked: Path,
    network: Path,
    model: Path,
    evaluation: Path,
    drift: Path,
    out: Path,
    parent: str = "",
    run_id: str = "",
) -> dict[str, Any]:
    """Writes the bundle folder.

    checked: folder that the validate step wrote.
    network: folder that the train step wrote.
    model: folder that the export step wrote.
    evaluation: folder that the evaluate step wrote.
    drift: folder that the fit_drift step wrote.
    out: folder that gets the bundle as a folder of its own.
    parent: digest of the bundle that this one succeeds; empty for the first.
    run_id: name of the run, kept beside the bundle and not in it.

    Returns its path and digest. Raises FileError, UsageError or BundleError.
    """
    if parent and not re.fullmatch(r"[0-9a-f]{64}", parent):
        raise UsageError(f"parent '{parent[:80]}' is not a bundle digest; give 64 hex digits")
    table = read_checked(checked)
    training = read_json(network / "training.json", "train")
    metrics = read_json(evaluation / "metrics.json", "evaluate")
    lineage = {
        **table.facts,
        "code": code_fingerprint(),
        "parent": parent or None,
        "seed": training["seed"],
        "training": training,
        "parity": read_json(model / "parity.json", "export"),
    }
    files = {
        "model.onnx": read_bytes(model / "model.onnx", "export"),
        "contract.json": table.contract.canonical_json().encode(),
        "golden.json": read_bytes(model / "golden.json", "export"),
        "lineage.json": (json.dumps(lineage, indent=2, sort_keys=True) + "\n").encode(),
        "metrics.json": read_bytes(evaluation / "metrics.json", "evaluate"),
        "card.md": model_card(table.contract, metrics, lineage).encode(),
        "drift/reference.npz": read_bytes(drift / "reference.npz", "fit_drift"),
        "drift/config.json": read_bytes(drift / "config.json", "fit_drift"),
    }
    made = datetime.now(UTC).isoformat(timespec="seconds")
    bundle = write_bundle(out, files, attestation={"run": run_id, "made": made})
    return {"path": str(bundle.path), "digest": bundle.digest}
