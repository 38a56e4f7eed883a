from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector
from sklearn.metrics import average_precision_score

from serving.drift.labels import (
    Baseline,
    Degraded,
    LabelBook,
    LabelSettings,
    label_metrics,
    read_labels,
)
from serving.drift.labels.baseline import log_odds, upper_bound
from serving.drift.labels.recent import average_precision
from serving.errors import DataError
from serving.rollout.sources.counters import read_counters
from serving.rollout.sources.predictors import samples

DAY = 86_400.0
SLOPE, CUT = 2.0, 0.5
MADE_UP = 1.2717
"""By which the positives below CUT grow to make up for half of those above it."""


class World:
    """Rows whose score is the probability of a positive, and a bundle that has measured so."""

    def __init__(self, seed: int, **settings: Any) -> None:
        self.random = np.random.default_rng(seed)
        self.baseline = self._baseline(20_000)
        chosen: dict[str, Any] = {"window": 1_000, "average_run_length": 100_000.0, **settings}
        self.book = LabelBook(LabelSettings(**chosen), self.baseline)
        self.sent = 0
        self.found: list[Degraded] = []

    def scores(self, rows: int) -> Any:
        odds = self.random.normal(-3.0, SLOPE, rows)
        return 1 / (1 + np.exp(-odds))

    def send(self, rows: int, truth: Any = None) -> int | None:
        """Rows and their labels; the row at which degradation was found. `truth` maps scores to
        the probability of a positive."""
        before = self.sent
        for _ in range(rows // 50):
            score = self.scores(50)
            chance = score if truth is None else truth(score)
            ids = [f"row-{self.sent + i}" for i in range(50)]
            decisions = np.where(score >= CUT, "decline", "approve").tolist()
            self.book.remember(ids, score, decisions, float(self.sent))
            self.book.label(
                ids, (self.random.random(50) < chance).tolist(), [float(self.sent)] * 50
            )
            self.sent += 50
            self.found += self.book.step(float(self.sent))
            if self.found:
                return self.sent - before
        return None

    def _baseline(self, rows: int) -> Baseline:
        score = self.scores(rows)
        positive, flagged = self.random.random(rows) < score, score >= CUT
        groups = np.array_split(np.argsort(score), 10)
        cells = [
            [
                float((positive == p).sum() and ((positive == p) & (flagged == f)).sum())
                for f in (0, 1)
            ]
            for p in (0, 1)
        ]
        curve = [[score[g].mean(), positive[g].mean(), len(g)] for g in groups]
        return Baseline.of(
            {
                "rows": {"test": rows},
                "confusion": {"review": cells},
                "curves": {"calibration": curve},
                "metrics": {"average_precision": 0.5},
            }
        )


def book(**settings: Any) -> LabelBook:
    return LabelBook(LabelSettings(**settings), None)


def test_labels_join_their_prediction_by_id_once() -> None:
    ours = book()
    ours.remember(["a", "b", "c"], [0.9, 0.1, 0.8], ["decline", "approve", "review"], 0.0)
    assert ours.label(["b", "x", "a"], [True, True, True], [1.0] * 3) == {"joined": 2, "unknown": 1}
    assert ours.label(["a", "a", "c"], [True, True, False], [1.0] * 3)["joined"] == 1
    assert ours.counts == {(0, "right"): 1, (0, "wrong"): 2}
    assert ours.status()["measured"]["accuracy"] == pytest.approx(1 / 3)


def test_a_label_counts_by_the_age_of_its_prediction_in_days() -> None:
    ours = book()
    ours.remember(["a", "b", "c"], [0.9, 0.1, 0.8], None, 0.0)
    ours.label(["a", "b", "c"], [True, False, True], [0.9 * DAY, 2.5 * DAY, 9999 * DAY])
    assert ours.counts == {(0, "right"): 1, (2, "right"): 1, (365, "right"): 1}


def test_a_label_that_comes_before_its_prediction_waits_for_it() -> None:
    ours = book()
    ours.label(["a"], [True], [5.0])
    assert ours.status()["unknown"] == 1
    ours.remember(["a"], [0.9], ["decline"], 4.0)
    ours.step(6.0)
    assert ours.counts == {(0, "right"): 1}
    assert ours.status()["unknown"] == 0


def test_memory_is_bounded_in_rows_and_in_time() -> None:
    ours = book(rows=20_000, ttl=100.0)
    for batch in range(10):
        ids = [f"{batch}/{i}" for i in range(10_000)]
        ours.remember(ids, np.zeros(10_000), None, float(batch))
    assert len(ours.predictions) <= 20_000 + 16_384
    assert ours.label(["0/1", "9/1"], [False, False], [9.0, 9.0])["joined"] == 1
    late = book(ttl=100.0)
    late.remember([f"a{i}" for i in range(16_384)], np.zeros(16_384), None, 0.0)
    late.remember(["b"], [0.5], None, 200.0)
    assert late.label(["a1", "b"], [True, True], [201.0, 201.0])["joined"] == 1
    assert late.status()["forgotten"] == 16_384


def test_long_and_foreign_ids_join_too() -> None:
    ours = book()
    ids = ["é" * 300, "日本", "", "a" * 65, "a" * 64]
    ours.remember(ids, [0.1] * 5, None, 0.0)
    assert ours.label(ids, [False] * 5, [1.0] * 5)["joined"] == 5


def test_average_precision_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(3)
    score = np.round(random.random(500), 2)
    positive = random.random(500) < score
    assert average_precision(score, positive) == pytest.approx(
        average_precision_score(positive, score)
    )


def test_rows_like_the_bundles_own_are_no_degradation() -> None:
    assert [World(seed).send(10_000) for seed in range(8)] == [None] * 8


@pytest.mark.parametrize(
    ("truth", "aspects", "within"),
    [
        (lambda score: 1 / (1 + np.exp(-(log_odds(score) + 1.2))), {"calibration"}, 1_500),
        (
            lambda score: np.where(score < CUT, 0.06 + score, score),
            {"calibration", "misses"},
            2_000,
        ),
        (lambda score: np.where(score >= CUT, 0.2, score), {"precision", "false_alarms"}, 1_500),
        (lambda score: np.where(score >= CUT, score / 2, score * MADE_UP), {"precision"}, 1_500),
    ],
    ids=[
        "more positives at every score",
        "positives that look harmless",
        "false alarms",
        "precision halved, as many positives",
    ],
)
def test_a_change_of_the_labels_alone_is_found(truth: Any, aspects: set[str], within: int) -> None:
    world = World(11)
    assert world.send(3_000) is None
    delay = world.send(within, truth)
    assert delay is not None
    assert world.book.degraded
    assert world.found[0].data["aspect"] in aspects


def test_degradation_tells_what_it_was_and_is_told_once() -> None:
    world = World(5)
    data: list[Any] = []
    for batch in range(200):
        ids = [f"{batch}/{i}" for i in range(50)]
        score = world.scores(50)
        world.book.remember(ids, score, np.where(score >= CUT, "decline", "approve").tolist(), 1.0)
        world.book.label(
            ids, (world.random.random(50) < np.minimum(1, 3 * score)).tolist(), [2.0] * 50
        )
        data += world.book.step(3.0)
    (found,) = data
    assert found.data["severity"] == "critical"
    assert found.data["direction"] == "more positives than scores say"
    assert found.data["evidence"]["total"] >= math.log(100_000)
    assert found.data["measured"]["positive_rate"] > found.data["measured"]["mean_score"]
    assert found.data["baseline"]["miss_rate"] == pytest.approx(
        world.baseline.missed[0] / world.baseline.missed[1]
    )


def test_an_episode_ends_when_the_labels_are_as_they_were() -> None:
    world = World(7)
    assert world.send(3_000, lambda score: np.minimum(1, 3 * score)) is not None
    assert world.book.degraded
    world.found.clear()
    assert world.send(4_000) is None
    assert not world.book.degraded


def test_labels_of_one_class_alone_are_no_degradation_where_they_are_incomplete() -> None:
    """Only chargebacks are reported: every label is positive, and caught as often as ever."""
    world = World(9, complete=False)
    for batch in range(100):
        score = world.scores(200)
        positive = world.random.random(200) < score
        ids = [f"{batch}/{i}" for i in range(200)]
        world.book.remember(ids, score, np.where(score >= CUT, "decline", "approve").tolist(), 0.0)
        chosen = [i for i, p in zip(ids, positive, strict=True) if p]
        world.book.label(chosen, [True] * len(chosen), [1.0] * len(chosen))
        assert world.book.step(1.0) == []
    assert world.book.labelled > 1_000


def test_a_restart_goes_on_where_it_was() -> None:
    first, second = World(3), World(3)
    first.send(2_000)
    first.book.remember(["late"], [0.9], ["decline"], 7.0)
    second.book.load(first.book.arrays())
    assert second.book.status() == first.book.status()
    assert second.book.label(["late", "row-1"], [True, True], [8.0, 8.0])["joined"] == 1
    assert all(array.dtype != object for array in first.book.arrays().values())


def test_a_state_of_another_baseline_or_a_damaged_one_is_refused() -> None:
    arrays = World(3).book.arrays()
    with pytest.raises(DataError, match="another baseline"):
        World(3, complete=False).book.load(arrays)
    with pytest.raises(DataError, match="damaged"):
        World(3).book.load({**arrays, "predictions.score": np.zeros(3)})
    with pytest.raises(DataError, match="damaged"):
        book().load({})


def test_a_small_test_slice_is_trusted_less() -> None:
    assert upper_bound((10, 100)) > upper_bound((100, 1000)) > 0.1
    assert upper_bound((0, 0)) == 1.0
    with pytest.raises(DataError, match="confusion"):
        Baseline.of({"rows": {"test": 5}})


def test_labels_are_read_as_list_object_and_lines() -> None:
    whole = (
        b'[{"id": "a", "outcome": true, "time": "2026-01-01T00:00:00Z"}, {"id": "b", "outcome": 0}]'
    )
    lines = b'{"id": "a", "outcome": 1, "time": 1767225600}\n\n{"id": "b", "outcome": false}\n'
    for body in (whole, b'{"labels": ' + whole + b"}", lines):
        found = read_labels(body)
        assert (found.ids, found.outcomes) == (["a", "b"], [True, False])
        assert found.times[0] == 1_767_225_600


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"id": "a", "outcome": 1}\n{"id"', "line 2: not JSON"),
        (b"3", "JSON list of objects"),
        (b"[3]", "label 1: not a JSON object"),
        (b'[{"outcome": 1}]', "label 1: 'id' must be text"),
        (b'[{"id": "a", "outcome": "yes"}]', "outcome 'yes' is none of true, false, 1 and 0"),
        (b'[{"id": "a", "outcome": [1]}]', "outcome"),
        (b'[{"id": "a", "outcome": 1, "time": "noon"}]', "time 'noon' is neither RFC 3339"),
    ],
)
def test_what_are_no_labels_is_refused_with_a_sentence(body: bytes, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_labels(body)


def test_metrics_are_what_the_gate_reads() -> None:
    ours = book()
    ours.remember(["a", "b"], [0.9, 0.1], ["decline", "approve"], 0.0)
    ours.label(["a", "b"], [True, True], [0.0, 3 * DAY])
    registry = CollectorRegistry()
    registry.register(Exposed(ours))
    text = generate_latest(registry).decode()
    counters = read_counters(samples(text), "canary", None)
    assert counters.labels == {0: (1, 0), 3: (1, 1)}
    assert 'seatrial_performance_accuracy{arm="v2"} 0.5' in text


class Exposed(Collector):
    def __init__(self, shown: LabelBook) -> None:
        self._shown = shown

    def collect(self) -> Iterable[Metric]:
        return label_metrics(self._shown.status(), "v2")
