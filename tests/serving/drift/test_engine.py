"""What the engine tells of the rows that it watches."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from serving.drift.detector import DriftDetector, ScriptedDetector, TestResult
from serving.drift.encoding import Matrix
from serving.drift.engine import Engine
from serving.drift.metrics import Metrics
from serving.drift.settings import Settings
from serving.drift.sink import MemorySink
from tests.serving.drift.engine_parts import (
    CLEAN,
    MOVED,
    ONLY_WATCH,
    OTHER,
    Parts,
    envelope,
    event,
    known,
)
from tests.serving.drift.stream import CONFIG, WINDOW, columns, rows_event, wait_until


def test_each_episode_is_opened_and_resolved_once(parts: Parts) -> None:
    parts.introduce()
    parts.feed(6)
    parts.wait("tested", 6)
    parts.wait_told(3)
    drift = [e for e in parts.sink.events if not e.type.endswith("escalated")]
    assert [e.type.rsplit(".", 1)[1] for e in drift] == ["opened", "resolved", "opened"]
    assert [e.data["window"]["number"] for e in drift if e.type.endswith("opened")] == [2, 6]
    assert len({e.id for e in parts.sink.events}) == len(parts.sink.events)


def test_sequences_rise_by_one(parts: Parts) -> None:
    parts.introduce()
    parts.feed(6)
    parts.wait_told(3)
    numbers = [e.sequence for e in parts.sink.events]
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_event_names_features_by_effect_and_the_score_apart(parts: Parts) -> None:
    parts.introduce()
    parts.feed(2)
    wait_until(lambda: bool(parts.sink.events), "the event")
    opened = parts.sink.events[0]
    named = [(f["name"], f["aspect"], f["effect"]) for f in opened.data["features"]]
    assert named == [("age", "missing", 0.4), ("amount", "values", 0.3)]
    assert opened.data["score"]["effect"] == 0.5
    assert opened.data["p_values"] == {"age": 1e-10, "amount": 1e-9, "score": 1e-12}
    assert (opened.data["window"]["rows"], opened.data["opened_by"]) == (WINDOW, "windows")


def test_the_same_window_gives_the_same_id_and_another_reference_another(parts: Parts) -> None:
    parts.introduce()
    parts.feed(2)
    parts.wait_told(1)
    for digest, same in (("d" * 64, True), (OTHER, False)):
        again = Parts()
        again.introduce(digest)
        again.accept(event(2 * WINDOW, "another", digest))
        again.wait_told(1)
        assert (parts.sink.events[0].id == again.sink.events[0].id) is same
        again.engine.close()


def test_the_watch_alone_opens_and_names_what_moved(parts: Parts) -> None:
    parts.introduce(config=ONLY_WATCH)
    parts.feed(5)
    shifted = columns(600, seed=3)
    shifted["age"] = shifted["age"] + np.float32(20)
    parts.accept(envelope(rows_event(shifted, "s")))
    wait_until(lambda: bool(parts.sink.events), "the event")
    opened = parts.sink.events[0]
    assert opened.type == "io.seatrial.drift.opened"
    assert opened.data["features"][0]["name"] == "age"
    assert opened.data["detectors"] == {"watch": "watch/1", "windows": None}
    assert opened.data["evidence"]["total"] >= opened.data["evidence"]["threshold"]
    assert parts.engine.status()["episode"]["first"][0]["name"] == "age"


def test_window_tests_explain_and_confirm_what_the_watch_saw(parts: Parts) -> None:
    parts.detector = ScriptedDetector(MOVED)
    parts.introduce(config={**CONFIG, "windows": {**CONFIG["windows"], "size": 2000}})
    wait_until(lambda: parts.engine.status()["detector"]["ready"], "the detector")
    shifted = columns(600, seed=3)
    shifted["age"] = shifted["age"] + np.float32(20)
    parts.accept(envelope(rows_event(shifted, "s")))
    wait_until(lambda: bool(parts.sink.events), "the event")
    data = parts.sink.events[0].data
    assert (data["opened_by"], data["confirmed"]) == ("watch", True)
    assert data["p_values"]["amount"] == 1e-9
    assert parts.engine.status()["window"]["tested"] == 0


def test_another_bundle_resolves_what_is_open_and_starts_from_nothing(parts: Parts) -> None:
    parts.introduce()
    parts.feed(2)
    parts.wait("tested", 2)
    wait_until(lambda: bool(parts.sink.events), "the event")
    parts.detector = ScriptedDetector(CLEAN)
    parts.introduce(OTHER)
    assert parts.told()[-1] == "drift.resolved"
    assert parts.sink.events[-1].data["reason"] == "another bundle is served now"
    parts.accept(event(WINDOW, "x", digest=OTHER))
    parts.wait("tested", 1)
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
    with caplog.at_level(logging.ERROR):
        parts.introduce()
        parts.feed(2)
        parts.wait("tested", 1)
    assert parts.sample("seatrial_drift_detector_failures_total") == 1
    assert "could not be tested" in caplog.text


def test_without_alibi_the_watch_goes_on_and_the_status_says_so() -> None:
    def build(*_: Any) -> DriftDetector:
        raise ImportError("No module named 'alibi_detect'")

    engine = Engine(Settings(), MemorySink(), Metrics(), build=build)
    engine.start()
    engine.introduce(known(config=CONFIG))
    wait_until(lambda: engine.status()["detector"]["problem"] is not None, "the problem")
    engine.receiving.accept(event(WINDOW, "x"))
    wait_until(lambda: engine.status()["watch"]["rows"] == WINDOW, "rows")
    assert any("Alibi Detect is not installed" in p for p in engine.status()["problems"])
    engine.close()


def test_nothing_that_watches_is_a_problem(parts: Parts) -> None:
    parts.introduce(config={"features": ["age"]})
    assert "drift goes unseen" in " ".join(parts.engine.status()["problems"])


def test_bad_values_are_told_as_quality_and_do_not_silence_drift(parts: Parts) -> None:
    parts.introduce(config=ONLY_WATCH)
    parts.feed(5)
    body = rows_event(columns(400, seed=3), "holes")
    given = body["data"]["columns"]
    given["age"] = [None] * 400
    given["amount"] = ["12.5"] * 400
    given["channel"] = ["fax"] * 400
    del given["visits"]
    parts.accept(envelope(body))
    wait_until(lambda: "drift.opened" in parts.told(), "drift")
    assert parts.told()[0] == "quality.violated"
    told = {(v["feature"], v["kind"]) for v in parts.sink.events[0].data["violations"]}
    assert told == {("amount", "type"), ("channel", "unseen"), ("visits", "absent")}
    moved = {f["name"] for f in parts.sink.events[1].data["features"]}
    assert {"age", "amount", "visits", "channel"} >= moved
    assert parts.sample("seatrial_drift_violations", column="visits", kind="absent") == 400
    parts.accept(envelope({**body, "id": "holes again"}))
    wait_until(lambda: parts.engine.status()["watch"] is not None, "rows")
    assert parts.told().count("quality.violated") == 1


def test_a_metric_is_named_by_feature_and_its_number_is_bounded() -> None:
    parts = Parts()
    parts.metrics = Metrics(features=2)
    parts.engine = Engine(
        parts.settings, parts.sink, parts.metrics, build=lambda *_: parts.detector
    )
    parts.metrics.show(parts.engine.status)
    parts.engine.start()
    parts.introduce(config=CONFIG)
    parts.feed(1)
    parts.wait("tested", 1)
    named = {
        sample.labels["column"]
        for metric in parts.metrics.registry.collect()
        for sample in metric.samples
        if "column" in sample.labels
    }
    assert named == {"amount", "age"}
    assert parts.sample("seatrial_drift_psi", column="amount") > 0
    parts.engine.close()
