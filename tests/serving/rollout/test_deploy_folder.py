from __future__ import annotations

from pathlib import Path

import pytest

from serving.errors import ManifestError
from serving.rollout import Arm, RolloutState, create_deploy_folder, read_manifest, read_rollout
from tests.serving.rollout.states import BASE, stable, story


def test_writes_a_folder_that_plays_and_reads_back(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "1" / "deploy"
    manifest = create_deploy_folder(folder, BASE, story()["10 %"])
    assert sorted(path.name for path in folder.iterdir()) == [
        "kustomization.yaml",
        "manifest.yaml",
        "rollout.yaml",
    ]
    assert (folder / "manifest.yaml").read_bytes() == BASE.read_bytes()
    assert read_rollout(folder) == story()["10 %"]
    assert read_manifest(folder) == manifest


def test_refuses_to_write_over_a_folder_in_use(tmp_path: Path) -> None:
    create_deploy_folder(tmp_path, BASE, stable())
    with pytest.raises(ManifestError, match="exists already"):
        create_deploy_folder(tmp_path, BASE, story()["10 %"])
    assert read_rollout(tmp_path) == stable()


def test_deploys_a_service_of_another_name_from_the_same_base(tmp_path: Path) -> None:
    churn = RolloutState("churn", "seatrial", Arm("v1", "pvc://seatrial-bundles/churn/v1"))
    manifest = create_deploy_folder(tmp_path, BASE, churn)
    assert read_manifest(tmp_path) == manifest
    assert "fraud" not in (tmp_path / "manifest.yaml").read_text()
    assert manifest.service["spec"]["predictor"]["model"]["storageUri"].endswith("churn/v1")
    budget = next(d for d in manifest.documents if d["kind"] == "PodDisruptionBudget")
    labels = budget["spec"]["selector"]["matchLabels"]
    assert labels["serving.kserve.io/inferenceservice"] == "churn"


def test_refuses_a_state_of_another_namespace(tmp_path: Path) -> None:
    other = RolloutState("fraud", "elsewhere", Arm("v1", "pvc://seatrial-bundles/fraud/v1"))
    with pytest.raises(ManifestError, match="has no InferenceService 'fraud' in namespace 'else"):
        create_deploy_folder(tmp_path / "deploy", BASE, other)
    assert not (tmp_path / "deploy").exists()


def test_refuses_a_missing_base_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such file"):
        create_deploy_folder(tmp_path / "deploy", tmp_path / "base.yaml", stable())
    assert not (tmp_path / "deploy").exists()
