"""What else the security components promise: tokens, read-only models, an audit log that stays."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.predictor.settings import read_settings
from tests.support.cluster_set import ClusterSet, combined, committed
from tests.support.kinds import validate


@pytest.fixture(scope="module")
def secured(kubectl: str, tmp_path_factory: pytest.TempPathFactory) -> ClusterSet:
    assert kubectl
    components = ["gpu", "gpu-fallback", "security", "security-gateway", "security-tls"]
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


def kserves_routes(found: ClusterSet) -> Iterator[str]:
    """KServe makes two routes of every service, named after it, unless it is cluster-local."""
    for service in found.of("InferenceService"):
        name, labels = service["metadata"]["name"], service["metadata"].get("labels") or {}
        if labels.get("networking.kserve.io/visibility") != "cluster-local":
            yield from (name, f"{name}-predictor")


def without_a_token(found: ClusterSet) -> set[str]:
    """Routes, of KServe and of ours, that no policy asks for a token."""
    guarded = {
        ref["name"] for policy in found.of("SecurityPolicy") for ref in policy["spec"]["targetRefs"]
    }
    return {*kserves_routes(found), *found.names("HTTPRoute")} - guarded


def test_nobody_without_the_scope_reaches_a_model(secured: ClusterSet) -> None:
    for found in (secured, committed("production")):
        (policy,) = found.of("SecurityPolicy")
        rules = policy["spec"]["authorization"]
        assert rules["defaultAction"] == "Deny"
        providers = {provider["name"] for provider in policy["spec"]["jwt"]["providers"]}
        assert not policy["spec"]["jwt"].get("optional", False)
        for rule in rules["rules"]:
            assert rule["principal"]["jwt"]["provider"] in providers
            assert rule["principal"]["jwt"]["scopes"] == ["fraud:score"]
        assert without_a_token(found) == {"fraud-ready"}


def test_what_is_open_without_a_token_is_the_one_path_of_the_health_check() -> None:
    found = committed("production")
    route = found.get("HTTPRoute", "fraud-ready")["spec"]
    (rule,) = route["rules"]
    (match,) = rule["matches"]
    asked = found.get("BackendTrafficPolicy", "fraud-fallback")["spec"]["healthCheck"]["active"]
    assert route["hostnames"] == [asked["http"]["hostname"]]
    assert match == {"method": "GET", "path": {"type": "Exact", "value": asked["http"]["path"]}}
    # No host of a guarded route: there the same path needs a token.
    guarded = found.get("HTTPRoute", "fraud-fallback")["spec"]
    inner = guarded["rules"][0]["filters"][0]["urlRewrite"]["hostname"]
    assert not {*route["hostnames"]} & {*guarded["hostnames"], inner}


def test_a_route_that_no_policy_guards_is_found() -> None:
    found = ClusterSet(copy.deepcopy(committed("production").documents))
    found.get("InferenceService", "fraud-cpu")["metadata"].pop("labels")
    assert without_a_token(found) == {"fraud-ready", "fraud-cpu", "fraud-cpu-predictor"}


def test_our_routes_are_taken_over_tls_only() -> None:
    found = committed("production")
    for route in found.of("HTTPRoute"):
        assert [parent["sectionName"] for parent in route["spec"]["parentRefs"]] == ["https"]
    again = found.get("Backend", "fraud-gpu")["spec"]
    assert again["endpoints"][0]["fqdn"]["port"] == 443
    # The gateway's certificate is asked for by the name that the request is rewritten to.
    (rule,) = found.get("HTTPRoute", "fraud-fallback")["spec"]["rules"]
    assert again["tls"]["sni"] == rule["filters"][0]["urlRewrite"]["hostname"]
    assert "insecureSkipVerify" not in again["tls"]
