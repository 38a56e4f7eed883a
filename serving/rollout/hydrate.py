"""Renders the overlays into manifests/rendered: `python -m serving.rollout.hydrate [--check]`."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from serving.errors import FileError, ManifestError, SeatrialError
from serving.whole import write_text

HEADER = "# Rendered by `python -m serving.rollout.hydrate`; edit manifests/ and run it again.\n"


def render(folder: Path) -> str:
    """What `kubectl apply -k` would send for a folder. Raises FileError and ManifestError."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise FileError("kubectl is not on PATH; install kubectl 1.27 or newer to render manifests")
    shown = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    if shown.returncode:
        raise ManifestError(f"{folder}: kubectl kustomize failed: {shown.stderr.strip()}")
    return shown.stdout


def sources(manifests: Path) -> dict[str, Path]:
    """What is rendered: the base, and every overlay by its name."""
    overlays = sorted(file.parent for file in manifests.glob("overlays/*/kustomization.yaml"))
    return {"base": manifests / "base", **{folder.name: folder for folder in overlays}}


def hydrate(manifests: Path, *, check: bool) -> list[Path]:
    """Renders all; returns the files that were stale (and, without `check`, are now written)."""
    stale = []
    target = manifests / "rendered"
    for name, folder in sources(manifests).items():
        file = target / f"{name}.yaml"
        text = HEADER + render(folder)
        if not file.exists() or file.read_text("utf-8") != text:
            stale.append(file)
            if not check:
                target.mkdir(exist_ok=True)
                write_text(file, text)
    return stale


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m serving.rollout.hydrate", description=__doc__)
    parser.add_argument("--manifests", type=Path, default=Path("manifests"), help="their folder")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    asked = parser.parse_args(arguments)
    try:
        if not (asked.manifests / "base").is_dir():
            raise FileError(f"{asked.manifests}: no base/ in it; run this from the repository root")
        stale = hydrate(asked.manifests, check=asked.check)
    except SeatrialError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    for file in stale:
        sys.stdout.write(f"{file}: {'stale' if asked.check else 'written'}\n")
    return 1 if asked.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
