"""Could the nodes have the images? A name without a registry is nobody's on Docker Hub."""

from __future__ import annotations

from collections.abc import Iterator

from seatrial.doctor.finding import Finding, fine, limited
from seatrial.doctor.nodes import NODES
from seatrial.doctor.overlay import Overlay
from seatrial.doctor.reader import Reader


def check_images(reader: Reader, overlay: Overlay) -> Iterator[Finding]:
    """Each image that names no registry, against what the nodes say they hold."""
    wanted = {c["image"] for pods in overlay.pods() for c in pods.spec["containers"]}
    nodes = reader.items(NODES)
    if not nodes:
        return
    held = [
        {name for image in (node.get("status") or {}).get("images") or () for name in _names(image)}
        for node in nodes
    ]
    missing = sorted(
        image
        for image in wanted
        if not _names_a_registry(image) and not any(image in names for names in held)
    )
    if missing:
        yield limited(
            "images",
            f"{', '.join(missing)}: no registry is named, and no node has them; their pods will"
            " not start",
            "build them from environments/docker, push them, and write their names into"
            " manifests/components/images",
        )
    else:
        yield fine("images", f"all {len(wanted)} name a registry or are on a node")


def _names(image: dict[str, list[str]]) -> Iterator[str]:
    for name in image.get("names") or ():
        yield name
        yield name.removeprefix("docker.io/")


def _names_a_registry(image: str) -> bool:
    host, slash, _ = image.partition("/")
    return bool(slash) and ("." in host or ":" in host or host == "localhost")
