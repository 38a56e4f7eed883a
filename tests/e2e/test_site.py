"""The cluster's side of a site, against a kubectl whose route follows a moment after the write."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.rollout import with_canary, with_weight, without_canary
from tests.e2e.site import ClusterSite, LocalSite, open_site
from tests.support.fake_kubectl import installed
from tests.support.tiny import tiny_bundle


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterSite:
    for name, value in installed(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SEATRIAL_GATEWAY", "http://127.0.0.1:1")
    monkeypatch.setenv("SEATRIAL_BUNDLE", str(tiny_bundle(tmp_path / "bundles").path))
    found = open_site(tmp_path / "site")
    assert isinstance(found, ClusterSite)
    return found


def test_a_write_returns_once_the_route_has_its_weights(cluster: ClusterSite) -> None:
    assert cluster.gateway.host == "fraud.test"
    dark = with_canary(cluster.stable, cluster.canary)
    for state in (dark, with_weight(dark, "v2", 30), dark, without_canary(dark, "v2")):
        cluster.write(state)
        shares = {f"fraud-{name}-predictor": weight for name, weight in state.weights.items()}
        (rule,) = cluster._route()["rules"]
        assert {ref["name"]: ref.get("weight", 100) for ref in rule["backendRefs"]} == shares


def test_what_kubectl_refuses_is_said(cluster: ClusterSite) -> None:
    with pytest.raises(AssertionError, match="unknown: "):
        cluster._kubectl("delete", "everything")


def test_without_a_named_gateway_no_cluster_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEATRIAL_GATEWAY", raising=False)
    monkeypatch.setenv("KUBECONFIG", "/somewhere")
    monkeypatch.setattr(LocalSite, "__init__", lambda *_: None)
    assert isinstance(open_site(tmp_path), LocalSite)
