"""A deploy folder for a bundle: the rendered base, a rollout.yaml, and this machine's settings."""

from __future__ import annotations

import os
from pathlib import Path

from serving.bundle import Bundle
from serving.errors import ManifestError
from serving.rollout import Arm, RolloutState, create_deploy_folder

BASE = Path(__file__).resolve().parents[1] / "manifests" / "rendered" / "base.yaml"
NAMESPACE = "seatrial"


def storage_prefix(bundle: Bundle) -> str:
    """The storageUri of the folder that holds the bundles of one contract."""
    return f"pvc://seatrial-bundles/{bundle.contract.name}"


def arm(name: str, bundle: Bundle) -> Arm:
    """A predictor `name` that serves the bundle."""
    return Arm(name, f"{storage_prefix(bundle)}/{bundle.path.name}")


def create_deployment(folder: Path, bundle: Bundle, *, port: int) -> RolloutState:
    """Writes a deploy folder with the bundle as stable predictor `v1`.

    Its player.yaml says that the storageUri's volume is the bundle's parent folder on this machine.
    Raises ManifestError when the folder is in use.
    """
    if not BASE.exists():
        raise ManifestError(f"{BASE}: missing; run this from a checkout, installed with pip -e")
    state = RolloutState(bundle.contract.name, NAMESPACE, stable=arm("v1", bundle))
    create_deploy_folder(folder, BASE, state)
    bundles = os.path.relpath(bundle.path.parent.resolve(), folder.resolve())
    (folder / "player.yaml").write_text(
        "# This machine's settings; the manifest stays as a cluster gets it.\n"
        f"gateway_port: {port}\n"
        "storage:\n"
        f"  {storage_prefix(bundle)}: {bundles}\n"
    )
    return state
