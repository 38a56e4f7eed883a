"""Every object, in every set, is valid against its own schema and has no field that it lacks."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from tests.support.cluster_set import ClusterSet, Document, committed
from tests.support.kinds import CORE, KSERVE, SCHEMAS, Invalid, validate

PRODUCTION = committed("production")


def test_every_object_is_valid(cluster_set: ClusterSet) -> None:
    for document in cluster_set.documents:
        validate(document)


def test_every_pinned_schema_names_its_source() -> None:
    for file in SCHEMAS.glob("*.yaml"):
        first = file.read_text("utf-8").splitlines()[0]
        # Repository, released version and the CRD's file in it.
        assert re.search(r" Source: [\w-]+/[\w-]+ [\w-]*\d+\.\d+\.\d+, \S+\.yaml$", first), file


def changed(kind: str, name: str, *path: str | int, value: Any) -> Document:
    document = copy.deepcopy(PRODUCTION.get(kind, name))
    at: Any = document
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return document


KNOWN_BAD = {
    "a field that Kubernetes lacks": changed(
        "Deployment", "seatrial-gate", "spec", "template", "spec", "restartpolicy", value="Always"
    ),
    "a wrong type": changed("Service", "seatrial-retrain", "spec", "ports", 0, "port", value="80"),
    "a field that KServe lacks": changed(
        "InferenceService", "fraud", "spec", "predictor", "minReplica", value=1
    ),
    "a field deep in a KServe container": changed(
        "ServingRuntime", "seatrial-onnx", "spec", "containers", 0, "readinessprobe", value={}
    ),
    "a route to nowhere": changed(
        "HTTPRoute", "fraud-fallback", "spec", "rules", 0, "backendRefs", 0, "names", value="x"
    ),
    "a health check without its path": changed(
        "BackendTrafficPolicy", "fraud-fallback", "spec", "healthCheck", "active", "http", value={}
    ),
    "a filter that is not of its type": changed(
        "HTTPRoute", "fraud-fallback", "spec", "rules", 0, "filters", 0, "type", value="CORS"
    ),
    "a path that climbs": changed(
        "HTTPRoute",
        "fraud-fallback",
        *("spec", "rules", 0, "matches", 0, "path", "value"),
        value="/v2/../metrics",
    ),
    "a host name that ends in a dot": changed(
        "Backend",
        "fraud-cpu",
        *("spec", "endpoints", 0, "fqdn", "hostname"),
        value="fraud-cpu-v1-predictor.seatrial.svc.cluster.local.",
    ),
    "a duration whose units are out of order": changed(
        "PrometheusRule", "seatrial-service", "spec", "groups", 0, "interval", value="1s5m"
    ),
}


@pytest.mark.parametrize("name", KNOWN_BAD)
def test_a_known_bad_object_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        validate(KNOWN_BAD[name])


def test_a_kind_without_a_schema_is_refused() -> None:
    widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
    with pytest.raises(Invalid, match="no schema; pin one in schemas/widget.yaml"):
        validate(widget)


def test_a_trigger_with_an_empty_filter_is_refused() -> None:
    trigger: Document = {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {"name": "t"},
        "spec": {"broker": "b", "subscriber": {"uri": "http://x"}, "filters": [{"exact": {}}]},
    }
    with pytest.raises(Invalid, match="exact"):
        validate(trigger)


def test_every_kind_is_validated_by_someone() -> None:
    pinned = {file.stem for file in SCHEMAS.glob("*.yaml")}
    for document in PRODUCTION.documents:
        known = document["apiVersion"] in (*CORE, *KSERVE)
        assert known or document["kind"].lower() in pinned
