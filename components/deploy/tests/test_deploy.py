from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from components.deploy.core import deploy, name_of, run, with_bundle
from serving.errors import GateError, ManifestError, UsageError
from serving.rollout import Arm, RolloutState, create_deploy_folder, read_manifest, read_rollout
from serving.rollout.actuators.kubernetes import MANAGER, KubernetesActuator
from serving.rollout.run.lease import FileLease
from serving.rollout.run.store import FOLDER as RUNS
from serving.rollout.run.store import Runs
from tests.support.kube import Kube

BASE = Path(__file__).parents[3] / "manifests" / "rendered" / "base.yaml"
SERVICE = "/apis/serving.kserve.io/v1beta1/namespaces/seatrial/inferenceservices/fraud"
STABLE = RolloutState("fraud", "seatrial", Arm("v1", "pvc://b/fraud-111111111111", 2))
NEW = "pvc://b/fraud-222222222222"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_deploy_folder(tmp_path / "deploy", BASE, STABLE)
    return tmp_path / "deploy"


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_new_bundle_becomes_a_dark_canary_with_pods_enough_to_be_promoted(folder: Path) -> None:
    written = run(folder=folder, uri=NEW)
    state = read_rollout(folder)
    assert written["name"] == name_of(NEW) == "b22222222"
    assert state.weights == {"v1": 100, "b22222222": 0}
    assert state.canary("b22222222").arm.min_replicas == STABLE.floor == state.floor


def test_deploying_a_bundle_again_changes_nothing(folder: Path) -> None:
    first = run(folder=folder, uri=NEW, name="v2", percent=10)
    again = run(folder=folder, uri=NEW)
    assert (first["changed"], again["changed"]) == (True, False)
    assert again["written"] == first["written"]
    assert read_rollout(folder).weights == {"v1": 90, "v2": 10}


def test_going_back_makes_the_bundle_stable_at_once_and_keeps_todays_warm(folder: Path) -> None:
    run(folder=folder, uri=NEW, name="v0", become="stable")
    state = read_rollout(folder)
    assert state.stable.storage_uri == NEW
    assert state.weights == {"v0": 100, "v1": 0}
    run(folder=folder, uri=STABLE.stable.storage_uri, become="stable")
    assert read_rollout(folder).stable.name == "v1"


def test_git_mode_commits_rollout_yaml_alone_with_the_bundle_in_a_trailer(folder: Path) -> None:
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "start")
    (folder / "manifest.yaml").touch()
    (folder / "notes").write_text("mine")
    written = run(folder=folder, uri=NEW, mode="git")
    assert written["written"] == git(folder, "rev-parse", "HEAD")
    assert git(folder, "show", "--name-only", "--format=%s", "HEAD").split() == [
        *["canary", "b22222222:", "0", "%"],
        "rollout.yaml",
    ]
    assert git(folder, "log", "-1", "--format=%(trailers:key=Bundle-URI,valueonly)") == NEW
    run(folder=folder, uri=NEW, mode="git")
    assert git(folder, "rev-list", "--count", "HEAD") == "2"


def test_cluster_mode_applies_the_whole_object_server_side(folder: Path) -> None:
    with Kube() as kube:
        manifest = read_manifest(folder)
        kube.put(SERVICE, manifest.service, MANAGER)
        written = deploy(KubernetesActuator(kube.cluster(), manifest), NEW, name="v2")
        spec = kube.objects[SERVICE]["spec"]
        assert written["written"] == kube.objects[SERVICE]["metadata"]["resourceVersion"]
    assert [c["predictor"]["model"]["storageUri"] for c in spec["canary"]] == [NEW]
    assert spec["predictor"]["containers"][0]["name"] == "drift-detector"


def test_while_a_gate_leads_a_canary_nothing_is_written(folder: Path) -> None:
    before = (folder / "rollout.yaml").read_bytes()
    lease = FileLease(Runs(folder / RUNS).lease_file)
    lease.take()
    try:
        with pytest.raises(GateError, match="leads a canary there; let the run end, or abort it"):
            run(folder=folder, uri=NEW)
    finally:
        lease.release()
    assert (folder / "rollout.yaml").read_bytes() == before


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(UsageError, match="become 'king' is no role"):
        with_bundle(STABLE, NEW, become="king")
    with pytest.raises(UsageError, match="percent 101 is no share"):
        with_bundle(STABLE, NEW, percent=101)
    with pytest.raises(UsageError, match="mode 'fax' is unknown; choose one of folder, git"):
        run(folder=Path(), uri=NEW, mode="fax")
    with pytest.raises(ManifestError, match="predictor name 'v1' is used twice"):
        with_bundle(STABLE, NEW, name="v1")
