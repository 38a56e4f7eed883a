"""Fixtures every test may ask for, and STRICT=1: a skip is a failure."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two torch threads that wait for each other's core take many times longer than one.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent
STRICT = os.environ.get("STRICT") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}; under STRICT=1 a skip is a failure"
    return report


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real tables; SEATRIAL_DATA names it, ../shared/data is the default."""
    folder = Path(os.environ.get("SEATRIAL_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real tables at {folder}; set SEATRIAL_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def drift_python() -> Path:
    """Python of the drift environment."""
    python = ROOT / ".venv-drift" / "bin" / "python"
    if not python.exists():
        pytest.skip("no .venv-drift; run 'make environments'")
    return python


@pytest.fixture(scope="session")
def seldon_python() -> Path:
    """Python of the Seldon environment."""
    python = ROOT / ".venv-seldon" / "bin" / "python"
    if not python.exists():
        pytest.skip("no .venv-seldon; 'make test' builds it")
    return python


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus' checker of rules."""
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("no promtool on PATH; 'make system-deps' says how to get one")
    return path


@pytest.fixture(scope="session")
def kubectl() -> str:
    """A kubectl whose kustomize is that of 1.27 or newer."""
    path = shutil.which("kubectl")
    if path is None:
        pytest.skip("no kubectl on PATH; 'make system-deps' says how to get one")
    shown = subprocess.run(
        [path, "version", "--client", "-o", "json"], capture_output=True, text=True, check=True
    )
    version = json.loads(shown.stdout)["clientVersion"]
    found = (int(re.sub(r"\D", "", version["major"])), int(re.sub(r"\D", "", version["minor"])))
    if found < (1, 27):
        pytest.skip(f"kubectl {found[0]}.{found[1]} is older than 1.27")
    return path


@pytest.fixture(scope="session")
def chromium() -> str:
    """A Chromium to render pages with."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path is not None:
            return path
    pytest.skip("no Chromium on PATH; 'make system-deps' says how to get one")
