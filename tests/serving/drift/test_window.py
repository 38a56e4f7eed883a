from __future__ import annotations

import threading
from datetime import UTC, datetime

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.drift.window import Batch, Recent, Ring, Tumbler

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def batch(start: int, count: int, second: int = 0) -> Batch:
    rows = np.arange(start, start + count, dtype=np.float64).reshape(-1, 1)
    return Batch(rows, NOON.replace(second=second))


@given(st.lists(st.integers(0, 25), max_size=30), st.integers(1, 12))
def test_windows_are_full_and_hold_every_row_once_in_order(sizes: list[int], size: int) -> None:
    tumbler, seen, start = Tumbler(size), [], 0
    for count in sizes:
        for window in tumbler.add(batch(start, count)):
            assert len(window.rows) == size
            seen += window.rows[:, 0].tolist()
        start += count
    assert seen == list(range(start - start % size))
    assert tumbler.pending == start % size


def test_a_window_spans_the_times_of_its_events() -> None:
    tumbler = Tumbler(5)
    assert not list(tumbler.add(batch(0, 3, second=9)))
    (window,) = tumbler.add(batch(3, 3, second=4))
    assert (window.start.second, window.end.second) == (4, 9)


def test_a_full_ring_drops_the_oldest_rows_and_counts_them() -> None:
    ring = Ring(10)
    assert [ring.put(batch(start, 4)) for start in (0, 4, 8)] == [0, 0, 4]
    assert len(ring) == 8
    taken = ring.take()
    assert taken is not None
    assert taken.rows[:, 0].tolist() == [4, 5, 6, 7]


def test_a_batch_larger_than_the_ring_keeps_its_newest_rows() -> None:
    ring = Ring(10)
    assert ring.put(batch(0, 25)) == 15
    taken = ring.take()
    assert taken is not None
    assert taken.rows[0, 0] == 15


def test_closing_the_ring_ends_a_wait_for_rows() -> None:
    ring = Ring(10)
    taken: list[Batch | None] = []
    waiting = threading.Thread(target=lambda: taken.append(ring.take()))
    waiting.start()
    ring.close()
    waiting.join(5)
    assert taken == [None]


def test_remembers_only_as_many_keys_as_it_may() -> None:
    recent = Recent(2)
    for key in ("a", "b", "a", "c"):
        recent.add(key)
    assert [key in recent for key in ("a", "b", "c")] == [False, True, True]
