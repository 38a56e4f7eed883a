"""A small Kubeflow Pipelines API server over real HTTP that checks what it is sent.

Paths, query parameters and bodies are those of KFP's published v2beta1 API: whatever the generated
client `kfp_server_api` does not know is refused, in requests and in the answers given here. What
the server itself demands beyond the schema (names, namespaces in multi-user mode, a pipeline's
inputs) follows kubeflow/pipelines, backend/src/apiserver/{server,template}.

    with KfpApi() as kfp:                                  # KfpApi(multi_user=True, token="t")
        pipeline = kfp.put_pipeline("retrain", spec)       # spec: compiled IR, read from its YAML
        ...                                                # clients talk to kfp.url
        assert [run["display_name"] for run in kfp.runs.values()] == ["event-1"]
        kfp.finish("event-1")                              # or kfp.finish("event-1", "FAILED")

`kfp.faults` are statuses to answer next instead of the truth, `kfp.lose_answers` counts runs that
are created whose answer never arrives, `kfp.watch` is called before and after each request is done;
`kfp.requests` lists what was asked, `kfp.tokens` by whom.
"""

from __future__ import annotations

import email
import email.policy
import json
import re
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

from tests.support.kfp_schema import Breach, check_model, matches

Document = dict[str, Any]
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 500: 13, 503: 14}
"""gRPC codes of HTTP statuses, as the gateway in front of the server maps them."""
LISTING = ("page_token", "page_size", "sort_by", "filter")
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        # The field `error` repeats the message for clients of the first gateway.
        self.body = {
            "error": message,
            "code": CODES.get(status, 13),
            "message": message,
            "details": [],
        }


class Dropped(Exception):
    """The request was done; its answer is lost."""


