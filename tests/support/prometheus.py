"""A small Prometheus: keeps scrapes, answers /api/v1/query with Prometheus' instant semantics.

It knows the expressions the gate may send and refuses every other with status 400, as the real
one refuses what it cannot parse.
"""

from __future__ import annotations

import json
import re
import threading
import urllib.parse
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOOKBACK_S = 300.0
Series = tuple[tuple[str, str], ...]

_MATCHER = re.compile(r'(\w+)(=~|=)"([^"]*)"')
_SELECTOR = re.compile(r'(\w*)\{((?:\w+(?:=~|=)"[^"]*",?)*)\}')


class Prometheus:
    """`with Prometheus() as server:` answers on server.url."""

    def __init__(self) -> None:
        self.series: dict[Series, list[tuple[float, float]]] = {}
        self.queries: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = urllib.parse.parse_qs(
                    self.rfile.read(int(self.headers["content-length"])).decode()
                )
                status, body = 404, {"status": "error", "error": "no such path"}
                if self.path == "/api/v1/query":
                    query, at = form["query"][0], float(form["time"][0])
                    server.queries.append(query)
                    try:
                        rows = server.evaluate(query, at)
                        data: Any = {"resultType": "vector", "result": rows}
                        status, body = 200, {"status": "success", "data": data}
                    except ValueError as error:
                        status = 400
                        body = {"status": "error", "errorType": "bad_data", "error": str(error)}
                text = json.dumps(body).encode()
                self.send_response_only(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Prometheus:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def scrape(
        self, at: float, samples: Iterable[tuple[str, dict[str, str], float]], **target: str
    ) -> None:
        """Keeps one scrape of one target, its labels added to every sample."""
        for name, labels, value in samples:
            key = tuple(sorted({**labels, **target, "__name__": name}.items()))
            self.series.setdefault(key, []).append((at, value))

    def evaluate(self, query: str, at: float) -> list[dict[str, Any]]:
        """Raises ValueError for an expression it does not know."""
        if inner := re.fullmatch(r"timestamp\((.*)\)", query):
            found = [
                ({k: v for k, v in labels.items() if k != "__name__"}, t, t)
                for labels, t, _ in self._select(inner[1], at)
            ]
        elif both := re.fullmatch(r"(\S*\{.*?\}) and on \(([\w, ]+)\) (\S*\{.*?\})", query):
            on = [name.strip() for name in both[2].split(",")]
            right = {
                tuple(labels.get(n, "") for n in on) for labels, _, _ in self._select(both[3], at)
            }
            found = [
                row
                for row in self._select(both[1], at)
                if tuple(row[0].get(name, "") for name in on) in right
            ]
        else:
            found = self._select(query, at)
        return [{"metric": labels, "value": [at, repr(value)]} for labels, _, value in found]

    def _select(self, selector: str, at: float) -> list[tuple[dict[str, str], float, float]]:
        """(labels, time of the sample, value): the last sample at or before `at`."""
        parsed = _SELECTOR.fullmatch(selector)
        if parsed is None:
            raise ValueError(f"invalid parameter 'query': parse error in {selector}")
        matchers = _MATCHER.findall(parsed[2])
        if parsed[1]:
            matchers.append(("__name__", "=", parsed[1]))
        found = []
        for key, samples in self.series.items():
            labels = dict(key)
            past = [(t, value) for t, value in samples if at - LOOKBACK_S < t <= at]
            if past and all(_matches(labels.get(name, ""), *rest) for name, *rest in matchers):
                found.append((labels, *past[-1]))
        return found


def _matches(value: str, operator: str, wanted: str) -> bool:
    return value == wanted if operator == "=" else re.fullmatch(wanted, value) is not None
