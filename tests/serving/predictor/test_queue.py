"""What waits shares a run, is bounded, and is dropped once nobody waits for the answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import InferenceFailed, InferenceTimeout, Overloaded
from serving.predictor import session as session_module
from serving.predictor.cache import Cache
from serving.predictor.graph import Graph, Scores
from serving.predictor.lanes import Lane
from serving.predictor.metrics import DROPPED, SLOT_OF, Metrics
from serving.predictor.rehearsal import rehearse
from serving.predictor.rows import Rows
from serving.predictor.session import ClientGoneError, ModelSession
from tests.support import tiny
from tests.support.faults import ABOVE, faulty_bundle


class Held(Graph):
    """A real graph whose runs wait for `gate`, and which notes how many rows each had."""

    gate: threading.Event
    runs: list[int]

    def run(self, rows: Rows, lane: Lane) -> Scores:
        self.runs.append(rows.count)
        self.gate.wait(10)
        return super().run(rows, lane)


def held(tmp_path: Path, **settings: Any) -> tuple[ModelSession, Held]:
    """A session that was not measured, so that everything goes through its queue."""
    bundle = faulty_bundle(tmp_path, "fail")
    graph = Held(bundle, ["CPUExecutionProvider"], 1)
    graph.gate, graph.runs = threading.Event(), []
    metrics = Metrics("tiny", bundle.digest, "test")
    return ModelSession(graph, 5.0, metrics, **settings), graph


def rows(count: int = 1, seed: int = 0) -> Rows:
    columns = tiny.rows(count, seed)
    return Rows(tuple(columns), count, columns)


def never() -> bool:
    return False


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def test_what_arrives_during_a_run_shares_the_next(tmp_path: Path) -> None:
    session, graph = held(tmp_path)

    async def ask() -> list[Scores]:
        first = asyncio.create_task(session.run(rows(1, 0), None, never))
        await until(lambda: graph.runs == [1])
        more = [asyncio.create_task(session.run(rows(2, at), None, never)) for at in range(1, 6)]
        await asyncio.sleep(0)
        graph.gate.set()
        return [await task for task in (first, *more)]

    answers = asyncio.run(ask())
    assert graph.runs == [1, 10]
    for at, scores in enumerate(answers):
        expected = tiny.expected_scores(tiny.rows(len(scores), at))
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_a_failing_row_fails_alone_and_not_its_batch(tmp_path: Path) -> None:
    session, graph = held(tmp_path)
    bad = rows(1)
    bad.columns["visits"][:] = ABOVE + 1

    async def ask() -> list[Any]:
        tasks = [asyncio.create_task(session.run(rows(1), None, never))]
        await until(lambda: graph.runs == [1])
        given = (rows(1, 1), bad, rows(1, 2))
        tasks += [asyncio.create_task(session.run(each, None, never)) for each in given]
        await asyncio.sleep(0)
        graph.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(ask())
    assert [isinstance(answer, InferenceFailed) for answer in answers] == [
        False,
        False,
        True,
        False,
    ]
    assert graph.runs == [1, 3, 1, 1, 1]


def test_a_full_queue_refuses_and_a_batch_never_exceeds_its_rows(tmp_path: Path) -> None:
    session, graph = held(tmp_path, max_queue=4, max_batch_rows=2)

    async def ask() -> list[Any]:
        tasks = [asyncio.create_task(session.run(rows(1), None, never))]
        await until(lambda: graph.runs == [1])
        tasks += [asyncio.create_task(session.run(rows(1), None, never)) for _ in range(5)]
        await asyncio.sleep(0)
        graph.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(ask())
    assert [isinstance(answer, Overloaded) for answer in answers] == [False] * 5 + [True]
    assert graph.runs == [1, 2, 2]


def test_drops_what_nobody_waits_for_before_it_is_run(tmp_path: Path) -> None:
    session, graph = held(tmp_path)

    async def ask() -> list[Any]:
        tasks = [asyncio.create_task(session.run(rows(1), None, never))]
        await until(lambda: graph.runs == [1])
        tasks.append(asyncio.create_task(session.run(rows(7), 0.05, never)))
        tasks.append(asyncio.create_task(session.run(rows(9), None, lambda: True)))
        await asyncio.sleep(0.1)
        graph.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, late, gone = asyncio.run(ask())
    assert len(first) == 1
    assert isinstance(late, InferenceTimeout)
    assert isinstance(gone, ClientGoneError)
    assert graph.runs == [1]
    counted = session._metrics.board.mine
    assert [counted[SLOT_OF["seatrial_dropped_requests", why]] for why in DROPPED] == [1, 1]


def test_a_cheap_model_runs_in_the_callers_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "DIRECT_SECONDS", 0.05)
    session, graph = held(tmp_path)
    graph.gate.set()
    assert session.run_direct(rows(1)) is None
    rehearse(session)
    threads = threading.active_count()
    scores = session.run_direct(rows(3))
    assert scores is not None
    np.testing.assert_allclose(scores, tiny.expected_scores(tiny.rows(3)), atol=1e-5)
    assert session.run_direct(rows(2**20)) is None
    assert threading.active_count() == threads


def test_the_cache_knows_rows_by_value_and_keeps_the_latest() -> None:
    cache = Cache(2, "digest")
    made = [np.full(1, at, dtype=np.float32) for at in range(3)]
    for at, scores in enumerate(made):
        cache.put(rows(4, at), scores)
    assert cache.get(rows(4, 0)) is None
    for at in (1, 2):
        assert cache.get(rows(4, at)) is made[at]
    matrix = np.ones((2, 2), dtype=np.float32)
    cache.put(Rows(("a", "b"), 2, matrix=matrix), made[0])
    columns = {"a": matrix[:, 0].copy(), "b": matrix[:, 1].copy()}
    assert cache.get(Rows(("a", "b"), 2, columns)) is made[0]


def test_counts_every_score_once_in_its_bucket() -> None:
    metrics = Metrics("m", "d" * 64, "a")
    metrics.scored(np.array([0.5], np.float32), ["approve"])
    metrics.scored(np.array([np.nan, 0.0, 1.0], np.float32), ["decline", "approve", "review"])
    metrics.flush()
    metrics.flush()
    slot = SLOT_OF["seatrial_scores",]
    counts = metrics.board.mine[slot : slot + 62].tolist()
    assert (counts[0], counts[60], sum(counts[:61]), counts[61]) == (1, 1, 3, 1.5)
    assert metrics.board.mine[SLOT_OF["seatrial_rows",]] == 4
    assert metrics.board.mine[SLOT_OF["seatrial_decisions", "approve"]] == 2
