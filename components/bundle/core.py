"""From the steps' folders to one immutable bundle, here or in an object store."""

from __future__ import annotations

import json
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.bundle.card import model_card
from components.checked import read_checked
from components.code import code_fingerprint
from components.files import read_bytes, read_json, write_bytes
from components.storage import is_remote, push
from serving.bundle import write_bundle
from serving.errors import UsageError


def run(
    *,
    checked: Path,
    network: Path,
    model: Path,
    evaluation: Path,
    drift: Path,
    out: str,
    card: Path | None = None,
    parent: str = "",
    run_id: str = "",
) -> dict[str, Any]:
    """Writes the bundle folder.

    checked: folder that the validate step wrote.
    network: folder that the train step wrote.
    model: folder that the export step wrote.
    evaluation: folder that the evaluate step wrote.
    drift: folder that the fit_drift step wrote.
    out: folder (a path, a volume's mount) or s3://BUCKET/PREFIX that gets the bundle's folder.
    card: file that gets the model card too.
    parent: digest of the bundle that this one succeeds; empty for the first.
    run_id: name of the run, kept beside the bundle and not in it.

    Returns its path or URI, and its digest. Raises FileError, UsageError, BundleError, and
    StageError when the object store refuses.
    """
    if parent and not re.fullmatch(r"[0-9a-f]{64}", parent):
        raise UsageError(f"parent '{parent[:80]}' is not a bundle digest; give 64 hex digits")
    remote = is_remote(out)
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
    text = model_card(table.contract, metrics, lineage).encode()
    files = {
        "model.onnx": read_bytes(model / "model.onnx", "export"),
        "contract.json": table.contract.canonical_json().encode(),
        "golden.json": read_bytes(model / "golden.json", "export"),
        "lineage.json": (json.dumps(lineage, indent=2, sort_keys=True) + "\n").encode(),
        "metrics.json": read_bytes(evaluation / "metrics.json", "evaluate"),
        "card.md": text,
        "drift/reference.npz": read_bytes(drift / "reference.npz", "fit_drift"),
        "drift/config.json": read_bytes(drift / "config.json", "fit_drift"),
    }
    attestation = {"run": run_id, "made": datetime.now(UTC).isoformat(timespec="seconds")}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if remote else Path(out)
        bundle = write_bundle(folder, files, attestation=attestation)
        beside = folder / f"{bundle.path.name}.attestation.json"
        path = push(bundle, out, beside) if remote else str(bundle.path)
    if card is not None:
        write_bytes(card, text)
    return {"path": path, "digest": bundle.digest}
