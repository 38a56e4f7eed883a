"""What the engine takes in, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from serving.bundle.contract import parse_contract
from serving.drift.encoding import Encoder
from serving.drift.gather import Gatherer
from serving.drift.intake import OtherInput, UnknownBundle
from serving.drift.labels import read_labels
from serving.drift.pairs import REQUEST
from serving.drift.rows import read_tee
from serving.errors import DataError
from serving.predictor.tee import packed
from tests.serving.drift.engine_parts import (
    ONLY_WATCH,
    OTHER,
    Parts,
    envelope,
    event,
)
from tests.serving.drift.stream import WINDOW, columns, rows_event, wait_until
from tests.serving.drift.test_kserve_logger import V1, binary
from tests.support import tiny


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


def packed_event(count: int, event_id: str) -> dict[str, Any]:
    rows = columns(count, seed=2)
    body = rows_event(rows, event_id)
    for name, values in rows.items():
        if values.dtype != object and name != "score":
            body["data"]["columns"][name] = packed(values)
    body["data"]["outputs"]["score"] = packed(rows["score"])
    return body


@pytest.mark.parametrize("count", [1, 50])
def test_packed_numbers_give_the_rows_that_lists_give(count: int) -> None:
    contract = parse_contract(json.dumps(tiny.CONTRACT), "contract")
    gatherer = Gatherer(contract, Encoder(contract, contract.feature_names, score=True))
    listed = rows_event(columns(count, seed=2), "x")
    found = [
        gatherer.gather([read_tee(envelope(body)).block])[0]
        for body in (listed, packed_event(count, "x"))
    ]
    np.testing.assert_array_equal(found[0].rows, found[1].rows)
    assert found[1].violations == {}


@pytest.mark.parametrize(
    ("column", "named"),
    [
        ({"dtype": "<f4", "base64": "AAAA"}, "column 'amount' is neither"),
        ({"dtype": "<f2", "base64": ""}, "column 'amount' is neither"),
        ({"dtype": "<f4", "base64": "?"}, "column 'amount' is neither"),
        ({"dtype": "<f4"}, "column 'amount' is neither"),
        ({"dtype": "<f4", "base64": "AAAAAA=="}, "3 ids for column 'amount' of 1 rows"),
    ],
)
def test_names_the_column_that_is_packed_wrongly(column: dict[str, str], named: str) -> None:
    body = packed_event(3, "x")
    body["data"]["columns"]["amount"] = column
    with pytest.raises(DataError, match=named):
        read_tee(envelope(body))
