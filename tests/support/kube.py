"""A small Kubernetes API server over real HTTP that checks what it is sent.

It keeps objects by path, hands out resource versions, refuses stale ones, and does server-side
apply with field managers. A KServe controller beside it moves routes as the real one was seen to.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes import client

from serving.errors import ManifestError
from serving.rollout.actuators.cluster import Cluster
from serving.rollout.merge import merge_patch
from serving.rollout.schema import check_object

Document = dict[str, Any]
TOKEN = "token-of-the-gate"


class Refused(Exception):
    def __init__(self, status: int, reason: str, message: str, causes: list[Any] | None = None):
        super().__init__(message)
        self.status = status
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": reason,
            "code": status,
            "message": message,
            "details": {"causes": causes or []},
        }


class Kube:
    """`with Kube() as kube:` serves; kube.cluster() talks to it."""

    def __init__(self) -> None:
        self.objects: dict[str, Document] = {}
        self.managers: dict[str, dict[str, str]] = {}
        """By path of an object: field -> who applied it last."""
        self.requests: list[tuple[str, str]] = []
        self.writes: list[Document] = []
        self.ready: dict[str, int] = {}
        """Ready pods by predictor name; what is absent has as many as it asks for."""
        self.frozen = False
        """True: the controller does not move the route, as while stable is not ready."""
        self._version = 0
        self._lock = threading.Lock()
        kube = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length)
                try:
                    with kube._lock:
                        found = kube.answer(self.command, self.path, body, dict(self.headers))
                    status = 201 if self.command == "POST" else 200
                except Refused as refused:
                    status, found = refused.status, refused.body
                text = json.dumps(found).encode()
                self.send_response_only(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_PATCH = handle_any  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Kube:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def cluster(self) -> Cluster:
        settings = client.Configuration(host=f"http://127.0.0.1:{self._server.server_port}")
        settings.api_key = {"authorization": f"Bearer {TOKEN}"}
        return Cluster(client.ApiClient(settings))

    def answer(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> Document:
        """What the API server says. Raises Refused."""
        headers = {name.lower(): value for name, value in headers.items()}
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.requests.append((method, parts.path))
        if headers.get("authorization") != f"Bearer {TOKEN}":
            raise Refused(401, "Unauthorized", "Unauthorized")
        if method == "GET":
            return self._get(parts.path, query)
        document = json.loads(body)
        self.writes.append(document)
        kind = headers.get("content-type", "")
        wanted = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        if kind != wanted:
            raise Refused(415, "UnsupportedMediaType", f"the body of the request was {kind}")
        if method == "POST":
            metadata = document["metadata"]
            name = metadata.get("name") or f"{metadata['generateName']}{self._version}"
            path = f"{parts.path}/{name}"
            if path in self.objects:
                raise Refused(409, "AlreadyExists", f'"{name}" already exists')
            return self._keep(path, document)
        if method == "PUT":
            return self._replace(parts.path, document)
        return self._apply(parts.path, document, query)

    def put(self, path: str, document: Document, manager: str = "") -> None:
        """Keeps an object as someone else would have written it."""
        with self._lock:
            if manager:
                self.managers[path] = dict.fromkeys(dict(_leaves(document, "")), manager)
            self._keep(path, document)

    def _get(self, path: str, query: dict[str, str]) -> Document:
        if path in self.objects:
            return self.objects[path]
        if "/pods" in path and path.endswith("/pods"):
            label, _, value = query.get("labelSelector", "").partition("=")
            found = [
                pod
                for name, pod in self.objects.items()
                if name.startswith(path + "/")
                and (not label or pod["metadata"].get("labels", {}).get(label) == value)
            ]
            return {"kind": "PodList", "apiVersion": "v1", "items": found}
        raise Refused(404, "NotFound", f"{path} not found")

    def _keep(self, path: str, document: Document) -> Document:
        self._version += 1
        metadata = {"uid": f"uid-{path}", **document["metadata"]}
        metadata["resourceVersion"] = str(self._version)
        self.objects[path] = {**document, "metadata": metadata}
        if "/inferenceservices/" in path and not self.frozen:
            self._reconcile(document)
        return self.objects[path]

    def _replace(self, path: str, document: Document) -> Document:
        if path not in self.objects:
            raise Refused(404, "NotFound", f"{path} not found")
        sent = document["metadata"].get("resourceVersion")
        if sent and sent != self.objects[path]["metadata"]["resourceVersion"]:
            raise Refused(409, "Conflict", "the object has been modified")
        return self._keep(path, document)

    def _apply(self, path: str, document: Document, query: dict[str, str]) -> Document:
        manager = query.get("fieldManager")
        if not manager:
            raise Refused(422, "Invalid", "fieldManager is required for apply patch")
        try:
            check_object(document, path)
        except ManifestError as error:
            raise Refused(400, "BadRequest", str(error)) from None
        owners = self.managers.setdefault(path, {})
        found = self.objects.get(path, {})
        before, after = dict(_leaves(found, "")), dict(_leaves(document, ""))
        causes = [
            {
                "reason": "FieldManagerConflict",
                "message": f'conflict with "{owners[field]}"',
                "field": field,
            }
            for field, value in after.items()
            if owners.get(field, manager) != manager and before.get(field) != value
        ]
        if causes and query.get("force") != "true":
            raise Refused(409, "Conflict", f"Apply failed with {len(causes)} conflict", causes)
        owners.update(dict.fromkeys(after, manager))
        return self._keep(path, merge_patch(found, document))

    def reconcile(self) -> None:
        """The controller's turn, after `frozen` or `ready` have changed."""
        with self._lock:
            for path, found in list(self.objects.items()):
                if "/inferenceservices/" in path:
                    self._reconcile(found)

    def _reconcile(self, service: Document) -> None:
        name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
        spec = service["spec"]
        weights = {spec["predictor"]["name"]: 100}
        replicas = {spec["predictor"]["name"]: spec["predictor"].get("minReplicas", 1)}
        for canary in spec.get("canary") or []:
            weights[canary["predictor"]["name"]] = canary.get("trafficPercent", 0)
            replicas[canary["predictor"]["name"]] = canary["predictor"]["minReplicas"]
        ready = {arm: self.ready.get(arm, n) for arm, n in replicas.items()}
        weights = {arm: weight for arm, weight in weights.items() if ready[arm]}
        stable = spec["predictor"]["name"]
        if stable in weights:
            weights[stable] = 100 - sum(w for arm, w in weights.items() if arm != stable)
        for arm, n in ready.items():
            path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}-{arm}-predictor"
            status = {"readyReplicas": n} if n else {}
            self.objects[path] = {
                "metadata": {"name": f"{name}-{arm}-predictor"},
                "status": status,
            }
        backends = [
            {"name": f"{name}-{arm}-predictor", "port": 80, "weight": weight}
            for arm, weight in weights.items()
        ]
        route = f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes/{name}"
        if not self.frozen:
            self.objects[route] = {
                "metadata": {"name": name},
                "spec": {"rules": [{"backendRefs": backends}]},
            }


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Field paths and values; lists are atomic, as spec.canary is. Names are nobody's fields."""
    if isinstance(value, dict):
        for key, item in value.items():
            if path or key == "spec":
                yield from _leaves(item, f"{path}.{key}")
    else:
        yield path, value
