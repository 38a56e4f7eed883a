"""Which code made a bundle."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

SOURCES = ("components", "pipelines", "serving.bundle")


def code_fingerprint() -> str:
    """sha256 over the names and bytes of the Python sources that make bundles, tests excluded."""
    digest = hashlib.sha256()
    for package in SOURCES:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for file in sorted(Path(folder).rglob("*.py")):
                name = file.relative_to(folder)
                if "tests" not in name.parts and name.name != "conftest.py":
                    sha = hashlib.sha256(file.read_bytes()).hexdigest()
                    digest.update(f"{package}/{name.as_posix()} {sha}\n".encode())
    return digest.hexdigest()
