"""The script that puts a bundle on a cluster's claim, with a kubectl that runs its pod here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from serving.bundle import open_bundle
from tests.manifests.test_policies import findings
from tests.support.cluster_set import MANIFESTS, Pod
from tests.support.fake_kubectl import installed
from tests.support.tiny import tiny_bundle

SCRIPT = MANIFESTS / "put-bundle.sh"
IMAGES = "seatrial/gate:0.1.0 seatrial/drift:0.1.0"


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the folder of what it kept."""
    for name, value in {**installed(tmp_path), "KUBECTL_IMAGES": IMAGES}.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def put(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


def test_a_bundle_lies_on_the_claim_under_every_path_and_the_pod_is_gone(kubectl: Path) -> None:
    bundle = tiny_bundle(kubectl / "bundles")
    (kubectl / "claim" / "fraud" / "v1").mkdir(parents=True)  # as a predictor that waits for it
    done = put(str(bundle.path), "fraud/v1", "fraud/v2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "pvc://seatrial-bundles/fraud/v1",
        "pvc://seatrial-bundles/fraud/v2",
    ]
    for arm in ("v1", "v2"):
        assert open_bundle(kubectl / "claim" / "fraud" / arm).digest == bundle.digest
    kept = json.loads((kubectl / "kept.json").read_text())
    assert kept["deleted"]
    (container,) = kept["pod"]["spec"]["containers"]
    assert container["image"] == "seatrial/gate:0.1.0"


def test_a_folder_that_is_no_bundle_is_refused_before_anything_is_asked(kubectl: Path) -> None:
    done = put(str(kubectl), "fraud/v1")
    assert (done.returncode, "has no bundle.json" in done.stderr) == (2, True)
    assert not (kubectl / "kept.json").exists()


def test_without_the_suite_it_says_so(kubectl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECTL_IMAGES", "")
    done = put(str(tiny_bundle(kubectl / "bundles").path), "fraud/v1")
    assert (done.returncode, "apply an overlay first" in done.stderr) == (1, True)


def test_its_pod_keeps_to_the_policies() -> None:
    pod = yaml.safe_load((MANIFESTS / "put-bundle.yaml").read_text("utf-8"))
    spec = {**pod["spec"], "serviceAccountName": "default"}  # without a token it is nobody
    spec["containers"][0]["image"] += ":0.1.0"
    assert list(findings(Pod("Job/put-bundle", {}, spec))) == []
