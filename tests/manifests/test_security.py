"""What else the security components promise: tokens, read-only models, an audit log that stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.predictor.settings import read_settings
from tests.support.cluster_set import ClusterSet, combined
from tests.support.kinds import validate


@pytest.fixture(scope="module")
def secured(kubectl: str, tmp_path_factory: pytest.TempPathFactory) -> ClusterSet:
    assert kubectl
    components = ["gpu", "gpu-fallback", "security", "security-gateway"]
    return combined(tmp_path_factory.mktemp("secured"), "overlays/cpu", components)


def test_every_object_is_valid(secured: ClusterSet) -> None:
    for document in secured.documents:
        validate(document)


def test_every_predictor_writes_an_audit_log_of_its_own(secured: ClusterSet) -> None:
    services = secured.of("InferenceService")
    assert len(services) == 2
    for service in services:
        predictor = service["spec"]["predictor"]
        env = {one["name"]: one for one in predictor["model"]["env"]}
        assert env["POD_NAME"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
        # Kubernetes fills in only variables that stand before their use.
        assert list(env).index("POD_NAME") < list(env).index("SEATRIAL_AUDIT_LOG")
        log = env["SEATRIAL_AUDIT_LOG"]["value"]
        settings, _ = read_settings(
            ["--model_name=fraud", "--model_dir=/m"], {"SEATRIAL_AUDIT_LOG": log}
        )
        assert "$(POD_NAME)" in settings.audit_log
        (mount,) = predictor["model"]["volumeMounts"]
        assert mount["mountPath"] == str(Path(log).parent)
        volumes = {volume["name"]: volume for volume in predictor["volumes"]}
        claim = volumes[mount["name"]]["persistentVolumeClaim"]["claimName"]
        assert secured.get("PersistentVolumeClaim", claim)["spec"]["accessModes"] == [
            "ReadWriteMany"
        ]


def test_every_model_is_mounted_read_only(secured: ClusterSet) -> None:
    for service in secured.of("InferenceService"):
        assert service["metadata"]["annotations"]["storage.kserve.io/readonly"] == "true"
        assert "seatrial-bundles" in service["spec"]["predictor"]["model"]["storageUri"]


def test_kserves_routes_take_nobody_without_the_scope(secured: ClusterSet) -> None:
    (policy,) = secured.of("SecurityPolicy")
    service = secured.get("InferenceService", "fraud")["metadata"]["name"]
    # KServe names its two routes after the service.
    named = {ref["name"] for ref in policy["spec"]["targetRefs"]}
    assert named == {service, f"{service}-predictor"}
    rules = policy["spec"]["authorization"]
    assert rules["defaultAction"] == "Deny"
    providers = {provider["name"] for provider in policy["spec"]["jwt"]["providers"]}
    assert not policy["spec"]["jwt"].get("optional", False)
    for rule in rules["rules"]:
        assert rule["principal"]["jwt"]["provider"] in providers
        assert rule["principal"]["jwt"]["scopes"] == [f"{service}:score"]
