"""Tiny bundles whose graph fails or loops on a value that their golden rows lack."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from seatrial.demo.fault import plant_fault
from serving.bundle import Bundle
from tests.support.tiny import model_bytes, tiny_bundle

FEATURE = "visits"
ABOVE = 1000


def faulty_bundle(parent: Path, kind: Literal["fail", "loop"], **extra: bytes) -> Bundle:
    """Sound for every row whose `visits` is at most 1000; `extra` as for tiny_bundle."""
    files: dict[str, Any] = dict(extra)
    return tiny_bundle(parent, model=plant_fault(model_bytes(), FEATURE, ABOVE, kind), **files)
