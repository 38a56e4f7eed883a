"""What the documentation shows is run: shell blocks in order, Python and contracts one by one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from serving.bundle.contract import parse_contract
from tests.e2e.running import free_port

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WALK = ("bundles", "audit", "local", "rollout", "gate", "registry", "batch")
"""Pages that continue one another: a newcomer's way from a table to a promotion."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


@pytest.mark.alone
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("drift_python")
def test_the_commands_of_the_pages_work_one_after_the_other(tmp_path: Path) -> None:
    commands = "".join("".join(blocks(ROOT / "docs" / f"{name}.md", "sh")) for name in WALK)
    script = f"set -euxo pipefail\ntrap 'seatrial down' EXIT\n{commands}"
    done = subprocess.run(
        ["bash", "-c", script.replace("8080", str(free_port()))],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SEATRIAL_STATE": str(tmp_path / "state"),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_cluster_commands_render(kubectl: str) -> None:
    folders = re.findall(r"kubectl apply -k ([\w./]*\w|\.)", (ROOT / "docs/cluster.md").read_text())
    assert len(folders) == 2
    for folder in folders:
        subprocess.run([kubectl, "kustomize", folder], cwd=ROOT, capture_output=True, check=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_contracts_and_python_in_a_page_are_valid(page: Path) -> None:
    for text in blocks(page, "json"):
        if "features" in json.loads(text):
            parse_contract(text, page.name)
    for text in blocks(page, "python"):
        subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, check=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_in_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target
