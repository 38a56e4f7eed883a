"""Runs on Kubeflow Pipelines, by its REST API v2beta1.

The API has no idempotency key: the run is named by the event's id, and runs of that name are
listed before one is created.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from serving.errors import UsageError
from serving.retrain.cloudevent import CloudEvent
from serving.retrain.launcher import LaunchError, RunState, Template

API = "/apis/v2beta1"
TIMEOUT = 10.0
LARGEST_ANSWER = 4 * 2**20
ENDED = {
    "SUCCEEDED": RunState.SUCCEEDED,
    "SKIPPED": RunState.FAILED,
    "FAILED": RunState.FAILED,
    "CANCELED": RunState.FAILED,
}


@dataclass(frozen=True)
class KfpSettings:
    url: str
    """Of the API server, such as http://ml-pipeline.kubeflow:8888."""
    pipeline: str
    """Name of the pipeline; its newest version runs."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Of the run. Texts may have {places}; at least one must be {event_id}."""
    namespace: str = ""
    """The profile's, in multi-user mode."""
    experiment: str = "Default"
    token_file: Path | None = None
    """A projected ServiceAccount token for audience pipelines.kubeflow.org; read at each request,
    since the kubelet renews it."""

    def __post_init__(self) -> None:
        """Raises UsageError."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"kfp_url '{self.url}' is not http(s)://HOST[:PORT]; correct it")
        if not self.pipeline:
            raise UsageError("kfp_pipeline is empty; name the pipeline that retrains")
        for value in self.parameters.values():
            if isinstance(value, str):
                Template("parameters", value)
        if "{event_id}" not in json.dumps(dict(self.parameters)):
            raise UsageError(
                "parameters: none has {event_id}, so a second run would be a cache hit of the"
                ' first; give one, as in {"event_id": "{event_id}"}'
            )


class Answered(LaunchError):
    """The API server answered, and not with what was asked for."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, final=status == http.client.BAD_REQUEST)
        self.status = status


class KfpLauncher:
    """A Launcher."""

    def __init__(self, settings: KfpSettings) -> None:
        self._settings = settings
        parts = urlsplit(settings.url)
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._prefix = parts.path.rstrip("/") + API

    def start(self, event: CloudEvent) -> str:
        found = self._runs_named(event.id)
        if found:
            return found
        pipeline = self._pipeline()
        body: dict[str, Any] = {
            "display_name": event.id,
            "description": f"{event.type} from {event.source}",
            "pipeline_version_reference": {
                "pipeline_id": pipeline,
                "pipeline_version_id": self._newest_version(pipeline),
            },
            "runtime_config": {"parameters": self._parameters(event)},
        }
        experiment = self._experiment()
        if experiment:
            body["experiment_id"] = experiment
        return str(self._ask("POST", "/runs", body=body)["run_id"])

    def state(self, run: str) -> RunState:
        try:
            told = self._ask("GET", f"/runs/{quote(run, safe='')}").get("state", "")
        except Answered as answered:
            if answered.status == http.client.NOT_FOUND:
                return RunState.FAILED  # a person has deleted it
            raise
        return ENDED.get(told, RunState.ACTIVE)

    def _runs_named(self, name: str) -> str:
        query = {"filter": _named("display_name", name), "page_size": "1", **self._scope()}
        runs = self._ask("GET", "/runs", query).get("runs") or []
        return str(runs[0]["run_id"]) if runs else ""

    def _pipeline(self) -> str:
        path = f"/pipelines/names/{quote(self._settings.pipeline, safe='')}"
        return str(self._ask("GET", path, self._scope())["pipeline_id"])

    def _newest_version(self, pipeline: str) -> str:
        query = {"sort_by": "created_at desc", "page_size": "1"}
        path = f"/pipelines/{quote(pipeline, safe='')}/versions"
        versions = self._ask("GET", path, query).get("pipeline_versions") or []
        if not versions:
            raise LaunchError(f"pipeline '{self._settings.pipeline}' has no version; upload one")
        return str(versions[0]["pipeline_version_id"])

    def _experiment(self) -> str:
        query = {"filter": _named("display_name", self._settings.experiment), **self._scope()}
        found = self._ask("GET", "/experiments", query).get("experiments") or []
        if not found:
            raise LaunchError(f"there is no experiment '{self._settings.experiment}'; create it")
        return str(found[0]["experiment_id"])

    def _parameters(self, event: CloudEvent) -> dict[str, Any]:
        return {
            name: Template("parameters", value).fill(event) if isinstance(value, str) else value
            for name, value in self._settings.parameters.items()
        }

    def _scope(self) -> dict[str, str]:
        return {"namespace": self._settings.namespace} if self._settings.namespace else {}

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        target = self._prefix + path + (f"?{urlencode(query)}" if query else "")
        headers = {"accept": "application/json", **self._credentials()}
        if body is not None:
            headers["content-type"] = "application/json"
        connection = self._connect()
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, target, data, headers)
            answer = connection.getresponse()
            status, text = answer.status, answer.read(LARGEST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            what = str(error) or type(error).__name__
            raise LaunchError(f"{method} {self._settings.url}{path}: {what}") from error
        finally:
            connection.close()
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if status != http.client.OK or not isinstance(found, dict):
            told = found.get("message") if isinstance(found, dict) else text[:200].decode("latin-1")
            raise Answered(f"{method} {self._settings.url}{path}: {told} ({status})", status)
        return found

    def _credentials(self) -> dict[str, str]:
        file = self._settings.token_file
        if file is None:
            return {}
        try:
            return {"authorization": f"Bearer {file.read_text('utf-8').strip()}"}
        except OSError as error:
            raise LaunchError(f"token {file}: {error.strerror}; mount the token there") from error

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            trusted = ssl.create_default_context()  # SSL_CERT_FILE adds a cluster's own authority
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT, context=trusted
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)


def _named(key: str, name: str) -> str:
    predicate = {"operation": "EQUALS", "key": key, "stringValue": name}
    # The server unescapes a filter once more after HTTP has.
    return quote(json.dumps({"predicates": [predicate]}), safe="")
