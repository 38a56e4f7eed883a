from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.drift.rows import Block
from serving.drift.window import FEWEST, Batch, Recent, Ring, Tumbler, Window

NOON = 1_772_366_400.0


def batch(start: int, count: int, second: int = 0) -> Batch:
    rows = np.arange(start, start + count, dtype=np.float64).reshape(-1, 1)
    return Batch(rows, NOON + second)


def block(start: int, count: int) -> Block:
    return Block({"x": list(range(start, start + count))}, count, NOON, ["id"] * count)


def windows(tumbler: Tumbler, added: Batch, now: float = 0.0) -> Iterator[Window]:
    return (window for _, window in tumbler.cut(added, now) if window is not None)


@given(st.lists(st.integers(0, 25), max_size=30), st.integers(1, 12))
def test_windows_are_full_and_hold_every_row_once_in_order(sizes: list[int], size: int) -> None:
    tumbler, seen, parts, start = Tumbler(size), [], 0, 0
    for count in sizes:
        for part, window in tumbler.cut(batch(start, count), 0.0):
            parts += len(part.rows)
            if window is not None:
                assert len(window.rows) == size
                seen += window.rows[:, 0].tolist()
        start += count
    assert seen == list(range(start - start % size))
    assert (tumbler.pending, parts) == (start % size, start)


def test_a_window_spans_the_times_of_its_events_even_if_they_go_back() -> None:
    tumbler = Tumbler(5)
    assert not list(windows(tumbler, batch(0, 3, second=9)))
    (window,) = windows(tumbler, batch(3, 3, second=4))
    assert (window.start, window.end) == (NOON + 4, NOON + 9)


def test_a_window_by_time_ends_when_it_is_due_and_has_rows_enough() -> None:
    tumbler = Tumbler(None, seconds=60, now=0.0)
    assert not list(windows(tumbler, batch(0, FEWEST - 1), now=61))
    (window,) = windows(tumbler, batch(0, 1), now=62)
    assert len(window.rows) == FEWEST
    assert not list(windows(tumbler, batch(0, 200), now=121))
    assert [len(w.rows) for w in windows(tumbler, batch(0, 1), now=122)] == [201]


def test_a_window_goes_on_where_it_was() -> None:
    tumbler, again = Tumbler(10), Tumbler(10)
    list(tumbler.cut(batch(0, 7, second=3), 0.0))
    again.load(tumbler.recent(), tumbler.pending, 0.0)
    (window,) = windows(again, batch(7, 3, second=8))
    assert window.rows[:, 0].tolist() == list(range(10))
    assert (window.start, window.end) == (NOON + 3, NOON + 8)


def test_a_full_ring_drops_the_oldest_rows_and_counts_them() -> None:
    ring = Ring(10)
    assert [ring.put(block(start, 4)) for start in (0, 4, 8)] == [0, 0, 4]
    assert len(ring) == 8
    taken = ring.take(4)
    assert taken is not None
    assert [b.columns["x"] for b in taken] == [[4, 5, 6, 7]]


def test_a_block_larger_than_the_ring_keeps_its_newest_rows() -> None:
    ring = Ring(10)
    assert ring.put(block(0, 25)) == 15
    taken = ring.take(100)
    assert taken is not None
    assert taken[0].columns["x"][0] == 15


def test_closing_the_ring_ends_a_wait_for_rows() -> None:
    ring = Ring(10)
    taken: list[list[Block] | None] = []
    waiting = threading.Thread(target=lambda: taken.append(ring.take(10)))
    waiting.start()
    ring.close()
    waiting.join(5)
    assert taken == [None]


def test_remembers_only_as_many_keys_as_it_may() -> None:
    recent = Recent(2)
    for key in (1, 2, 1, 3):
        recent.add(key)
    assert [key in recent for key in (1, 2, 3)] == [False, True, True]
    assert list(recent) == [2, 3]
