"""A pod that only counts: the predictor's metric families on a real /metrics, set by the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

EDGES = (0.2, 0.5, 0.8)
SECONDS = (0.05, 0.1, 0.25, 1.0)


class CountedPod:
    """`with CountedPod("v1") as pod:` answers GET /metrics on pod.address."""

    def __init__(self, arm: str, started: float = 1000.0) -> None:
        self.app = f"isvc.tiny-{arm}-predictor"
        self.started = started
        self.answers = True
        """False: it closes connections unanswered."""
        self.date: str | None = None
        """What its Date header says; None for the real one."""
        self.restart(started)
        pod = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not pod.answers:
                    return
                body = generate_latest(pod.registry)
                self.send_response_only(200)
                self.send_header("date", pod.date or self.date_time_string())
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def restart(self, started: float) -> None:
        """A new process: every counter begins at 0."""
        self.started = started
        self.registry = registry = CollectorRegistry()
        base = ("model", "bundle", "arm")
        self._base = ("tiny", "0" * 12, self.app)
        self._requests = Counter(
            "seatrial_requests_total", "requests", (*base, "wire", "code"), registry=registry
        )
        self._seconds = Histogram(
            "seatrial_request_seconds", "s", (*base, "wire"), buckets=SECONDS, registry=registry
        )
        self._scores = Histogram("seatrial_scores", "s", base, buckets=EDGES, registry=registry)
        self._decisions = Counter(
            "seatrial_decisions_total", "decisions", (*base, "decision"), registry=registry
        )
        self._seconds.labels(*self._base, "v2")
        self._scores.labels(*self._base)
        self.start_gauge = Gauge("process_start_time_seconds", "start", registry=registry)
        self.start_gauge.set(started)

    def answer(
        self,
        n: int = 1,
        *,
        code: str = "200",
        wire: str = "v2",
        seconds: float = 0.01,
        score: float | None = 0.1,
        decision: str | None = "approve",
    ) -> None:
        """So many requests answered alike."""
        self._requests.labels(*self._base, wire, code).inc(n)
        for _ in range(n):
            self._seconds.labels(*self._base, wire).observe(seconds)
            if score is not None:
                self._scores.labels(*self._base).observe(score)
        if decision is not None:
            self._decisions.labels(*self._base, decision).inc(n)

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        for family in self.registry.collect():
            for sample in family.samples:
                yield sample.name, dict(sample.labels), float(sample.value)
