"""Strict validation of every kind that the manifests use, each against its own schema.

Kubernetes' own kinds: the JSON schemas that kubernetes-validate carries, without unknown fields.
KServe's kinds: the typed models of the package kserve, there and back again.
The rest: tests/manifests/schemas, whose files name their source.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate  # type: ignore[import-untyped]
import yaml
from kubernetes.client import ApiClient

from serving.errors import ManifestError
from serving.rollout.documents import without_nulls
from serving.rollout.schema import check_object

SCHEMAS = Path(__file__).parents[1] / "manifests" / "schemas"
KUBERNETES = "1.34"
CORE = {
    *("v1", "apps/v1", "batch/v1", "policy/v1", "rbac.authorization.k8s.io/v1"),
    *("networking.k8s.io/v1", "autoscaling/v2"),
}
KSERVE = ("serving.kserve.io/v1beta1", "serving.kserve.io/v1alpha1")


class Invalid(Exception):
    """What is wrong with an object, with its kind, name and path."""


_VALID: set[str] = set()


def validate(document: dict[str, Any]) -> None:
    """Raises Invalid. Most objects are in many sets and are looked at once."""
    text = json.dumps(document, sort_keys=True)
    if text not in _VALID:
        _validate(document)
        _VALID.add(text)


def _validate(document: dict[str, Any]) -> None:
    api, kind = document["apiVersion"], document["kind"]
    where = f"{kind} {document['metadata']['name']}"
    if api in CORE:
        try:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            raise Invalid(f"{where}: {error}") from None
    elif api in KSERVE:
        _round_trip(document, where)
    else:
        try:
            jsonschema.Draft202012Validator(_schema(api, kind)).validate(document)
        except jsonschema.ValidationError as error:
            raise Invalid(f"{where}: {error.json_path}: {error.message}") from None


def _round_trip(document: dict[str, Any], where: str) -> None:
    try:
        typed = check_object(document, "manifest")
    except ManifestError as error:
        raise Invalid(str(error)) from None
    kept = ApiClient().sanitize_for_serialization(typed)
    if "model" in kept["spec"].get("predictor", {}):
        # KServe's webhook adds the empty name too, which its CRD requires of a canary's model.
        assert kept["spec"]["predictor"]["model"].pop("name") == ""
    for canary in kept["spec"].get("canary") or ():
        assert canary["predictor"]["model"].pop("name") == ""
    if kept != without_nulls(document):
        raise Invalid(f"{where}: the typed model loses a part of it")


@cache
def _schema(api: str, kind: str) -> dict[str, Any]:
    file = SCHEMAS / f"{kind.lower()}.yaml"
    if not file.is_file():
        raise Invalid(f"{kind} ({api}): no schema; pin one in {SCHEMAS.name}/{file.name}")
    schema: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))
    wanted = schema["properties"]["apiVersion"]["const"]
    if wanted != api:
        raise Invalid(f"{kind}: {api} and not {wanted}")
    return schema
