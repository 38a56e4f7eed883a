"""The few calls to the Kubernetes API that a rollout needs, on paths and plain documents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from serving.errors import GateError
from serving.rollout.documents import Document

TIMEOUT_S = 10.0
APPLY = "application/apply-patch+yaml"


class ApiError(GateError):
    """The API server's refusal."""

    def __init__(self, message: str, status: int, details: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        self.details = details


class Cluster:
    """Raises ApiError for what the API server refuses, GateError when it does not answer."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    @classmethod
    def connect(cls, context: str | None = None) -> Cluster:
        """By the pod's service account inside a cluster, else by kubeconfig."""
        try:
            if context is None:
                try:
                    config.load_incluster_config()
                    return cls(client.ApiClient())
                except ConfigException:
                    pass
            return cls(config.new_client_from_config(context=context))
        except ConfigException as error:
            raise GateError(f"no cluster to talk to: {error}; set KUBECONFIG") from None

    def get(self, path: str, **query: str) -> Document:
        return self._call("GET", path, None, "application/json", query)

    def find(self, path: str) -> Document | None:
        """None where there is no such object."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def apply(self, path: str, document: Document, manager: str) -> Document:
        """Server-side apply without force: another manager's field is a conflict (409)."""
        query = {"fieldManager": manager, "fieldValidation": "Strict"}
        return self._call("PATCH", path, document, APPLY, query)

    def create(self, path: str, document: Document) -> Document:
        return self._call("POST", path, document, "application/json", {})

    def replace(self, path: str, document: Document) -> Document:
        """With metadata.resourceVersion a compare-and-swap: 409 when it has changed."""
        return self._call("PUT", path, document, "application/json", {})

    def _call(
        self, method: str, path: str, body: Document | None, kind: str, query: Mapping[str, str]
    ) -> Document:
        try:
            answer = self._api.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params={"Accept": "application/json", "Content-Type": kind},
                body=body,
                auth_settings=["BearerToken"],
                response_type="object",
                _return_http_data_only=True,
                _request_timeout=TIMEOUT_S,
            )
        except ApiException as error:
            raise _refusal(method, path, error) from None
        except Exception as error:  # urllib3 raises many kinds when a server is away
            raise GateError(f"the API server does not answer {method} {path}: {error}") from None
        return dict(answer)


def _refusal(method: str, path: str, error: ApiException) -> ApiError:
    try:
        found = json.loads(error.body)
        message, details = str(found["message"]), found.get("details") or {}
    except (ValueError, KeyError, TypeError):
        message, details = str(error.reason), {}
    return ApiError(f"{method} {path}: {message}", int(error.status), details)
