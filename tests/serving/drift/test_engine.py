"""The engine with the shipped fakes: no Alibi, no HTTP."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.drift.cloudevents import Envelope, read_events
from serving.drift.detector import DriftDetector, ScriptedDetector, TestResult
from serving.drift.encoding import Matrix
from serving.drift.engine import Engine
from serving.drift.intake import OtherInput, UnknownBundle
from serving.drift.introduction import Introduction, read_introduction
from serving.drift.labels import read_labels
from serving.drift.metrics import Metrics
from serving.drift.pairs import REQUEST
from serving.drift.settings import Settings
from serving.drift.sink import MemorySink
from serving.drift.snapshot import Snapshot, pack, read_snapshot
from serving.errors import DataError
from tests.serving.drift.stream import CONFIG, WINDOW, columns, introduction, rows_event, wait_until
from tests.serving.drift.test_kserve_logger import V1, binary

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


@pytest.fixture
def parts() -> Iterator[Parts]:
    made = Parts()
    yield made
    made.engine.close()


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


def test_asks_for_the_bundle_when_none_or_another_is_known(parts: Parts) -> None:
    with pytest.raises(UnknownBundle, match="no bundle"):
        parts.feed(1)
    parts.introduce()
    with pytest.raises(UnknownBundle, match="eeeeeeeeeeee"):
        parts.accept(event(10, "x", digest=OTHER))
    dropped = parts.engine.status()["input"]["dropped"]
    assert dropped == {"no_bundle": WINDOW, "other_bundle": 10}


def test_an_event_refused_for_its_bundle_may_come_again(parts: Parts) -> None:
    with pytest.raises(UnknownBundle):
        parts.feed(1)
    parts.introduce()
    parts.feed(1)
    parts.wait("tested", 1)


def test_an_event_seen_before_counts_once(parts: Parts) -> None:
    parts.introduce()
    for _ in range(3):
        parts.accept(event(10, "same"))
    assert parts.sample("seatrial_drift_rows_total") == 10
    assert parts.sample("seatrial_drift_duplicate_events_total") == 2


@pytest.mark.parametrize("kind", ["tee", "kserve"])
def test_rows_of_the_other_kind_of_input_are_refused(kind: str) -> None:
    parts = Parts(input=kind)
    parts.introduce()
    both = [event(1, "tee"), binary(REQUEST, "a", json.dumps(V1).encode())]
    taken, refused = both if kind == "tee" else reversed(both)
    parts.accept(taken)
    with pytest.raises(OtherInput, match="twice would look like drift"):
        parts.accept(refused)
    assert parts.engine.status()["input"]["refused"] == {"other_input": 1}
    parts.engine.close()


def test_introducing_the_same_bundle_again_keeps_the_rows(parts: Parts) -> None:
    parts.introduce()
    parts.accept(event(150, "first"))
    parts.introduce()
    parts.accept(event(50, "second"))
    parts.wait("tested", 1)


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


def test_labels_come_back_as_performance(parts: Parts) -> None:
    assert parts.engine.label(read_labels(b'[{"id": "a", "outcome": 1}]')) is False
    parts.introduce(config=ONLY_WATCH)
    parts.accept(event(100, "e"))
    labels = [{"id": f"e-{row}", "outcome": row % 2 == 0} for row in range(60)]
    assert parts.engine.label(read_labels(json.dumps(labels).encode()))
    wait_until(lambda: parts.engine.status()["labels"]["labelled"] == 60, "labels")


def test_times_that_go_back_stop_nothing(parts: Parts) -> None:
    parts.introduce()
    for second, when in enumerate(("2026-03-01T12:00:00Z", "1999-01-01T00:00:00Z")):
        parts.accept(envelope(rows_event(columns(WINDOW, 2), f"t{second}", when=when)))
    parts.wait("tested", 2)


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


def restarted(before: Parts, **settings: Any) -> Parts:
    before.engine.close()
    return Parts(**settings)


def test_goes_on_where_it_was(tmp_path: Path) -> None:
    settings = {"state_dir": str(tmp_path), "snapshot_seconds": 1000.0}
    first = Parts(**settings)
    first.introduce(config=CONFIG)
    first.accept(event(5 * WINDOW + 70, "a"))
    first.wait("tested", 5)
    wait_until(lambda: first.engine.status()["window"]["pending"] == 70, "rows")
    before = first.engine.status()
    second = restarted(first, **settings)
    second.introduce(config=CONFIG)
    after = second.engine.status()
    for same in ("window", "episode", "open", "features", "timeline", "quality"):
        expected, found = ({**s[same]} if same == "window" else s[same] for s in (before, after))
        if same == "window":
            for ages in (expected, found):
                ages.pop("age_seconds")
        if same == "features":
            for feature in (*expected, *found):
                feature.update(p_value=None, effect=None)
        assert found == expected, same
    assert after["watch"]["evidence"] == before["watch"]["evidence"]
    assert after["state"]["restored"] is True
    second.accept(event(5 * WINDOW + 70, "a"))
    assert second.engine.status()["input"]["duplicates"] == 1
    second.engine.close()


def test_an_event_that_the_outbox_missed_is_sent_after_the_restart_and_only_then(
    tmp_path: Path,
) -> None:
    settings = {"state_dir": str(tmp_path)}
    first = Parts(**settings)
    # Between the snapshot and the outbox, the process ends.
    first.engine._deliver = lambda event: None  # type: ignore[method-assign]
    first.introduce()
    first.feed(2)
    first.wait("tested", 2)
    wait_until((tmp_path / "snapshot.npz").exists, "the snapshot")
    first.engine._save = lambda *_: None  # type: ignore[method-assign]
    second = restarted(first, **settings)
    second.introduce()
    assert second.told() == ["drift.opened"]
    third = restarted(second, **settings)
    third.introduce()
    assert third.told() == []
    third.engine.close()


def test_a_full_disk_stops_no_detection_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    parts = Parts(state_dir=str(tmp_path), snapshot_seconds=0.05)
    monkeypatch.setattr(os, "fsync", full)
    parts.introduce()
    parts.feed(2)
    wait_until(lambda: "drift.opened" in parts.told(), "the event")
    wait_until(lambda: parts.engine.status()["state"]["problem"] is not None, "the problem")
    assert any("No space left" in p for p in parts.engine.status()["problems"])
    monkeypatch.undo()
    wait_until(lambda: parts.engine.status()["state"]["problem"] is None, "space again")
    parts.engine.close()


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
def test_names_what_is_wrong_with_an_event(
    parts: Parts, changes: dict[str, Any], named: str
) -> None:
    parts.introduce()
    good = rows_event(columns(3, seed=2), "x")
    with pytest.raises(DataError, match=named):
        parts.accept(envelope({**good, **changes}))


def test_refuses_columns_of_another_length_than_the_ids(parts: Parts) -> None:
    parts.introduce()
    body = rows_event(columns(3, seed=2), "x")
    body["data"]["ids"].append("one more")
    with pytest.raises(DataError, match="4 ids for column 'amount' of 3 rows"):
        parts.accept(envelope(body))


def test_the_state_of_another_bundle_is_set_aside(tmp_path: Path) -> None:
    first = Parts(state_dir=str(tmp_path))
    first.introduce(config=ONLY_WATCH)
    first.accept(event(100, "a"))
    second = restarted(first, state_dir=str(tmp_path))
    second.introduce(OTHER, config=ONLY_WATCH)
    status = second.engine.status()
    assert (status["state"]["set_aside"], status["state"]["restored"]) == (1, False)
    assert status["watch"]["rows"] == 0
    second.engine.close()


def test_a_state_that_is_damaged_inside_is_set_aside(tmp_path: Path) -> None:
    first = Parts(state_dir=str(tmp_path))
    first.introduce(config=ONLY_WATCH)
    first.accept(event(100, "a"))
    first.engine.close()
    kept = read_snapshot(tmp_path / "snapshot.npz")
    arrays = {**kept.arrays, "watch/won": np.full(3, np.nan)}
    (tmp_path / "snapshot.npz").write_bytes(pack(Snapshot(kept.meta, arrays)))
    second = Parts(state_dir=str(tmp_path))
    second.introduce(config=ONLY_WATCH)
    assert second.engine.status()["state"]["set_aside"] == 1
    second.accept(event(100, "a"))
    wait_until(lambda: second.engine.status()["watch"]["rows"] == 100, "rows")
    second.engine.close()