class KfpApi:
    """`with KfpApi() as kfp:` answers on kfp.url."""

    def __init__(self, *, multi_user: bool = False, token: str = "") -> None:
        self.multi_user = multi_user
        """True: requests must name a namespace or an experiment in one."""
        self.token = token
        """The bearer token every request must carry; empty: any or none."""
        self.pipelines: dict[str, Document] = {}
        self.versions: dict[str, Document] = {}
        self.runs: dict[str, Document] = {}
        self.experiments: dict[str, Document] = {}
        self.faults: list[int] = []
        self.lose_answers = 0
        self.watch: Callable[[str, str, str], None] = lambda moment, method, path: None
        self.requests: list[tuple[str, str]] = []
        self.tokens: list[str] = []
        self._lock = threading.RLock()
        self._clock = 0
        self.put_experiment("Default", "team" if multi_user else "")
        kfp = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                path = urlsplit(self.path).path
                try:
                    kfp.watch("before", self.command, path)
                    found = kfp.answer(self.command, self.path, body, dict(self.headers))
                    kfp.watch("after", self.command, path)
                    status = 200
                except Refused as refused:
                    status, found = refused.status, refused.body
                except Dropped:
                    self.close_connection = True
                    return
                text = json.dumps(found).encode()
                self.send_response_only(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> KfpApi:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # What a test arranges.

    def put_experiment(self, name: str, namespace: str = "") -> Document:
        return self._keep(self.experiments, "experiment_id", display_name=name, namespace=namespace)

    def put_pipeline(self, name: str, spec: Document, namespace: str = "") -> Document:
        """A pipeline with one version of the compiled `spec`."""
        pipeline = self._keep(
            self.pipelines, "pipeline_id", name=name, display_name=name, namespace=namespace
        )
        self.put_version(pipeline["pipeline_id"], name, spec)
        return pipeline

    def put_version(self, pipeline_id: str, name: str, spec: Document) -> Document:
        return self._keep(
            self.versions,
            "pipeline_version_id",
            pipeline_id=pipeline_id,
            name=name,
            display_name=name,
            pipeline_spec=spec,
        )

    def finish(self, display_name: str, state: str = "SUCCEEDED") -> None:
        """Moves every run of that name to `state`."""
        with self._lock:
            for run in self.runs.values():
                if run["display_name"] == display_name:
                    run["state"] = state
                    run["finished_at"] = self._now()

    # What the server does.

    def answer(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> Document:
        """What the API server says. Raises Refused."""
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        with self._lock:
            self.requests.append((method, parts.path))
            given = {name.lower(): value for name, value in headers.items()}
            self.tokens.append(given.get("authorization", "").removeprefix("Bearer "))
            if self.faults:
                raise Refused(self.faults.pop(0), "the server is told to fail")
            if self.token and self.tokens[-1] != self.token:
                raise Refused(401, "Unauthenticated: no valid bearer token")
            for route, pattern, allowed, handler in self._routes():
                found = re.fullmatch(pattern, parts.path)
                if route == method and found:
                    unknown = set(query) - set(allowed)
                    if unknown:
                        raise Refused(400, f"unknown query parameters {sorted(unknown)}")
                    try:
                        values = [unquote(value) for value in found.groups()]
                        return handler(*values, query=query, body=body, headers=given)
                    except Breach as breach:
                        raise Refused(400, str(breach)) from None
        raise Refused(404, f"Not Found: {method} {parts.path}")

    def _routes(self) -> list[tuple[str, str, tuple[str, ...], Callable[..., Document]]]:
        api, one = "/apis/v2beta1", "([^/]+)"
        upload = ("name", "display_name", "description", "tags")
        listing = ("namespace", *LISTING)
        return [
            ("GET", f"{api}/healthz", (), self._healthz),
            ("GET", f"{api}/pipelines/names/{one}", ("namespace",), self._pipeline_by_name),
            ("POST", f"{api}/pipelines/upload", (*upload, "namespace"), self._upload),
            ("POST", f"{api}/pipelines/upload_version", (*upload, "pipelineid"), self._upload_more),
            ("GET", f"{api}/pipelines/{one}", (), self._get(self.pipelines, "V2beta1Pipeline")),
            ("GET", f"{api}/pipelines", listing, self._list_pipelines),
            ("GET", f"{api}/pipelines/{one}/versions", LISTING, self._list_versions),
            ("GET", f"{api}/pipelines/{one}/versions/{one}", (), self._get_version),
            ("POST", f"{api}/runs", ("experiment_id",), self._create_run),
            ("GET", f"{api}/runs", ("experiment_id", *listing), self._list_runs),
            ("GET", f"{api}/runs/{one}", ("experiment_id",), self._get(self.runs, "V2beta1Run")),
            ("POST", f"{api}/experiments", (), self._create_experiment),
            ("GET", f"{api}/experiments", listing, self._list_experiments),
            (
                "GET",
                f"{api}/experiments/{one}",
                (),
                self._get(self.experiments, "V2beta1Experiment"),
            ),
        ]

    def _healthz(self, **_: Any) -> Document:
        return {"multi_user": self.multi_user, "pipeline_store": "database"}

    def _get(self, kept: dict[str, Document], model: str) -> Callable[..., Document]:
        def get(key: str, **_: Any) -> Document:
            if key not in kept:
                raise Refused(404, f"{model.removeprefix('V2beta1')} {key} not found")
            check_model(kept[key], model, "answer")
            return kept[key]

        return get

    def _get_version(self, pipeline_id: str, version_id: str, **_: Any) -> Document:
        found = self._get(self.versions, "V2beta1PipelineVersion")(version_id)
        if found["pipeline_id"] != pipeline_id:
            raise Refused(404, f"PipelineVersion {version_id} not found")
        return found

    def _pipeline_by_name(self, name: str, *, query: dict[str, str], **_: Any) -> Document:
        namespace = self._namespace(query.get("namespace", ""))
        for pipeline in self.pipelines.values():
            if (pipeline["name"], pipeline["namespace"]) == (name, namespace):
                return pipeline
        raise Refused(404, f"Namespace/pipeline {namespace}/{name} not found")

    def _list_pipelines(self, *, query: dict[str, str], **_: Any) -> Document:
        namespace = self._namespace(query.get("namespace", ""))
        found = [p for p in self.pipelines.values() if p["namespace"] in (namespace, "")]
        names = ("name", "display_name", "created_at", "description")
        return self._page("pipelines", "V2beta1ListPipelinesResponse", found, query, names)

    def _list_versions(self, pipeline_id: str, *, query: dict[str, str], **_: Any) -> Document:
        found = [v for v in self.versions.values() if v["pipeline_id"] == pipeline_id]
        names = ("name", "display_name", "created_at", "pipeline_version_id")
        model = "V2beta1ListPipelineVersionsResponse"
        return self._page("pipeline_versions", model, found, query, names)

    def _list_experiments(self, *, query: dict[str, str], **_: Any) -> Document:
        namespace = self._namespace(query.get("namespace", ""))
        found = [e for e in self.experiments.values() if e["namespace"] == namespace]
        names = ("display_name", "experiment_id", "created_at")
        return self._page("experiments", "V2beta1ListExperimentsResponse", found, query, names)

    def _list_runs(self, *, query: dict[str, str], **_: Any) -> Document:
        wanted = query.get("experiment_id", "")
        if not wanted:
            namespace = self._namespace(query.get("namespace", ""))
            inside = {k for k, e in self.experiments.items() if e["namespace"] == namespace}
        else:
            inside = {wanted}
        found = [r for r in self.runs.values() if r["experiment_id"] in inside]
        names = ("run_id", "display_name", "created_at", "state", "storage_state", "experiment_id")
        return self._page("runs", "V2beta1ListRunsResponse", found, query, names)

    def _page(
        self,
        key: str,
        model: str,
        found: list[Document],
        query: dict[str, str],
        names: tuple[str, ...],
    ) -> Document:
        if query.get("filter"):
            keys = {name: name for name in names} | {"name": "display_name"}
            found = [item for item in found if matches(query["filter"], keys, item)]
        field, _, direction = (query.get("sort_by") or "created_at").partition(" ")
        if field not in names or direction not in ("", "asc", "desc"):
            raise Refused(400, f"invalid sort_by '{query.get('sort_by')}'")
        found = sorted(found, key=lambda item: str(item[field]), reverse=direction == "desc")
        size, start = int(query.get("page_size") or 20), int(query.get("page_token") or 0)
        answer: Document = {key: found[start : start + size], "total_size": len(found)}
        if start + size < len(found):
            answer["next_page_token"] = str(start + size)
        check_model(answer, model, "answer")
        return answer

    def _create_experiment(self, *, body: bytes, **_: Any) -> Document:
        document = self._document(body, "V2beta1Experiment")
        if not document.get("display_name"):
            raise Refused(400, "The experiment name is empty. Please specify a valid name")
        namespace = self._namespace(document.get("namespace", ""))
        return self.put_experiment(document["display_name"], namespace)

    def _create_run(self, *, query: dict[str, str], body: bytes, **_: Any) -> Document:
        run = self._document(body, "V2beta1Run")
        if not run.get("display_name"):
            raise Refused(400, "The run name is empty. Please specify a valid name")
        experiment = run.get("experiment_id") or query.get("experiment_id", "")
        if not experiment and self.multi_user:
            raise Refused(400, "A run cannot have an empty namespace in multi-user mode")
        experiment = experiment or next(iter(self.experiments))
        if experiment not in self.experiments:
            raise Refused(404, f"Experiment {experiment} not found")
        runtime = run.get("runtime_config", {})
        _check_inputs(self._spec(run), runtime.get("parameters", {}))
        kept = self._keep(
            self.runs,
            "run_id",
            **{name: run[name] for name in run if name not in ("run_id", "state", "created_at")},
        )
        kept |= {"experiment_id": experiment, "state": "PENDING", "storage_state": "AVAILABLE"}
        check_model(kept, "V2beta1Run", "answer")
        if self.lose_answers:
            self.lose_answers -= 1
            raise Dropped
        return kept

    def _spec(self, run: Document) -> Document:
        """The spec that the run names, in one of the two ways there are."""
        reference, spec = run.get("pipeline_version_reference"), run.get("pipeline_spec")
        if (reference is None) == (spec is None):
            raise Refused(400, "give one of pipeline_spec and pipeline_version_reference")
        if reference is None:
            return dict(spec)  # type: ignore[arg-type]
        pipeline, version = reference.get("pipeline_id"), reference.get("pipeline_version_id")
        if pipeline not in self.pipelines:
            raise Refused(404, f"Pipeline {pipeline} not found")
        found = [v for v in self.versions.values() if v["pipeline_id"] == pipeline]
        if version:
            found = [v for v in found if v["pipeline_version_id"] == version]
        if not found:
            raise Refused(404, f"PipelineVersion {version or 'latest'} of {pipeline} not found")
        return dict(found[-1]["pipeline_spec"])

    def _upload(self, *, query: dict[str, str], body: bytes, headers: dict[str, str]) -> Document:
        file, spec = _uploaded(body, headers)
        name = query.get("name") or query.get("display_name") or file
        namespace = self._namespace(query.get("namespace", ""))
        known = [(p["name"], p["namespace"]) for p in self.pipelines.values()]
        if (name, namespace) in known:
            raise Refused(409, "Failed to create a pipeline and a pipeline version")
        return self.put_pipeline(name, spec, namespace)

    def _upload_more(
        self, *, query: dict[str, str], body: bytes, headers: dict[str, str]
    ) -> Document:
        file, spec = _uploaded(body, headers)
        pipeline = query.get("pipelineid", "")
        if pipeline not in self.pipelines:
            raise Refused(400, "Failed to create a pipeline version")
        name = query.get("name") or query.get("display_name") or file
        known = [(v["name"], v["pipeline_id"]) for v in self.versions.values()]
        if (name, pipeline) in known:
            raise Refused(409, "Failed to create a pipeline version")
        return self.put_version(pipeline, name, spec)

    def _namespace(self, namespace: str) -> str:
        if not self.multi_user:
            return ""
        if not namespace:
            raise Refused(400, "a namespace is required in multi-user mode")
        return namespace

    def _document(self, body: bytes, model: str) -> Document:
        try:
            document = json.loads(body)
        except ValueError:
            raise Refused(400, "the body is not JSON") from None
        check_model(document, model, "body")
        return dict(document)

    def _keep(self, kept: dict[str, Document], key: str, **fields: Any) -> Document:
        with self._lock:
            name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{key}/{len(kept)}"))
            kept[name] = {key: name, **fields, "created_at": self._now()}
            return kept[name]

    def _now(self) -> str:
        """Every moment later than the one before, so that sorting by it is no accident."""
        self._clock += 1
        return datetime.fromtimestamp(1_790_000_000 + self._clock, UTC).isoformat()


def _uploaded(body: bytes, headers: dict[str, str]) -> tuple[str, Document]:
    """File name and spec of a multipart upload: the first YAML document is the pipeline."""
    head = f"content-type: {headers.get('content-type', '')}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    parts = list(message.iter_parts()) if message.is_multipart() else []
    files = [p for p in parts if p.get_param("name", header="content-disposition") == "uploadfile"]
    if not files:
        raise Refused(400, "Failed to read pipeline from file")
    try:
        content = files[0].get_payload(decode=True)
        documents = list(yaml.safe_load_all(content if isinstance(content, bytes) else b""))
    except yaml.YAMLError:
        documents = []
    if not documents or not isinstance(documents[0], dict) or "pipelineInfo" not in documents[0]:
        raise Refused(400, "Failed to read a pipeline spec file")
    return str(files[0].get_filename()), documents[0]


def _check_inputs(spec: Document, parameters: Document) -> None:
    """A run's parameters must be the pipeline's own, each of its type, all that are required."""
    declared = spec.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    extra = sorted(set(parameters) - set(declared))
    if extra:
        raise Refused(400, f"provided input(s) that pipeline does not require: {extra}")
    kinds: dict[str, Any] = {
        "STRING": str,
        "BOOLEAN": bool,
        "NUMBER_INTEGER": int,
        "NUMBER_DOUBLE": int | float,
        "LIST": list,
        "STRUCT": dict,
    }
    for name, wanted in declared.items():
        if name in parameters:
            kind = kinds.get(wanted.get("parameterType", ""))
            if kind is None or not isinstance(parameters[name], kind):
                raise Refused(400, f"input parameter {name} requires {wanted['parameterType']}")
        elif "defaultValue" not in wanted and not wanted.get("isOptional"):
            raise Refused(400, f"pipeline requires input parameter '{name}'")
