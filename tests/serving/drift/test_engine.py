"""The engine with the shipped fakes: no Alibi, no HTTP."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from serving.drift.detector import DriftDetector, ScriptedDetector, TestResult
from serving.drift.encoding import Matrix
from serving.drift.engine import Engine, UnknownBundle
from serving.drift.events import RowsEvent, read_rows_event
from serving.drift.introduction import Introduction, read_introduction
from serving.drift.metrics import Metrics
from serving.drift.sink import MemorySink
from serving.errors import DataError
from tests.serving.drift.stream import WINDOW, columns, introduction, rows_event, wait_until

CLEAN = (TestResult("amount", "feature", "values", "ks", 0.5, 0.03),)
MOVED = (
    TestResult("score", "score", "values", "ks", 1e-12, 0.5),
    TestResult("amount", "feature", "values", "ks", 1e-9, 0.3),
    TestResult("age", "feature", "missing", "fisher", 1e-10, 0.4),
    TestResult("age", "feature", "values", "ks", 1e-9, 0.2),
)
OTHER = "e" * 64


def known(digest: str = "d" * 64) -> Introduction:
    return read_introduction(json.dumps(introduction(digest=digest)).encode())


def event(count: int, event_id: str, digest: str = "d" * 64) -> RowsEvent:
    body = json.dumps(rows_event(columns(count, seed=2), event_id, digest)).encode()
    return read_rows_event(body)


class Parts:
    def __init__(self) -> None:
        self.detector: DriftDetector = ScriptedDetector(CLEAN, MOVED, MOVED, CLEAN, MOVED)
        self.sink = MemorySink()
        self.metrics = Metrics()
        self.engine = Engine(lambda _: self.detector, self.sink, self.metrics, ring_rows=100_000)
        self.engine.start()

    def feed(self, windows: int, event_id: str = "e") -> None:
        self.engine.accept(event(windows * WINDOW, event_id))

    def wait_windows(self, windows: int) -> None:
        wait_until(lambda: self.sample("seatrial_drift_windows_total") >= windows, "windows")

    def sample(self, name: str) -> float:
        return self.metrics.registry.get_sample_value(name) or 0.0


@pytest.fixture
def parts() -> Parts:
    return Parts()


def test_each_episode_gives_one_event(parts: Parts) -> None:
    parts.engine.introduce(known())
    parts.feed(5)
    parts.wait_windows(5)
    assert [e.data["window"]["number"] for e in parts.sink.events] == [2, 5]
    assert len({e.id for e in parts.sink.events}) == 2


def test_the_event_names_features_by_effect_and_the_score_apart(parts: Parts) -> None:
    parts.engine.introduce(known())
    parts.feed(2)
    parts.wait_windows(2)
    (opened,) = parts.sink.events
    named = [(f["name"], f["aspect"], f["effect"]) for f in opened.data["features"]]
    assert named == [("age", "missing", 0.4), ("amount", "values", 0.3)]
    assert opened.data["score"]["effect"] == 0.5
    assert opened.data["p_values"] == {"age": 1e-10, "amount": 1e-9, "score": 1e-12}


def test_the_same_window_gives_the_same_id_and_another_reference_another(parts: Parts) -> None:
    parts.detector = ScriptedDetector(MOVED)
    parts.engine.introduce(known())
    parts.feed(1)
    parts.wait_windows(1)
    again = Parts()
    again.detector = ScriptedDetector(MOVED)
    again.engine.introduce(known())
    again.feed(1, event_id="another")
    again.wait_windows(1)
    assert parts.sink.events[0].id == again.sink.events[0].id


def test_asks_for_the_bundle_when_none_or_another_is_known(parts: Parts) -> None:
    with pytest.raises(UnknownBundle, match="no bundle"):
        parts.feed(1)
    parts.engine.introduce(known())
    with pytest.raises(UnknownBundle, match="eeeeeeeeeeee"):
        parts.engine.accept(event(10, "x", digest=OTHER))


def test_an_event_refused_for_its_bundle_may_come_again(parts: Parts) -> None:
    with pytest.raises(UnknownBundle):
        parts.feed(1)
    parts.engine.introduce(known())
    parts.feed(1)
    parts.wait_windows(1)


def test_an_event_seen_before_counts_once(parts: Parts) -> None:
    parts.engine.introduce(known())
    for _ in range(3):
        parts.engine.accept(event(10, "same"))
    assert parts.sample("seatrial_drift_rows_total") == 10
    assert parts.sample("seatrial_drift_duplicate_events_total") == 2


def test_introducing_the_same_bundle_again_keeps_the_rows(parts: Parts) -> None:
    parts.engine.introduce(known())
    parts.engine.accept(event(150, "first"))
    parts.engine.introduce(known())
    parts.engine.accept(event(50, "second"))
    parts.wait_windows(1)


def test_another_bundle_starts_from_nothing(parts: Parts) -> None:
    parts.engine.introduce(known())
    parts.feed(2)
    parts.wait_windows(2)
    parts.detector = ScriptedDetector(CLEAN)
    parts.engine.introduce(known(OTHER))
    parts.engine.accept(event(WINDOW, "x", digest=OTHER))
    parts.wait_windows(3)
    status = parts.engine.status()
    assert status["bundle"]["digest"] == OTHER
    assert (status["window"]["tested"], status["open"]) == (1, False)


def test_a_window_that_cannot_be_tested_is_counted_and_the_next_one_is_tested(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing:
        name = "failing"

        def __init__(self) -> None:
            self.calls = 0

        def test(self, window: Matrix) -> tuple[TestResult, ...]:
            self.calls += 1
            if self.calls == 1:
                raise ZeroDivisionError("no cell")
            return CLEAN

    parts.detector = Failing()
    parts.engine.introduce(known())
    with caplog.at_level(logging.ERROR):
        parts.feed(2)
        parts.wait_windows(1)
    assert parts.sample("seatrial_drift_detector_failures_total") == 1
    assert "could not be tested" in caplog.text


def test_without_a_detector_it_says_why_and_still_takes_rows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def build(_: Introduction) -> DriftDetector:
        raise ImportError("No module named 'alibi_detect'")

    engine = Engine(build, MemorySink(), Metrics(), ring_rows=1000)
    engine.start()
    with caplog.at_level(logging.ERROR):
        engine.introduce(known())
        wait_until(lambda: engine.status()["detector"]["problem"] is not None, "the problem")
    engine.accept(event(WINDOW, "x"))
    assert "alibi_detect" in engine.status()["detector"]["problem"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"specversion": "0.3"}, "0.3"),
        ({"type": "other"}, "other"),
        ({"id": ""}, "'id'"),
        ({"time": "noon"}, "'noon'"),
        ({"time": 5}, "'5'"),
        ({"data": []}, "data is not a JSON object"),
        ({"data": {"ids": [], "columns": []}}, "needs a list 'ids'"),
    ],
)
def test_names_what_is_wrong_with_an_event(changes: dict[str, Any], named: str) -> None:
    good = rows_event(columns(3, seed=2), "x")
    with pytest.raises(DataError, match=named):
        read_rows_event(json.dumps({**good, **changes}).encode())


def test_refuses_columns_of_another_length_than_the_ids(parts: Parts) -> None:
    parts.engine.introduce(known())
    body = rows_event(columns(3, seed=2), "x")
    body["data"]["ids"].append("one more")
    with pytest.raises(DataError, match="4 ids for columns of 3 rows"):
        parts.engine.accept(read_rows_event(json.dumps(body).encode()))
