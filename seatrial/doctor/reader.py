"""Reads the cluster: an absent object is None, a forbidden one is remembered and said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serving.rollout.actuators.cluster import ApiError, Cluster

Object = Mapping[str, Any]


class Reader:
    """Every path is asked for once. Raises GateError when the API server does not answer."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._answers: dict[str, Object | None] = {}
        self.forbidden: list[str] = []

    def find(self, path: str) -> Object | None:
        """The object at `path`; None where there is none or it may not be read."""
        if path not in self._answers:
            try:
                self._answers[path] = self._cluster.find(path)
            except ApiError as error:
                if error.status not in (401, 403):
                    raise
                self.forbidden.append(path)
                self._answers[path] = None
        return self._answers[path]

    def items(self, path: str) -> Sequence[Object]:
        """The items of a list; none where it may not be read."""
        found = self.find(path) or {}
        return list(found.get("items") or ())

    def may(self, path: str) -> bool:
        """Whether `path`, already asked for, could be read."""
        return path not in self.forbidden

    def kinds(self, api_version: str) -> frozenset[str]:
        """Kinds that the cluster serves under a group and version, such as apps/v1."""
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        return frozenset(item["kind"] for item in (self.find(root) or {}).get("resources") or ())

    def schema(self, crd: str, version: str, *fields: str) -> Object | None:
        """The CRD's schema below `fields`.

        None where it is not there; {} where the CRD keeps unknown fields and so tells nothing.
        """
        found = self.find(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd}")
        for served in ((found or {}).get("spec") or {}).get("versions") or ():
            if served["name"] == version:
                return _below(served["schema"]["openAPIV3Schema"], fields)
        return None


def _below(schema: Object, fields: Sequence[str]) -> Object | None:
    for field in fields:
        if schema.get("x-kubernetes-preserve-unknown-fields") and "properties" not in schema:
            return {}
        schema = schema.get("items", schema)
        if field not in (schema.get("properties") or {}):
            return {} if schema.get("x-kubernetes-preserve-unknown-fields") else None
        schema = schema["properties"][field]
    return schema
