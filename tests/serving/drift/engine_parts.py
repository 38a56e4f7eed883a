"""The engine with the shipped fakes: no Alibi, no HTTP."""

from __future__ import annotations

import json
from typing import Any

from serving.drift.cloudevents import Envelope, read_events
from serving.drift.detector import DriftDetector, ScriptedDetector, TestResult
from serving.drift.engine import Engine
from serving.drift.introduction import Introduction, read_introduction
from serving.drift.metrics import Metrics
from serving.drift.settings import Settings
from serving.drift.sink import MemorySink
from tests.serving.drift.stream import CONFIG, WINDOW, columns, introduction, rows_event, wait_until

CLEAN = (TestResult("amount", "feature", "values", "ks", 0.5, 0.03),)
MOVED = (
    TestResult("score", "score", "values", "ks", 1e-12, 0.5),
    TestResult("amount", "feature", "values", "ks", 1e-9, 0.3),
    TestResult("age", "feature", "missing", "fisher", 1e-10, 0.4),
    TestResult("age", "feature", "values", "ks", 1e-9, 0.2),
)
OTHER = "e" * 64
ONLY_WINDOWS = {"windows": CONFIG["windows"]}
ONLY_WATCH: dict[str, Any] = {"watch": {}}


def known(digest: str = "d" * 64, config: dict[str, Any] | None = None) -> Introduction:
    body = introduction(digest=digest, config=config or ONLY_WINDOWS)
    return read_introduction(json.dumps(body).encode())


def event(count: int, event_id: str, digest: str = "d" * 64, seed: int = 2) -> Envelope:
    return envelope(rows_event(columns(count, seed), event_id, digest))


def envelope(body: dict[str, Any]) -> Envelope:
    (found,) = read_events([], json.dumps(body).encode())
    return found


class Parts:
    def __init__(self, **settings: Any) -> None:
        self.detector: DriftDetector = ScriptedDetector(CLEAN, MOVED, MOVED, CLEAN, CLEAN, MOVED)
        self.sink = MemorySink()
        self.metrics = Metrics()
        self.settings = Settings(**settings)
        self.engine = Engine(self.settings, self.sink, self.metrics, build=lambda *_: self.detector)
        self.metrics.show(self.engine.status)
        self.engine.start()

    def introduce(self, *given: Any, **named: Any) -> None:
        self.engine.introduce(known(*given, **named))

    def accept(self, given: Envelope) -> None:
        self.engine.receiving.accept(given)

    def feed(self, windows: int, event_id: str = "e") -> None:
        self.accept(event(windows * WINDOW, event_id))

    def wait_told(self, count: int) -> None:
        wait_until(lambda: len(self.sink.events) >= count, f"{count} events")

    def wait(self, key: str, count: int) -> None:
        wait_until(lambda: self.engine.status()["window"][key] >= count, f"{count} {key}")

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def told(self) -> list[str]:
        return [e.type.removeprefix("io.seatrial.") for e in self.sink.events]
